"""Does SA-AH-GRPO help, and why: one paragraph computed from the runs, with "cannot be told" among its answers.

Needs no torch.
"""

import math

from sa_ah_lib.analysis.comparison import arm_of, caption, reference_of
from sa_ah_lib.analysis.seeds import METRICS, MIN_SEEDS, VERDICTS, compare, interquartile_mean, seeds_needed, verdict
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
    return " ".join(sentence for arm in (sa, ah) if arm is not None for sentence in _about(arm, arms))


def _about(arm, arms):
    """Sentences on one arm: against GRPO, over its settings, beside its controls, and why."""
    found = [compare(arm, reference_of(arm, arms), metric) for metric in METRICS]
    verdicts = {comparison.metric: verdict(comparison) for comparison in found}
    sentences = [_help(comparison) for comparison in found]
    alike = lambda other: (other.config.method, other.config.rule) == (arm.config.method, arm.config.rule)  # noqa: E731
    settings, controls = [other for other in arms if alike(other)], _controls_of(arm, arms)
    for metric in METRICS if len(settings) > 1 else ():
        sentences.append(_over_settings(settings, arms, metric))
    if not controls:
        return [*sentences, f"No control of {arm.label} was run, so nothing is said about why."]
    sentences += [_against_controls(arm, controls, metric) for metric in METRICS]
    helped = [metric for metric in METRICS if verdicts[metric] == "supported"]
    if helped:
        return [*sentences, *(_why(arm, controls, metric, arms) for metric in helped)]
    if "undecidable" in verdicts.values():
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


def comparison_table(arms, reference="grpo"):
    """(header, rows): per arm both metrics' interquartile means, the paired comparison with ``reference``, the weights.

    An arm is compared with the ``reference`` arm of its own setting, where there is one.
    The last two columns are the mean logged weight of discounted tokens, and of Eq. 5 on the same tokens; "—" where
    nothing is discounted, or a run was logged without them.
    """
    header = ["arm", "seeds"]
    for metric in METRICS.values():
        short = metric.short
        header += [f"{metric.label}, IQM [95%]", f"paired {short} {'ratio' if metric.ratio else 'gain'} [95%]"]
        header += [f"P(better {short}) [95%]", f"sign-flip p, {short}", f"better {short} is"]
    rows = []
    for arm in arms:
        row, anchor = [arm.label, len(arm.runs)], reference_of(arm, arms, reference)
        for metric in METRICS:
            row.append(_estimate_text(interquartile_mean(arm, metric)))
            if anchor is None or arm is anchor:
                row += ["—"] * 4
                continue
            found = compare(arm, anchor, metric)
            row += [gain_text(found), _estimate_text(found.improvement), f"{found.p_value:.3g}", verdict(found)]
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
    metric, count = METRICS[comparison.metric], comparison.gain.count
    start = (
        f"{comparison.first} against {comparison.second}, {metric.label}: {gain_text(comparison)} over {count} paired "
        f"seed{'' if count == 1 else 's'}{_p_text(comparison)}"
    )
    small = f"a factor of {metric.margin:g}" if metric.ratio else f"{100 * metric.margin:g} points"
    outcome = verdict(comparison)
    if outcome == "supported" and comparison.gain.high < metric.least_gain:
        return f"{start}: a benefit is supported, of less than {small}."
    if outcome == "supported":
        return f"{start}: a benefit is supported."
    if outcome == "not supported" and comparison.gain.high < 0:
        return f"{start}: a benefit is not supported; it was worse."
    if outcome == "not supported":
        return f"{start}: a benefit is not supported; any is smaller than {small}."
    needed = seeds_needed(comparison)
    if count < MIN_SEEDS:
        remedy = f"at least {MIN_SEEDS} seeds are needed"
    elif needed is None or needed <= count:
        remedy = f"the effect lies too near to {small} or to nothing"
    else:
        remedy = f"about {needed} seeds would show {small}"
    return f"{start}: undecidable at this many seeds; {remedy}."


def _p_text(comparison):
    return "" if math.isnan(comparison.p_value) else f" (sign-flip p = {comparison.p_value:.3g})"


def _over_settings(settings, arms, metric):
    pairs = [(arm, reference_of(arm, arms)) for arm in settings]
    found = [compare(arm, grpo, metric, len(pairs)) for arm, grpo in pairs]
    return (
        f"Over {len(settings)} settings of it, each against GRPO in its own, a benefit in {METRICS[metric].label} is "
        f"{_by_verdict(found, {outcome: f'{outcome} for' for outcome in VERDICTS})}."
    )


def _against_controls(sa, controls, metric):
    words = {"supported": "it is better than", "not supported": "it is no better than", "undecidable": "undecided:"}
    found = [compare(sa, arm, metric, len(controls)) for arm in controls]
    return f"Beside its controls in {METRICS[metric].label}, {_by_verdict(found, words, second=True)}."


def _by_verdict(found, words, second=False):
    """"WORD a (gain), b (gain); WORD c (gain)" of comparisons, by what they decide."""
    groups = {outcome: [c for c in found if verdict(c) == outcome] for outcome in VERDICTS}
    named = lambda c: f"{c.second if second else c.first} ({gain_text(c)})"  # noqa: E731
    return "; ".join(f"{words[o]} {', '.join(map(named, group))}" for o, group in groups.items() if group)


def _why(arm, controls, metric, arms):
    """What brings the benefit of an arm: entropy, not entropy, or unknown.

    A control "has it too" only if its own gain over GRPO is supported, and the arm is no better than it. A benefit
    below the margin is no better than a control without any, so the second alone would credit a rule that does nothing.
    """
    # One scalar on all rollouts cancels in the denominator: it is GRPO, which the benefit is over.
    needed = WITHOUT_ENTROPY[1:] if arm.config.scope == "all" else WITHOUT_ENTROPY
    ran = [control for control in controls if control.config.rule in needed]
    beside = [verdict(compare(arm, control, metric, len(ran))) for control in ran]
    own = [verdict(compare(control, reference_of(control, arms), metric, len(ran))) for control in ran]
    label = METRICS[metric].label
    judged = zip(ran, beside, own, strict=True)
    equal = [control.label for control, *found in judged if found == ["not supported", "supported"]]
    if equal:
        verb = "has" if len(equal) == 1 else "have"
        return f"So the benefit in {label} does not need entropy where it stands: {', '.join(equal)} {verb} it too."
    if len(ran) == len(needed) and set(beside) == {"supported"}:
        return f"So the benefit in {label} comes from entropy where it stands, beyond position and less weight."
    return f"Whether entropy is what brings the benefit in {label} cannot be told from these runs."
