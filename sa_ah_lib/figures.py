"""Pictures from saved logs: one function a figure, runs in, axes out. Needs no torch.

``python -m sa_ah_lib.figures RUNS... --out DIR`` draws the methods of each scale found below the RUNS directories.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from sa_ah_lib.config import METHOD_LABELS
from sa_ah_lib.runlog import read_run
from sa_ah_lib.stats import wilson_interval

STYLE = Path(__file__).with_name("paper.mplstyle")
# Okabe-Ito colours, told apart by colour-blind readers; marker and dash tell them apart in greyscale.
METHOD_STYLE = {
    "grpo": {"color": "#0072B2", "marker": "o", "linestyle": "-"},
    "ah-grpo": {"color": "#D55E00", "marker": "s", "linestyle": "--"},
    "sa-ah-grpo": {"color": "#009E73", "marker": "^", "linestyle": "-."},
}
ALPHA_COLORS = plt.get_cmap("cividis")


def find_runs(*directories):
    """Every finished run below ``directories``, sorted by run id."""
    found = {path.parent for directory in directories for path in Path(directory).glob("**/finished.json")}
    # The path settles ties: the order of a set differs from one process to the next.
    return [read_run(directory) for directory in sorted(found, key=lambda d: (d.name, str(d)))]


def method_runs(runs, config):
    """Those of ``runs`` that differ from ``config`` in the method alone: {method: run}, in the paper's order."""
    wanted = {config.sibling(method).run_id: method for method in METHOD_STYLE}
    return {method: run for run_id, method in wanted.items() for run in runs if run.config.run_id == run_id}


def alpha_runs(runs, config):
    """AH-GRPO runs that differ from ``config`` in alpha alone, GRPO standing for 0: {alpha: run}, ascending."""
    sweep = [run for run in runs if run.config.method in ("grpo", "ah-grpo")]
    members = [run for run in sweep if run.config == config.sibling(run.config.method, run.config.alpha)]
    return {run.config.alpha: run for run in sorted(members, key=lambda r: r.config.alpha)}


def plot_pass_at_1(runs, ax=None):
    """Pass@1 against training step with 95% Wilson bands, one line a run ({label key: run}), base rate dashed."""
    ax = ax or plt.subplots()[1]
    for key, run in runs.items():
        style, label = _style(key, runs)
        steps = list(run.pass_at_1)
        rates = [correct / total for correct, total in run.pass_at_1.values()]
        bands = np.array([wilson_interval(*counts) for counts in run.pass_at_1.values()])
        ax.plot(steps, rates, label=label, **style)
        ax.fill_between(steps, *bands.T, color=style["color"], alpha=0.12, linewidth=0)
    base = next(iter(runs.values())).pass_at_1.get(0)
    if base:
        ax.axhline(base[0] / base[1], color="0.35", linewidth=0.9, linestyle=":", label="zero-shot")
    total = base[1] if base else "?"
    ax.set(xlabel="training step", ylabel=f"greedy Pass@1 ({total} problems)")
    ax.legend()
    return ax


def plot_reward(runs, ax=None, window=9):
    """Mean reward a step (thin) and its running mean over ``window`` steps (bold)."""
    ax = ax or plt.subplots()[1]
    for key, run in runs.items():
        style, label = _style(key, runs)
        steps, rewards = run.curve("reward")
        ax.plot(steps, rewards, color=style["color"], alpha=0.25, linewidth=0.6)
        smooth, middle = running_mean(rewards, window)
        ax.plot(np.array(steps)[middle], smooth, color=style["color"], linestyle=style["linestyle"], label=label)
    ax.set(xlabel=f"training step (bold: {window}-step mean)", ylabel="mean reward (max 7.5)")
    ax.legend()
    return ax


def plot_diagnostics(run, axes):
    """Four panels of one run on four axes: reward, normalised entropy, mean weight (all and negative), KL."""
    panels = [
        ("reward", "mean reward (max 7.5)"),
        ("sa_ah/entropy", "mean entropy / log V"),
        ("sa_ah/weight", "mean token weight"),
        ("kl", "mean KL (nats a token)"),
    ]
    for ax, (key, label) in zip(axes, panels, strict=True):
        ax.plot(*run.curve(key), color="#0072B2", linewidth=0.9, label="all rollouts")
        ax.set(xlabel="training step", ylabel=label)
        ax.ticklabel_format(axis="y", useOffset=False)
    steps, negative = run.curve("sa_ah/weight_negative")
    axes[2].plot(steps, negative, color="#D55E00", linewidth=0.9, linestyle="--", label="negative rollouts")
    axes[2].legend()
    return axes


