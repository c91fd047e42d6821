"""The paper's claims, each judged twice: by the paper's printed numbers, and by measured runs. Needs no torch.

A claimed difference is *supported* where the numbers have its direction and a 5% test tells it from chance, *not
supported* where they lack the direction, and *undecidable* where they have it and chance could have made it.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sa_ah_lib.analysis import stats
from sa_ah_lib.analysis.results import MissingData, variance
from sa_ah_lib.paper.printed import RAW_BASE

SUPPORTED, NOT_SUPPORTED, UNDECIDABLE = "supported", "not supported", "undecidable"


class Verdict(NamedTuple):
    """One of the three words, and the numbers it rests on."""

    word: str
    reason: str


@dataclass(frozen=True)
class Claim:
    """One sentence of the paper and its two verdicts."""

    text: str
    where: str
    by_paper: Verdict
    by_measured: Verdict


def compare(a, step_a, b, step_b):
    """Difference in Pass@1 of two results at a checkpoint each; step 0 is zero-shot, the paper's as it was evaluated.

    Returns:
        (Difference, name of the test): paired by problem where both logged the same problems, else from the counts.
    """
    first, second = a.answers.get(step_a), b.answers.get(step_b)
    if first is not None and second is not None and len(first) == len(second):
        differ = list(first) != list(second)
        return stats.paired(first, second), f"McNemar, {'paired bootstrap' if differ else 'no answer differs'}"
    (correct, total), other = a.pass_at_1[step_a], b.pass_at_1.get(step_b)
    return stats.unpaired((correct, total), other or _base_counts(b, total)), "two-proportion z, Newcombe"


def _base_counts(result, total):
    """(correct, problems) of zero-shot; the paper's before it was lowered by hand to what no count of answers gives."""
    rate = RAW_BASE[result.config.scale] if result.source == "paper" else result.base
    return round(rate * total), total


def judge(large, small, measured_large, measured_small):
    """Every claim with its verdicts.

    Args:
        large, small: the paper's families. measured_large, measured_small: measured ones in their place, or None.
    """
    found = []
    for text, where, judges, model in _CLAIMS:
        paper = {"large": [large], "small": [small], "both": [large, small]}[model]
        own = {"large": [measured_large], "small": [measured_small], "both": [measured_large, measured_small]}[model]
        found.append(Claim(text, where, _all(judges, paper), _all(judges, own)))
    return found


def _all(judges, families):
    """The verdict on a claim of several parts: all must hold, one that fails is enough."""
    verdicts = []
    for family in families:
        for one in judges:
            try:
                if family is None:
                    raise MissingData("such runs")
                verdicts.append(one(family))
            except MissingData as missing:
                verdicts.append(Verdict(UNDECIDABLE, f"for want of {missing}"))
    words = [verdict.word for verdict in verdicts]
    word = NOT_SUPPORTED if NOT_SUPPORTED in words else UNDECIDABLE if UNDECIDABLE in words else SUPPORTED
    return Verdict(word, _joined(dict.fromkeys(verdict.reason for verdict in verdicts)))


def _joined(reasons):
    """Reasons in one line, a model named once for those that follow each other."""
    parts, last = [], None
    for reason in reasons:
        model, _, rest = reason.partition(": ")
        parts.append(rest if rest and model == last else reason)
        last = model
    return "; ".join(parts)


def _higher_final(first, second, alpha_first=None, alpha_second=None):
    """``first`` ends with a higher Pass@1 than ``second``; each at its own last checkpoint, as the paper compares."""

    def judge_family(family):
        a, b = _member(family, first, alpha_first), _member(family, second, alpha_second)
        gap, test = compare(a, a.last, b, b.last)
        return _on_gap(gap, f"{family.model}: {_name(a)} − {_name(b)}", test)

    return judge_family


def _higher_than_base(method):
    def judge_family(family):
        result = family.method(method)
        if result.base is None:
            raise MissingData(f"the zero-shot Pass@1 of {family.model}")
        gap, test = compare(result, result.last, result, 0)
        if family.source == "paper":
            test = f"z, raw base {RAW_BASE[family.scale]}"
        return _on_gap(gap, f"{family.model}: {_name(result)} − zero-shot", test)

    return judge_family


def _same_peak(first, second):
    """The peaks differ by less than 0.02, the paper's own margin (Section 7), with 95% confidence."""

    def judge_family(family):
        a, b = family.method(first), family.method(second)
        gap, test = compare(a, a.best, b, b.best)
        if gap.low > -0.02 and gap.high < 0.02:
            word = SUPPORTED
        else:
            word = UNDECIDABLE if gap.low <= 0 <= gap.high else NOT_SUPPORTED
        interval = f"[{gap.low:+.3f}, {gap.high:+.3f}]"
        return Verdict(word, f"{family.model}: {_name(a)} − {_name(b)} {gap.estimate:+.3f} {interval} ({test})")

    return judge_family


def _lower_variance(method, than):
    def judge_family(family):
        a, b = family.method(method), family.method(than)
        if variance(a) is None or variance(b) is None:
            raise MissingData(f"training variances of {family.model}")
        ratio = variance(b) / max(variance(a), 1e-12)
        said = f"{family.model}: {_name(b)} / {_name(a)} = {ratio:.2f}"
        if family.source == "paper":
            word = NOT_SUPPORTED if ratio <= 1 else UNDECIDABLE
            return Verdict(word, f"{said}; {_name(b)}'s is printed for two models, and no rewards step by step are")
        interval = stats.half_ratio(b.curve("reward")[1], a.curve("reward")[1])
        word = SUPPORTED if interval.low > 1 else NOT_SUPPORTED if ratio <= 1 else UNDECIDABLE
        return Verdict(word, f"{said} [{interval.low:.2f}, {interval.high:.2f}]")

    return judge_family


