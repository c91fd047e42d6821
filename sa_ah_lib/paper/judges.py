"""How a claim is judged by the paper's numbers. Needs no torch.

A claimed difference is *supported* where the numbers have its direction and a 5% test tells it from chance, *not
supported* where they lack the direction, and *undecidable* where they have it and chance could have made it.
"""

from collections.abc import Callable
from typing import NamedTuple

from sa_ah_lib.analysis import stats
from sa_ah_lib.analysis.results import Family, MissingData, variance
from sa_ah_lib.paper.printed import RAW_BASE
from sa_ah_lib.train.run import Run

SUPPORTED, NOT_SUPPORTED, UNDECIDABLE = "supported", "not supported", "undecidable"


class Verdict(NamedTuple):
    """A word, and the numbers it rests on."""

    word: str
    reason: str


Judge = Callable[[Family], Verdict]
"""From the runs of one source to one of the three words, and the numbers it rests on."""


def compare(a: Run, step_a: int, b: Run, step_b: int) -> tuple[stats.Difference, str]:
    """Difference in Pass@1 of two results at a checkpoint each; step 0 is zero-shot, the paper's as it was evaluated.

    Returns:
        (Difference, name of the test): paired by problem where both logged the same problems, else from the counts.
    """
    first, second = a.answers.get(step_a), b.answers.get(step_b)
    if first is not None and second is not None and len(first) == len(second):
        return stats.paired(first, second), "McNemar, Bonett-Price"
    (correct, total), other = a.pass_at_1[step_a], b.pass_at_1.get(step_b)
    return stats.unpaired((correct, total), other or _base_counts(b, total)), "two-proportion z, Newcombe"


def _base_counts(result, total):
    """(correct, problems) of zero-shot; the paper's before it was lowered by hand to what no count of answers gives."""
    rate = RAW_BASE[result.config.scale] if result.source == "paper" else result.base
    return round(rate * total), total


def higher_final(first: str, second: str, alpha_first: float | None = None, alpha_second: float | None = None) -> Judge:
    """``first`` ends with a higher Pass@1 than ``second``; each at its own last checkpoint, as the paper compares."""

    def judge_family(family):
        a, b = _member(family, first, alpha_first), _member(family, second, alpha_second)
        gap, test = compare(a, a.last, b, b.last)
        return _on_gap(gap, f"{family.model}: {_name(a)} − {_name(b)}", test)

    return judge_family


def higher_than_base(method: str) -> Judge:
    """``method`` ends above zero-shot, as that was evaluated."""

    def judge_family(family):
        result = family.method(method)
        if result.base is None:
            raise MissingData(f"the zero-shot Pass@1 of {family.model}")
        gap, test = compare(result, result.last, result, 0)
        if family.source == "paper":
            test = f"z, raw base {RAW_BASE[family.scale]}"
        return _on_gap(gap, f"{family.model}: {_name(result)} − zero-shot", test)

    return judge_family


def same_peak(first: str, second: str) -> Judge:
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


def lower_variance(method: str, than: str) -> Judge:
    """``method`` has a smaller training variance than another one."""

    def judge_family(family):
        a, b = family.method(method), family.method(than)
        if variance(a) is None or variance(b) is None:
            raise MissingData(f"training variances of {family.model}")
        ratio = variance(b) / max(variance(a), 1e-12)
        said = f"{family.model}: {_name(b)} / {_name(a)} = {ratio:.2f}"
        word = NOT_SUPPORTED if ratio <= 1 else UNDECIDABLE
        return Verdict(word, f"{said}; {_name(b)}'s is printed for two models, and no rewards step by step are")

    return judge_family


def trending(key: str, sign: int, what: str, only: str | None = None) -> Judge:
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


def not_printed(what: str) -> Judge:
    """For a claim about numbers that the paper does not print."""

    def judge_family(family):
        raise MissingData(f"{what} of {family.model}, to compare with")

    return judge_family


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
