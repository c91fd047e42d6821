"""Pictures from logs: what is drawn is what was measured, of runs that may be compared, without torch."""

import re
import subprocess
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest

from sa_ah_lib import figures
from sa_ah_lib.config import CONTROLS, METHODS, preset
from sa_ah_lib.runlog import RunLog, publish, read_run, set_aside
from sa_ah_lib.stats import wilson_interval

ROOT = Path(__file__).parent.parent
METHOD_NAMES = ["grpo", "ah-grpo", "sa-ah-grpo"]
SWEEP = [-0.25, 0.1, 0.25]
PASS_AT_1 = {0: (2, 8), 10: (4, 8), 20: (7, 8)}
REWARDS = [2.0, 2.5, 1.5, 4.0, 3.5, 5.0]


@pytest.fixture(autouse=True)
def closed_figures():
    """Figures left open by one test must not be counted in the next."""
    yield
    plt.close("all")


def train_row(step, reward):
    return {"step": step, "reward": reward, "kl": 0.001 * step, "sa_ah/entropy": 0.03, "sa_ah/weight": 0.6,
            "sa_ah/weight_negative": 0.4}  # fmt: skip


def write_run(parent, config, finish=True, started="2026-01-05T10:00:00+00:00", shift=0.0):
    """A run directory written through RunLog, with PASS_AT_1 and REWARDS inside."""
    environment = {"device": "some CPU", "data": {"source": "made up"}, **({"started": started} if started else {})}
    log = RunLog(Path(parent) / config.run_id, config, environment)
    for step, reward in enumerate(REWARDS, 1):
        log.write("train", train_row(step, reward + shift))
    for step, (correct, total) in PASS_AT_1.items():
        for problem in range(total):
            log.write("eval", {"step": step, "problem": problem, "correct": problem < correct})
    log.finish({}) if finish else log.close()
    return read_run(log.directory)


def configs(**changes):
    """The three methods, then the alpha sweep, all alike but for ``changes``."""
    methods = [preset("micro-s", method, **changes) for method in METHOD_NAMES]
    return methods + [preset("micro-s", "ah-grpo", alpha=alpha, **changes) for alpha in SWEEP]


@pytest.fixture
def runs(tmp_path):
    """Six comparable runs, and beside them every kind that must not be drawn with them."""
    base = preset("micro-s", "ah-grpo")
    others = [base.replace(seed=7), base.replace(learning_rate=3e-4), base.replace(steps=60),
              base.replace(data_seed=5), preset("micro-l", "ah-grpo"), preset("micro-s", "zero-shot"),
              base.replace(denominator="batch"), base.replace(scope="negative")]  # fmt: skip
    for config in configs() + others:
        write_run(tmp_path / "runs", config)
    return figures.find_runs(tmp_path / "runs")


def test_only_finished_runs_are_found_in_one_order(tmp_path):
    """Half a run in a figure, or an order that changes by process, gives another picture of the same data."""
    for config in configs():
        write_run(tmp_path / "a" / "deep", config)
    write_run(tmp_path / "a", preset("micro-s", "grpo", seed=9), finish=False)
    set_aside(tmp_path / "a" / preset("micro-s", "grpo", seed=9).run_id)
    found = figures.find_runs(tmp_path)
    names = [run.directory.name for run in found]
    assert names == sorted(config.run_id for config in configs()) and all(run.finished for run in found)


def test_a_run_found_twice_is_taken_from_the_same_place(tmp_path):
    """`runs` and the published logs hold one id; which of them is drawn must not be chance."""
    run = write_run(tmp_path / "runs", preset("micro-s", "grpo"))
    publish(run.directory, tmp_path / "logs")
    places = [[r.directory for r in figures.find_runs(*order)] for order in (
        (tmp_path / "runs", tmp_path / "logs"), (tmp_path / "logs", tmp_path / "runs"))]  # fmt: skip
    assert places[0] == places[1] and len(places[0]) == 2


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_methods_are_compared_all_else_alike(runs, method):
    """Another seed, length, scale or override beside the three would be compared as if it were the method."""
    chosen = figures.method_runs(runs, preset("micro-s", method))
    assert list(chosen) == METHOD_NAMES
    assert [run.config for run in chosen.values()] == configs()[:3]


