"""Installation: one set of versions in every file, and what Unsloth's own lists ask for beyond it."""

import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from sa_ah_lib.upstream import versions

ROOT = Path(__file__).parents[2]
PLATFORM = {"extra": "", "sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"}
OWN = "sa-ah-grpo"


def lines(name):
    return (ROOT / name).read_text(encoding="utf-8").splitlines()


def pins(texts):
    """{package: version} of the exact requirements."""
    found = (re.match(r"([\w.-]+)==([\w.]+)", text) for text in texts)
    return {canonicalize_name(match[1]): match[2] for match in found if match}


EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
TESTED = pins(lines("requirements-tested.txt"))
NO_DEPS = pins(lines("requirements-unsloth.txt"))
PINS = TESTED | NO_DEPS | {name: pin for texts in EXTRAS.values() for name, pin in pins(texts).items()}
COMMENTS = (re.fullmatch(r"# ([\w.-]+): (.+)", text) for text in lines("requirements-unsloth.txt"))
LEFT_OUT = {match[1]: match[2] for match in COMMENTS if match}


def requirements(extra):
    """An extra's requirements on Linux x86-64, those of the extras it names included."""
    parsed = [Requirement(text) for text in EXTRAS[extra]]
    rest = [r for r in parsed if r.name != OWN and (r.marker is None or r.marker.evaluate(PLATFORM))]
    return rest + [found for r in parsed if r.name == OWN for name in sorted(r.extras) for found in requirements(name)]


def installed(name):
    """The installed version without its build tag, or None."""
    try:
        return metadata.version(name).split("+")[0]
    except metadata.PackageNotFoundError:
        return None


def asked_by(package):
    """What an installed package's metadata asks for on Linux x86-64; nothing where it is not installed."""
    parsed = [Requirement(text) for text in metadata.requires(package) or ()] if installed(package) else []
    return [r for r in parsed if r.marker is None or r.marker.evaluate(PLATFORM)]


def brought():
    """{package: version} of "train" and of everything that it brings along; None where this machine lacks it."""
    found, waiting = {}, [r.name for r in requirements("train")]
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name not in found:
            found[name] = PINS.get(name) or installed(name)
            waiting += [r.name for r in asked_by(name)]
    return found


@pytest.mark.parametrize("extra", EXTRAS)
def test_every_range_has_one_tested_version_inside_it(extra):
    """A range without one is installed as the newest of the day, with which no number was measured."""
    for requirement in requirements(extra):
        pin = PINS.get(canonicalize_name(requirement.name))
        assert pin and requirement.specifier.contains(pin), f"{requirement}, requirements-tested.txt has {pin}"


def test_no_package_has_two_versions():
    seen = {}
    for source in (TESTED, NO_DEPS, *map(pins, EXTRAS.values())):
        for name, pin in source.items():
            assert seen.setdefault(name, pin) == pin, name


def test_the_older_set_differs_by_what_it_is_older_in_alone():
    """Two changes at once, and a failure of `make test-older` says nothing about Unsloth."""
    older = pins(lines("requirements-older.txt"))
    differing = {name for name, pin in older.items() if PINS.get(name) != pin}
    assert differing == {"unsloth", "unsloth-zoo", "trl", "triton"}


def test_the_recorded_versions_are_the_ones_that_are_installed():
    """Notebook 00 would tell users to install another set than the project does."""
    table = {canonicalize_name(n): v for n, v in (versions.PINNED.versions | versions.COMPANIONS).items()}
    assert {name: PINS.get(name) for name in table} == table


def test_conda_and_make_install_the_same_files():
    yaml = pytest.importorskip("yaml")
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())
    makefile = (ROOT / "Makefile").read_text()
    wanted = re.search(r"^EXTRAS := (.*)$", makefile, re.M)[1]
    assert conda["dependencies"][-1]["pip"] == ["-c requirements-tested.txt", f"-e .[{wanted}]"]
    installs = re.findall(r"pip install (.*) -e '\.\[(.*)\]'", makefile)
    assert [extras for _, extras in installs] == ["$(EXTRAS)", "$*", "figures,notebooks"]
    assert all(options.endswith("-c $(TESTED)") for options, _ in installs)
    assert set(wanted.split(",")) <= EXTRAS.keys()
    for text in ((ROOT / "environment.yml").read_text(), makefile):
        assert "--no-deps -r requirements-unsloth.txt" in text


