"""What a completion says: its tags, and the number that it answers with (Sec. 3.4)."""

from __future__ import annotations

import math
import re
import sys
from collections import deque
from numbers import Real

REASONING_START = "<start_working_out>"
REASONING_END = "</start_working_out>"
SOLUTION_START = "<SOLUTION>"
SOLUTION_END = "</SOLUTION>"
TAGS = (REASONING_START, REASONING_END, SOLUTION_START, SOLUTION_END)

# Digits are ASCII. A comma joins only groups of three, so "1,234" is one number, "1, 2" is two.
_UNSIGNED = (
    r"(?:(?<![A-Za-z0-9^])(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?"
    r"|(?<![A-Za-z0-9^.)])\.[0-9]+)"
)
_NUMBER = re.compile(
    # A minus behind a digit, letter or closing bracket is an operator or a hyphen, not a sign.
    r"(?P<sign>(?<![A-Za-z0-9)\]%])[-+\u2212])?(?:\\?[$€£¥] ?(?P<inner>[-+\u2212])?)?"
    rf"(?P<top>{_UNSIGNED})"
    rf"(?:(?P<power>[eE][-+]?[0-9]+)(?![A-Za-z0-9])| ?/ ?(?P<bottom>{_UNSIGNED}))?"
)


# LaTeX's and print's ways to part thousands. A plain blank is none: "4 500" may be two numbers.
_THOUSANDS = re.compile(r"(?<=[0-9])(?:\{,\}|\\[,!;:]|[\u00a0\u2009\u202f'\u2019])(?=[0-9]{3}(?![0-9]))")
_EXPONENT = re.compile(r"\^(?:\{[^{}]*\}|[-+\u2212]?[0-9]+)")


def _numerals(text):
    """Matches of every number in ``text``, in order."""
    return _NUMBER.finditer(_EXPONENT.sub("^", _THOUSANDS.sub(",", text)))


def said(text: str) -> str:
    """What a completion says beside its hidden thought: all behind ``</think>``, nothing of a thought left open.

    A thought repeats the tags that it is told to use. Of several the last one counts.
    """
    return text.rpartition("</think>")[2].partition("<think>")[0]


def between(text: str, start: str, end: str) -> tuple[str, bool] | None:
    """What follows the first ``start``, and whether ``end`` closes it; None without ``start``."""
    _, opened, rest = text.partition(start)
    body, closed, _ = rest.partition(end)
    return (body, bool(closed)) if opened else None


def extract_answer(text: str) -> float | None:
    """The number a completion answers with: any finite float, or None (Sec. 3.4).

    A hidden thought is passed over (``said``). Read from the first ``<SOLUTION>`` block, or from all
    that follows an opening tag that is never closed; else from the whole text. The last number there decides:
    "5 + 3 = 8" is 8. A block without a number gives None, whatever stands elsewhere, and so does
    a last number without a finite value ("3/0", 400 digits). Never raises for a string.

    Numbers take a sign (``-``, ``+``, U+2212), thousands parted by commas, apostrophes, narrow
    blanks or LaTeX's ``{,}`` and ``\\,``, a currency sign, decimals, a fraction ("3/4" is 0.75)
    or an exponent ("1.5e3" is 1500). Units, percent signs and full stops are passed over ("50%"
    is 50). Digits glued behind a letter or ``^`` belong to a name, a unit or a power ("m2",
    "cm^{2}"; "10^3" is read as 10) and are no number; nor are thousands parted by plain blanks,
    non-ASCII digits, mixed numbers ("1 1/2" ends in 0.5) or LaTeX fractions.
    """
    text = said(text)
    block = between(text, SOLUTION_START, SOLUTION_END)
    last = deque(_numerals(text if block is None else block[0]), maxlen=1)
    return _value(last[0]) if last else None


def gold_answer(answer: str | float | Real) -> float:
    """The finite value of a gold answer: a number, a number string, or a GSM8K ``#### 18`` text.

    Raises ValueError unless exactly one finite number is found (after the last ``####``, if any).
    """
    value = None
    if isinstance(answer, str):
        numbers = list(_numerals(answer.rpartition("####")[2]))
        value = _value(numbers[0]) if len(numbers) == 1 else None
    elif isinstance(answer, Real) and not isinstance(answer, bool):
        # False for NaN, infinities and integers that float() would refuse. Real's own stub lacks the comparison.
        value = float(answer) if abs(answer) <= sys.float_info.max else None  # ty: ignore[unsupported-operator]
    if value is None:
        raise ValueError(
            "expected a gold answer that holds one finite number ('18' or a text ending in "
            f"'#### 18'), got {shown(answer)}; correct that row of the answer column or drop it"
        )
    return value


def answers_match(predicted: float | None, gold: float) -> bool:
    """Whether an answer is right, for the reward and for Pass@1; None never is.

    Equal up to float rounding: 1e-9 relative, 1e-12 absolute.
    """
    return predicted is not None and math.isclose(predicted, gold, rel_tol=1e-9, abs_tol=1e-12)


def _value(match: re.Match) -> float | None:
    """The finite value of one numeral, or None (overflow, division by zero)."""
    # float() turns a 400-digit numeral into inf where int() followed by float() would raise.
    top = float(match["top"].replace(",", "") + (match["power"] or ""))
    bottom = float((match["bottom"] or "1").replace(",", ""))
    if bottom == 0 or not all(map(math.isfinite, (top, bottom, top / bottom))):
        return None
    minuses = sum(match[sign] in ("-", "\u2212") for sign in ("sign", "inner"))
    return -top / bottom if minuses == 1 else top / bottom


def shown(thing: object) -> str:
    """A short account of ``thing`` for an error message."""
    # Python refuses to print integers of more than 4,300 digits.
    if isinstance(thing, int) and thing.bit_length() > 1024:
        return "an integer too large for a float"
    return f"{type(thing).__name__} {thing!r:.80}"
