"""The paper's Tables 1 to 7 and three of our own, from families of results.

Each function takes one source's families and gives a ``Table``; what the source lacks raises ``MissingData``.
"""

from collections.abc import Sequence

from sa_ah_lib.analysis import stats
from sa_ah_lib.analysis.results import Family, MissingData, mean_kl, variance
from sa_ah_lib.analysis.table import DASH, PLUS_MINUS, Table
from sa_ah_lib.config import METHOD_LABELS, RunConfig
from sa_ah_lib.paper.judges import compare
from sa_ah_lib.paper.printed import BOLD, HYPERPARAMETERS, PARTIAL, PROBLEMS, RAW_BASE
from sa_ah_lib.upstream.metrics import METRICS


def hyperparameters(families: Sequence[Family]) -> Table:
    """Table 1; a measured family gets a column of its own values, marked * where they differ from the paper's."""
    own = {
        "Learning rate": lambda c: _power(c.learning_rate),
        "LR scheduler": lambda c: "cosine",
        "Warmup steps": lambda c: HYPERPARAMETERS["Warmup steps"],
        "Weight decay": lambda c: f"{c.weight_decay:g}",
        "Gradient clip": lambda c: f"{c.max_grad_norm:.1f}",
        "KL penalty β": lambda c: f"{c.beta:g}",
        "PPO clip ε": lambda c: f"{c.epsilon:g}",
        "Batch prompts per step": lambda c: str(c.prompts_per_step),
        "Completions per prompt G": lambda c: str(c.num_generations),
        "Gradient accumulation steps": lambda c: str(c.gradient_accumulation_steps),
        "Max completion tokens": lambda c: str(c.max_completion_tokens),
        "Entropy top-K": lambda c: "all (exact)" if c.entropy_top_k is None else str(c.entropy_top_k),
        "Reward threshold": lambda c: f"{c.reward_threshold:g}",
        "Training examples N_train": lambda c: str(c.train_examples),
        "Evaluation examples N_eval": lambda c: str(c.eval_examples),
    }
    measured = [f for f in families if f.source == "measured"]
    header = ["Hyperparameter", "paper", *(f.name for f in measured)]
    rows = []
    for name, printed in HYPERPARAMETERS.items():
        values = [own[name](f.results[0].config) for f in measured]
        rows.append([name, printed, *(v if v == printed else f"{v} *" for v in values)])
    notes = ("* differs from the paper.",) if measured else ()
    return Table("table-1", _caption(1, "Hyperparameters", families), header, rows, notes)


def summary(families: Sequence[Family]) -> Table:
    """Table 2: final and peak Pass@1 with the paper's ± (Section 4.4), training variance, mean KL."""
    header = ["Model", "Method", "α", "Steps", "Pass@1 final", "Pass@1 peak", "Train Var", "Mean KL"]
    rows, bold = [], []
    for family in families:
        model = family.model + ("" if family.problems == PROBLEMS else f", N = {family.problems}")
        if family.base is not None:
            base = family.results[0].printed.get("base") or _with_half_width(family.base, family.problems)
            rows.append([model, METHOD_LABELS["zero-shot"], DASH, DASH, base, DASH, DASH, DASH])
        for method, result in family.methods.items():
            rates = [_final_or_peak(result, name) for name in ("final", "peak")]
            numbers = _number(variance(result), ".4f"), _number(mean_kl(result), ".5f")
            alpha, steps = f"{result.config.alpha:.1f}", str(result.config.steps)
            if family.source == "paper":
                printed_bold = enumerate(("final", "peak"), start=header.index("Pass@1 final"))
                bold += [(len(rows), i) for i, which in printed_bold if (family.scale, method, which) in BOLD]
            rows.append([model, METHOD_LABELS[method], alpha, steps, *rates, *numbers])
    if not rows:
        raise MissingData("no run at all")
    notes = [
        "± is 1.96 sqrt(p (1 - p) / N). Train Var: variance of each step's mean reward, second half of the steps. "
        "Higher Pass@1 and lower Train Var are better."
    ]
    if bold:
        notes.append("Bold as printed. The base rows are printed 1.5 points below the evaluation (Section 4.1).")
    return Table("table-2", _caption(2, "Summary", families), header, rows, tuple(notes), tuple(bold))


def checkpoints(family: Family) -> Table:
    """Tables 3 (large model) and 4 (small): Pass@1 at each evaluated checkpoint of the three methods."""
    steps = sorted({step for result in family.methods.values() for step in result.pass_at_1})
    if not steps:
        raise MissingData(f"no evaluated checkpoint of {family.model}")
    label = lambda m, r: f"{METHOD_LABELS[m]} (α={r.config.alpha:.1f})"  # noqa: E731
    rows = [[label(m, r), *(_rate(r.pass_at_1.get(step)) for step in steps)] for m, r in family.methods.items()]
    number = 3 if family.is_large else 4
    title = f"Pass@1 by checkpoint step ({family.problems} problems, greedy)"
    notes = (f"{DASH}: the run did not extend to that step.",) if any(DASH in row for row in rows) else ()
    return Table(f"table-{number}", _caption(number, title, [family]), ["Method", *map(str, steps)], rows, notes)


