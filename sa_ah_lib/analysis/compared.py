"""The arms of a comparison, each against GRPO in its own setting, compared once: tables and files. Needs no torch."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from sa_ah_lib.analysis.comparison import Arm, caption, reference_of
from sa_ah_lib.analysis.seeds import (
    METRICS,
    MIN_SEEDS,
    Comparison,
    Estimate,
    compare_all,
    interquartile_mean,
    outcome,
    scores,
)
from sa_ah_lib.analysis.table import DASH, Table


@dataclass(frozen=True)
class Compared:
    """Arms, and what ``against_reference`` found for each key of ``METRICS``: {metric: {label: Comparison}}."""

    arms: tuple[Arm, ...]
    against: dict[str, dict[str, Comparison]]

    @classmethod
    def of(cls, arms: Sequence[Arm], reference: str | Arm = "grpo", metrics: Iterable[str] = METRICS) -> "Compared":
        """Compare every arm with the ``reference`` method's arm of its own setting, or with one arm for all.

        An arm of which a metric is known of too few runs (see ``enough``) is left out of that metric.
        """
        known = {metric: [arm for arm in arms if enough(arm, metric)] for metric in metrics}
        against = {metric: against_reference(found, metric, reference) for metric, found in known.items()}
        return cls(tuple(arms), against)

    @property
    def metrics(self) -> list[str]:
        """The metrics that were compared and that some arm has, in the order of ``METRICS``."""
        return [metric for metric in METRICS if metric in self.against and any(scores(a, metric) for a in self.arms)]

    def of_arm(self, label: str) -> dict[str, Comparison]:
        """{metric: its comparison} of one arm, empty for the reference."""
        return {metric: found[label] for metric, found in self.against.items() if label in found}

    def table(self, metric: str, name: str = "seeds") -> Table:
        """One row per arm: interquartile mean, gain over the reference, P(better), p, Holm's p, verdict.

        With Pass@1 stand the mean logged weight of discounted tokens and that of Eq. 5 on the same tokens, "—" where
        nothing is discounted, or a run was logged without them; with a censored metric, how many runs are.
        """
        rule = METRICS[metric]
        told = f"paired {'ratio' if rule.ratio else 'gain'} [95%]"
        header = ["arm", "runs", f"{rule.label}, IQM [95%]", told, "P(better) [95%]", "p", "Holm p", "verdict"]
        header += ["not reached"] if metric == "steps_to" else []
        header += ["mean w, discounted", "to match"] if metric == "pass_at_1" else []
        rows = [self._row(arm, metric) for arm in self.arms]
        return Table(f"{name}-{metric}", f"Methods over seeds: {rule.label}, {caption(self.arms)}", header, rows)

    def frame(self) -> pd.DataFrame:
        """One row per arm, scale, warm start and seed, with every metric's value; empty cells where there is none."""
        found = {metric: [scores(arm, metric) for arm in self.arms] for metric in self.metrics}
        rows = []
        for number, arm in enumerate(self.arms):
            named = {name: getattr(arm.config, name) for name in ("method", "rule", "alpha")}
            for key, run in sorted(arm.runs.items()):
                place = dict(zip(("scale", "warm_start", "seed"), key, strict=True))
                values = {metric: found[metric][number].get(key) for metric in self.metrics}
                ended = {"steps_to_censored": METRICS["steps_to"].censored(run)} if "steps_to" in values else {}
                rows.append({"arm": arm.label, **named, **place, **values, **ended})
        return pd.DataFrame(rows)

    def save(self, directory: str | Path, name: str, told: str = "") -> list[Path]:
        """Write ``name``.md and .tex (a table per metric, ``told`` below) and .csv (``frame``); the paths written."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        tables = [self.table(metric, name) for metric in self.metrics]
        texts = {
            "md": "\n".join([*(table.markdown for table in tables), told]) + "\n",
            "csv": self.frame().to_csv(index=False, lineterminator="\n"),
            "tex": "\n".join(table.latex(f"{directory.name}-") for table in tables),
        }
        paths = [directory / f"{name}.{ending}" for ending in texts]
        for path, text in zip(paths, texts.values(), strict=True):
            path.write_text(text, encoding="utf-8")
        return paths

    def _row(self, arm, metric):
        values, found = scores(arm, metric), self.against[metric].get(arm.label)
        told = estimate_text(interquartile_mean(arm, metric)) if enough(arm, metric) else DASH
        cells = [arm.label, str(len(values)), told]
        gain, *decided = evidence(found)
        cells += [gain, estimate_text(found.improvement) if found else DASH, *decided]
        if metric == "steps_to":
            ended = sum(METRICS[metric].censored(arm.runs[key]) for key in values)
            cells += [f"{ended} of {len(values)}"]
        if metric == "pass_at_1":
            cells += [_mean_logged(arm, f"sa_ah/weight_{part}") for part in ("discounted", "target")]
        return cells


def enough(arm: Arm, metric: str) -> bool:
    """Whether a metric is known of all of an arm's runs, or of as many as a verdict needs; few of many say nothing."""
    known = len(scores(arm, metric))
    return known > 0 and (known == len(arm.runs) or known >= MIN_SEEDS)


def against_reference(arms: Sequence[Arm], metric: str, reference: str | Arm = "grpo") -> dict[str, Comparison]:
    """{label: Comparison} of each arm with its reference; Holm's p is for these.

    Args:
        reference: a method, whose arm nearest to an arm's own setting is taken, or one arm for all.
    """
    fixed = reference if isinstance(reference, Arm) else None
    pairs = [(arm, fixed or reference_of(arm, arms, str(reference))) for arm in arms]
    pairs = [(arm, anchor) for arm, anchor in pairs if anchor is not None and arm is not anchor]
    return {comparison.first: comparison for comparison in compare_all(pairs, metric)}


def evidence(comparison: Comparison | None) -> list[str]:
    """[gain with its interval, p, Holm's p, verdict] as every table writes them; "—" four times for None."""
    if comparison is None:
        return [DASH] * 4
    p_values = [DASH if math.isnan(p) else f"{p:.3g}" for p in (comparison.p_value, comparison.adjusted_p)]
    return [gain_text(comparison), *p_values, outcome(comparison)]


def gain_text(comparison: Comparison) -> str:
    """A gain with its interval in the metric's own terms: points of Pass@1, or the ratio first / second."""
    gain, metric = comparison.gain, METRICS[comparison.metric]
    if not gain.count:
        return "no seed in common"
    if metric.ratio:
        bounds = sorted(math.exp(-g if not metric.larger_is_better else g) for g in (gain.low, gain.high))
        value = math.exp(gain.value if metric.larger_is_better else -gain.value)
        return f"× {value:.2f}" + (f" [{bounds[0]:.2f}, {bounds[1]:.2f}]" if gain.count > 1 else "")
    bounds = f" [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]" if gain.count > 1 else ""
    return f"{100 * gain.value:+.1f} points{bounds}"


def estimate_text(estimate: Estimate) -> str:
    """A value with its interval: three decimals, one for values of 10 and more; "—" where there is none."""
    if math.isnan(estimate.value):
        return DASH
    form = ".1f" if estimate.value >= 10 else ".3f"
    bounds = "" if math.isnan(estimate.low) else f" [{estimate.low:{form}}, {estimate.high:{form}}]"
    return f"{estimate.value:{form}}{bounds}"


def _mean_logged(arm, key):
    runs = arm.runs.values() if arm.config.scope != "none" else ()
    values = [value for run in runs for value in run.curve(key)[1]]
    return f"{sum(values) / len(values):.4f}" if values else DASH
