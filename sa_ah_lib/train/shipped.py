"""Where the project's own micro models lie."""

from __future__ import annotations

from pathlib import Path

WEIGHTS = Path(__file__).parents[1] / "micro" / "weights"
WARM_STARTS = {"micro-s": 1, "micro-l": 1, "micro-sum": 5, "micro-legs": 6}
"""Published warm starts of each micro model: the same recipe with other seeds, problems and habits."""


def check_warm_start(model: str, warm_start: int) -> None:
    """Raise ValueError where a model has no such warm start: its run would be that of warm start 0 by another name."""
    known = WARM_STARTS.get(model, 1)
    if not 0 <= warm_start < known:
        raise ValueError(f"warm_start must be in [0, {known}) for {model}. Got {warm_start}.")


def is_small(model: str) -> bool:
    """Whether a model is one of the project's own or "smollm2": small ones have no use for memory that costs time."""
    return model in (*WARM_STARTS, "smollm2")


def directory_name(model: str, warm_start: int) -> str:
    """The directory of one warm start; the two first micro models have one each, without a number."""
    return model if model in ("micro-s", "micro-l") else f"{model}-{warm_start}"


def shipped_path(model: str, warm_start: int = 0) -> Path:
    """The directory of a shipped micro model.

    Raises FileNotFoundError, which says how to make it, and ValueError for an unknown model.
    """
    if model not in WARM_STARTS:
        raise ValueError(f"a micro model must be one of {', '.join(WARM_STARTS)}. Got {model!r}.")
    check_warm_start(model, warm_start)
    path = WEIGHTS / directory_name(model, warm_start)
    if not (path / "model.safetensors").is_file():
        raise FileNotFoundError(f"no micro model at {path}. Make it: python -m sa_ah_lib.micro --scale {model}")
    return path
