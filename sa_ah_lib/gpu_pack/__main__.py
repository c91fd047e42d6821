"""``python -m sa_ah_lib.gpu_pack``: collect what travels, cut it into parts, and say what is in them."""

import argparse
import json
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from sa_ah_lib.gpu_pack import start, wheels
from sa_ah_lib.train.smollm2 import CACHE

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("sa_ah_lib", "tests", "notebooks", "pyproject.toml", "requirements-tested.txt", "requirements-unsloth.txt")
PART = 57_000_000
"""Bytes of a part at most."""


def build(
    out: str | Path, python: str = sys.executable, gsm8k: str | Path | None = None, leave_out: Collection[str] = ()
) -> start.Manifest:
    """Collect what travels and ``write`` it into ``out``; the manifest. Sources come first, weights last.

    Args:
        python: an interpreter of the machine's version, whose pip makes the wheels.
        gsm8k: a directory with GSM8K's own train.jsonl and test.jsonl, or None.
        leave_out: packages that shall not travel although they are needed, such as weights.

    Raises:
        ValueError: ``leave_out`` names a package that would not travel.
        FileNotFoundError: GSM8K's files are not there, or pip gave no wheel of a package.
        LookupError: a package is neither installed nor tested.
        subprocess.CalledProcessError: pip failed, with its own words above.
    """
    data = {f"data/{name}.jsonl": Path(gsm8k) / f"{name}.jsonl" for name in ("train", "test") if gsm8k}
    if absent := [path.name for path in data.values() if not path.is_file()]:
        raise FileNotFoundError(f"gsm8k must hold train.jsonl and test.jsonl. Got {gsm8k} without {', '.join(absent)}.")
    version = _said(python, "import sys; print('%d.%d' % sys.version_info[:2])")
    packages, reasons = wheels.wanted(ROOT, version)
    if unknown := sorted(set(leave_out) - packages.keys()):
        raise ValueError(f"leave_out must be among {', '.join(packages)}. Got {', '.join(unknown)}.")
    packages = {name: pinned for name, pinned in packages.items() if name not in leave_out}
    files = {f"source/{name}": ROOT / name for name in _sources()} | data
    files |= {f"wheels/{path.name}": path for path in wheels.collect(packages, python, CACHE / f"wheels-{version}")}
    return write(Path(out), files, {
        "python": version, "built on": platform.platform(), "packages": packages, "there": list(wheels.THERE),
        "left out": {**reasons, **{name: "asked for" for name in leave_out}},
        "stripped": {name: what for name, (what, _) in wheels.STRIPPED.items()},
    })  # fmt: skip


def write(out: Path, files: Mapping[str, Path], facts: Mapping[str, Any], part: int = PART) -> start.Manifest:
    """Write start.py, manifest.json and part-01.tar, part-02.tar ... into ``out``; the manifest.

    The parts are one tar archive, cut: joined in order they can be read by any tar, and the first few of them give
    what is whole in them.

    Args:
        files: {name in the pack: path}, in their order; facts: the manifest's other keys.
        part: bytes of a part at most.

    Returns:
        What is in manifest.json: ``facts``, and {name: {"size" in bytes, "sha256"}} of "parts" and "files".
    """
    out.mkdir(parents=True, exist_ok=True)
    sums = {name: _sum(path) for name, path in files.items()}
    for old in out.glob("part-*.tar"):
        old.unlink()
    manifest = {**facts, "parts": _cut(files, out, part), "files": sums}
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    shutil.copy(Path(__file__).with_name("start.py"), out / "start.py")
    return manifest


def _sum(path: Path) -> dict[str, Any]:
    return {"size": path.stat().st_size, "sha256": start.digest(path)}


def _sources() -> list[str]:
    done = subprocess.run(["git", "ls-files", "-z", *SOURCES], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def _cut(files: Mapping[str, Path], out: Path, part: int) -> dict[str, dict[str, Any]]:
    parts = {}
    with tempfile.TemporaryFile(dir=out) as whole:
        with tarfile.open(fileobj=whole, mode="w") as archive:
            for name, path in files.items():
                archive.add(path, name)
        whole.seek(0)
        while piece := whole.read(part):
            path = out / f"part-{len(parts) + 1:02}.tar"
            path.write_bytes(piece)
            parts[path.name] = _sum(path)
    return parts


def _said(python: str, script: str) -> str:
    return subprocess.run([python, "-c", script], capture_output=True, text=True, check=True).stdout.strip()


def main(given: Sequence[str] | None = None) -> None:
    """Make a pack of this project for a machine with a GPU and no network."""
    parser = argparse.ArgumentParser(prog="python -m sa_ah_lib.gpu_pack", description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--python", default=sys.executable, help="of the machine's version, with pip (this one)")
    parser.add_argument("--gsm8k", type=Path, help="a directory with GSM8K's train.jsonl and test.jsonl to take along")
    parser.add_argument("--leave-out", nargs="+", default=[], help=f"packages, such as {wheels.WEIGHTS}")
    options = parser.parse_args(given)
    manifest = build(options.out, options.python, options.gsm8k, options.leave_out)
    for name, part in manifest["parts"].items():
        print(f"{name}  {part['size'] / 1e6:.0f} MB")
    print(f"{len(manifest['packages'])} packages for Python {manifest['python']}.")
    print(f"Copy {options.out} to the machine and run there: python3 start.py --out DIRECTORY")


if __name__ == "__main__":
    main()
