"""What to run for a comparison over seeds: its length, strength, seeds and warm starts. Needs no torch."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sa_ah_lib.config import METHODS, RunConfig
from sa_ah_lib.config.fields import check_kind
from sa_ah_lib.train.scales import resolve_scale
from sa_ah_lib.train.shipped import check_warm_start


@dataclass(frozen=True)
class Design:
    """What every arm of a comparison has: ``steps`` (0: GRPO's own), ``alpha``, seeds, and warm starts."""

    steps: int = 0
    alpha: float = 0.5
    seeds: tuple[int, ...] = (1, 2)
    warm_starts: tuple[int, ...] = (0,)

    def expand(
        self,
        base: RunConfig,
        methods: Sequence[str],
        vary: Mapping[str, Iterable[Any]] | None = None,
        varied: Sequence[str] = ("sa-ah-grpo",),
    ) -> list[RunConfig]:
        """The configurations of ``methods`` on every warm start and seed, see ``expand``.

        Raises:
            ValueError: as ``expand``, and where GRPO is not among them.
        """
        if "grpo" not in methods:
            raise ValueError(f"METHODS_TO_RUN must hold 'grpo', which the others are compared with. Got {methods!r}.")
        return expand(base, methods, self.seeds, vary, varied, self.alpha, self.warm_starts)


EIGHT = (123, 1, 2, 3, 4, 5, 6, 7)
"""The paper's seed and seven more."""
PUBLISHED = {
    "micro-s": Design(60, 4.0, EIGHT),
    "micro-l": Design(20, 4.0, EIGHT),
    "micro-sum": Design(60, warm_starts=(0, 1, 2, 3, 4)),
    "micro-legs": Design(40, warm_starts=(0, 1, 2, 3, 4, 5)),
    "smollm2": Design(20, seeds=tuple(range(14, 22))),
}
"""The comparisons whose logs are published, as long as all of their arms still learn."""


def design(
    scale: str,
    seed: int = EIGHT[0],
    steps: int = 0,
    alpha: float | None = None,
    more_seeds: Iterable[int] | None = None,
    warm_starts: Iterable[int] | None = None,
) -> Design:
    """The published comparison of a scale, but for what is given.

    A scale without one has GRPO's own length, the paper's alpha, ``seed`` and seven other seeds.

    Args:
        scale: as a notebook's SCALE. seed: the first; not used where the seeds are those of a published comparison.
        more_seeds: the others; None takes the published ones.

    Raises:
        ValueError: seeds or warm starts that are no list.
    """
    for name, given in (("MORE_SEEDS", more_seeds), ("WARM_STARTS", warm_starts)):
        check_kind(name, [] if given is None else given, list, "[1, 2]")
    known = PUBLISHED.get(resolve_scale(scale)) or Design(seeds=_once([seed, *EIGHT[1:]]))
    return Design(
        steps or known.steps,
        known.alpha if alpha is None else alpha,
        known.seeds if more_seeds is None else _once([seed, *more_seeds]),
        known.warm_starts if warm_starts is None else _once(warm_starts),
    )


def _once(numbers):
    return tuple(dict.fromkeys(numbers))


def strengths(grpo: RunConfig, alphas: Sequence[float]) -> list[RunConfig]:
    """AH-GRPO at several alphas, everything else as in ``grpo``, which is alpha 0 (Table 5).

    Raises:
        ValueError: no list of numbers, or an empty one.
    """
    check_kind("ALPHAS", alphas, list, "[0.0, 0.5]")
    if not alphas:
        raise ValueError("ALPHAS must name at least one strength, such as [0.0, 0.5]. Got none.")
    return [grpo.sibling("ah-grpo", alpha) if alpha else grpo for alpha in alphas]


def expand(
    base: RunConfig,
    methods: Sequence[str],
    seeds: Iterable[int],
    vary: Mapping[str, Iterable[Any]] | None = None,
    varied: Sequence[str] = ("sa-ah-grpo",),
    alpha: float | None = None,
    warm_starts: Iterable[int] | None = None,
) -> list[RunConfig]:
    """The configurations of a comparison: every method at ``base``'s length, pair by pair.

    Args:
        base: a trained method's ``RunConfig``; all else is kept from it.
        alpha: of every method that has one; None keeps each method's own.
        vary: {field: values}; each value is one more arm of each method in ``varied``, one field changed at a time.
        warm_starts: each is run with every seed; None is ``base``'s own.

    Raises:
        ValueError: an argument of another kind, or a warm start that ``base``'s model does not have.
    """
    for name, given in (("METHODS_TO_RUN", methods), ("VARIED", varied)):
        check_kind(name, given, list, "[grpo, sa-ah-grpo]")
    check_kind("VARY", vary or {}, dict, "{alpha: [0.1, 1.0]}")
    for name, values in (vary or {}).items():
        check_kind(f"VARY[{name!r}]", values, list, "[0.1, 1.0]")
    for start in warm_starts or ():
        check_warm_start(base.model, start)

    def of_length(method):
        strength = alpha if METHODS.get(method, {}).get("alpha") else None
        return base.sibling(method, strength).replace(steps=base.steps)

    arms, plain = list(map(of_length, methods)), list(map(of_length, varied))
    changes = [{field: value} for field, values in (vary or {}).items() for value in values]
    arms += [arm.replace(**change) for change in changes for arm in plain]
    pairs = itertools.product(dict.fromkeys(warm_starts or [base.warm_start]), dict.fromkeys(seeds))
    return [arm.replace(warm_start=start, seed=seed) for start, seed in pairs for arm in dict.fromkeys(arms)]