def alphas(family: Family) -> Table:
    """Table 5: Pass@1 of AH-GRPO by alpha, SA-AH-GRPO below."""
    steps = sorted({step for result in family.sweep.values() for step in result.pass_at_1})
    rows = []
    for alpha, result in family.sweep.items():
        partial = result.source == "paper" and alpha == PARTIAL
        name = f"{alpha:.2f}".replace("-", "−") + (" (GRPO)" if not alpha else "") + "†" * partial
        rows.append([name, *_scores(result, steps)])
    dagger = "† A partial run, steps 30 to 60, says the paper, whose peak may not be its highest; it prints five steps."
    notes = [dagger] if any("†" in row[0] for row in rows) else []
    notes += [f"α = {r.config.alpha:.2f} is left out: {r.config.steps} steps." for r in family.other_lengths]
    result = family.methods.get("sa-ah-grpo")
    if result and result.pass_at_1:
        rows.append([f"SA-AH-GRPO {result.config.alpha:.2f}", *_scores(result, steps)])
        notes.append(f"SA-AH-GRPO's peak and final are over its {result.config.steps} steps.")
    header = ["α", *map(str, steps), "Peak", "Final"]
    return Table("table-5", _caption(5, "AH-GRPO by α, Pass@1 by step", [family]), header, rows, tuple(notes))


def diagnostics(family: Family) -> Table:
    """Tables 6 (large model) and 7 (small): SA-AH-GRPO's diagnostics at the first logged step and every checkpoint."""
    result = family.method("sa-ah-grpo")
    if not result.train:
        raise MissingData(f"the training log of SA-AH-GRPO on {family.model}")
    wanted = {result.train[0]["step"], *result.pass_at_1}
    columns = [METRICS[key] for key in (
        "kl", "sa_ah/entropy", "sa_ah/weight", "sa_ah/weight_negative", "sa_ah/negative_fraction",
        "completions/mean_length",
    )]  # fmt: skip
    rows = []
    for row in [row for row in result.train if row["step"] in wanted]:
        reward = PLUS_MINUS.join(METRICS[key].written(row.get(key)) for key in ("reward", "reward_std"))
        values = [metric.written(row.get(metric.key)) for metric in columns]
        rows.append([str(row["step"]), _rate(result.pass_at_1.get(row["step"])), reward, *values])
    number = 6 if family.is_large else 7
    header = ["Step", "Pass@1", METRICS["reward"].column, *(metric.column for metric in columns)]
    notes = (
        "r̄: mean reward of the step's rollouts ± their standard deviation. KL: mean over tokens, in nats. H̄: mean "
        "normalised entropy. w̄: mean weight of all tokens; w̄₋: of the tokens of rollouts with a negative advantage, "
        "0.000 where there were none. f₋: the share of such rollouts. len: mean completion length in tokens.",
    )
    return Table(f"table-{number}", _caption(number, "SA-AH-GRPO diagnostics", [family]), header, rows, notes)


def comparisons(family: Family) -> Table:
    """Our own: every pair of methods and the base, at the final checkpoint and at the last common one.

    Paired tests (McNemar, bootstrap) where per-problem answers are known, else the two-proportion z-test.
    """
    pairs = _pairs(family)
    if not pairs:
        raise MissingData(f"two evaluated methods of {family.model}")
    rows = []
    for first, second, step, gap, test in pairs:
        interval = f"[{gap.low:+.3f}, {gap.high:+.3f}]"
        p_value = "<0.001" if gap.p_value < 0.0005 else f"{gap.p_value:.3f}"
        rows.append([f"{first} − {second}", step, f"{gap.estimate:+.3f}", interval, p_value, test])
    floor = min(r.final[0] / r.final[1] for r in family.methods.values() if r.pass_at_1)
    detectable = stats.minimal_detectable_difference(floor, family.problems)
    notes = [
        f"Two independent evaluations of N = {family.problems} at Pass@1 {floor:.3f} tell differences of "
        f"{detectable:.3f} apart with 80% power. p-values are not corrected for the number of rows ({len(rows)}).",
    ]
    if family.source == "paper":
        notes.append(f"The base is {RAW_BASE[family.scale]}, as evaluated; Table 2 has it 0.015 lower (Section 4.1).")
    if any(row[-1].endswith("no answer differs") for row in rows):
        notes.append("Where no answer differs, the interval is the exact bound 1 - 0.05^(1/N) on the share that does.")
    header = ["difference in Pass@1", "step", "estimate", "95% interval", "p", "test"]
    return Table("table-s1", _caption("S1", "Differences in Pass@1", [family]), header, rows, tuple(notes))


