"""What must fit together before Unsloth can be imported: card, driver, torch's build, torchvision, bitsandbytes.

Reads files and metadata alone, so that a machine on which one of them raises at import still gets an answer.
"""

import ctypes
import os
import runpy
from importlib import util
from pathlib import Path

from sa_ah_lib.upstream import versions

# nvidia-smi need not be on PATH, and often is not in containers; the last is WSL's.
CARD_FILES = ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/usr/lib/wsl/lib/libcuda.so.1")


class UnfitError(RuntimeError):
    """Two parts of this machine do not fit; the message names both."""


def has_card() -> bool:
    """Whether an NVIDIA card is here and not hidden by an empty CUDA_VISIBLE_DEVICES."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1")
    return not hidden and any(Path(name).exists() for name in CARD_FILES)


def driver_cuda() -> tuple[int, int] | None:
    """The newest CUDA that the driver knows, such as (12, 8); None where its library cannot be loaded."""
    number = ctypes.c_int()
    try:
        failed = ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(number))
    except OSError:
        return None
    return None if failed else (number.value // 1000, number.value % 1000 // 10)


def torch_cuda() -> tuple[int, int] | None:
    """The CUDA that torch was built for, such as (13, 0); None for a CPU build, or where torch is missing."""
    torch = util.find_spec("torch")
    if torch is None or torch.origin is None:
        return None
    cuda = runpy.run_path(str(Path(torch.origin).with_name("version.py"))).get("cuda")
    if not cuda:
        return None
    major, minor = cuda.split(".")[:2]
    return int(major), int(minor)


def card() -> str:
    """What is found of card, driver and torch's build.

    Raises:
        UnfitError: torch cannot use the card, because it is built for the CPU or for a newer CUDA than the driver's.
    """
    if not has_card():
        return "no NVIDIA card: the micro scales run on a CPU"
    built, driver = torch_cuda(), driver_cuda()
    if built is None:
        raise UnfitError(f"an NVIDIA card is here, but torch {versions.version_of('torch')} is built for the CPU")
    if driver is None:
        raise UnfitError("an NVIDIA card is here, but its driver's library libcuda.so.1 cannot be loaded")
    found = f"torch is built for CUDA {built[0]}.{built[1]}, the driver is for CUDA {driver[0]}.{driver[1]}"
    # Within one major version of CUDA an older driver runs a newer build.
    if driver[0] < built[0]:
        raise UnfitError(found)
    return found


def torchvision() -> str:
    """Which torchvision is here, if any; text models need none.

    Raises:
        UnfitError: it is for another torch, which stops Unsloth's import.
    """
    here, torch = versions.version_of("torchvision"), versions.version_of("torch")
    if here == versions.MISSING:
        return "not installed, and not needed"
    wanted = versions.asked("torchvision", of="torch")
    if not wanted.contains(torch):
        raise UnfitError(f"torchvision {here} is for torch {wanted}. Got torch {torch}")
    return f"{here}, for torch {torch}"


def bitsandbytes() -> str:
    """Which bitsandbytes is here; on CUDA Unsloth loads no model without it, in 16 bits either.

    Raises:
        UnfitError: torch can use a card, and bitsandbytes is missing or one that Unsloth refuses.
    """
    here = versions.version_of("bitsandbytes")
    needed = has_card() and torch_cuda() is not None
    if here == versions.MISSING and not needed:
        return "not installed, and not needed on a CPU"
    if here == versions.MISSING:
        raise UnfitError("not installed; Unsloth needs it to load any model on a card")
    if needed and not versions.asked("unsloth", of="bitsandbytes").contains(here):
        raise UnfitError(f"Unsloth needs bitsandbytes {versions.asked('unsloth', of='bitsandbytes')}. Got {here}")
    return here
