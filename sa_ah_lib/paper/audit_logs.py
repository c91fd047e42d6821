"""The paper's logs (Tables 6 and 7) held against Eq. 5, Eq. 8 and the rewards, and its training variance. No torch."""

import math

from scipy.stats import f as f_distribution

from sa_ah_lib.paper.audit_tables import NAMES, Check, grade
from sa_ah_lib.paper.printed import CHECKPOINTS, DIAGNOSTICS, LARGE, SMALL, SUMMARY
from sa_ah_lib.rewards import total_reward

ALPHA = 0.5
LOGGED_EVERY = 5
"""Steps between two logged ones, as the mean rewards' units say (``_reward_units``)."""


def checks() -> list[Check]:
    """Every check of the logs, in the order of the tables."""
    found = [_reward_units(), _negative_units(), *_weights(), _follows_eq_5(), _inactive(), _within_groups()]
    return [*found, _format_first(), _learning_counts(), _few_numbers()]


def _reward_units():
    means = [row[1] for rows in DIAGNOSTICS.values() for row in rows]
    fits = {n: sum(_is_multiple(mean, 0.1 / n) for mean in means) for n in (16, 40, 80)}
    share = sum(_is_multiple(digits / 1000, 0.1 / 40) for digits in range(1000)) / 1000
    return Check(
        "Tables 6 and 7, mean reward",
        "16 rollouts a step (Table 1)",
        f"rewards come in tenths: {fits[16]} of {len(means)} means are averages of 16, {fits[40]} are averages of 40 "
        f"and {fits[80]} of 80",
        grade(fits[16] == len(means), fits[80] == len(means)),
        "So a logged mean is over more than one step's 16. Table 1's 80, five steps of 16, fits wherever 40, five "
        "steps of 8, does. For 40 speaks only likelihood: a number of three digits fits it with probability "
        f"{share:g}, so all {len(means)} would by chance with {share ** len(means):.4f}.",
    )


def _negative_units():
    shares = sorted({row[7] for rows in DIAGNOSTICS.values() for row in rows})
    coarse = all(_is_multiple(share, 0.25) for share in shares)
    return Check(
        "Tables 6 and 7, f₋",
        "a share of the step's rollouts",
        f"only {', '.join(f'{s:g}' for s in shares)} occur",
        "partly" if coarse else "yes",
        "Quarters fit one group of 4, so f₋, w̄ and w̄₋ describe one group, beside a mean reward over more.",
    )


def _weights():
    lines, shares = [], []
    for scale, rows in DIAGNOSTICS.items():
        for step, *_, weight, negative, fraction, length in [(r[0], *r[5:]) for r in rows]:
            if fraction and negative < 1:
                shares.append((scale, step, (1 - weight) / (1 - negative), fraction, length))
    scale, step, share, fraction, length = max(shares, key=lambda s: s[3] / max(s[2], 1e-9))
    near = sum(abs(s - f) <= 0.16 for _, _, s, f, _ in shares)
    lines.append(
        Check(
            "Tables 6 and 7, w̄ = 1 − s(1 − w̄₋)",
            "s, the negative rollouts' share of tokens, near f₋",
            f"within 0.16 of f₋ in {near} of {len(shares)} rows; {NAMES[scale]} step {step}: {share:.3f} beside "
            f"{fraction:g}",
            "yes" if near == len(shares) else "partly",
            f"There the negative rollouts would have {share * length / fraction:.0f} tokens on average, of a mean "
            f"length of {length}. The other rows fit weights that are 1 on every rollout that is not negative (Eq. "
            "8).",
        )
    )
    row = DIAGNOSTICS[LARGE][0]
    horizon, last = 1 / (ALPHA * row[4]), math.exp(-ALPHA * row[4] * row[8])
    lines.append(
        Check(
            "Table 6, step 5",
            f"H̄ = {row[4]}, length {row[8]}",
            f"e-fold horizon {horizon:.0f} tokens, weight at the last token {last:.2f}",
            "note",
            "At this mean entropy the rule is nearly exp(-ct) in position and hides the answer of a failed rollout; "
            "only a "
            "control with a plain position decay can tell the two apart.",
        )
    )
    return lines


def _inactive():
    rows = DIAGNOSTICS[LARGE]
    idle = [row[0] for row in rows if row[5] == 1.0]
    return Check(
        "Table 6, w̄ = 1.000",
        "SA-AH-GRPO's discount stabilises training",
        f"no token that w̄ describes is discounted in {len(idle)} of {len(rows)} rows (steps "
        f"{', '.join(map(str, idle))})",
        "note",
        "If w̄ described the whole step, its loss would be GRPO's there. But it fits one group of 4 (f₋ above), so the "
        "other groups of those steps may have been discounted.",
    )


