"""The micro tasks: reasoning-gym problems, and a writer that works them out in many ways."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any

from reasoning_gym.arithmetic.leg_counting import ANIMALS

from sa_ah_lib.micro.writer import Habits, answer, line, signed

NEAR = (-10, -2, -1, 1, 2, 10)
LEG_COUNTS = (2, 4, 6, 8, 10)


def write_sum(item: dict[str, Any], habits: Habits, rng: random.Random) -> str:
    """A chain of one-digit sums worked from left to right: each term at once, or over the next ten."""
    total, *terms = _terms(item["metadata"]["expression"])
    lines = []
    while terms:
        term = terms.pop(0)
        to_ten = _to_next_ten(total, term)
        if to_ten and rng.random() < habits.tendency(0.1, 0.8, "bridge", total % 10, term):
            lines.append(line(rng, signed(total, to_ten), total + to_ten))
            left, result = signed(total + to_ten, term - to_ten), total + term
        else:
            left = signed(total, term)
            result = total + term + (_error(habits, rng, "sum", total % 10, term) if term else 0)
        lines.append(line(rng, left, result))
        total = result
    return answer(rng, habits, lines, total)


def write_legs(item: dict[str, Any], habits: Habits, rng: random.Random) -> str:
    """Legs of a list of animals: recall and product of each, added up as they come or later."""
    animals = list(item["metadata"]["animals"].items())
    lines, waiting, total = [], [], None
    while animals or waiting:
        if animals and (not waiting or rng.random() < 0.5):
            name, count = animals.pop(0)
            legs = _recalled_legs(name, habits, rng)
            product = count * legs + (_error(habits, rng, "times", count, legs) if count > 1 and legs else 0)
            lines.append(line(rng, f"{count}*{legs}", product, label=f"{name} "))
            waiting.append(product)
        elif total is None:
            total = waiting.pop(0)
        else:
            total = _add(total, waiting.pop(0), lines, habits, rng)
    return answer(rng, habits, lines, total)  # ty: ignore[invalid-argument-type]  # no list is empty


WRITERS: dict[str, Callable[[dict[str, Any], Habits, random.Random], str]] = {
    "micro-sum": write_sum,
    "micro-legs": write_legs,
}


def _terms(expression: str) -> list[int]:
    return [int(text) for text in re.findall(r"-?\d+", expression.replace(" ", ""))]


def _to_next_ten(total: int, term: int) -> int:
    """What leads from ``total`` to the ten that adding ``term`` passes; 0 where it passes none."""
    step = -total % 10 if term > 0 else -(total % 10)
    return step if step and abs(step) < abs(term) else 0


def _error(habits: Habits, rng: random.Random, *fact: int | str) -> int:
    return habits.one_of(NEAR, *fact) if habits.slips(rng, *fact) else 0


def _recalled_legs(name: str, habits: Habits, rng: random.Random) -> int:
    wrong = tuple(legs for legs in LEG_COUNTS if legs != ANIMALS[name])
    return habits.one_of(wrong, "legs", name) if habits.slips(rng, "legs", name) else ANIMALS[name]


def _add(total: int, more: int, lines: list[str], habits: Habits, rng: random.Random) -> int:
    """``total + more``, at once or tens first; appends the lines and returns what they end in."""
    tens, units = more // 10 * 10, more % 10
    careful = habits.tendency(0.1, 0.8, "tens first", total % 10, units)
    if tens and units and rng.random() < careful:
        lines.append(line(rng, signed(total, tens), total + tens))
        lines.append(line(rng, signed(total + tens, units), total + more))
        return total + more
    result = total + more + (_error(habits, rng, "sum", total % 10, units) if units else 0)
    lines.append(line(rng, signed(total, more), result))
    return result
