"""What machine this is: card, driver, nvidia-smi, versions, and what does not fit together."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from sa_ah_lib.upstream import machine, versions


def collect() -> dict[str, Any]:
    """{what: value} of this machine, fit for JSON; what does not fit, or cannot be had, says so in words.

    "card" is the GPU's name, or None where torch sees none; "versions" are of every installed package, by its name in
    small letters.

    Raises:
        ImportError: torch is missing.
    """
    return {
        **_torch(), "python": sys.version, "machine": platform.platform(), "processors": os.cpu_count(),
        "driver CUDA": machine.driver_cuda(), "nvidia-smi": _nvidia_smi(),
        "fits": {check.__name__: _said(check) for check in (machine.card, machine.torchvision, machine.bitsandbytes)},
        "tested set": str(versions.known_set() or f"no: {versions.remedy()}"),
        "versions": _versions(),
    }  # fmt: skip


def _versions() -> dict[str, str]:
    # Of two with one name the first on the path is imported. One without a name is what a broken removal left.
    installed = [one for one in metadata.distributions() if one.name]
    return dict(sorted({one.name.lower(): one.version for one in reversed(installed)}.items()))


def _said(check: Callable[[], str]) -> str:
    try:
        return check()
    except machine.UnfitError as error:
        return f"does not fit: {error}"


def _torch() -> dict[str, Any]:
    import torch

    build = {"version": torch.__version__, "cuda": torch.version.cuda, "built for": torch.cuda.get_arch_list()}
    if not torch.cuda.is_available():
        return {"card": None, "bfloat16": None, "torch": build}
    found = torch.cuda.get_device_properties(0)
    return {
        "card": found.name, "bfloat16": torch.cuda.is_bf16_supported(including_emulation=False),
        "cards": torch.cuda.device_count(), "memory MiB": found.total_memory / 2**20,
        "capability": [found.major, found.minor], "properties": str(found), "torch": build,
    }  # fmt: skip


def _nvidia_smi() -> str:
    found = []
    for arguments in ([], ["-q", "-d", "CLOCK,POWER,TEMPERATURE,PERFORMANCE"]):
        try:
            done = subprocess.run(["nvidia-smi", *arguments], capture_output=True, text=True, timeout=60)
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"not to be had: {error}"
        found.append(done.stdout or done.stderr)
    return "\n".join(found)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(collect(), indent=2) + "\n", encoding="utf-8")
