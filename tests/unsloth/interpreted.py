"""Unsloth's CUDA route on a CPU: its fast models and Triton kernels, run by Triton's interpreter on CPU tensors.

``pretend()`` answers what Unsloth asks of a card and imports it; nothing of Unsloth or Triton is replaced. It shows
arithmetic and layouts: not speed, memory, compilation, bfloat16 (the interpreter multiplies it wrongly), nor the fused
head's own kernel, which Unsloth leaves to torch under the interpreter.

Triton (and bitsandbytes, which only has to be importable) lie in a folder of their own, made by ``install``, so that
the environment of the other tests stays one without Triton.
"""

import functools
import os
import subprocess
import sys
from pathlib import Path

PACKAGES = ("triton==3.9.0", "bitsandbytes==0.50.2")
"""Triton is the version that torch 2.13's CUDA build names."""


def folder():
    """Where the packages are kept from one run of the tests to the next."""
    cache = Path(os.environ.get("SA_AH_CACHE") or Path.home() / ".cache" / "sa_ah_lib")
    return cache / ("interpreted-" + "-".join(PACKAGES).replace("==", "-"))


def install():
    """Make ``folder()`` if it is not there; None, or why it could not be."""
    if folder().is_dir():
        return None
    partial = folder().with_name(f"{folder().name}.{os.getpid()}")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(partial), *PACKAGES]
    done = subprocess.run(pip, capture_output=True, text=True)
    if done.returncode:
        return done.stderr.strip()[-500:]
    # Another process may have been first.
    if not folder().is_dir():
        partial.rename(folder())
    return None


class OnlyDevice(str):
    """The current device where torch wants its name or, as the first of a list, its index."""

    def __index__(self):
        return 0


class Card:
    """What Unsloth reads from the properties of a T4, which has float16 and no bfloat16."""

    name, major, minor = "CPU in place of a card", 7, 5
    total_memory, multi_processor_count, gcnArchName = 16 * 2**30, 40, ""


def pretend():
    """Import Unsloth as on a machine with one card, and make its GRPO trainer.

    Raises:
        RuntimeError: Unsloth did not take the route of its Triton kernels.
    """
    # The kernel for many rows checks itself, fails under the interpreter and is left out; without the check, sooner.
    os.environ.update(TRITON_INTERPRET="1", UNSLOTH_RMSNORM_MULTIROW="0", HF_HUB_OFFLINE="1")
    os.environ.update(UNSLOTH_DISABLE_STATISTICS="1")
    sys.path.insert(0, str(folder()))
    import torch

    for name in ("custom_fwd", "custom_bwd"):
        # Kernels' autograd functions follow the autocast of the device that their tensors are on.
        setattr(torch.amp, name, _of_the_cpu(getattr(torch.amp, name)))
    import unsloth

    for name, answer in _answers().items():
        setattr(torch.cuda, name, answer)
    for name, answer in _memory().items():
        setattr(torch.cpu, name, answer)
    for name, module in list(sys.modules.items()):
        if name.startswith("unsloth") and getattr(module, "DEVICE_TYPE_TORCH", None) == "cuda":
            module.DEVICE_TYPE_TORCH = "cpu"
    import unsloth.models.llama as llama

    if "triton" not in sys.modules or unsloth.device_type.DEVICE_TYPE != "cuda":
        raise RuntimeError("Unsloth must take its CUDA route, with Triton, but took another; see tests/unsloth.")
    llama.DEVICE_COUNT = 1  # the rotary tables are kept for each card
    load = unsloth.FastLanguageModel.from_pretrained
    unsloth.FastLanguageModel.from_pretrained = functools.partial(load, device_map={"": "cpu"})


def _of_the_cpu(wrap):
    def wrapped(function=None, **options):
        return wrap(function, **{**options, "device_type": "cpu"})

    return wrapped


def _memory():
    import torch

    free_and_all = (Card.total_memory // 2, Card.total_memory)
    return {
        "mem_get_info": lambda *a, **k: free_and_all, "empty_cache": lambda: None,
        "memory_allocated": lambda *a: 0, "memory_reserved": lambda *a: 0, "max_memory_reserved": lambda *a: 0,
        "get_device_properties": lambda *a, **k: Card,
        "get_device_capability": lambda *a, **k: (Card.major, Card.minor),
        "current_device": lambda: OnlyDevice("cpu:0"), "synchronize": lambda *a, **k: None,
        "get_rng_state": lambda *a: torch.get_rng_state(),
        "set_rng_state": lambda state, *a: torch.set_rng_state(state),
    }  # fmt: skip


def _answers():
    memory = _memory()
    asked = ("mem_get_info", "get_device_properties", "get_device_capability", "current_device")
    named = {name: memory[name] for name in asked}
    return {**named, "get_device_name": lambda *a, **k: Card.name, "is_bf16_supported": lambda *a, **k: False}
