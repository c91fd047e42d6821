"""What the notebooks show of a run as escaped HTML: tables, answers before and after, heat-maps. Needs no torch."""

import html
import re
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from sa_ah_lib.analysis.stats import wald_interval, wilson_interval
from sa_ah_lib.analysis.table import Html, html_table
from sa_ah_lib.config import RunConfig
from sa_ah_lib.rewards import reward_parts
from sa_ah_lib.train.run import Run
from sa_ah_lib.train.runlog import read_summary
from sa_ah_lib.upstream.metrics import METRICS

if TYPE_CHECKING:
    import torch

    from sa_ah_lib.train.ask import Answer
    from sa_ah_lib.train.logged import Group

_RUN_NAMES = {"scale": "scale", "model": "model", "method": "method", "alpha": "α", "seed": "seed", "steps": "steps"}
_ENTROPY, _WEIGHT = "213,94,0", "0,114,178"


def configuration(config: RunConfig) -> Html:
    """A run's name and what differs from the paper's Table 1; all fields are folded away below."""
    named = html_table(list(_RUN_NAMES.values()), [[getattr(config, name) for name in _RUN_NAMES]])
    changed = [[name, here, paper] for name, (paper, here) in config.differences().items()]
    differing = html_table(["differs from the paper", "this run", "the paper"], changed)
    everything = html_table(["field", "this run"], config.to_dict().items())
    return Html(
        f"{named}{differing if changed else '<p>Nothing differs from the hyperparameters of the paper.</p>'}"
        f"<details><summary>All {len(config.to_dict())} fields</summary>{everything}</details>"
    )


def pass_at_1_table(*runs: Run) -> Html:
    """One row per run and checkpoint: correct, Pass@1, the paper's Wald interval, and Wilson's."""
    rows = []
    for run in runs:
        for step, (correct, total) in run.evaluations.items():
            intervals = ["[{:.3f}, {:.3f}]".format(*f(correct, total)) for f in (wald_interval, wilson_interval)]
            name = f"{run.config.label}, α = {run.config.alpha:g}"
            rows.append([name, step, f"{correct}/{total}", f"{correct / total:.3f}", *intervals])
    return html_table(["run", "step", "correct", "Pass@1", "95% Wald (paper)", "95% Wilson"], rows)


def diagnostics_table(run: Run) -> Html:
    """Table 6's columns but Pass@1, and two more, at the first step and every evaluated one; what each is, below."""
    columns = [METRICS[key] for key in (
        "reward", "reward_std", "kl", "sa_ah/entropy", "sa_ah/weight", "sa_ah/weight_negative",
        "sa_ah/negative_fraction", "completions/mean_length", "grad_norm", "sa_ah/effective_horizon",
    )]  # fmt: skip
    steps = set(run.pass_at_1) | ({run.train[0]["step"]} if run.train else set())
    shown = [row for row in run.train if row["step"] in steps]
    rows = [[row["step"], *(metric.written(row.get(metric.key)) for metric in columns)] for row in shown]
    legend = "; ".join(f"{m.column}: {m.meaning}" + (f" ({m.unit})" if m.unit else "") for m in columns)
    table = html_table(["step", *(metric.column for metric in columns)], rows)
    return Html(f"{table}<p><small>{html.escape(legend)}</small></p>")


def before_and_after(run: Run, count: int = 3) -> Html:
    """The first ``count`` evaluation problems, answered before training and after it, side by side.

    Of a run without training, its one answer to each.
    """
    steps = sorted(run.evaluations)
    first, last = ({r["problem"]: r for r in run.eval if r["step"] == step} for step in (steps[0], steps[-1]))
    shown = {steps[0]: first, steps[-1]: last}
    blocks = []
    for problem in sorted(last)[:count]:
        columns = "".join(_answered(step, rows[problem]) for step, rows in shown.items() if problem in rows)
        question = html.escape(last[problem]["question"])
        blocks.append(f"<p><b>{question}</b></p><div style='display:flex;flex-wrap:wrap;gap:1em'>{columns}</div><hr>")
    return Html(_changed_answers(first, last, steps) + "".join(blocks))


def _changed_answers(first, last, steps):
    if len(steps) < 2:
        return ""
    pairs = [(bool(first[k]["correct"]), bool(row["correct"])) for k, row in last.items() if k in first]
    return (
        f"<p>Of {len(pairs)} problems, from step {steps[0]} to step {steps[-1]}: {pairs.count((False, True))} became "
        f"right, {pairs.count((True, False))} became wrong, {pairs.count((True, True))} stayed right, "
        f"{pairs.count((False, False))} stayed wrong. Below are the first ones of the list, not a choice.</p>"
    )


def _answered(step, row):
    verdict = "correct" if row["correct"] else f"wrong, gold {row['gold']:.12g}"
    parts = reward_parts(row["completion"], row["gold"])
    return (
        f"<div style='flex:1;min-width:16em;text-align:left'><b>step {step}: {verdict}</b>"
        f"<pre style='white-space:pre-wrap'>{html.escape(row['completion'])}</pre>"
        f"reward {row['reward']:g}: {_parts(parts)}</div>"
    )


def _parts(parts):
    return ", ".join(f"{name} {value:g}" for name, value in parts.items())


