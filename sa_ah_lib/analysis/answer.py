"""Does SA-AH-GRPO help, and why: one paragraph computed from the runs, with "cannot be told" among its answers.

Needs no torch.
"""

import math

from sa_ah_lib.analysis.comparison import arm_of, caption, reference_of
from sa_ah_lib.analysis.seeds import (
    METRICS,
    MIN_SEEDS,
    VERDICTS,
    compare_all,
    interquartile_mean,
    outcome,
    seeds_needed,
    verdict,
)
from sa_ah_lib.analysis.table import Table

# Rules that take the entropy, its place, or both away and still discount the same rollouts.
WITHOUT_ENTROPY = ("scalar", "position", "shuffled")


def paragraph(arms):
    """The answer in words, from the arms of ``comparison.arms``: of SA-AH-GRPO, then of AH-GRPO where it was run."""
    sa, ah = arm_of(arms, "sa-ah-grpo"), arm_of(arms, "ah-grpo")
    grpo = arm_of(arms, "grpo")
    if grpo is None or sa is None:
        missing = " and ".join(name for name, arm in (("GRPO", grpo), ("SA-AH-GRPO", sa)) if arm is None)
        return f"Whether SA-AH-GRPO helps cannot be told without runs of {missing}."
    compared = {metric: against_reference(arms, metric) for metric in METRICS}
    return " ".join(sentence for arm in (sa, ah) if arm is not None for sentence in _about(arm, arms, compared))


def _about(arm, arms, compared):
    """Sentences on one arm: against GRPO, over its settings, beside its controls, and why."""
    found = {metric: compared[metric][arm.label] for metric in METRICS}
    verdicts = {metric: verdict(comparison) for metric, comparison in found.items()}
    sentences = [_help(comparison) for comparison in found.values()]
    alike = lambda other: (other.config.method, other.config.rule) == (arm.config.method, arm.config.rule)  # noqa: E731
    settings, controls = [other for other in arms if alike(other)], _controls_of(arm, arms)
    for metric in METRICS if len(settings) > 1 else ():
        sentences.append(_over_settings([compared[metric][other.label] for other in settings], metric))
    if not controls:
        return [*sentences, f"No control of {arm.label} was run, so nothing is said about why."]
    sentences += [_against_controls(arm, controls, metric) for metric in METRICS]
    helped = [metric for metric in METRICS if verdicts[metric] == "better"]
    if helped:
        return [*sentences, *(_why(arm, controls, metric, compared[metric]) for metric in helped)]
    if "undecided" in verdicts.values():
        return [*sentences, "As long as it is open whether there is a benefit, the controls cannot explain one."]
    return [*sentences, "There is no benefit that the controls would have to explain."]


def _controls_of(arm, arms):
    """Arms that discount the same rollouts as much by another rule; and the mirror of SA-AH-GRPO."""
    same = lambda other: (other.config.scope, other.config.alpha) == (arm.config.scope, arm.config.alpha)  # noqa: E731
    controls = [other for other in arms if other.config.rule != "cumulative" and same(other)]
    mirrored = arm.config.method == "sa-ah-grpo"
    return controls + [other for other in arms if mirrored and other.config.method == "control-mirror"]


def table(arms, name):
    """``comparison_table`` as text, with what was measured above it and ``paragraph`` below."""
    header, rows = comparison_table(arms)
    rows = [[str(cell) for cell in row] for row in rows]
    return Table(name, f"Methods over seeds, {caption(arms)}", header, rows, (paragraph(arms),))


def against_reference(arms, metric, reference="grpo"):
    """{label: Comparison} of each arm with the ``reference`` arm of its own setting; Holm's p is for these."""
    pairs = [(arm, reference_of(arm, arms, reference)) for arm in arms]
    pairs = [(arm, anchor) for arm, anchor in pairs if anchor is not None and arm is not anchor]
    return {comparison.first: comparison for comparison in compare_all(pairs, metric)}


def comparison_table(arms, reference="grpo"):
    """(header, rows): per arm both metrics' interquartile means, the paired comparison with ``reference``, the weights.

    Comparisons are those of ``against_reference``; p is the sign-flip test's, and Holm's correction of it. The last
    two columns are the mean logged weight of discounted tokens, and of Eq. 5 on the same tokens; "—" where
    nothing is discounted, or a run was logged without them.
    """
    header = ["arm", "seeds"]
    for metric in METRICS.values():
        short = metric.short
        header += [f"{metric.label}, IQM [95%]", f"paired {short} {'ratio' if metric.ratio else 'gain'} [95%]"]
        header += [f"P(better {short}) [95%]", f"p, {short}", f"Holm p, {short}", f"verdict, {short}"]
    compared, rows = {metric: against_reference(arms, metric, reference) for metric in METRICS}, []
    for arm in arms:
        row = [arm.label, len(arm.runs)]
        for metric in METRICS:
            row.append(_estimate_text(interquartile_mean(arm, metric)))
            found = compared[metric].get(arm.label)
            if found is None:
                row += ["—"] * 5
                continue
            p_values = [f"{p:.3g}" for p in (found.p_value, found.adjusted_p)]
            row += [gain_text(found), _estimate_text(found.improvement), *p_values, outcome(found)]
        rows.append([*row, _mean_logged(arm, "sa_ah/weight_discounted"), _mean_logged(arm, "sa_ah/weight_target")])
    return [*header, "mean w, discounted", "to match"], rows