@pytest.mark.parametrize("changes", [{"seed": 7}, {"learning_rate": 3e-4}, {"steps": 60}, {"data_seed": 5}])
def test_an_override_keeps_its_own_company(runs, changes):
    """A changed run beside unchanged ones would show the change as a method's doing."""
    config = preset("micro-s", "ah-grpo", **changes)
    assert {run.config for run in figures.method_runs(runs, config).values()} == {config}
    assert {run.config for run in figures.alpha_runs(runs, config).values()} == {config}


def test_the_sweep_differs_in_alpha_alone(runs):
    """GRPO stands for alpha 0; SA-AH-GRPO and the changed runs have no place in the sweep."""
    chosen = figures.alpha_runs(runs, preset("micro-s", "ah-grpo"))
    assert list(chosen) == [-0.25, 0.0, 0.1, 0.25, 0.5]
    assert chosen[0.0].config == preset("micro-s", "grpo")
    assert all(run.config == preset("micro-s", "ah-grpo", alpha=a) for a, run in chosen.items() if a)
    assert list(figures.alpha_runs(runs, preset("micro-s", "sa-ah-grpo"))) == list(chosen)


def test_pass_at_1_is_drawn_as_counted(runs):
    """Points, bands and base rate must be the logs' own numbers."""
    ax = figures.plot_pass_at_1(figures.method_runs(runs, preset("micro-s", "grpo")))
    *lines, base = ax.lines
    for line in lines:
        assert line.get_xydata().tolist() == [[0, 0.25], [10, 0.5], [20, 0.875]]
    assert list(base.get_ydata()) == [0.25, 0.25] and base.get_label() == "zero-shot"
    assert len(lines) == len(ax.collections) == 3
    for band in ax.collections:
        vertices = band.get_paths()[0].vertices
        for step, counts in PASS_AT_1.items():
            edges = vertices[vertices[:, 0] == step, 1]
            assert (edges.min(), edges.max()) == pytest.approx(wilson_interval(*counts))


def test_pass_at_1_without_a_base_has_no_base_line(tmp_path):
    """A line at a rate nobody measured would pass for the zero-shot score."""
    run = write_run(tmp_path, preset("micro-s", "grpo"))
    run.eval[:] = [row for row in run.eval if row["step"]]
    ax = figures.plot_pass_at_1({"grpo": run})
    assert [line.get_label() for line in ax.lines] == ["GRPO"]


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_every_axis_says_what_it_shows(runs):
    """A picture that leaves its page must carry quantity, unit, sample and names."""
    figure = figures.overview(figures.method_runs(runs, preset("micro-s", "grpo")))
    left, right = figure.axes
    assert (left.get_xlabel(), right.get_xlabel()) == ("training step", "training step (bold: 9-step mean)")
    assert left.get_ylabel() == "greedy Pass@1 (8 problems)" and right.get_ylabel() == "mean reward (max 7.5)"
    assert legend(left) == ["GRPO", "AH-GRPO", "SA-AH-GRPO", "zero-shot"]
    assert legend(right) == ["GRPO", "AH-GRPO", "SA-AH-GRPO"]
    assert figure.get_suptitle() == "measured: micro-s on made up, seed 123, some CPU, 2026-01-05"


def test_the_sweep_is_labelled_by_alpha(runs):
    """Lines named by method would all read AH-GRPO."""
    figure = figures.overview(figures.alpha_runs(runs, preset("micro-s", "grpo")))
    assert legend(figure.axes[1]) == ["α = -0.25", "α = 0", "α = 0.1", "α = 0.25", "α = 0.5"]
    lines = figure.axes[0].lines[:-1]
    assert len({line.get_marker() for line in lines}) == 5
    # Luminance rises with alpha, so that a greyscale print keeps the order.
    grey = [matplotlib.colors.to_rgb(line.get_color()) @ np.array([0.299, 0.587, 0.114]) for line in lines]
    assert grey == sorted(grey) and len(set(grey)) == 5


