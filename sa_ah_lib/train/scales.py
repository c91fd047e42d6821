"""What SCALE means on this machine. Needs no torch; where torch is, it is asked for a GPU."""

import importlib.util

from sa_ah_lib.config import SCALES, check_choice
from sa_ah_lib.upstream import machine


def resolve_scale(scale: str) -> str:
    """The scale that a notebook's SCALE names: "auto" is qwen2.5-1.5b where torch sees a GPU, micro-s where none is.

    Raises:
        ValueError: no such scale, with the nearest name.
    """
    check_choice("SCALE", scale, ["auto", *SCALES])
    if scale != "auto":
        return scale
    if importlib.util.find_spec("torch") is None:
        return "micro-s"
    import torch

    if torch.cuda.is_available():
        return "qwen2.5-1.5b"
    try:
        machine.card()
    except machine.UnfitError as error:
        print(f"SCALE 'auto' is micro-s here: {error}. docs/troubleshooting.md says what helps.")
    return "micro-s"