def test_a_gpu_machine_gets_bitsandbytes_from_every_file_and_no_cpu_machine_a_torchvision():
    """Without the one Unsloth loads no model on CUDA; the index's build of the other breaks torch's CPU build."""
    train = {canonicalize_name(r.name) for r in requirements("train")}
    assert "bitsandbytes" in train and "torchvision" not in train
    assert [r.name for r in requirements("gpu")] == ["torchvision"]
    elsewhere = next(Requirement(text) for text in EXTRAS["train"] if text.startswith("bitsandbytes"))
    assert not elsewhere.marker.evaluate({**PLATFORM, "sys_platform": "darwin", "platform_machine": "arm64"})


def test_what_upstream_asks_for_is_met_or_left_out_with_a_reason():
    """--no-deps checks nothing: a new requirement of Unsloth's would be met first as an ImportError on a GPU."""
    names = ("torch", "transformers", "trl", "peft", "datasets", "accelerate", *NO_DEPS)
    others = [name for name in names if installed(name) != PINS[name]]
    if others:
        pytest.skip(f"not the tested set: {', '.join(others)}")
    here, unmet = brought() | NO_DEPS, {}
    for requirement in (requirement for package in names for requirement in asked_by(package)):
        name = canonicalize_name(requirement.name)
        if name not in here or (here[name] and not requirement.specifier.contains(here[name])):
            unmet[name] = f"{requirement} is asked for, the tested set has {here.get(name, 'none')}"
    assert {name: why for name, why in unmet.items() if name not in LEFT_OUT} == {}
    # What is not pinned, such as certifi, is met on the day that its newest release is new enough.
    met = {name for name in LEFT_OUT.keys() - unmet.keys() if name in PINS or name not in here}
    assert met == set(), "met, so no longer left out"


def test_make_clean_says_what_it_keeps_and_clean_cache_removes_it(tmp_path):
    """Half a gigabyte in a home directory that nothing names is found by the next person with a full disk."""
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "sa_ah_lib/train").glob("*.py"))
    kept = {tmp_path / "cache" / name for name in re.findall(r'(?<!_)CACHE / "([\w.-]+)"', source)}
    other = tmp_path / "cache" / "not-ours"
    for folder in (tmp_path / ".venv", tmp_path / "runs", other, *kept):
        folder.mkdir(parents=True)

    def make(target):
        command = ["make", "-f", str(ROOT / "Makefile"), target, f"SA_AH_CACHE={tmp_path / 'cache'}"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    assert f"Kept: {tmp_path / 'cache'}" in make("clean") and len(kept) == 2
    assert sorted(tmp_path.iterdir()) == [tmp_path / "cache"]
    make("clean-cache")
    assert list((tmp_path / "cache").iterdir()) == [other]


@pytest.mark.slow
def test_a_wheel_holds_every_file_of_the_library_and_needs_no_torch(tmp_path):
    """An editable install finds a style or model that `pip install` leaves out."""
    leave = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "sa_ah_lib", tmp_path / "source" / "sa_ah_lib", ignore=leave)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / "source")
    target = tmp_path / "installed"
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--target", str(target)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(tmp_path / "source")], check=True)
    library = tmp_path / "source" / "sa_ah_lib"
    files = {path.relative_to(library) for path in library.rglob("*") if path.is_file()}
    assert {path for path in files if not (target / "sa_ah_lib" / path).is_file()} == set() and len(files) > 50
    code = (
        "import sys; sys.path[:0] = sys.argv[1:]; from sa_ah_lib import rewards; "
        "print(rewards.__file__, 'torch' in sys.modules)"
    )
    command = [sys.executable, "-I", "-c", code, str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(target / "sa_ah_lib" / "rewards" / "__init__.py"), "False"]