def test_methods_are_told_apart_without_colour(runs):
    """One reader in twelve does not see the colours, and print has none."""
    styles = figures.METHOD_STYLE.values()
    for key in ("color", "marker", "linestyle"):
        assert len({style[key] for style in styles}) == len(styles) == 3
    assert set(figures.METHOD_STYLE) == set(METHODS) - set(CONTROLS) - {"zero-shot"}
    lines = figures.plot_pass_at_1(figures.method_runs(runs, preset("micro-s", "grpo"))).lines[:-1]
    assert [(line.get_marker(), line.get_linestyle()) for line in lines] == [("o", "-"), ("s", "--"), ("^", "-.")]


def test_a_style_follows_the_method_not_the_place(runs):
    """With one run missing, the others must keep their colours from one figure to the next."""
    chosen = figures.method_runs(runs, preset("micro-s", "grpo"))
    only = figures.plot_pass_at_1({"sa-ah-grpo": chosen["sa-ah-grpo"]}).lines[0]
    assert (only.get_color(), only.get_marker()) == ("#009E73", "^")


def test_the_reward_s_running_mean_by_hand(runs):
    """The bold line is read as the result; windows of 3 over the six rewards."""
    run = figures.method_runs(runs, preset("micro-s", "grpo"))["grpo"]
    thin, bold = figures.plot_reward({"grpo": run}, window=3).lines
    assert thin.get_xydata().tolist() == [[step, reward] for step, reward in enumerate(REWARDS, 1)]
    assert bold.get_xdata().tolist() == [2, 3, 4, 5]
    assert bold.get_ydata() == pytest.approx([2.0, 8 / 3, 3.0, 12.5 / 3])


@pytest.mark.parametrize("values,window,means,middles", [
    ([1, 2, 6], 1, [1, 2, 6], [0, 1, 2]),
    ([1, 2, 6], 3, [3], [1]),
    ([1, 2, 6], 9, [3], [1]),
    ([1, 2, 6, 7], 2, [1.5, 4, 6.5], [0, 1, 2]),
    ([5], 9, [5], [0]),
])  # fmt: skip
def test_running_mean_by_hand(values, window, means, middles):
    """Windows filled up with zeros at the ends would draw a rise and a fall that are not there."""
    found, middle = figures.running_mean(values, window)
    assert found == pytest.approx(means) and list(range(len(values)))[middle] == middles


def test_diagnostics_draw_the_logged_keys(runs):
    """A panel whose key the trainer does not log would stay empty unnoticed."""
    run = figures.method_runs(runs, preset("micro-s", "sa-ah-grpo"))["sa-ah-grpo"]
    figure = figures.diagnostics(run)
    keys = ["reward", "sa_ah/entropy", "sa_ah/weight", "kl"]
    for ax, key in zip(figure.axes, keys, strict=True):
        assert ax.lines[0].get_ydata().tolist() == [row[key] for row in run.train]
        assert ax.get_xlabel() == "training step" and ax.get_ylabel()
    weights = figure.axes[2]
    assert weights.lines[1].get_ydata().tolist() == [0.4] * 6
    assert legend(weights) == ["all rollouts", "negative rollouts"]
    assert figure.get_suptitle().startswith("measured: micro-s")


@pytest.mark.parametrize("draw", [lambda run: figures.overview({"grpo": run}), figures.diagnostics])
def test_a_notebook_s_figure_stays_open_until_it_is_saved(tmp_path, draw):
    """The notebooks keep the returned figure in a name, so only an open one is shown; a saved one leaks no memory."""
    figure = draw(write_run(tmp_path / "run", preset("micro-s", "grpo")))
    assert plt.fignum_exists(figure.number)
    figures.save(figure, tmp_path / "out", "picture")
    assert not plt.get_fignums()