def peaks(family: Family) -> Table:
    """Our own: each peak over checkpoints beside what is left of it without the luck of the best of several."""
    rows = []
    for method, result in family.methods.items():
        if not result.pass_at_1:
            continue
        (correct, total), looks = result.peak, len(result.pass_at_1)
        mean = sum(k / n for k, n in result.pass_at_1.values()) / looks
        chance = stats.expected_peak(mean, total, looks) - mean
        corrected = DASH
        answers = [result.answers.get(step, ()) for step in result.pass_at_1]
        if {len(right) for right in answers} == {total}:
            corrected = f"{stats.corrected_peak(answers)[1]:.3f}"
        wilson, wald = (
            "[{:.3f}, {:.3f}]".format(*f(correct, total)) for f in (stats.wilson_interval, stats.wald_interval)
        )
        row = [METHOD_LABELS[method], str(looks), f"{correct / total:.3f}", wald, wilson, f"{mean:.3f}"]
        rows.append([*row, f"{chance:.3f}", corrected])
    if not rows:
        raise MissingData(f"an evaluated run of {family.model}")
    notes = (
        "By chance: how far the best of so many independent evaluations lies above a Pass@1 that stands still at the "
        "mean; an upper bound, as checkpoints share problems. Corrected: the peak less its optimism when problems are "
        "resampled, which needs the answers one by one.",
    )
    header = ["Method", "checkpoints", "peak", "95% Wald", "95% Wilson", "mean", "by chance", "corrected peak"]
    return Table("table-s2", _caption("S2", "Peaks over checkpoints", [family]), header, rows, notes)


def variances(family: Family) -> Table:
    """Our own: the training variance with a block-bootstrap interval, and the parts it is made of."""
    rows = []
    for method, result in family.methods.items():
        rewards = result.curve("reward")[1]
        if result.source == "paper" or len(rewards) < 4:
            continue
        total = stats.training_variance(rewards)
        between, within = (result.curve(f"sa_ah/reward_{part}_variance")[1] for part in ("between", "within"))
        split = [DASH] * 4
        if len(between) == len(rewards):
            c = result.config
            parts = stats.variance_split(rewards, between, within, c.prompts_per_step, c.num_generations)
            split = [f"{part:.4f}" for part in (parts.trend, parts.prompts, parts.rollouts, parts.rest)]
        interval = f"[{total.low:.4f}, {total.high:.4f}]"
        rows.append([METHOD_LABELS[method], f"{total.estimate:.4f}", interval, *split])
    if not rows:
        raise MissingData(f"step by step rewards of {family.model}, which intervals of the training variance need")
    header = ["Method", "Train Var", "95% interval", "trend", "draw of prompts", "draw of rollouts", "rest"]
    notes = (
        "The parts add up to Train Var; the rest may be negative by chance. The two draws are the variance that a "
        "policy which stands still shows, because each step samples other prompts and rollouts.",
    )
    return Table("table-s3", _caption("S3", "Training variance and its parts", [family]), header, rows, notes)


def _pairs(family):
    """(first, second, step, Difference, test) of every two methods at their last common step, and against the base."""
    members = {m: r for m, r in family.methods.items() if r.pass_at_1}
    found = []
    for i, (first, a) in enumerate(members.items()):
        for second, b in list(members.items())[:i]:
            common = set(a.pass_at_1) & set(b.pass_at_1)
            if common:
                step = max(common)
                found.append((METHOD_LABELS[first], METHOD_LABELS[second], str(step), *compare(a, step, b, step)))
            if a.last != b.last:
                labels = METHOD_LABELS[first], METHOD_LABELS[second]
                found.append((*labels, f"{a.last}, {b.last}", *compare(a, a.last, b, b.last)))
        if a.base is not None:
            found.append((METHOD_LABELS[first], METHOD_LABELS["zero-shot"], str(a.last), *compare(a, a.last, a, 0)))
    return found


def _scores(result, steps):
    return [*(_rate(result.pass_at_1.get(step)) for step in steps), _rate(result.peak), _rate(result.final)]


def _caption(number, title, families):
    told = list(dict.fromkeys(family.caption for family in families))
    # One source a table: said once.
    return f"Table {number}: {title}. " + "; ".join([told[0], *(text.split(": ", 1)[1] for text in told[1:])])


def _final_or_peak(result, name):
    if not result.pass_at_1:
        return DASH
    correct, total = getattr(result, name)
    return result.printed.get(name) or _with_half_width(correct / total, total)


def _with_half_width(rate, total):
    return f"{rate:.3f}{PLUS_MINUS}{stats.half_width(rate, total):.3f}"


def _rate(counts):
    return DASH if counts is None else f"{counts[0] / counts[1]:.3f}"


def _number(value, form):
    return DASH if value is None else format(value, form)


def _power(value):
    if value == RunConfig.learning_rate:
        return HYPERPARAMETERS["Learning rate"]
    mantissa, exponent = f"{value:e}".split("e")
    return f"{float(mantissa):g}×10" + str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