def answer(given: "Answer") -> Html:
    """An ``ask.Answer``: the completion, its reward parts, and each token's entropy and weight."""
    if given.gold is None:
        verdict = "no answer was given to compare with"
    else:
        verdict = "correct" if given.correct else f"wrong, gold {given.gold:.12g}"
    read = "no number" if given.predicted is None else f"{given.predicted:.12g}"
    who = "the trained model" if given.trained else "the untouched model (the run has no adapter)"
    cut = "; stopped at the token limit" if given.truncated else ""
    return Html(
        f"<p><b>{html.escape(given.question)}</b></p><pre style='white-space:pre-wrap'>{html.escape(given.completion)}"
        f"</pre><p>{who} answers {read}: {verdict}{cut}; {_parts(given.parts)}</p>"
        f"{_heat(given.tokens, given.entropy, given.weights)}{_LEGEND}"
    )


def heat_map(run: Run) -> Html:
    """The last sampled positive and negative rollout, each token with its entropy and its weight in the loss."""
    blocks = []
    for name, test in (("positive", lambda a: a > 0), ("negative", lambda a: a < 0)):
        rows = [row for row in run.completions if test(row["advantage"])]
        if not rows:
            blocks.append(f"<p>No rollout of {name} advantage was sampled in this run.</p>")
            continue
        row = rows[-1]
        blocks.append(
            f"<p><b>{name} rollout</b>, step {row['step']}, "
            f"advantage {row['advantage']:.2f}, reward {row['reward']:g}</p>"
            f"{_heat(row['tokens'], row['entropy'], row['weights'])}"
        )
    return Html("".join(blocks) + _LEGEND)


def replayed(group: "Group", weights: "torch.Tensor") -> Html:
    """A logged group under a rule that did not train it: its best and its worst rollout, token by token.

    Args:
        group: a ``train.logged.Group``. weights: (B, T) of the rule on ``group.batch``.
    """
    advantages = group.batch.advantages.tolist()
    blocks = [f"<p>Step {group.step} of {html.escape(group.config.run_id)}</p>"]
    for name, choose in (("success", max), ("failure", min)):
        i = choose(range(len(advantages)), key=advantages.__getitem__)
        tokens = group.rows[i]["tokens"]
        entropy, weight = (table[i].tolist()[: len(tokens)] for table in (group.batch.entropy, weights))
        blocks.append(f"<p><b>{name}</b>, advantage {advantages[i]:.2f}</p>{_heat(tokens, entropy, weight)}")
    return Html("".join(blocks) + _LEGEND)


def cost(run: Run) -> Html:
    """Seconds, memory and machine of a finished run, as its logs have them."""
    summary, seconds = read_summary(run.directory), [row["step_time"] for row in run.train if row.get("step_time")]
    memory, machine = summary.get("peak_memory"), run.environment
    resumed = summary.get("resumed_after")
    what = f"last session, after step {resumed[-1]}" if resumed else "whole run, evaluations included"
    rows = [
        [what, _unit(summary.get("seconds"), "s")],
        ["median training step", _unit(median(seconds) if seconds else None, "s")],
        ["peak memory" + (" of the GPU" if machine.get("device") != "cpu" else " of the process"),
         _unit(memory and memory / 2**30, "GiB")],
        ["device", machine.get("device", "not logged")],
        ["CPU threads", machine.get("threads", "not logged")],
    ]  # fmt: skip
    return html_table(["what it took", ""], rows)


def _unit(value, unit):
    return "not logged" if value is None else f"{value:.3g} {unit}" if value < 100 else f"{value:.0f} {unit}"


def files(run: Run) -> Html:
    """The files a run wrote, with their sizes."""
    names = sorted(path.relative_to(run.directory) for path in Path(run.directory).rglob("*") if path.is_file())
    sizes = {name: (run.directory / name).stat().st_size for name in names if "checkpoints" not in name.parts}
    rows = [[run.directory.name / name, f"{size / 1000:.1f}"] for name, size in sizes.items()]
    return html_table(["file", "kB"], rows)


def paths(written: Iterable[str | Path]) -> Html:
    """Files that were written, one line per folder."""
    folders = {}
    for path in map(Path, written):
        folders.setdefault(path.parent, []).append(path.name)
    return html_table(["folder", "files"], [[folder, ", ".join(names)] for folder, names in folders.items()])


_TOKEN = "display:inline-block;text-align:center;vertical-align:top;line-height:1.2;padding:0 3px"
_LEGEND = "<p>Under each token stands its number; the darkest token of a line has that line's largest.</p>"


def _heat(tokens, entropy, weights):
    return f"{_tokens('entropy', tokens, entropy, _ENTROPY)}{_tokens('weight', tokens, weights, _WEIGHT)}"


def _tokens(what, tokens, values, rgb):
    """Tokens over their numbers, shaded from the smallest to the largest value that is there."""
    low, high = min(values, default=0), max(values, default=0)
    # Below what is printed a difference is no difference.
    spread = high - low if high - low >= 0.0005 else 0
    spans = "".join(
        f"<span title='{value:.4f}' style='{_TOKEN};background:rgba({rgb},{_shade(value, low, spread):.2f})'>"
        f"<code style='white-space:pre;background:none'>{html.escape(token.replace(chr(10), '⏎'))}</code><br>"
        f"<small>{_short(value)}</small></span>"
        for token, value in zip(tokens, values, strict=True)
    )
    span = f"{_short(low)} to {_short(high)}" if spread else f"{_short(high)} everywhere"
    return f"<div style='text-align:left;margin:.5em 0'>{what}, {span}<br>{spans}</div>"


def _shade(value, low, spread):
    return 0.7 * (value - low) / spread if spread else 0.0


def _short(value):
    """Three decimals without a leading zero: .984, 1, 1.25."""
    text = f"{value:.3f}".rstrip("0").rstrip(".")
    return re.sub(r"^(-?)0\.", r"\1.", text)
