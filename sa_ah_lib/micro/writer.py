"""A stochastic writer's habits and phrases: what the worked answers of every micro task are put together from.

A worked answer is a row of small decisions. Most change nothing but the text (an opening word, spaces, what ends a
line). Some change how likely the line is to be right (a sum at once, or over the next ten). And each single fact has
its own chance of a slip, fixed by the writer's seed: for some facts the slip is what the writer mostly says.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache

from sa_ah_lib.rewards import TAGS

OPENERS = ("", "so ", "then ", "now ")
ENDINGS = ("\n", ", ", "; ")


@cache
def _uniform(*key: int | str) -> float:
    return random.Random(repr(key)).random()


@dataclass(frozen=True)
class Habits:
    """What one writer tends to do; every probability in [0, 1], fixed by ``seed``.

    Args:
        seed: of the writer; another seed knows and forgets other facts.
        weak: share of facts that the writer is unsure of.
        weak_slips, sure_slips: ranges of the chance of a slip for the facts that are weak, and for the others.
        untagged: chance that an answer lacks its working tags, and independently its solution tags.
    """

    seed: int
    weak: float = 0.3
    weak_slips: tuple[float, float] = (0.35, 0.75)
    sure_slips: tuple[float, float] = (0.0, 0.08)
    untagged: float = 0.15

    def tendency(self, low: float, high: float, *key: int | str) -> float:
        """A probability in [low, high), always the same for one key."""
        return low + (high - low) * _uniform(self.seed, *key)

    def slips(self, rng: random.Random, *fact: int | str) -> bool:
        """Whether the writer gets this fact wrong this time."""
        kind = self.weak_slips if _uniform(self.seed, "weak", *fact) < self.weak else self.sure_slips
        return rng.random() < self.tendency(*kind, "slip", *fact)

    def one_of(self, choices: tuple[int, ...], *key: int | str) -> int:
        """One of ``choices``, always the same for one key: the wrong value that a slip gives."""
        return choices[int(_uniform(self.seed, "which", *key) * len(choices))]


def line(rng: random.Random, left: str, result: int, label: str = "") -> str:
    """One calculation in one of many spellings: ``"then 23 + 9=32; "``; ``left`` is written without spaces."""
    if rng.random() < 0.5:
        head, body = (left[:1], left[1:])  # a leading minus is a sign
        left = head + body.replace("+", " + ").replace("-", " - ").replace("*", " * ")
    equals = " = " if rng.random() < 0.5 else "="
    return f"{rng.choice(OPENERS)}{label}{left}{equals}{result}{rng.choice(ENDINGS)}"


def signed(left: int, right: int) -> str:
    """``left`` plus ``right`` as text: ``"23-9"``."""
    return f"{left}{right:+d}"


def answer(rng: random.Random, habits: Habits, lines: list[str], result: int) -> str:
    """The whole assistant text: working and result, each mostly in its tags."""
    working, said = "".join(lines), str(result)
    if rng.random() >= habits.untagged:
        working = f"{TAGS[0]}{working}{TAGS[1]}"
    if rng.random() >= habits.untagged:
        said = f"{TAGS[2]}{said}{TAGS[3]}"
    return working + said
