"""Whether training on a micro task is many decisions: what evaluations in a run's log say of it, without a model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sa_ah_lib.micro.measure import calculations

_FIRST = re.compile(r"<[^>]+>|[A-Za-z]+ ?|.", re.DOTALL)


def choices(completions: Sequence[str], place: int) -> dict[str, float]:
    """{text: share of completions in [0, 1]} of what stands first (``place`` 0) or second (1): a tag, word or sign."""
    found = [_FIRST.findall(text)[place : place + 1] for text in completions]
    words = [word[0] if word else "" for word in found]
    return {word: words.count(word) / len(words) for word in set(words)}


def choice_correlations(arms: Mapping[str, Sequence[Mapping[str, Any]]], place: int = 0) -> dict[str, float]:
    """Spearman's rank correlation, over arms, of Pass@1 with the share of each choice at the start of the answers.

    Args:
        arms: {arm: evaluation rows of one step, as ``eval.jsonl`` has them}; 3 at least.
        place: 0 the first choice, 1 the second.

    Returns:
        {text: correlation in [-1, 1]} of the choices whose share differs between arms. Near 1 or -1, and Pass@1 is
        little more than that choice.

    Raises:
        ValueError: fewer than 3 arms.
    """
    from scipy.stats import spearmanr

    if len(arms) < 3:
        raise ValueError(f"a rank correlation needs at least 3 arms. Got {len(arms)}.")
    rates = [sum(row["correct"] for row in rows) / len(rows) for rows in arms.values()]
    shares = [choices([row["completion"] for row in rows], place) for rows in arms.values()]
    found = {}
    for word in sorted({word for share in shares for word in share}):
        column = [share.get(word, 0.0) for share in shares]
        if len(set(column)) > 1 and len(set(rates)) > 1:
            found[word] = float(spearmanr(rates, column).statistic)
    return found


def truth_by_form(completions: Iterable[str]) -> dict[str, tuple[int, int]]:
    """{form: (true, written)} calculations of each form: "sum", "product", or "two at once" ("8+7-5=10").

    Accuracy given the strategy: a form's share is what a policy chooses to write, its truth how well it does that.
    """
    counts: dict[str, tuple[int, int]] = {}
    for text in completions:
        for calculation, truth in calculations(text):
            signs = re.findall(r"(?<=\d)[-+*]", calculation)
            form = "two at once" if len(signs) > 1 else "product" if signs == ["*"] else "sum"
            right, written = counts.get(form, (0, 0))
            counts[form] = (right + truth, written + 1)
    return dict(sorted(counts.items()))
