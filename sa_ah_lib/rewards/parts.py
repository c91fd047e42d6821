"""The four reward functions of Sec. 3.4 and their sum, Eq. 10; a hidden thought (``answers.said``) is no part of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from numbers import Real

from sa_ah_lib.rewards.answers import (
    REASONING_END,
    REASONING_START,
    SOLUTION_END,
    SOLUTION_START,
    TAGS,
    answers_match,
    between,
    extract_answer,
    gold_answer,
    said,
    shown,
)

MAX_REWARD = 7.5

# Counted in tenths, so that a sum is exact in decimal: 0.3, never 0.30000000000000004.
_TAG_TENTHS = (2, 3, 2, 3)

# Bounded filler between the parts of an equation keeps the search linear.
_AFTER = r"[\\%$€£¥)\] \t]{0,8}"
# A minus must touch its number here, or "3x - 4 = 10" would pass for a product.
_BEFORE = r"[\\$€£¥(\[ \t]{0,8}(?:[-\u2212][\\$€£¥(\[]{0,8})?"
_OPERATOR = r"(?:[-+*/xX×÷·\u2212]|\\times|\\div|\\cdot)"
# It starts at one digit, and the right side is looked at only, so "2+3=5+1=6" is two steps.
_STEP = re.compile(
    rf"[0-9]{_AFTER}{_OPERATOR}{_BEFORE}(?:[0-9][0-9,]*(?:\.[0-9]*)?|\.[0-9]+)"
    rf"{_AFTER}=(?={_BEFORE}\.?[0-9])"
)


def _correct(text: str, gold: float) -> float:
    predicted = extract_answer(text)
    if predicted is None:
        return -0.5
    if answers_match(predicted, gold):
        return 4.0
    # The slack lets 1.1 stand within 10 % of 1; with gold 0 the bound is 0.
    return 1.5 if abs(predicted - gold) <= 0.1 * abs(gold) * (1 + 1e-9) else 0.0


def _format(text: str) -> float:
    counts = [text.count(tag) for tag in TAGS]
    if max(counts) > 1:
        return -0.5
    places = [text.find(tag) for tag in TAGS]
    if min(counts) == 1 and places == sorted(places):
        return 1.5
    return sum(n * tenths for n, tenths in zip(counts, _TAG_TENTHS, strict=True)) / 10


def _reasoning(text: str) -> str:
    block = between(text, REASONING_START, REASONING_END)
    if block is None:
        return text.partition(REASONING_END)[0]
    return block[0] if block[1] else block[0].partition(SOLUTION_START)[0]


def _steps(text: str) -> float:
    reasoning = _reasoning(text)
    if not reasoning.strip():
        return 0.0
    steps = sum(1 for _ in _STEP.finditer(reasoning))
    return 0.1 if steps == 0 else 0.4 if steps <= 2 else 0.7 if steps <= 4 else 1.0


def correctness_reward(
    completions: Sequence[str | Sequence[dict]], answer: Iterable | None = None, **kwargs: object
) -> list[float]:
    """r_correct in {-0.5, 0, 1.5, 4.0} (Sec. 3.4), against one gold answer per completion.

    4.0 for the gold answer, 1.5 within 10 % of it (a gold of 0 has no near answers), 0 for
    another number, -0.5 for none. Raises ValueError for missing, miscounted or unusable gold
    answers, TypeError for completions that are neither text nor messages.
    """
    texts = _texts(completions)
    golds = None if answer is None or isinstance(answer, (str, Real)) else list(answer)
    if golds is None or len(golds) != len(texts):
        got = shown(answer) if golds is None else f"{len(golds)}"
        raise ValueError(
            f"expected {len(texts)} gold answers, one per completion, got {got}; "
            "give the data set an 'answer' column, repeated for each completion of a prompt"
        )
    return [_correct(text, gold_answer(gold)) for text, gold in zip(texts, golds, strict=True)]


def format_reward(
    completions: Sequence[str | Sequence[dict]], answer: Iterable | None = None, **kwargs: object
) -> list[float]:
    """r_format in {-0.5, 0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.5} (Sec. 3.4).

    -0.5 if any tag stands twice; 1.5 if all four stand once, in the order of `TAGS` (so the
    reasoning closes before the solution opens; text around them is free); else 0.2, 0.3, 0.2, 0.3
    for each tag present. Every value the paper prints can occur, and no other.
    Raises TypeError for completions that are neither text nor messages.
    """
    return [_format(text) for text in _texts(completions)]


def presence_reward(
    completions: Sequence[str | Sequence[dict]], answer: Iterable | None = None, **kwargs: object
) -> list[float]:
    """r_present in {0, 0.3, 1.0} (Sec. 3.4): 1.0 for a solution opened and then closed.

    0.3 for one only opened (a closing tag before it does not count), else 0. Repeated tags are
    left to `format_reward`. Raises TypeError for completions that are neither text nor messages.
    """
    blocks = [between(text, SOLUTION_START, SOLUTION_END) for text in _texts(completions)]
    return [0.0 if block is None else 1.0 if block[1] else 0.3 for block in blocks]


def steps_reward(
    completions: Sequence[str | Sequence[dict]], answer: Iterable | None = None, **kwargs: object
) -> list[float]:
    """r_steps in {0, 0.1, 0.4, 0.7, 1.0} (Sec. 3.4), by calculation steps in the reasoning.

    0 for blank reasoning, 0.1 without a step, 0.4 up to 2 steps, 0.7 up to 4, 1.0 above.

    A step is an ``=`` on one line whose left side ends in number, operator, number and whose
    right side starts with a number. Operators are + - * / x × ÷ · and LaTeX's \\times, \\div,
    \\cdot; brackets, signs, currency and percent signs may surround the numbers, words may not.
    "2+3=5+1=6" is two steps; GSM8K's "48/2 = <<48/2=24>>24" is one, the annotation. The sum
    itself is not checked.

    The reasoning is the first block; opened only, it runs to ``<SOLUTION>`` or the end; closed
    only, from the start of the text; without tags it is the whole text. Raises TypeError for
    completions that are neither text nor messages.
    """
    return [_steps(text) for text in _texts(completions)]


REWARD_FUNCS = (correctness_reward, format_reward, presence_reward, steps_reward)


def reward_parts(completion: str | Sequence[dict], answer: str | float | Real) -> dict[str, float]:
    """The parts of Eq. 10 for one completion, in the four functions' value sets.

    Raises ValueError for an unusable gold answer, TypeError for an unusable completion.
    """
    names = ("correct", "format", "present", "steps")
    return {name: f([completion], [answer])[0] for name, f in zip(names, REWARD_FUNCS, strict=True)}


def total_reward(completion: str | Sequence[dict], answer: str | float | Real) -> float:
    """r of Eq. 10, a multiple of 0.1 in [-1.0, 7.5]; raises as `reward_parts`."""
    return round(sum(reward_parts(completion, answer).values()), 1)


def _texts(completions: Sequence) -> list[str]:
    # A bare string would be scored letter by letter.
    if isinstance(completions, (list, tuple)):
        return [_text(completion) for completion in completions]
    raise TypeError(f"expected a list, got {shown(completions)}; put a lone completion in a list")


def _text(completion: str | Sequence[dict]) -> str:
    return said(_whole(completion))


def _whole(completion):
    if isinstance(completion, str):
        return completion
    if isinstance(completion, (list, tuple)) and all(isinstance(m, dict) for m in completion):
        parts = [m.get("content") for m in completion if m.get("role", "assistant") == "assistant"]
        texts = [part for part in parts if isinstance(part, str)]
        if parts and len(texts) == len(parts):
            return "\n".join(texts)
    raise TypeError(
        "expected a string or a list like [{'role': 'assistant', 'content': '...'}] for each "
        f"completion, got {shown(completion)}; decode ids and join content parts to text first"
    )
