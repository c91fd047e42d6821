"""The paper's claims by our own runs: comparisons over seeds, with the verdicts of ``analysis.seeds``. Needs no torch.

A claim is judged in every comparison of two seeds or more that has its methods: one per model, length and alpha.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import stats

from sa_ah_lib.analysis import compared, seeds
from sa_ah_lib.analysis.comparison import arm_of, by_family
from sa_ah_lib.analysis.sign_flip import sign_flip_p
from sa_ah_lib.analysis.stats import second_half
from sa_ah_lib.paper.judges import Verdict

UNTESTED = "not run"


Judge = Callable[[list[Any]], Verdict]
"""From the arms of one comparison to a word of ``seeds.VERDICTS``, or ``UNTESTED``, and the numbers it rests on."""


def findings(results: Sequence[Any], judge: Judge) -> Verdict:
    """The verdicts of every comparison among ``results``, and their numbers one after the other."""
    # Settings of one method are compared with its own GRPO elsewhere; here each strength is one comparison.
    families = {name: arms for name, arms in by_family(results).items() if not name.endswith("-settings")}
    found = {name: judge(arms) for name, arms in families.items()}
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
        # As every table has them: corrected for all arms that are compared with the other method.
        found = [compared.against_reference(arms, metric, other)[first.label] for other in others]
        told = ", ".join(f"against {c.second} {compared.gain_text(c)}" for c in found)
        return Verdict(_weakest([seeds.verdict(c) for c in found]), f"{told}, {found[0].gain.count} runs")

    return judge


def unseen(arms: list[Any]) -> Verdict:
    """For a claim whose runs we did not repeat over seeds."""
    return Verdict(UNTESTED, "")


def over_zero_shot(*methods: str) -> Judge:
    """Whether every method's final Pass@1 is above the same run's zero-shot one."""

    def judge(arms):
        chosen = [arm for name in methods if (arm := arm_of(arms, name)) is not None]
        gains = {arm.label: {k: run.final[0] / run.final[1] - run.base for k, run in _based(arm)} for arm in chosen}
        return _of_gains(gains, len(methods), 100, "points over zero-shot")

    return judge


def rising(method: str, key: str, sign: int, where: str = "") -> Judge:
    """Whether a logged value rises (+1) or falls (-1) with the steps, by each seed's rank correlation."""

    def judge(arms):
        arm = arm_of(arms, method)
        found = {k: _slope(run, key, where) for k, run in arm.runs.items()} if arm is not None else {}
        slopes = {k: sign * slope for k, slope in found.items() if slope is not None}
        return _of_gains({arm.label: slopes} if slopes else {}, 1, sign, "mean Spearman with the step")

    return judge


def larger_late(method: str, than: str, key: str) -> Judge:
    """Whether the mean of a logged value over the second half of the steps is larger than another method's."""

    def judge(arms):
        first, second = arm_of(arms, method), arm_of(arms, than)
        if first is None or second is None:
            return Verdict(UNTESTED, "")
        means = [{k: _late_mean(run, key) for k, run in arm.runs.items()} for arm in (first, second)]
        shared = [k for k in means[0] if means[0][k] and means[1].get(k)]
        gains = {k: float(np.log(means[0][k] / means[1][k])) for k in shared}
        return _of_gains({f"{first.label} / {second.label}": gains} if gains else {}, 1, None, "mean ratio")

    return judge


def _of_gains(gains, wanted, scale, what):
    """The weakest verdict over {label: {key: gain}}; "better" or "worse" as in ``seeds``: the interval and the test."""
    if len(gains) < wanted or not all(gains.values()):
        return Verdict(UNTESTED, "")
    words, told = [], []
    for label, named in gains.items():
        mean, p_value, (low, high) = float(np.mean(list(named.values()))), 1.0, (-math.inf, math.inf)
        if len(named) > 1:
            p_value = sign_flip_p(list(named.values()))
            low, high = seeds.student(named, seeds.error_of_pairs(named))
        decided = len(named) >= seeds.MIN_SEEDS and p_value < seeds.LEVEL and not low <= 0 <= high
        words.append("undecided" if not decided else "better" if mean > 0 else "worse")
        shown = _shown(mean, *((high, low) if scale == -1 else (low, high)), scale)
        told.append(f"{label} {shown} {what} over {len(named)} runs (sign-flip p = {p_value:.3g})")
    return Verdict(_weakest(words), ", ".join(told))


def _shown(mean, low, high, scale):
    """A mean and its bounds as a ratio (``scale`` None: they are logarithms), in points (100), or as they are."""
    if scale is None:
        return f"× {np.exp(mean):.2f} [{np.exp(low):.2f}, {np.exp(high):.2f}]"
    form = "+.1f" if scale == 100 else "+.2f"
    return f"{scale * mean:{form}} [{scale * low:{form}}, {scale * high:{form}}]"


def _weakest(words):
    """A claim of several parts is as good as its worst part."""
    return next(word for word in ("worse", "undecided", "equivalent", "better") if word in words)


def _based(arm):
    return [(key, run) for key, run in arm.runs.items() if run.base is not None and run.pass_at_1]


def _slope(run, key, where):
    rows = [row for row in run.train if row.get(key) is not None and (not where or row.get(where))]
    if len({row[key] for row in rows}) < 2:
        return None
    return float(stats.spearmanr([row["step"] for row in rows], [row[key] for row in rows]).statistic)


def _late_mean(run, key):
    values = run.curve(key)[1]
    return float(second_half(values).mean()) if len(values) > 3 else None
