"""Does SA-AH-GRPO help, and why: one paragraph computed from the runs, with "cannot be told" among its answers.

Needs no torch.
"""

import math

from sa_ah_lib.comparison import arm_of, caption, reference_of
from sa_ah_lib.config import CONTROLS
from sa_ah_lib.seeds import METRICS, MIN_SEEDS, VERDICTS, compare, interquartile_mean, seeds_needed, verdict
from sa_ah_lib.tabular import Table

# Controls that take the entropy, its place, or both away and still discount failures alone.
WITHOUT_ENTROPY = ("control-scalar", "control-position", "control-shuffled")


def paragraph(arms):
    """The answer in words, from the arms of ``comparison.arms``."""
    sa = arm_of(arms, "sa-ah-grpo")
    grpo = reference_of(sa, arms) if sa else arm_of(arms, "grpo")
    if grpo is None or sa is None:
        missing = " and ".join(name for name, arm in (("GRPO", grpo), ("SA-AH-GRPO", sa)) if arm is None)
        return f"Whether SA-AH-GRPO helps cannot be told without runs of {missing}."
    found = {metric: compare(sa, grpo, metric) for metric in METRICS}
    verdicts = {metric: verdict(comparison) for metric, comparison in found.items()}
    sentences = [_help(comparison) for comparison in found.values()]
    settings = [arm for arm in arms if arm.config.method == "sa-ah-grpo"]
    for metric in METRICS if len(settings) > 1 else ():
        sentences.append(_over_settings(settings, arms, metric))
    controls = [arm for arm in arms if arm.config.method in CONTROLS]
    helped = [metric for metric in METRICS if verdicts[metric] == "supported"]
    for metric in METRICS if controls else ():
        sentences.append(_against_controls(sa, controls, metric))
    if not controls and len(settings) == 1:
        sentences.append("No control was run, so nothing is said about why.")
    for metric in helped:
        sentences += _why(sa, arms, metric)
    if not helped and controls:
        open_question = "undecidable" in verdicts.values()
        sentences.append(
            "As long as it is open whether there is a benefit, the controls cannot explain one."
            if open_question
            else "There is no benefit that the controls would have to explain."
        )
    return " ".join(sentences)


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


def _why(sa, arms, metric):
    others = {method: arm_of(arms, method) for method in WITHOUT_ENTROPY}
    ran = {method: arm for method, arm in others.items() if arm is not None}
    outcomes = {method: verdict(compare(sa, arm, metric, len(ran))) for method, arm in ran.items()}
    label = METRICS[metric].label
    equal = [ran[method].label for method, outcome in outcomes.items() if outcome == "not supported"]
    if equal:
        return [f"So the benefit in {label} does not need entropy where it stands: {', '.join(equal)} has it too."]
    if len(ran) == len(WITHOUT_ENTROPY) and set(outcomes.values()) == {"supported"}:
        return [f"So the benefit in {label} comes from entropy where it stands, beyond position and less weight."]
    return [f"Whether entropy is what brings the benefit in {label} cannot be told from these runs."]