def _trending(key, sign, what, only=None):
    """A logged value of SA-AH-GRPO rises (+1) or falls (-1) over training."""

    def judge_family(family):
        log = family.method("sa-ah-grpo").train
        rows = [row for row in log if row.get(key) is not None and (not only or row.get(only))]
        if len(rows) < 4:
            raise MissingData(f"{what} over training of {family.model}")
        found = stats.trend([row["step"] for row in rows], [row[key] for row in rows])
        ends = f"{rows[0][key]:.3g} at step {rows[0]['step']}, {rows[-1][key]:.3g} at step {rows[-1]['step']}"
        if sign * found.estimate <= 0:
            word = NOT_SUPPORTED
        else:
            word = SUPPORTED if found.p_value < 0.05 else UNDECIDABLE
        return Verdict(word, f"{family.model}: {what} {ends}, Spearman {found.estimate:+.2f} over {len(rows)} points")

    return judge_family


def _higher_entropy(family):
    """SA-AH-GRPO keeps more entropy than GRPO in the second half of training."""
    a, b = family.method("sa-ah-grpo").curve("sa_ah/entropy")[1], family.method("grpo").curve("sa_ah/entropy")[1]
    if len(a) < 4 or len(b) < 4:
        raise MissingData(f"GRPO's entropies of {family.model}, to compare with")
    ratio = stats.half_ratio(a, b, np.mean)
    word = SUPPORTED if ratio.low > 1 else NOT_SUPPORTED if ratio.estimate <= 1 else UNDECIDABLE
    interval = f"[{ratio.low:.2f}, {ratio.high:.2f}]"
    return Verdict(word, f"{family.model}: mean entropy SA-AH-GRPO / GRPO = {ratio.estimate:.2f} {interval}")


def _on_gap(gap, what, test):
    if gap.estimate <= 0:
        word = NOT_SUPPORTED
    else:
        word = SUPPORTED if gap.p_value < 0.05 else UNDECIDABLE
    p_value = "p < 0.001" if gap.p_value < 0.0005 else f"p = {gap.p_value:.3f}"
    return Verdict(word, f"{what} {gap.estimate:+.3f}, {p_value} ({test})")


def _member(family, method, alpha):
    if alpha is None:
        return family.method(method)
    if alpha not in family.alphas:
        raise MissingData(f"AH-GRPO at alpha {alpha:g} on {family.model}")
    return family.alphas[alpha]


def _name(result):
    names = {"grpo": "GRPO", "ah-grpo": "AH", "sa-ah-grpo": "SA-AH"}
    own = result.config.alpha in (0.0, 0.5)
    return names.get(result.config.method, result.config.method) + ("" if own else f"({result.config.alpha:g})")


SA, AH, GRPO = "sa-ah-grpo", "ah-grpo", "grpo"
_POSITIVE = (0.1, 0.25, 0.5)
_CLAIMS = (
    (
        "SA-AH-GRPO has a lower training variance than GRPO (3.6×)",
        "Abstract, large model",
        [_lower_variance(SA, GRPO)],
        "large",
    ),
    (
        "SA-AH-GRPO has a lower training variance than AH-GRPO (2.6×)",
        "Section 5.1, large model",
        [_lower_variance(SA, AH)],
        "large",
    ),
    (
        "SA-AH-GRPO has the peak accuracy of GRPO and AH-GRPO",
        "Abstract, large model",
        [_same_peak(SA, GRPO), _same_peak(SA, AH)],
        "large",
    ),
    (
        "SA-AH-GRPO ends higher than GRPO and AH-GRPO",
        "Section 1, both models",
        [_higher_final(SA, GRPO), _higher_final(SA, AH)],
        "both",
    ),
    ("SA-AH-GRPO improves on zero-shot", "Abstract, small model", [_higher_than_base(SA)], "small"),
    (
        "All three methods improve on zero-shot",
        "Section 5.1, both models",
        [_higher_than_base(m) for m in (GRPO, AH, SA)],
        "both",
    ),
    (
        "Positive α ends higher than α = −0.25",
        "Section 5.2, small model",
        [_higher_final(AH, AH, a, -0.25) for a in _POSITIVE],
        "small",
    ),
    (
        "Entropy discounting helps: positive α ends higher than α = 0",
        "Conclusion, small model",
        [_higher_final(AH, GRPO, a, 0.0) for a in _POSITIVE],
        "small",
    ),
    (
        "Discounting failures alone is the decisive improvement on AH-GRPO",
        "Section 5.2, small model",
        [_higher_final(SA, AH)],
        "small",
    ),
    (
        "The discount anneals: the weight on negative rollouts rises",
        "Sections 5.3 and 6, both models",
        [_trending("sa_ah/weight_negative", 1, "mean weight on negative rollouts", "sa_ah/negative_fraction")],
        "both",
    ),
    (
        "The policy becomes more confident: entropy falls",
        "Section 5.3, large model",
        [_trending("sa_ah/entropy", -1, "mean entropy")],
        "large",
    ),
    ("SA-AH-GRPO prevents entropy collapse", "Abstract, both models", [_higher_entropy], "both"),
    (
        "Completions become shorter",
        "Section 5.3, large model",
        [_trending("completions/mean_length", -1, "mean length")],
        "large",
    ),
)
