"""Starts gpu-card from a pack, with the standard library alone: python3 start.py --out DIRECTORY [gpu-card's options]

Unpacks the parts that are here into DIRECTORY, checks every file, installs the wheels into an environment of their own
beside the machine's torch, transformers and peft, and measures. A second call goes on; parts may come later.
"""

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tarfile
import venv
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

PACK = Path(__file__).resolve().parent
Manifest = dict[str, Any]
"""manifest.json: "python", "there", "packages", and "parts" and "files" with size in bytes and sha256 of each."""


class Parts:
    """The parts that are here, from the first on without a gap, read as one file."""

    def __init__(self, paths: Iterable[Path]):
        self.paths, self.file = list(paths), None

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes, from the next part where one is read to its end; b"" after the last."""
        while True:
            found = self.file.read(size) if self.file else b""
            if found or not self.paths:
                return found
            self.file = open(self.paths.pop(0), "rb")  # noqa: SIM115


def main() -> int:
    """Unpack, install, and run gpu-card; its exit code."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    options, rest = parser.parse_known_args()
    out, manifest = options.out.resolve(), json.loads((PACK / "manifest.json").read_text(encoding="utf-8"))
    check_machine(manifest)
    unpack(manifest, out / "pack")
    python = install(manifest, out)
    folder = out / "pack" / "source"
    data = [] if not (out / "pack" / "data").is_dir() else ["--gsm8k", str(out / "pack" / "data")]
    kept = {"PYTHONPATH": os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))}
    kept["SA_AH_CACHE"] = os.environ.get("SA_AH_CACHE", str(out / "cache"))
    command = [str(python), "-m", "sa_ah_lib.gpu_card", "--out", str(out / "card"), *data, *rest]
    return subprocess.run(command, cwd=folder, env={**os.environ, **kept}).returncode


def check_machine(manifest: Manifest) -> None:
    """Say what is on this machine.

    Raises:
        SystemExit: the pack was made for another one; the message says what differs.
    """
    here = "{}.{}".format(*sys.version_info)
    if here != manifest["python"]:
        sys.exit(f"the pack is for Python {manifest['python']}. Got {here}; make it with --python pythonX.Y.")
    found = {name: version_of(name) for name in manifest["there"]}
    print("on this machine:", ", ".join(f"{name} {version or 'missing'}" for name, version in found.items()))
    # triton is part of torch's build for CUDA, and a CPU's has none.
    if missing := [name for name, version in found.items() if not version and name != "triton"]:
        sys.exit(f"the machine must have {', '.join(missing)}, which the pack leaves out.")


def version_of(name: str) -> str | None:
    """The version of an installed package, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def unpack(manifest: Manifest, folder: Path) -> None:
    """Files of the parts that are here into ``folder``, each checked; what is whole there already is left.

    Raises:
        SystemExit: a part is not as it was packed.
    """
    parts = []
    for name, wanted in manifest["parts"].items():
        if not (PACK / name).is_file():
            print(f"{name} is not here: going on without it and what comes after it.")
            break
        if digest(PACK / name) != wanted["sha256"]:
            sys.exit(f"{name} is not as it was packed (another sha256). Copy it again.")
        parts.append(PACK / name)
    folder.mkdir(parents=True, exist_ok=True)
    joined: Any = Parts(parts)  # all that a stream needs is read
    try:
        with tarfile.open(fileobj=joined, mode="r|") as archive:
            for member in archive:
                if not (folder / member.name).is_file() or digest(folder / member.name) != known(manifest, member):
                    archive.extract(member, folder, filter="data")
    except (tarfile.ReadError, EOFError):
        # The last part ends within a file; it comes with the next one.
        if len(parts) == len(manifest["parts"]):
            raise
    for name, wanted in manifest["files"].items():
        path = folder / name
        if path.is_file() and digest(path) != wanted["sha256"]:
            path.unlink()


def known(manifest: Manifest, member: tarfile.TarInfo) -> str:
    """The sha256 of a packed file."""
    return manifest["files"][member.name]["sha256"]


def digest(path: Path) -> str:
    """The sha256 of a file, as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def install(manifest: Manifest, out: Path) -> Path:
    """The wheels that are here into ``out``/venv, which sees the machine's own packages; its interpreter.

    Raises:
        subprocess.CalledProcessError: pip failed, with its own words above.
    """
    python = out / "venv" / "bin" / "python"
    if not python.is_file():
        # A venv of a venv would see neither's packages: then they are named one by one.
        whole = sys.prefix == sys.base_prefix
        venv.create(out / "venv", system_site_packages=whole, with_pip=False, symlinks=True)
        seen = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
        inside = next((out / "venv" / "lib").glob("python*")) / "site-packages"
        lines = [] if whole else [f"import site; site.addsitedir({path!r})\n" for path in seen]
        (inside / "machine.pth").write_text("".join(lines), encoding="utf-8")
    # By the manifest: an older pack may have left other versions there.
    packed = (out / "pack" / name for name in sorted(manifest["files"]) if name.startswith("wheels/"))
    wheels = [path for path in packed if path.is_file()]
    pip = next((path for path in wheels if path.name.startswith("pip-")), None)
    done = out / "installed.json"
    new = set(map(str, wheels)) - set(json.loads(done.read_text()) if done.is_file() else [])
    if new and pip:
        print(f"installing {len(new)} wheels", flush=True)
        # pip runs from its own wheel: the machine needs none.
        given = ["install", "--quiet", "--no-index", "--no-deps", "--no-compile", "--find-links", str(wheels[0].parent)]
        subprocess.run([str(python), f"{pip}/pip", *given, *sorted(new)], check=True)
        done.write_text(json.dumps(sorted(map(str, wheels))))
    here = {re.sub(r"[-_.]+", "-", path.name.split("-")[0]).lower() for path in wheels}
    if missing := sorted(set(manifest["packages"]) - here):
        print(f"not here yet, with what needs it: {', '.join(missing)}")
    return python


if __name__ == "__main__":
    sys.exit(main())
