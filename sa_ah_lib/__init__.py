"""Token-weighted GRPO: the rewards, weights and trainer patch of AH-GRPO and SA-AH-GRPO (arXiv 2606.05434).

The public names are imported when they are first used, so ``import sa_ah_lib`` needs neither torch nor unsloth, and
Unsloth can be imported before what it patches.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sa_ah_lib import config, rewards, rules, trainer, weighting
    from sa_ah_lib.config import RunConfig, preset
    from sa_ah_lib.trainer import sa_ah_trainer_class
    from sa_ah_lib.upstream.settings import SEAM_ARGUMENTS

__version__ = "0.1.0"
__all__ = [
    "SEAM_ARGUMENTS", "RunConfig", "config", "preset", "rewards", "rules", "sa_ah_trainer_class", "trainer",
    "weighting",
]  # fmt: skip

_HOMES = {
    "RunConfig": "config", "preset": "config", "sa_ah_trainer_class": "trainer", "SEAM_ARGUMENTS": "upstream.settings",
}  # fmt: skip


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}. It has {', '.join(__all__)}.")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