def metric_table(arms, metric):
    """``comparison_table`` with the columns of one metric alone (a key of ``METRICS``): narrow enough for a page."""
    header, rows = comparison_table(arms)
    others = [other.short for name, other in METRICS.items() if name != metric]
    kept = [i for i, head in enumerate(header) if not any(other in head for other in others)]
    return [header[i] for i in kept], [[row[i] for i in kept] for row in rows]


def gain_text(comparison):
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


def _estimate_text(estimate):
    bounds = "" if math.isnan(estimate.low) else f" [{estimate.low:.3f}, {estimate.high:.3f}]"
    return "—" if math.isnan(estimate.value) else f"{estimate.value:.3f}{bounds}"


def _mean_logged(arm, key):
    runs = arm.runs.values() if arm.config.scope != "none" else ()
    values = [value for run in runs for value in run.curve(key)[1]]
    return f"{sum(values) / len(values):.4f}" if values else "—"


def _help(comparison):
    """One sentence: gain, interval, pairs, p, verdict, and where it is undecided what it would take."""
    metric, decided = METRICS[comparison.metric], verdict(comparison)
    start = (
        f"{comparison.first} against {comparison.second}, {metric.label}: {gain_text(comparison)} over "
        f"{_pairs(comparison)}{_p_text(comparison)}"
    )
    small = f"a factor of {metric.margin:g}" if metric.ratio else f"{100 * metric.margin:g} points"
    if decided == "equivalent":
        return f"{start}: equivalent; any difference is smaller than {small}."
    if decided != "undecided":
        return f"{start}: {outcome(comparison).replace('margin', f'margin of {small}')}."
    many = "pairs" if _starts(comparison) > 1 else "seeds"
    return f"{start}: undecided at this many {many}; {_remedy(comparison, small)}."


def _remedy(comparison, small):
    """What an undecided comparison lacks."""
    gain, needed = comparison.gain, seeds_needed(comparison)
    if gain.count < MIN_SEEDS:
        return f"at least {MIN_SEEDS} seeds are needed"
    if not gain.low <= 0 <= gain.high:
        return "the interval excludes 0, but Holm's p is not below 0.05"
    if gain.high < METRICS[comparison.metric].least_gain:
        return f"a benefit of {small} is ruled out, a loss is not"
    if _starts(comparison) > 1:
        return "more warm starts, or more seeds of each, would narrow the interval"
    if needed is None or needed <= gain.count:
        return f"the effect lies too near to {small} or to nothing"
    return f"about {needed} seeds would show {small}"


def _starts(comparison):
    return len({key[:2] for key in comparison.gains})


def _pairs(comparison):
    count, starts = comparison.gain.count, _starts(comparison)
    if starts > 1:
        return f"{count} pairs from {starts} warm starts"
    return f"{count} paired seed{'' if count == 1 else 's'}"


def _p_text(comparison):
    if math.isnan(comparison.p_value):
        return ""
    return f" (sign-flip p = {comparison.p_value:.3g}, {comparison.adjusted_p:.3g} after Holm)"


def _over_settings(found, metric):
    return (
        f"Over {len(found)} settings of it, each against GRPO in its own, {METRICS[metric].label} is "
        f"{_by_verdict(found, {word: f'{word} for' for word in VERDICTS})}."
    )


def _against_controls(sa, controls, metric):
    words = {"better": "it is better than", "worse": "it is worse than", "equivalent": "it is equivalent to"}
    words["undecided"] = "undecided:"
    found = compare_all([(sa, arm) for arm in controls], metric)
    return f"Beside its controls in {METRICS[metric].label}, {_by_verdict(found, words, second=True)}."


def _by_verdict(found, words, second=False):
    """ "WORD a (gain), b (gain); WORD c (gain)" of comparisons, by what they decide."""
    groups = {word: [c for c in found if verdict(c) == word] for word in VERDICTS}
    named = lambda c: f"{c.second if second else c.first} ({gain_text(c)})"  # noqa: E731
    return "; ".join(f"{words[word]} {', '.join(map(named, group))}" for word, group in groups.items() if group)


def _why(arm, controls, metric, against_grpo):
    """What brings the benefit of an arm: entropy, not entropy, or unknown.

    A control "has it too" only if it is itself better than GRPO, and the arm is worse than it or equivalent to it. A
    small benefit is equivalent to none, so the second alone would credit a rule that does nothing.
    """
    # One scalar on all rollouts cancels in the denominator: it is GRPO, which the benefit is over.
    needed = WITHOUT_ENTROPY[1:] if arm.config.scope == "all" else WITHOUT_ENTROPY
    ran = [control for control in controls if control.config.rule in needed]
    beside = [verdict(comparison) for comparison in compare_all([(arm, control) for control in ran], metric)]
    label = METRICS[metric].label
    equal = [
        control.label
        for control, decided in zip(ran, beside, strict=True)
        if decided in ("worse", "equivalent") and verdict(against_grpo[control.label]) == "better"
    ]
    if equal:
        verb = "has" if len(equal) == 1 else "have"
        return f"So the benefit in {label} does not need entropy where it stands: {', '.join(equal)} {verb} it too."
    if len(ran) == len(needed) and set(beside) == {"better"}:
        return f"So the benefit in {label} comes from entropy where it stands, beyond position and less weight."
    return f"Whether entropy is what brings the benefit in {label} cannot be told from these runs."
