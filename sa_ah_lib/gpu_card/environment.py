"""What machine this is: card, driver, nvidia-smi, versions, and what does not fit together."""

import json
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from sa_ah_lib.upstream import machine, versions


def collect():
    """{what: value} of this machine; a part that cannot be had is its error as a text."""
    return {
        **_torch(), "python": sys.version, "machine": platform.platform(), "processors": os.cpu_count(),
        "driver CUDA": machine.driver_cuda(), "nvidia-smi": _nvidia_smi(),
        "fits": {check.__name__: _said(check) for check in (machine.card, machine.torchvision, machine.bitsandbytes)},
        "tested set": str(versions.known_set() or f"no: {versions.remedy()}"),
        # Of two with one name the first on the path is imported.
        "versions": dict(sorted({d.name.lower(): d.version for d in reversed(list(metadata.distributions()))}.items())),
    }  # fmt: skip


def _said(check):
    try:
        return check()
    except machine.UnfitError as error:
        return f"does not fit: {error}"


def _torch():
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


def _nvidia_smi():
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