def _follows_eq_5():
    ratios = {}
    for scale, rows in DIAGNOSTICS.items():
        for step, _, _, _, entropy, _, negative, fraction, length in rows:
            if fraction:
                weights = [math.exp(-ALPHA * entropy * t) for t in range(1, length + 1)]
                ratios[scale, step] = negative * length / sum(weights)
    (_, low), (_, high) = (pick(ratios.items(), key=lambda item: item[1]) for pick in (min, max))
    furthest = max(high, 1 / low)
    return Check(
        "Tables 6 and 7, w̄₋ and Eq. 5",
        "w̄₋, H̄ and length of one step",
        f"w̄₋ is {low:.2f} to {high:.2f} times what Eq. 5 gives at the mean entropy and length, in {len(ratios)} rows",
        grade(furthest < 2.6),
        f"Within a factor of {furthest:.1f} everywhere: the logged weights are those of the published rule, as far as "
        "means can tell. Failures may be longer or less certain than the mean.",
    )


def _within_groups():
    step, mean, spread = DIAGNOSTICS[SMALL][-1][:3]
    worked = "<start_working_out>1+1=2\n2+1=3\n3+1=4</start_working_out><SOLUTION>{}</SOLUTION>"
    right, near, wrong = (total_reward(worked.format(x), 100.0) for x in (100, 103, 7))
    cost = right - max(near, wrong)
    rollouts = 40
    least = cost * math.sqrt((rollouts - 1) / rollouts**2)
    rate = CHECKPOINTS[SMALL, "sa-ah-grpo", 0.5][-1]
    return Check(
        f"Table 7, step {step}",
        f"reward {mean} ± {spread}, beside Pass@1 {rate}",
        f"a wrong answer costs at least {cost:g}: one among {rollouts} makes the std {least:.2f} or more, "
        f"beside {spread:g}",
        grade(spread >= least),
        f"If ± were over the {rollouts} rollouts of the mean, all would be right, with probability "
        f"{rate:.3f}^{rollouts} = {rate**rollouts:.0e} at the printed Pass@1. It fits one group, or a mean of the stds "
        'within groups; the column says "std" alone.',
    )


def _format_first():
    first, last = DIAGNOSTICS[SMALL][0], DIAGNOSTICS[SMALL][-1]
    rates = CHECKPOINTS[SMALL, "sa-ah-grpo", 0.5]
    gain = last[1] - first[1]
    from_answers = 4.0 * (rates[-1] - rates[0])
    return Check(
        "Table 7, reward and Pass@1",
        f"reward {first[1]:.2f} to {last[1]:.2f} of 7.5",
        f"+{gain:.2f}; Pass@1 rises by {rates[-1] - rates[0]:.3f} from step 30 on, worth {from_answers:.2f} of reward",
        "note",
        "A right answer is worth 4. So most of what the reward gained is format and steps, or happened before step 30, "
        "where no Pass@1 is printed.",
    )


def _learning_counts():
    rows = [(row[0], row[1]) for row in DIAGNOSTICS[SMALL] if row[0] >= 90]
    rise = rows[-1][1] - rows[0][1]
    printed = float(SUMMARY[SMALL, "sa-ah-grpo"][4])
    return Check(
        "Table 2, Train Var",
        f"1.5B SA-AH-GRPO {printed}, the largest of all, read as less stable",
        f"a straight line from {rows[0][1]:.1f} (step {rows[0][0]}) to {rows[-1][1]:.1f} (step {rows[-1][0]}) alone "
        f"has a variance of {rise**2 / 12:.2f}",
        "note",
        "The measure counts a rise of the reward as instability, so a run that still learns in its second half is "
        "punished for it. A variance about the trend would not be.",
    )


def _few_numbers():
    counts = [steps // 2 // LOGGED_EVERY for steps in (150, 180)]
    first, second = (float(SUMMARY[LARGE, method][4]) for method in ("grpo", "sa-ah-grpo"))
    ratio = first / second
    low, high = (ratio / f_distribution.ppf(q, counts[0] - 1, counts[1] - 1) for q in (0.975, 0.025))
    return Check(
        "Abstract, 3.6× lower training variance",
        f"{first} and {second}",
        f"if logged every {LOGGED_EVERY} steps, as its mean rewards suggest, they are variances of {counts[0]} and "
        f"{counts[1]} numbers: {ratio:.1f}× is [{low:.1f}, {high:.0f}] (F interval, 95%, independent steps)",
        "note",
        "Above 1, so the direction is not chance by this count. The size is known to a factor of three at best, and "
        "the interval is wider where neighbouring steps are alike.",
    )


def _is_multiple(value, unit):
    nearest = round(value / unit) * unit
    return abs(value - nearest) <= 0.00051
