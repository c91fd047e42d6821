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
        "python": sys.version, "machine": platform.platform(), "processors": os.cpu_count(),
        "card": _torch("name"), "bfloat16": _torch("bfloat16"), "torch": _torch("all"),
        "driver CUDA": machine.driver_cuda(), "nvidia-smi": _nvidia_smi(),
        "fits": {check.__name__: _said(check) for check in (machine.card, machine.torchvision, machine.bitsandbytes)},
        "tested set": str(versions.known_set() or f"no: {versions.remedy()}"),
        "versions": {found.name: found.version for found in sorted(metadata.distributions(), key=_name)},
    }  # fmt: skip


def _name(distribution):
    return distribution.name.lower()


def _said(check):
    try:
        return check()
    except machine.UnfitError as error:
        return f"does not fit: {error}"


def _torch(part):
    import torch

    if not torch.cuda.is_available():
        return {"name": None, "bfloat16": None, "all": {"version": torch.__version__, "cuda": torch.version.cuda}}[part]
    properties = torch.cuda.get_device_properties(0)
    return {
        "name": properties.name, "bfloat16": torch.cuda.is_bf16_supported(including_emulation=False),
        "all": {
            "version": torch.__version__, "cuda": torch.version.cuda, "properties": str(properties),
            "cards": torch.cuda.device_count(), "memory MiB": properties.total_memory / 2**20,
            "capability": torch.cuda.get_device_capability(0), "built for": torch.cuda.get_arch_list(),
        },
    }[part]  # fmt: skip


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
