"""What the notebooks show of a run: tables, sampled rollouts and token heat-maps, as escaped HTML. Needs no torch."""

import html
from pathlib import Path

from sa_ah_lib.analysis.stats import wald_interval, wilson_interval
from sa_ah_lib.analysis.table import Html, html_table
from sa_ah_lib.config import METHOD_LABELS
from sa_ah_lib.rewards import reward_parts


def pass_at_1_table(*runs):
    """One row a run and checkpoint: correct, Pass@1, the paper's Wald interval, and Wilson's."""
    rows = []
    for run in runs:
        for step, (correct, total) in run.pass_at_1.items():
            intervals = ["[{:.3f}, {:.3f}]".format(*f(correct, total)) for f in (wald_interval, wilson_interval)]
            name = f"{METHOD_LABELS[run.config.method]}, α = {run.config.alpha:g}"
            rows.append([name, step, f"{correct}/{total}", f"{correct / total:.3f}", *intervals])
    return html_table(["run", "step", "correct", "Pass@1", "95% Wald (paper)", "95% Wilson"], rows)


def diagnostics_table(run):
    """Table 6's columns at every evaluated step of one run."""
    columns = [
        ("reward", "mean reward"), ("reward_std", "± std"), ("kl", "KL"), ("sa_ah/entropy", "mean H"),
        ("sa_ah/weight", "mean w"), ("sa_ah/weight_negative", "mean w, negative"),
        ("sa_ah/negative_fraction", "f negative"), ("completions/mean_length", "length"),
        ("grad_norm", "grad norm"), ("sa_ah/effective_horizon", "horizon (tokens)"),
    ]  # fmt: skip
    steps = {step for step in run.pass_at_1 if step} | ({run.train[0]["step"]} if run.train else set())
    rows = [[r["step"], *(_number(r.get(key)) for key, _ in columns)] for r in run.train if r["step"] in steps]
    return html_table(["step", *(label for _, label in columns)], rows)


def samples(run, count=3):
    """The last ``count`` evaluated completions of the run with their reward parts."""
    last = [row for row in run.eval if row["step"] == max(run.pass_at_1)][:count]
    blocks = []
    for row in last:
        parts = ", ".join(f"{name} {value:g}" for name, value in reward_parts(row["completion"], row["gold"]).items())
        verdict = "correct" if row["correct"] else f"wrong, gold {row['gold']:.12g}"
        blocks.append(
            f"<p><b>{html.escape(row['question'])}</b></p><pre style='white-space:pre-wrap'>"
            f"{html.escape(row['completion'])}</pre><p>{verdict}; reward {row['reward']:g}: {parts}</p><hr>"
        )
    return Html("".join(blocks))


def heat_map(run):
    """The last sampled positive and negative rollout, each token coloured by entropy and by weight."""
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
            f"<p>entropy {_tokens(row['tokens'], row['entropy'], '213,94,0')}</p>"
            f"<p>weight {_tokens(row['tokens'], row['weights'], '0,114,178')}</p>"
        )
    return Html("".join(blocks) + "<p>Darker is larger; hover over a token for its value.</p>")


def files(run):
    """The files a run wrote, with their sizes."""
    names = sorted(path.relative_to(run.directory) for path in Path(run.directory).rglob("*") if path.is_file())
    sizes = {name: (run.directory / name).stat().st_size for name in names if "checkpoints" not in name.parts}
    rows = [[run.directory.name / name, f"{size / 1000:.1f}"] for name, size in sizes.items()]
    return html_table(["file", "kB"], rows)


def paths(written):
    """Files that were written, a line a folder."""
    folders = {}
    for path in map(Path, written):
        folders.setdefault(path.parent, []).append(path.name)
    return html_table(["folder", "files"], [[folder, ", ".join(names)] for folder, names in folders.items()])


def _tokens(tokens, values, rgb):
    peak = max([abs(v) for v in values] + [1e-9])
    spans = (
        f"<span title='{value:.4f}' style='background:rgba({rgb},{0.75 * abs(value) / peak:.2f})'>"
        f"{html.escape(token)}</span>"
        for token, value in zip(tokens, values, strict=True)
    )
    return f"<code style='white-space:pre-wrap'>{''.join(spans)}</code>"


def _number(value):
    return "—" if value is None else f"{value:.4g}"