@pytest.mark.parametrize("days,span", [
    (["2026-01-05T23:59:00+00:00"], "2026-01-05"),
    (["2026-01-06T00:01:00+00:00", "2026-01-05T10:00:00+00:00"], "2026-01-05 to 2026-01-06"),
    (["2026-01-05T1", "2026-01-06T1", "2026-01-07T1"], "2026-01-05 to 2026-01-07"),
    ([None], "unknown date"),
])  # fmt: skip
def test_the_caption_names_the_days(tmp_path, days, span):
    """A picture without its date passes for the newest."""
    chosen = {day: write_run(tmp_path, preset("micro-s", "grpo", seed=seed), started=day)
              for seed, day in enumerate(days)}  # fmt: skip
    seeds = ", ".join(str(seed) for seed in range(len(days)))
    assert figures.measured_caption(chosen) == f"measured: micro-s on made up, seed {seeds}, some CPU, {span}"


def test_axes_that_are_given_are_drawn_on(runs):
    """A reader's own layout must not sprout a second figure."""
    chosen = figures.method_runs(runs, preset("micro-s", "grpo"))
    _, (left, right) = plt.subplots(1, 2)
    assert figures.plot_pass_at_1(chosen, left) is left and figures.plot_reward(chosen, right) is right
    assert len(plt.get_fignums()) == 1


def contents(directory):
    return {path.name: path.read_bytes() for path in sorted(Path(directory).iterdir())}


def test_a_second_drawing_gives_the_same_bytes(tmp_path, capsys):
    """Figures whose bytes change by themselves fill the history and hide a real change."""
    for config in configs():
        write_run(tmp_path / "runs", config, shift=config.alpha)
    for out in ("first", "second"):
        figures.main([str(tmp_path / "runs"), "--out", str(tmp_path / out)])
    first = contents(tmp_path / "first")
    assert set(first) == {"methods-micro-s.png", "methods-micro-s.svg", "alphas-micro-s.png", "alphas-micro-s.svg"}
    assert contents(tmp_path / "second") == first
    assert len(capsys.readouterr().out.splitlines()) == 8


def test_save_does_not_hang_on_the_caller_s_style(tmp_path):
    """Outside the project's style, SVG ids were random and the PNG a third of its resolution."""
    for out, resolution in (("first", 50), ("second", 200)):
        with plt.rc_context({"savefig.dpi": resolution}):
            figure, ax = plt.subplots(figsize=(2, 1))
            ax.fill_between([0, 1], [0, 1], hatch="/")
            ax.plot([0, 1], marker="o", clip_on=True)
            png, _ = figures.save(figure, tmp_path / out, "picture")
    assert contents(tmp_path / "first") == contents(tmp_path / "second")
    assert plt.imread(png).shape[:2] == (300, 600)
    assert b"<dc:date>" not in contents(tmp_path / "first")["picture.svg"]


def test_two_families_of_one_scale_get_two_files(tmp_path):
    """Two seeds drawn into one file name: the second would overwrite the first."""
    for seed in (1, 2):
        for method in METHOD_NAMES:
            write_run(tmp_path / "runs", preset("micro-s", method, seed=seed))
    figures.main([str(tmp_path / "runs"), "--out", str(tmp_path / "out")])
    names = [path.stem for path in (tmp_path / "out").glob("methods-*.svg")]
    assert len(names) == 2 and all(re.fullmatch(r"methods-micro-s-[0-9a-f]{8}", name) for name in names)


def test_nothing_to_draw_ends_with_a_message(tmp_path):
    """An empty directory must not end in a traceback, nor in silence that looks like success."""
    with pytest.raises(SystemExit, match="expected finished runs below .*Found none; run a notebook first"):
        figures.main([str(tmp_path), "--out", str(tmp_path / "out")])
    write_run(tmp_path, preset("micro-s", "grpo"), finish=False)
    with pytest.raises(SystemExit, match="Found none"):
        figures.main([str(tmp_path), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_figures_need_no_torch(tmp_path):
    """Published logs are redrawn on a laptop that never installed the training set."""
    for method in METHOD_NAMES:
        write_run(tmp_path / "runs", preset("micro-s", method))
    script = (
        "import sys\n"
        "class Blocked:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name in ('torch', 'transformers', 'trl', 'unsloth', 'datasets'): raise ImportError(name)\n"
        "sys.meta_path.insert(0, Blocked())\n"
        "from sa_ah_lib import figures; figures.main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "runs"), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "methods-micro-s.svg").is_file()
