"""One run as one frozen dataclass: its defaults are the paper's Table 1, its presets the scales and methods."""

from sa_ah_lib.config.fields import check_choice, nearest
from sa_ah_lib.config.presets import (
    BATCH_READINGS,
    CONTROLS,
    LORA_TARGETS,
    METHOD_FIELDS,
    METHOD_LABELS,
    METHODS,
    SCALES,
)
from sa_ah_lib.config.run import RunConfig, preset

__all__ = [
    "BATCH_READINGS", "CONTROLS", "LORA_TARGETS", "METHODS", "METHOD_FIELDS", "METHOD_LABELS", "SCALES", "RunConfig",
    "check_choice", "nearest", "preset",
]  # fmt: skip
