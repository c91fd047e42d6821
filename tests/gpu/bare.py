"""A machine that has torch, transformers, peft and what they ask for, and nothing else of this project's packages."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path

from sa_ah_lib.gpu_pack import wheels


def machine(directory):
    """Make it: an environment whose packages are links to this one's. Its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(directory)], check=True)
    packages = next((directory / "lib").glob("python*")) / "site-packages"
    for name in sorted(wheels.on_the_machine("{}.{}".format(*sys.version_info))):
        try:
            _link(metadata.distribution(name), packages)
        except metadata.PackageNotFoundError:
            pass  # triton, which a CPU's torch does not bring
    return directory / "bin" / "python"


def _link(distribution, packages):
    tops = {Path(str(file)).parts[0] for file in distribution.files or () if not str(file).startswith("..")}
    for top in tops - {"__pycache__"}:
        source = Path(distribution.locate_file(top))
        if source.exists() and not (packages / top).exists():
            (packages / top).symlink_to(source)
