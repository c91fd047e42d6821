"""What the Colab cell of every notebook runs: a machine that only has Colab's own packages becomes one that can run it.

    python notebooks/colab_setup.py                                    # write the cell below into every notebook
    python notebooks/colab_setup.py https://github.com/you/your-fork   # the same, with an address and Colab badges

Standard library and pip only: it runs before anything is installed.
"""

import importlib
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import tomllib
from importlib import metadata
from pathlib import Path

# pip's own copies, the ones that are always here.
from pip._vendor.packaging.requirements import Requirement
from pip._vendor.packaging.specifiers import SpecifierSet

HOME = Path(__file__).resolve().parent.parent
DRIVE_FOLDER = "/content/drive"

CELL = """
import sys

if "google.colab" in sys.modules:
    import glob, os, shutil, urllib.request

    # This project's git address, or that of a .zip or .tar.gz of it (file:///content/NAME.zip for one you uploaded).
    REPOSITORY = os.environ.get("SA_AH_REPOSITORY", "{address}")
    HERE = "/content/sa-ah-grpo"
    if not os.path.exists(HERE) and REPOSITORY.endswith((".zip", ".tar.gz")):
        kind = "zip" if REPOSITORY.endswith(".zip") else "gztar"
        shutil.unpack_archive(urllib.request.urlretrieve(REPOSITORY)[0], HERE + ".part", kind)
        os.rename(HERE + ".part", HERE)
    elif not os.path.exists(HERE) and os.system(f"git clone --quiet --depth 1 '{REPOSITORY}' '{HERE}'"):
        raise RuntimeError(f"Set REPOSITORY in this cell to the address of this project. Got {REPOSITORY!r}")
    sys.path[:0] = [os.path.dirname(path) for path in glob.glob(HERE + "/**/colab_setup.py", recursive=True)]
    import colab_setup

    colab_setup.setup("{extra}", DRIVE)
"""
"""The cell; ``extra`` is what pyproject.toml calls the notebook's packages."""


class RestartNeeded(RuntimeError):
    """A package that this kernel has loaded was replaced on disk."""


def setup(extra, drive):
    """Install what is missing, mount Drive where it is wanted, and go to the notebooks' folder.

    Args:
        extra: "train", or "figures" for a notebook that needs no torch.
        drive: a folder on Google Drive, which ``runs`` is then; empty keeps runs on this machine, which ends with the
            session.

    Raises:
        RestartNeeded: a package that is loaded was replaced. The message says what to press.
        RuntimeError: a Python that the project does not run on.
    """
    check_python(platform.python_version())
    if drive:
        keep_runs_in(mounted(drive))
    before = installed()
    install(extra, before)
    sys.path.insert(0, str(HOME))
    os.chdir(HOME / "notebooks")
    replaced = stale(before, installed())
    if replaced:
        raise RestartNeeded(
            f"{', '.join(replaced)} had to be replaced and are loaded: choose Runtime > Restart session, then run all "
            "cells again. This cell then finds everything in place."
        )


def keep_runs_in(folder):
    """Make ``runs`` that folder; what lies there already is kept beside it.

    A link, so that a cell that sets RUNS to "../runs" once more sets the same place.
    """
    link = HOME / "runs"
    if link.is_symlink():
        link.unlink()
    elif link.exists():
        aside = next(path for k in range(1, 1000) if not (path := HOME / f"runs-before-drive-{k}").exists())
        link.rename(aside)
        print(f"Runs that were made here before are in {aside}.")
    link.symlink_to(folder, target_is_directory=True)


def check_python(version):
    """Raise a RuntimeError that says what to choose where ``version`` is none of pyproject.toml's."""
    wanted = project()["requires-python"]
    if not SpecifierSet(wanted).contains(version):
        raise RuntimeError(
            f"Python {wanted} is needed. Got {version}; choose an older runtime version under Runtime > Change runtime "
            "type, then run all cells again."
        )


def project():
    """The table ``project`` of pyproject.toml."""
    return tomllib.loads((HOME / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def mounted(drive):
    """The folder ``drive`` on Google Drive, made where it is missing; Colab asks for permission."""
    from google.colab import drive as google

    google.mount(DRIVE_FOLDER)
    folder = Path(DRIVE_FOLDER) / "MyDrive" / drive
    folder.mkdir(parents=True, exist_ok=True)
    print(f"Runs are kept in {folder}.")
    return str(folder)


def installed():
    """{package: version} of this Python, names as pip compares them."""
    found = ((normal(d.metadata["Name"]), d.version) for d in metadata.distributions() if d.metadata["Name"])
    return dict(reversed(list(found)))  # the first on the path is the one that is imported


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def install(extra, here):
    """Install the project with ``extra``; packages that are here and fit stay, others come in the tested version."""
    extras = ["train", "gpu"] if extra == "train" and "torchvision" in here else [extra]
    print(f"Installing {HOME.name}[{','.join(extras)}]: minutes on a new machine, seconds where all is in place.")
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder, "constraints.txt")
        constraints.write_text("\n".join(tested([*extras, "figures"], here)))
        pip("-c", str(constraints), "-e", f"{HOME}[{','.join(extras)}]")
    if extra == "train":
        pip("--no-deps", "-r", str(HOME / "requirements-unsloth.txt"))
    importlib.invalidate_caches()


def tested(extras, here):
    """Lines of requirements-tested.txt for packages that are missing here or outside pyproject.toml's ranges."""
    optional = project()["optional-dependencies"]
    asked = [Requirement(text) for extra in extras for text in optional[extra]]
    found = [(normal(r.name), r.specifier) for r in asked]
    unfit = {name for name, range_ in found if not range_.contains(here.get(name, "0"), prereleases=True)}
    lines = (HOME / "requirements-tested.txt").read_text(encoding="utf-8").splitlines()
    names = {line: normal(line.split("==")[0]) for line in lines if "==" in line}
    return [line for line, name in names.items() if name not in here or name in unfit]


def pip(*arguments):
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-warn-conflicts", *arguments], check=True)


def stale(before, after):
    """The packages whose version changed and of which this kernel has loaded a module: it would mix old and new."""
    changed = {name for name, version in before.items() if after.get(name) != version}
    modules = metadata.packages_distributions()
    loaded = {normal(name) for module in list(sys.modules) for name in modules.get(module, ())}
    return sorted(changed & loaded)


def write(address=""):
    """Write the cell, and with an address the badge, into every notebook beside this file."""
    for path in sorted(Path(__file__).parent.glob("*.ipynb")):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        extra = "figures" if path.stem.startswith("07") else "train"
        source = CELL.strip().replace("{address}", address).replace("{extra}", extra)
        (cell,) = [c for c in notebook["cells"] if c["cell_type"] == "code" and "google.colab" in "".join(c["source"])]
        cell["source"] = source.splitlines(keepends=True)
        title = notebook["cells"][0]
        title["source"] = with_badge("".join(title["source"]), address, path.name).splitlines(keepends=True)
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def with_badge(title, address, name):
    """A title cell with its badge for this address, or with none: a badge that leads nowhere is worse."""
    title = re.sub(r"\[!\[Open in Colab\][^\n]*\n\n?", "", title)
    repository = re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+?)(\.git)?/?", address)
    if not repository:
        return title
    site = "https://colab.research.google.com"
    link = f"{site}/github/{repository[1]}/blob/main/notebooks/{name}"
    head, _, rest = title.partition("\n")
    return f"{head}\n\n[![Open in Colab]({site}/assets/colab-badge.svg)]({link})\n{rest}"


if __name__ == "__main__":
    write(*sys.argv[1:2])