def diagnostics(run, caption=None):
    """The four diagnostic panels of one run, captioned with what was measured; a figure 6.9 in wide."""
    figure, axes = plt.subplots(2, 2, figsize=(6.9, 3.8), layout="constrained")
    plot_diagnostics(run, list(axes.flat))
    return _captioned(figure, caption or measured_caption({run.config.method: run}))


def overview(runs, caption=None):
    """Pass@1 beside the reward for runs of one scale, captioned with what was measured; a figure 6.9 in wide."""
    figure, axes = plt.subplots(1, 2, figsize=(6.9, 2.7), layout="constrained")
    plot_pass_at_1(runs, axes[0])
    plot_reward(runs, axes[1])
    return _captioned(figure, caption or measured_caption(runs))


def measured_caption(runs):
    """ "measured: scale, problems, seed, date" of runs of one scale."""
    members = list(runs.values())
    first = members[0]
    seeds = ", ".join(str(seed) for seed in sorted({run.config.seed for run in members}))
    days = sorted({run.environment.get("started", "unknown date").split("T")[0] for run in members})
    span = " to ".join(days[:: max(1, len(days) - 1)])
    source = first.environment.get("data", {}).get("source", first.config.dataset)
    device = first.environment.get("device", "unknown device")
    return f"measured: {first.config.scale} on {source}, seed {seeds}, {device}, {span}"


def running_mean(values, window):
    """(means, slice of the middles) of a centred running mean; shorter lists are averaged whole windows at most."""
    window = max(1, min(window, len(values)))
    means = np.convolve(values, np.ones(window) / window, mode="valid")
    start = (window - 1) // 2
    return means, slice(start, start + len(means))


def save(figure, directory, name):
    """Write ``name``.png (300 dpi) and ``name``.svg without dates, so that equal data give equal bytes."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    paths = [directory / f"{name}.png", directory / f"{name}.svg"]
    with plt.style.context(STYLE):  # it also fixes the resolution and the ids inside the SVG
        figure.savefig(paths[0], metadata={"Software": None})
        figure.savefig(paths[1], metadata={"Date": None})
    plt.close(figure)
    return paths


def _captioned(figure, caption):
    figure.suptitle(caption, fontsize=7, color="0.3")
    return figure


def _style(key, runs):
    if key in METHOD_STYLE:
        return METHOD_STYLE[key], METHOD_LABELS[key]
    keys = sorted(runs)
    shade = ALPHA_COLORS(keys.index(key) / max(1, len(keys) - 1) * 0.9)
    marker = "vosD^<>P"[keys.index(key) % 8]
    return {"color": shade, "marker": marker, "linestyle": "-"}, f"α = {key:g}"


def main(arguments=None):
    """The command line: draw every family of comparable runs, print the files written."""
    parser = argparse.ArgumentParser(description="Draw every scale's methods and alpha sweep from run directories.")
    parser.add_argument("runs", nargs="+", help="directories that hold runs")
    parser.add_argument("--out", default="figures", help="where the PNG and SVG files go")
    options = parser.parse_args(arguments)
    runs = find_runs(*options.runs)
    if not runs:
        raise SystemExit(f"expected finished runs below {options.runs}. Found none; run a notebook first.")
    grpo = [run.config.sibling("grpo") for run in runs if run.config.steps]
    families = {config.run_id: config for config in grpo}
    scales = [config.scale for config in families.values()]
    with plt.style.context(STYLE):
        for family, config in families.items():
            suffix = "" if scales.count(config.scale) == 1 else "-" + family.rsplit("-", 1)[1]
            for name, chosen in (("methods", method_runs(runs, config)), ("alphas", alpha_runs(runs, config))):
                if len(chosen) > 1:
                    print(*save(overview(chosen), options.out, f"{name}-{config.scale}{suffix}"), sep="\n")


if __name__ == "__main__":
    main()
