"""The Colab cell, executed as in Colab: packages of the machine's own, google.colab loaded, the project elsewhere."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def setup_module_of(folder):
    spec = importlib.util.spec_from_file_location("colab_setup", folder / "colab_setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


colab_setup = setup_module_of(ROOT / "notebooks")


def colab_cell(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    (source,) = [s for s in ("".join(c["source"]) for c in cells if c["cell_type"] == "code") if "google.colab" in s]
    return source


@pytest.fixture(scope="module")
def copy_of_notebooks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("notebooks")
    for path in (*NOTEBOOKS, ROOT / "notebooks" / "colab_setup.py"):
        shutil.copy(path, folder)
    return folder


def test_every_notebook_has_the_one_cell(copy_of_notebooks):
    """A cell that installs something else is met only in Colab, by a reader."""
    (address,) = {line for path in NOTEBOOKS for line in colab_cell(path).splitlines() if "SA_AH_REPOSITORY" in line}
    setup_module_of(copy_of_notebooks).write(address.split('"')[3])
    assert [p.name for p in NOTEBOOKS if (copy_of_notebooks / p.name).read_bytes() != p.read_bytes()] == [], (
        "run `python notebooks/colab_setup.py`, with the address if there is one"
    )


def test_one_command_gives_a_fork_its_address_and_badges(copy_of_notebooks, tmp_path):
    folder = Path(shutil.copytree(copy_of_notebooks, tmp_path / "fork"))
    setup_module_of(folder).write("https://github.com/someone/a-fork.git")
    for path in sorted(folder.glob("*.ipynb")):
        assert '"https://github.com/someone/a-fork.git")' in colab_cell(path)
        assert f"/github/someone/a-fork/blob/main/notebooks/{path.name})" in path.read_text(encoding="utf-8")
    setup_module_of(folder).write()
    assert not [p for p in folder.glob("*.ipynb") if p.read_bytes() != (copy_of_notebooks / p.name).read_bytes()]


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """Runs a cell on a machine of its own, whose /content is a temporary folder.

    Its Python is a bare environment that finds this one's packages but for the project; there is no index.
    """
    folder = tmp_path_factory.mktemp("colab")
    venv.create(folder / "python", symlinks=True)
    python = folder / "python" / "bin" / "python"
    (site,) = (folder / "python" / "lib").glob("python*/site-packages")
    (folder / "machine").mkdir()
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if not path.name.startswith(("sa_ah_grpo", "__editable__")):
            (folder / "machine" / path.name).symlink_to(path)
    (site / "machine.pth").write_text(f"{folder / 'machine'}\n")
    google = folder / "path" / "google" / "colab"
    google.mkdir(parents=True)
    (google / "__init__.py").write_text("")
    (google / "drive.py").write_text("def mount(point):\n    print('mounted', point)\n")
    project = folder / "a-fork-main"
    keep = shutil.ignore_patterns("__pycache__", "*.ipynb", ".ipynb_checkpoints")
    for name in ("sa_ah_lib", "notebooks"):
        shutil.copytree(ROOT / name, project / name, ignore=keep)
    for name in ("pyproject.toml", "README.md", "LICENSE", "requirements-tested.txt", "requirements-unsloth.txt"):
        shutil.copy(ROOT / name, project)
    script = project / "notebooks" / "colab_setup.py"
    text = script.read_text().replace('"/content/', f'"{folder}/content/')
    script.write_text(text.replace('"--quiet"', '"--quiet", "--no-build-isolation"'))

    def run(cell, address, drive=""):
        content = folder / "content"
        shutil.rmtree(content, ignore_errors=True)
        content.mkdir()
        code = (
            f"import google.colab\nDRIVE, RUNS = {drive!r}, '../runs'\n" + cell.replace('"/content/', f'"{content}/') +
            "\nimport json, os, sa_ah_lib.analysis.stats\n"
            "print(json.dumps([os.path.realpath(RUNS), os.getcwd(), sa_ah_lib.__file__]))\n"
        )  # fmt: skip
        offline = {"PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIP_", "SA_AH"))}
        return subprocess.run(
            [python, "-c", code],
            cwd=content, env=clean | offline | {"PYTHONPATH": str(folder / "path"), "SA_AH_REPOSITORY": address},
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    run.folder, run.project = folder, project
    return run


FIGURES = next(path for path in NOTEBOOKS if path.stem.startswith("07"))


def check(machine, done, runs=None):
    assert done.returncode == 0, done.stderr
    printed = done.stdout.splitlines()
    found_runs, cwd, library = json.loads(printed[-1])
    assert "Installing" in done.stdout and "[figures]" in done.stdout
    assert Path(found_runs) == (runs or Path(cwd).resolve().parent / "runs")
    assert Path(cwd, "colab_setup.py").exists() and Path(cwd).is_relative_to(machine.folder / "content")
    assert Path(library).is_relative_to(Path(cwd).parent)


@pytest.mark.parametrize("kind", ["zip", "gztar"])
def test_the_cell_works_from_a_downloaded_archive(machine, kind):
    archive = shutil.make_archive(str(machine.folder / "main"), kind, machine.folder, "a-fork-main")
    check(machine, machine(colab_cell(FIGURES), Path(archive).as_uri()))


def test_the_cell_works_from_a_git_address_and_keeps_runs_on_drive(machine):
    """Each notebook is a new machine in Colab: 04 finds the runs of 01 to 03 on Drive alone."""
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "a fork"]):
        subprocess.run([*git, *command], cwd=machine.project, check=True)
    done = machine(colab_cell(FIGURES), str(machine.project), drive="sa-ah-runs")
    folder = machine.folder / "content" / "drive" / "MyDrive" / "sa-ah-runs"
    check(machine, done, runs=folder.resolve())
    assert folder.is_dir() and f"mounted {machine.folder}/content/drive" in done.stdout


def test_runs_go_to_the_drive_that_was_named_last(monkeypatch, tmp_path):
    """A parameters cell that was run again sent later runs to a disk that ends with the session."""
    monkeypatch.setattr(colab_setup, "HOME", tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "old").touch()
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        colab_setup.keep_runs_in(tmp_path / name)
        assert (tmp_path / "runs").resolve() == tmp_path / name
    assert (tmp_path / "runs-before-drive-1" / "old").exists()


def test_an_archive_that_was_unpacked_by_half_is_unpacked_again(machine):
    """A stopped cell left a folder that looked whole, and every later try failed on what it lacked."""
    archive = shutil.make_archive(str(machine.folder / "main"), "zip", machine.folder, "a-fork-main")
    again = 'import os\nos.makedirs("/content/sa-ah-grpo.part/a-fork-main/notebooks")\n' + colab_cell(FIGURES)
    check(machine, machine(again, Path(archive).as_uri()))


def test_a_python_that_is_too_new_is_said_before_anything_is_installed():
    colab_setup.check_python("3.12.11")
    with pytest.raises(RuntimeError, match="Got 3.13.1; choose an older runtime version"):
        colab_setup.check_python("3.13.1")


@pytest.mark.parametrize("address", ["", "/no/such/place"])
def test_without_an_address_the_cell_says_what_to_set(machine, address):
    done = machine(colab_cell(FIGURES), address)
    assert done.returncode
    assert f"Set REPOSITORY in this cell to the address of this project. Got '{address}'" in done.stderr


def test_what_fits_stays_and_the_rest_comes_in_the_tested_version(monkeypatch):
    """Pins would replace the numpy and torch that Colab's kernel has loaded, gigabytes and a restart for nothing."""
    calls, constraints = [], []

    def pip(*arguments):
        calls.append(arguments)
        if arguments[0] == "-c":
            constraints.extend(Path(arguments[1]).read_text().splitlines())

    monkeypatch.setattr(colab_setup, "pip", pip)
    colab_setup.install("train", {"numpy": "2.1.0", "torch": "2.11.0", "torchvision": "0.26.0"})
    assert calls[0][2:] == ("-e", f"{ROOT}[train,gpu]") and calls[1][0] == "--no-deps"
    assert any(line.startswith("arch==") for line in constraints)
    assert not [line for line in constraints if line.startswith(("numpy", "torch"))]
    constraints.clear()
    colab_setup.install("train", {"numpy": "1.26.4", "torch": "2.9.0", "torchvision": "0.24.0"})
    replaced = {line.split("==")[0] for line in constraints}
    assert {"numpy", "torch", "torchvision"} <= replaced, "the newest would come in place of the tested version"
    calls.clear()
    colab_setup.install("figures", {"torchvision": "0.26.0"})
    assert [call[2:] for call in calls] == [("-e", f"{ROOT}[figures]")]


def test_a_restart_is_asked_for_only_where_a_loaded_package_was_replaced(monkeypatch):
    """Half of an old numpy and half of a new one is an error that nobody can read."""
    now = colab_setup.installed()
    assert colab_setup.stale(now, now) == []
    assert colab_setup.stale(now, now | {"papermill": "0"}) == [] or "papermill" in sys.modules
    assert colab_setup.stale({}, now) == []
    before = now | {"pytest": "0.1"}
    assert colab_setup.stale(before, now) == ["pytest"]
    answers = iter([before, now])
    monkeypatch.setattr(colab_setup, "installed", lambda: next(answers))
    monkeypatch.setattr(colab_setup, "install", lambda extra, here: None)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(ROOT)
    with pytest.raises(colab_setup.RestartNeeded, match="pytest .* Restart session"):
        colab_setup.setup("figures", "")
