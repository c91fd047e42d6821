"""The paper's claims by our own runs: comparisons over seeds, with the verdicts of ``analysis.seeds``. Needs no torch.

A claim is judged in every comparison of two seeds or more that has its methods: one per model, length, alpha and
setting.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import stats

from sa_ah_lib.analysis import compared, seeds
from sa_ah_lib.analysis.comparison import arm_of, before_training, by_strength
from sa_ah_lib.analysis.sign_flip import holm, sign_flip_p
from sa_ah_lib.analysis.stats import second_half
from sa_ah_lib.paper.judges import Verdict

UNTESTED = "not run"


Judge = Callable[[list[Any]], Verdict]
"""From the arms of one comparison to a word of ``seeds.VERDICTS``, or ``UNTESTED``, and the numbers it rests on."""


def findings(results: Sequence[Any], judge: Judge) -> Verdict:
    """The verdicts of every comparison among ``results``, and their numbers one after the other."""
    found = {name: judge(arms) for name, arms in by_strength(results).items()}
    found = {name: finding for name, finding in found.items() if finding.word != UNTESTED}
    if not found:
        return Verdict(UNTESTED, "no comparison over seeds is about this claim")
    words = [finding.word for finding in found.values()]
    counted = [f"{word} ({words.count(word)} of {len(words)})" for word in dict.fromkeys(words)]
    told = "; ".join(f"{name}: {finding.word}, {finding.reason}" for name, finding in found.items())
    return Verdict(words[0] if len(set(words)) == 1 else ", ".join(counted), told)


def between(method: str, *others: str, metric: str = "pass_at_1") -> Judge:
    """``method`` against each of ``others`` in one metric; better only where it is better than all of them."""

    def judge(arms):
        first = arm_of(arms, method)
        if first is None or any(arm_of(arms, other) is None for other in others):
            return Verdict(UNTESTED, "")
        # Corrected for every arm that is compared with the other method, as the tables against GRPO are.
        found = [compared.against_reference(arms, metric, other)[first.label] for other in others]
        told = ", ".join(f"against {c.second} {compared.gain_text(c)}" for c in found)
        return Verdict(_weakest([seeds.verdict(c) for c in found]), f"{told}, {found[0].gain.count} runs")

    return judge


def unseen(arms: list[Any]) -> Verdict:
    """For a claim whose runs we did not repeat over seeds."""
    return Verdict(UNTESTED, "")


def over_zero_shot(*methods: str) -> Judge:
    """Whether every method's final Pass@1 is above the same run's zero-shot one; Holm's p is for these methods."""

    def judge(arms):
        chosen = [arm for name in methods if (arm := arm_of(arms, name)) is not None]
        found = seeds.compare_all([(arm, before_training(arm)) for arm in chosen], "pass_at_1")
        if len(found) < len(methods) or not all(c.gain.count for c in found):
            return Verdict(UNTESTED, "")
        told = [f"{c.first} {compared.gain_text(c)} over zero-shot, {c.gain.count} runs" for c in found]
        return Verdict(_weakest([seeds.verdict(c) for c in found]), ", ".join(told))

    return judge


def rising(method: str, key: str, sign: int, where: str = "") -> Judge:
    """Whether a logged value rises (+1) or falls (-1) with the steps, by each seed's rank correlation."""

    def judge(arms):
        arm = arm_of(arms, method)
        if arm is None:
            return Verdict(UNTESTED, "")
        found = {k: _slope(run, key, where) for k, run in arm.runs.items()}
        slopes = {k: sign * slope for k, slope in found.items() if slope is not None}
        return _of_gains(arm.label, slopes, sign, "mean Spearman with the step")

    return judge


def larger_late(method: str, than: str, key: str) -> Judge:
    """Whether the mean of a logged value over the second half of the steps is larger than another method's.

    Holm's p is for every arm that is compared with the other method, as in ``between``.
    """

    def judge(arms):
        first, second = arm_of(arms, method), arm_of(arms, than)
        if first is None or second is None:
            return Verdict(UNTESTED, "")
        late = {arm.label: _late_means(arm, key) for arm in arms}
        base = late.pop(second.label)
        gains = {label: {k: math.log(mean / base[k]) for k, mean in found.items() if k in base}
                 for label, found in late.items()}  # fmt: skip
        tested = {label: sign_flip_p(list(found.values())) for label, found in gains.items() if len(found) > 1}
        adjusted = dict(zip(tested, holm(list(tested.values())), strict=True))
        return _of_gains(
            f"{first.label} / {second.label}", gains[first.label], None, "mean ratio", adjusted.get(first.label)
        )

    return judge


def _of_gains(label, gains, scale, what, adjusted=None):
    """The verdict on {key: gain}; "better" or "worse" as in ``seeds``: by the interval and the (``adjusted``) p."""
    if not gains:
        return Verdict(UNTESTED, "")
    mean, p_value, (low, high) = float(np.mean(list(gains.values()))), 1.0, (-math.inf, math.inf)
    if len(gains) > 1:
        p_value = sign_flip_p(list(gains.values()))
        low, high = seeds.student(gains, seeds.error_of_pairs(gains))
    told = f"sign-flip p = {p_value:.3g}" + ("" if adjusted is None else f", {adjusted:.3g} after Holm")
    p_value = p_value if adjusted is None else adjusted
    decided = len(gains) >= seeds.MIN_SEEDS and p_value < seeds.LEVEL and not low <= 0 <= high
    word = "undecided" if not decided else "better" if mean > 0 else "worse"
    shown = _shown(mean, *((high, low) if scale == -1 else (low, high)), scale)
    return Verdict(word, f"{label} {shown} {what} over {len(gains)} runs ({told})")


def _shown(mean, low, high, scale):
    """A mean and its bounds: a ratio (``scale`` None: they are logarithms), or a correlation, times ``scale``."""
    if scale is None:
        return f"× {np.exp(mean):.3f} [{np.exp(low):.3f}, {np.exp(high):.3f}]"
    low, high = np.clip([scale * low, scale * high], -1, 1)
    return f"{scale * mean:+.2f} [{low:+.2f}, {high:+.2f}]"


def _weakest(words):
    """A claim of several parts is as good as its worst part."""
    return next(word for word in ("worse", "undecided", "equivalent", "better") if word in words)


def _slope(run, key, where):
    rows = [row for row in run.train if row.get(key) is not None and (not where or row.get(where))]
    if len({row[key] for row in rows}) < 2:
        return None
    return float(stats.spearmanr([row["step"] for row in rows], [row[key] for row in rows]).statistic)


def _late_means(arm, key):
    """{key of a run: mean of a logged value over its second half}, where it is above 0."""
    curves = {k: run.curve(key)[1] for k, run in arm.runs.items()}
    means = {k: float(second_half(values).mean()) for k, values in curves.items() if len(values) > 3}
    return {k: mean for k, mean in means.items() if mean > 0}
