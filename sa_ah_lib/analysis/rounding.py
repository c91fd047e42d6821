"""Numbers with no more digits than CPUs agree on, so that equal logs give equal bytes on each of them. Needs no torch.

CPUs with other vector units round exp, log and dot products otherwise in the last of 16 digits. That is enough to turn
a printed 0.697 into 0.698, or to give an element of an SVG another id. So each number that will be written or drawn is
rounded once, by the function that makes it. Two CPUs can then differ only where a number lies within its last digit of
the middle between two rounded ones: less than one number in a million, and no table prints its ninth digit.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

DRAWN = 6
"""Significant digits of what a figure draws, which is what its CSV file holds; the widest has 2,070 pixels."""
ESTIMATED = 9
"""Significant digits of estimates, intervals and p-values, of which tables print 3 or 4."""


def rounded(value: Any, digits: int) -> Any:
    """``value`` with every float in it rounded to ``digits`` significant digits; -0.0 becomes 0.0.

    Args:
        value: a number, or any nesting of lists, tuples, dicts (their values), dataclasses and arrays of numbers.
    """
    match value:
        case float() | np.floating():
            return float(f"{float(value):.{digits}g}") + 0.0
        case np.ndarray() if np.issubdtype(value.dtype, np.floating):
            return np.array([rounded(number, digits) for number in value.ravel().tolist()]).reshape(value.shape)
        case list() | tuple():
            return type(value)(rounded(member, digits) for member in value)
        case dict():
            return {key: rounded(member, digits) for key, member in value.items()}
    if dataclasses.is_dataclass(value):
        members = {field.name: rounded(getattr(value, field.name), digits) for field in dataclasses.fields(value)}
        return dataclasses.replace(value, **members)
    return value


def rounded_to(digits: int) -> Callable:
    """Decorator of a function that makes what is drawn or written: what it returns is ``rounded``."""

    def decorate(make):
        @functools.wraps(make)
        def made(*args, **kwargs):
            return rounded(make(*args, **kwargs), digits)

        return made

    return decorate
