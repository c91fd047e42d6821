"""Does SA-AH-GRPO help, and why: one paragraph computed from the runs, with "cannot be told" among its answers.

Needs no torch.
"""

import math

from sa_ah_lib.analysis.compared import Compared, gain_text
from sa_ah_lib.analysis.comparison import arm_of, mixed_devices, setting_apart
from sa_ah_lib.analysis.seeds import (
    METRICS,
    MIN_SEEDS,
    VERDICTS,
    compare_all,
    outcome,
    seeds_needed,
    verdict,
)

TOLD = ("pass_at_1", "auc", "training_variance")
"""What the answer speaks of, where it was measured: the endpoints, and what the paper claims beside them."""

# Rules that take the entropy, its place, or both away and still discount the same rollouts.
WITHOUT_ENTROPY = ("scalar", "position", "shuffled")


def paragraph(compared: Compared) -> str:
    """The answer in words: of SA-AH-GRPO, then of AH-GRPO where it was run."""
    sa, ah = arm_of(compared.arms, "sa-ah-grpo"), arm_of(compared.arms, "ah-grpo")
    grpo = arm_of(compared.arms, "grpo")
    if grpo is None or sa is None:
        missing = " and ".join(name for name, arm in (("GRPO", grpo), ("SA-AH-GRPO", sa)) if arm is None)
        return f"Whether SA-AH-GRPO helps cannot be told without runs of {missing}."
    told = [sentence for arm in (sa, ah) if arm is not None for sentence in _about(arm, compared)]
    return " ".join(filter(None, [*told, mixed_devices(compared.arms)]))


def _about(arm, compared):
    """Sentences on one arm: against GRPO, over its settings, beside its controls, and why."""
    told = {metric: compared.against[metric] for metric in TOLD if metric in compared.metrics}
    verdicts = {metric: verdict(against[arm.label]) for metric, against in told.items()}
    sentences = [_help(against[arm.label]) for against in told.values()]
    own = arm.config.method, arm.config.rule
    settings = [other for other in compared.arms if (other.config.method, other.config.rule) == own]
    controls = _controls_of(arm, compared.arms)
    for metric in told if len(settings) > 1 else ():
        sentences.append(_over_settings(settings, metric, compared))
    if not controls:
        return [*sentences, f"No control of {arm.label} was run, so nothing is said about why."]
    beside = {metric: compare_all([(arm, control) for control in controls], metric) for metric in told}
    sentences += [_against_controls(found, metric) for metric, found in beside.items()]
    helped = [metric for metric in told if verdicts[metric] == "better"]
    if helped:
        return [*sentences, *(_why(arm, controls, beside[metric], told[metric]) for metric in helped)]
    if "undecided" in verdicts.values():
        return [*sentences, "As long as it is open whether there is a benefit, the controls cannot explain one."]
    return [*sentences, "There is no benefit that the controls would have to explain."]


def _controls_of(arm, arms):
    """Arms of its setting that discount the same rollouts as much by another rule; and the mirror of SA-AH-GRPO."""
    own = arm.config.scope, arm.config.alpha
    arms = [other for other in arms if not setting_apart(arm.config, other.config)]
    others = [other for other in arms if other.config.rule != "cumulative"]
    controls = [other for other in others if (other.config.scope, other.config.alpha) == own]
    mirrored = arm.config.method == "sa-ah-grpo"
    return controls + [other for other in arms if mirrored and other.config.method == "control-mirror"]


def _help(comparison):
    """One sentence: gain, interval, pairs, p, verdict, and where it is undecided what it would take."""
    metric, decided = METRICS[comparison.metric], verdict(comparison)
    start = (
        f"{comparison.first} against {comparison.second}, {metric.label}: {gain_text(comparison)} over "
        f"{_pairs(comparison)}{_p_text(comparison)}"
    )
    small = f"a factor of {metric.margin:g}" if metric.ratio else f"{100 * metric.margin:g} points"
    if decided == "equivalent":
        return f"{start}: equivalent; the interval lies within {small} of no difference."
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


def _over_settings(settings, metric, compared):
    found = [compared.against[metric][arm.label] for arm in settings]
    by_label = {arm.label: arm for arm in compared.arms}
    references = [by_label[comparison.second] for comparison in found]
    own = not any(setting_apart(arm.config, other.config) for arm, other in zip(settings, references, strict=True))
    place = "its own" if own else "the nearest setting that GRPO was run in"
    return (
        f"Over {len(found)} settings of it, each against GRPO in {place}, {METRICS[metric].label} is "
        f"{_by_verdict(found, {word: f'{word} for' for word in VERDICTS})}."
    )


def _against_controls(found, metric):
    words = {"better": "it is better than", "worse": "it is worse than", "equivalent": "it is equivalent to"}
    words["undecided"] = "undecided:"
    family = f" (Holm's p is for these {len(found)})" if len(found) > 1 else ""
    return f"Beside its controls in {METRICS[metric].label}{family}, {_by_verdict(found, words, second=True)}."


def _by_verdict(found, words, second=False):
    """ "WORD a (gain, n, p), b (gain, n, p); WORD c (gain, n, p)" of comparisons, by what they decide."""
    groups = {word: [c for c in found if verdict(c) == word] for word in VERDICTS}

    def named(c):
        told = "" if math.isnan(c.adjusted_p) else f", n = {c.gain.count}, Holm's p {c.adjusted_p:.3g}"
        return f"{c.second if second else c.first} ({gain_text(c)}{told})"

    return "; ".join(f"{words[word]} {', '.join(map(named, group))}" for word, group in groups.items() if group)


def _why(arm, controls, beside, against_grpo):
    """What brings the benefit of an arm: entropy, not entropy, or unknown.

    A control "has it too" only if it is itself better than GRPO, and the arm is worse than it or equivalent to it. A
    small benefit is equivalent to none, so the second alone would credit a rule that does nothing.
    """
    # One scalar on all rollouts cancels in the denominator: it is GRPO, which the benefit is over.
    needed = WITHOUT_ENTROPY[1:] if arm.config.scope == "all" else WITHOUT_ENTROPY
    decided = {
        control.label: verdict(found)
        for control, found in zip(controls, beside, strict=True)
        if control.config.rule in needed
    }
    label = METRICS[beside[0].metric].label
    equal = [
        name
        for name, word in decided.items()
        if word in ("worse", "equivalent") and verdict(against_grpo[name]) == "better"
    ]
    if equal:
        verb = "has" if len(equal) == 1 else "have"
        return f"So the benefit in {label} does not need entropy where it stands: {', '.join(equal)} {verb} it too."
    if len(decided) == len(needed) and set(decided.values()) == {"better"}:
        return f"So the benefit in {label} comes from entropy where it stands, beyond position and less weight."
    return f"Whether entropy is what brings the benefit in {label} cannot be told from these runs."
