"""Figures: what is drawn is what was measured, at journal size, readable by everyone, the same bytes twice."""

import csv
import itertools
import re
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest
from families import PROBLEMS, family, pair, protocol, result, rollout, write_protocol
from matplotlib.text import Text

from sa_ah_lib.analysis import loading
from sa_ah_lib.analysis.results import MissingData, variance
from sa_ah_lib.analysis.stats import wald_interval, wilson_interval
from sa_ah_lib.config import CONTROLS, METHODS, preset
from sa_ah_lib.paper import printed
from sa_ah_lib.report import figure_data, figures, plots, schematic, style
from sa_ah_lib.rewards import MAX_REWARD
from sa_ah_lib.sweep import kernels

LARGE, SMALL = printed.family(printed.LARGE), printed.family(printed.SMALL)
NAMES = sorted(figures.FIGURES)


@pytest.fixture(autouse=True)
def closed_figures():
    """Figures left open by one test must not be counted in the next."""
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs")
    write_protocol(directory)
    return loading.load(directory)


@pytest.fixture(scope="module")
def measured(found):
    return found.families[0]


@pytest.fixture
def ax():
    return plt.subplots()[1]


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def contents(directory):
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


@pytest.mark.slow
def test_each_picture_of_a_notebook_is_shown_once(tmp_path):
    """The first one was, and switched off the showing of all that came after it."""
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    write_protocol(tmp_path)
    cells = [
        "from sa_ah_lib.analysis import loading\nfrom sa_ah_lib.report import figures, style\n"
        f"family = loading.load({str(tmp_path)!r}).families[0]\nrun = family.methods['grpo']",
        "panels = figures.diagnostics(run)",
        "comparison = figures.overview(family)",
        "again = figures.overview(family)",
        "drawn, rows = figures.render('figure-a1', family)\n"
        f"paths = style.save(drawn, rows, {str(tmp_path)!r}, 'saved')",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    where = {"metadata": {"path": str(Path(__file__).parents[2])}}
    with kernels.own_sockets() as config:
        nbclient.NotebookClient(notebook, resources=where, config=config).execute()
    images = [sum("image/png" in output.get("data", {}) for output in cell.outputs) for cell in notebook.cells]
    assert images == [0, 1, 1, 1, 0]


# --- readable --------------------------------------------------------------------------------------------------------


def texts(figure, monkeypatch):
    """(text, box) of everything written when the figure is drawn, in pixels."""
    drawn = []

    def draw(self, renderer, *args, original=Text.draw, **kwargs):
        if self.get_visible() and self.get_text().strip():
            drawn.append(self)
        return original(self, renderer, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Text, "draw", draw)
        figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    return [(text.get_text(), text.get_window_extent(renderer)) for text in dict.fromkeys(drawn)]


def faults(figure, monkeypatch):
    """Texts that leave the figure, and pairs of texts that overlap by more than a pixel each way."""
    boxes, outer = texts(figure, monkeypatch), figure.bbox
    assert len(boxes) > 8
    leaving = [t for t, b in boxes if min(b.x0, b.y0) < -0.5 or b.x1 > outer.x1 + 0.5 or b.y1 > outer.y1 + 0.5]
    meeting = [
        (t, u)
        for (t, b), (u, c) in itertools.combinations(boxes, 2)
        if min(b.x1, c.x1) - max(b.x0, c.x0) > 1 and min(b.y1, c.y1) - max(b.y0, c.y0) > 1
    ]
    return leaving + meeting


def test_a_text_outside_or_on_another_is_noticed(monkeypatch):
    """The check below must see what it looks for."""
    figure, ax = plt.subplots(figsize=(3, 2), layout="constrained")
    ax.set_xlabel(long := "far too long for a figure of three inches, this label is")
    assert faults(figure, monkeypatch) == [long]
    ax.set_xlabel("")
    ax.text(0.5, 0.5, "one"), ax.text(0.55, 0.5, "two")
    assert faults(figure, monkeypatch) == [("one", "two")]


@pytest.mark.parametrize("width", sorted(style.WIDTHS))
@pytest.mark.parametrize("source", ["measured", "paper-large", "paper-small"])
def test_no_text_leaves_a_figure_or_meets_another(measured, source, width, monkeypatch):
    """A legend over the axis' numbers, or a caption cut at the border, is found in print."""
    chosen = {"measured": measured, "paper-large": LARGE, "paper-small": SMALL}[source]
    made = []
    for name in NAMES:
        try:
            figure, _ = figures.render(name, chosen, width)
        except MissingData:
            continue
        made.append(name)
        assert figure.get_size_inches()[0] == pytest.approx({"single": 3.3, "double": 6.9}[width])
        assert (name, faults(figure, monkeypatch)) == (name, [])
        plt.close(figure)
    # The paper has no rollouts, and an alpha sweep of its small model alone.
    lacking = {"measured": [], "paper-large": ["figure-4", "figure-a2", "figure-a5"], "paper-small": ["figure-a5"]}
    assert made == [name for name in NAMES if name not in lacking[source]]


def test_the_notebooks_panels_are_readable_too(measured, monkeypatch):
    for figure in (figures.overview(measured), figures.overview(measured, sweep=True),
                   figures.diagnostics(measured.methods["sa-ah-grpo"])):  # fmt: skip
        assert figure.get_size_inches()[0] == 6.9 and faults(figure, monkeypatch) == []


@pytest.mark.parametrize(
    ("trained", "label"),
    [
        (result("control-scalar", [0.5, 0.7], rewards=[1.0, 2.0, 1.5]), "One scalar, α = 0.5"),
        (result("grpo", [0.5, 0.7], rewards=[1.0, 2.0, 1.5], rule="gtpo"), "GTPO (entropy)"),
        (result("ah-grpo", [0.5, 0.7], rewards=[1.0, 2.0, 1.5], alpha=4.0), "AH-GRPO, α = 4"),
        (result("ah-grpo", [0.5, 0.7], rewards=[1.0, 2.0, 1.5], rule="position"), "AH-GRPO, Position decay, α = 0.5"),
    ],
)
def test_the_run_just_trained_is_in_the_picture_whatever_it_is(trained, label):
    """Notebooks 02 to 04 ended in "expected an evaluated checkpoint" after the training of a control."""
    both = [result("ah-grpo", [0.5, 0.6], rewards=[1.0, 2.0, 1.5]), trained]
    for runs, count in (([trained], 1), (both, 2)):
        figure = figures.overview(family(*runs), trained=trained)
        named = legend(figure.axes[0])
        assert label in named and len(named) == count + 1, named
        plt.close(figure)
    figure = figures.overview(family(both[0]), trained=both[0])
    assert len(legend(figure.axes[0])) == 2
    plt.close(figure)


@pytest.mark.parametrize("tokens", [10, 21, 44, 120])
@pytest.mark.parametrize("width", sorted(style.WIDTHS))
def test_the_schematic_of_long_rollouts_is_readable(tokens, width, monkeypatch):
    """A completion of 120 tokens has no room for all; how many are shown is said."""
    config = preset("micro-s", "sa-ah-grpo")
    made = result("sa-ah-grpo", [0.5])
    made.completions.extend(pair(1, config, [0.05] * tokens))
    figure, _ = figures.render("figure-a5", family(made), width)
    assert faults(figure, monkeypatch) == []
    cut = [t for t, _ in texts(figure, monkeypatch) if f"first {schematic.SHOWN} of {tokens} tokens" in t]
    assert len(cut) == (2 if tokens > schematic.SHOWN else 0)


def lab(color, matrix=None):
    """CIE L*a*b* of a colour, through a matrix on linear RGB where one is given."""
    rgb = np.array(matplotlib.colors.to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear if matrix is None else np.array(matrix) @ linear, 0, 1)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear
    x, y, z = np.cbrt(xyz / [0.9505, 1.0, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


# Machado et al. 2009, full severity.
DICHROMACY = {
    "protanopia": [[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0520]],
    "deuteranopia": [[0.3673, 0.8606, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9689]],
    "tritanopia": [[1.2555, -0.0767, -0.1788], [-0.0784, 0.9308, 0.1476], [0.0047, 0.6914, 0.3039]],
}


@pytest.mark.parametrize("kind", [None, *DICHROMACY])
def test_colours_are_told_apart_by_every_reader(kind):
    """One reader in twelve does not see red beside green."""
    colors = [look["color"] for look in style.METHOD_STYLE.values()]
    for a, b in itertools.combinations([lab(c, DICHROMACY.get(kind)) for c in colors], 2):
        assert np.linalg.norm(a - b) > 15


def test_methods_are_told_apart_in_greyscale():
    """Print has no colour: marker and dash differ, and the greys are not one."""
    assert set(style.METHOD_STYLE) == set(METHODS) - set(CONTROLS) - {"zero-shot"}
    for key in ("color", "marker", "linestyle"):
        assert len({look[key] for look in style.METHOD_STYLE.values()}) == 3
    greys = sorted(lab(look["color"])[0] for look in style.METHOD_STYLE.values())
    assert min(np.diff(greys)) > 3 and greys[-1] < 65  # dark enough on white
    assert {k: schematic.COLORS[k] for k in style.METHOD_STYLE} == {
        k: look["color"] for k, look in style.METHOD_STYLE.items()
    }


def test_a_style_follows_the_method_not_the_place(measured, ax):
    """With one run missing, the others must keep their colours from one figure to the next."""
    rows = figure_data.pass_at_1(measured, ("sa-ah-grpo",))
    line = plots.plot_pass_at_1(rows, ax).lines[0]
    assert (line.get_color(), line.get_marker(), line.get_linestyle()) == ("#009E73", "^", "-.")


def test_no_latex_is_needed():
    """A laptop without LaTeX, and Colab, must draw the same."""
    with plt.style.context(style.STYLE):
        assert not plt.rcParams["text.usetex"] and plt.rcParams["svg.fonttype"] == "none"
        assert plt.rcParams["savefig.dpi"] == 300


@pytest.mark.parametrize("width,pixels", [("single", 990), ("double", 2070)])
def test_files_have_the_journal_s_width(measured, tmp_path, width, pixels):
    """Scaled by the typesetter, 8 points become 4."""
    figure, rows = figures.render("figure-a1", measured, width)
    png, svg, pdf, table = style.save(figure, rows, tmp_path, "figure-a1")
    assert plt.imread(png).shape[1] == pixels
    assert f'width="{pixels / 300 * 72:g}pt"' in svg.read_text() and "AH-GRPO, α = 0.5</text>" in svg.read_text()
    assert f"/MediaBox [ 0 0 {pixels / 300 * 72:g} ".encode() in pdf.read_bytes()
    assert table.name == "figure-a1.csv" and not plt.get_fignums()


def test_a_pdf_has_the_fonts_that_journals_take(measured, tmp_path):
    """LaTeX takes no SVG, and many journals refuse the Type 3 fonts that matplotlib embeds by itself."""
    figure, rows = figures.render("figure-a1", measured)
    data = style.save(figure, rows, tmp_path, "figure-a1")[2].read_bytes()
    assert data.startswith(b"%PDF-") and data.rstrip().endswith(b"%%EOF")
    assert b"/FontFile2" in data and b"/Type3" not in data and b"CreationDate" not in data


# --- true to the data ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["measured", "paper"])
def test_pass_at_1_is_drawn_as_counted(measured, source, ax):
    """Points, bars and base rate must be the logs' own; a method moved aside would look later than another."""
    chosen = measured if source == "measured" else LARGE
    interval = wilson_interval if source == "measured" else wald_interval
    plots.plot_pass_at_1(figure_data.pass_at_1(chosen), ax)
    base = next(line for line in ax.lines if line.get_linestyle() == "--" and len(line.get_xdata()) == 2)
    lines = [line for line in ax.lines if line.get_label() in legend(ax)[:3]]
    shifts = []
    for (name, run), line, (_, _, (errors,)) in zip(chosen.methods.items(), lines, ax.containers, strict=True):
        assert (
            line.get_xdata().tolist() == list(run.pass_at_1) and line.get_color() == style.METHOD_STYLE[name]["color"]
        )
        shift = {round(s[0, 0] - step, 6) for s, step in zip(errors.get_segments(), run.pass_at_1, strict=True)}
        assert len(shift) == 1
        shifts += shift
        assert line.get_ydata().tolist() == pytest.approx([k / n for k, n in run.pass_at_1.values()])
        for segment, counts in zip(errors.get_segments(), run.pass_at_1.values(), strict=True):
            assert segment[:, 1].tolist() == pytest.approx(interval(*counts), rel=1e-5)
    # The bars beside each other, around the step itself.
    assert sorted(shifts) == shifts and len(set(shifts)) == 3 and sum(shifts) == pytest.approx(0) and shifts[2] < 5
    assert list(base.get_ydata()) == [chosen.base] * 2
    told = "95% Wilson intervals" if source == "measured" else "95% Wald intervals"
    named = ["GRPO", "AH-GRPO, α = 0.5", "SA-AH-GRPO, α = 0.5", f"zero-shot {chosen.base:.3f}", told]
    assert legend(ax) == named
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("training step", f"greedy Pass@1, N = {chosen.problems}")


def test_controls_are_no_fourth_method(ax):
    """Runs of notebook 06 beside the paper's three ended notebook 07 in a KeyError of their missing style."""
    three = [result(m, [0.5, 0.6]) for m in ("grpo", "ah-grpo", "sa-ah-grpo")]
    with_controls = family(*three, *(result(name, [0.7, 0.8]) for name in CONTROLS))
    assert list(with_controls.methods) == ["grpo", "ah-grpo", "sa-ah-grpo"]
    plots.plot_pass_at_1(figure_data.pass_at_1(with_controls), ax)
    assert [text.split(",")[0] for text in legend(ax)[:-1]] == ["GRPO", "AH-GRPO", "SA-AH-GRPO"]


def test_without_a_base_there_is_no_base_line(ax):
    """A line at a rate nobody measured would pass for the zero-shot score."""
    plots.plot_pass_at_1(figure_data.pass_at_1(family(result("grpo", [0.5, 0.6]))), ax)
    assert legend(ax) == ["GRPO", "95% Wilson intervals"]


@pytest.mark.parametrize("draw", [plots.plot_alphas, plots.plot_alpha_bars])
def test_the_sweep_is_drawn_as_counted(draw, ax):
    """Peak and final by alpha are Table 5's columns."""
    assert draw(figure_data.alpha_summary(SMALL), ax) is ax
    peaks, finals = [0.650, 0.668, 0.670, 0.676, 0.676], [0.634, 0.660, 0.640, 0.654, 0.650]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["−0.25", "0", "0.1", "0.25", "0.5"]
    if draw is plots.plot_alphas:
        drawn = [c[0].get_ydata() for c in ax.containers]
        assert [c[0].get_markerfacecolor() for c in ax.containers] == ["0.15", "white"]
        # On an axis of 0.1 a bar of 0.08 is what a reader must see.
        assert ax.get_ylim()[0] < 0.6 and ax.get_ylim()[1] > 0.71
    else:
        drawn = [[bar.get_height() for bar in bars] for bars in ax.containers if len(bars) == 5]
        assert ax.get_ylim() == (0, 1)
    segments = [s for c in ax.collections for s in c.get_segments()]
    expected = [wald_interval(round(r * 500), 500) for r in peaks + finals]
    assert [(s[0][1], s[1][1]) for s in segments] == [pytest.approx(e) for e in expected]
    assert list(drawn[0]) == pytest.approx(peaks) and list(drawn[1]) == pytest.approx(finals)
    assert sorted(legend(ax)) == ["95% Wald intervals", "final", "peak", "zero-shot 0.637"]


def test_a_far_base_does_not_flatten_the_sweep(ax):
    """At a zero-shot of 0.1 under rates of 0.5 the differences between alphas were a line under the legend."""
    many = {"base": 0.1, "total": 1000}
    runs = [result("ah-grpo", [0.5, 0.6], alpha=alpha, **many) for alpha in (-0.25, 0.1, 0.5)]
    plots.plot_alphas(figure_data.alpha_summary(family(result("grpo", [0.5, 0.55], **many), *runs)), ax)
    assert ax.get_ylim()[0] > 0.3 and "zero-shot 0.100, below" in legend(ax)


def test_a_strong_alpha_does_not_squeeze_the_others(ax):
    """At alpha 4 on a plain axis the paper's five alphas share a tenth of the width."""
    runs = [result("ah-grpo", [0.5, 0.6], alpha=alpha) for alpha in (-0.25, 0.1, 0.25, 0.5, 4.0)]
    plots.plot_alphas(figure_data.alpha_summary(family(result("grpo", [0.5, 0.6]), *runs)), ax)
    assert np.diff(ax.get_xticks()).tolist() == [1] * 5
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["−0.25", "0", "0.1", "0.25", "0.5", "4"]


def test_a_sweep_s_lines_are_ordered_by_grey(measured, ax):
    """Lines named by method would all read AH-GRPO; in greyscale the order must stay."""
    plots.plot_pass_at_1(figure_data.alpha_sweep(measured), ax)
    lines = [line for line in ax.lines if line.get_label() in legend(ax)[:5]]
    assert legend(ax)[:5] == ["α = -0.25", "α = 0", "α = 0.1", "α = 0.25", "α = 0.5"]
    greys = [lab(line.get_color())[0] for line in lines]
    assert greys == sorted(greys) and min(np.diff(greys)) > 8 and len({line.get_marker() for line in lines}) == 5


def test_an_overview_draws_long_logs_as_running_means(measured, ax):
    """The line is read as the result: nine-step means over the logged rewards, and no other smoothing."""
    plots.plot_reward(figure_data.reward(measured), ax)
    run = measured.methods["grpo"]
    rewards = run.curve("reward")[1]
    line = ax.lines[0]
    assert line.get_xdata().tolist() == list(range(5, 147))
    assert line.get_ydata() == pytest.approx([rewards[i : i + 9].mean() for i in range(142)], rel=1e-5)
    assert legend(ax)[0] == f"GRPO, Var {variance(run):.4f}"
    assert ax.get_xlabel() == "training step (9-step means)"


def test_each_method_s_rewards_have_a_panel_of_their_own(measured):
    """Three bands on top of one another hid each other, and the variance that the figure is about."""
    figure, _ = figures.render("figure-a3", measured)
    assert len(figure.axes) == 3 and len({ax.get_ylim() for ax in figure.axes}) == 1
    for ax, run in zip(figure.axes, measured.methods.values(), strict=True):
        dots = ax.lines[0]
        assert dots.get_ydata() == pytest.approx(run.curve("reward")[1], rel=1e-5)
        band, spread = ax.collections[0].get_paths()[0].vertices, run.curve("reward_std")[1]
        lower = band[band[:, 0] == 75, 1].min()
        middle = run.curve("reward")[1][70:79].mean()
        assert middle - lower == pytest.approx(spread[70:79].mean(), rel=1e-5)
        assert band[:, 1].max() <= MAX_REWARD
        assert ax.texts[0].get_text().endswith(f"Var {variance(run):.4f}")
    assert "second half" in legend(figure.axes[0])


@pytest.mark.parametrize(("name", "says"), [("figure-3", True), ("figure-a2", True), ("figure-a4", False)])
def test_a_picture_of_the_paper_s_zero_shot_says_what_was_evaluated(name, says):
    """The paper lowered it by hand, and the trained models it did not."""
    family = LARGE if name == "figure-a4" else SMALL
    drawn, _ = figures.render(name, family)
    told = " ".join(drawn.get_suptitle().split())
    assert told.endswith("Zero-shot is as printed; evaluated it was 0.652") == says and "0.846" not in told


def test_few_printed_steps_are_points_with_bars():
    """The paper's seven steps, smoothed, would be a curve that nobody logged; nor is a reward above 7.5 possible."""
    figure, _ = figures.render("figure-a3", LARGE)
    (ax,) = figure.axes
    drawn = next(line for line in ax.lines if len(line.get_xdata()) == 7)
    assert drawn.get_xydata().tolist() == [[row[0], row[1]] for row in printed.DIAGNOSTICS[printed.LARGE]]
    tops = [segment[1, 1] for segment in ax.collections[0].get_segments()]
    assert max(tops) == 7.5 and tops[2] == pytest.approx(7.202 + 0.115)
    assert ax.texts[0].get_text() == "SA-AH-GRPO, α = 0.5, Var 0.0246"
    assert "GRPO, Var 0.0885: steps not printed" in ax.get_xlabel()


@pytest.mark.parametrize("values,window,means,middles", [
    ([1, 2, 6], 1, [1, 2, 6], [0, 1, 2]),
    ([1, 2, 6], 3, [3], [1]),
    ([1, 2, 6], 9, [3], [1]),
    ([1, 2, 6, 7], 2, [1.5, 4, 6.5], [0, 1, 2]),
    ([5], 9, [5], [0]),
])  # fmt: skip
def test_running_mean_by_hand(values, window, means, middles):
    """Windows filled up with zeros at the ends would draw a rise and a fall that are not there."""
    found, middle = figure_data.running(values, window)
    assert found == pytest.approx(means) and list(range(len(values)))[middle] == middles


def test_entropy_and_weight_of_the_paper():
    """0 stands for 'no negative rollout', which is not a weight of 0."""
    _, axes = plt.subplots(2, 1)
    plots.plot_entropy_and_weight(figure_data.entropy_and_weight(LARGE), axes)
    assert axes[0].lines[0].get_ydata().tolist() == [row[4] for row in printed.DIAGNOSTICS[printed.LARGE]]
    assert axes[1].lines[0].get_ydata().tolist() == [row[5] for row in printed.DIAGNOSTICS[printed.LARGE]]
    steps, weights = axes[1].lines[1].get_data()
    assert steps.tolist() == [5, 30, 60, 90, 120, 150, 180] and np.isnan(weights[1:4]).all()
    assert weights[[0, 4, 5, 6]].tolist() == [0.174, 0.584, 0.609, 0.619]
    assert axes[1].lines[2].get_xdata().tolist() == [30, 60, 90] and legend(axes[1])[-1] == "no negative rollout"


def test_a_run_without_a_negative_rollout_is_drawn():
    """Early micro runs may have none; the figure must not fail on an empty line."""
    rows = [{"step": s, "sa_ah/entropy": 0.1, "sa_ah/weight": 1.0, "sa_ah/weight_negative": 0.0,
             "sa_ah/negative_fraction": 0.0} for s in (1, 2)]  # fmt: skip
    figure, _ = figures.render("figure-a4", family(result("sa-ah-grpo", rows=rows)))
    assert legend(figure.axes[1]) == ["all rollouts", "no negative rollout"]


def test_diagnostics_draw_the_logged_keys(measured):
    """A panel whose key the trainer does not log would stay empty unnoticed."""
    run = measured.methods["sa-ah-grpo"]
    figure = figures.diagnostics(run)
    for ax, key in zip(figure.axes, ["reward", "sa_ah/entropy", "sa_ah/weight", "kl"], strict=True):
        assert ax.lines[0].get_ydata().tolist() == [row[key] for row in run.train] and ax.get_ylabel()
    weights = figure.axes[2]
    # A step without a negative rollout has no weight of them, and no point: not a plunge to 0.
    logged = [row["sa_ah/weight_negative"] or np.nan for row in run.train]
    np.testing.assert_equal(weights.lines[1].get_ydata(), logged)
    assert legend(weights) == ["all rollouts", "negative rollouts"]


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_says_what_it_is(measured, name):
    """A picture that leaves its page must carry title, source, model, data, seed and date."""
    figure, _ = figures.render(name, measured)
    told = figure.get_suptitle().replace("\n", " ")
    assert told.startswith(figures.FIGURES[name].title) and told.endswith(measured.caption)
    assert "measured: micro-s (1.05M parameters with LoRA) on made up, seed 123, some CPU, 2026-01-05" in told


@pytest.mark.parametrize("draw,rows", [
    (plots.plot_pass_at_1, figure_data.pass_at_1), (plots.plot_reward, figure_data.reward),
    (plots.plot_alphas, figure_data.alpha_summary), (plots.plot_alpha_bars, figure_data.alpha_summary),
])  # fmt: skip
def test_data_in_ax_out(measured, draw, rows, ax):
    """A reader's own layout must not sprout a second figure."""
    assert draw(rows(measured), ax) is ax and len(plt.get_fignums()) == 1


@pytest.mark.parametrize("name", ["figure-1", "figure-3", "figure-4", "figure-a3", "figure-a4", "figure-a5"])
def test_what_a_source_lacks_is_said(name):
    """An empty panel would look like a result of nothing."""
    with pytest.raises(MissingData, match="micro-s"):
        figures.render(name, family(result("grpo")))


# --- saved -----------------------------------------------------------------------------------------------------------


def test_the_csv_is_what_was_drawn(measured, tmp_path):
    """The numbers beside the picture must redraw it."""
    figure, rows = figures.render("figure-a1", measured)
    saved = list(csv.DictReader(style.save(figure, rows, tmp_path, "f")[-1].open(encoding="utf-8")))
    assert len(saved) == len(rows) == 1 + 5 + 5 + 6
    for line, row in zip(saved, rows, strict=True):
        assert line["method"] == row["method"] and float(line["pass_at_1"]) == pytest.approx(row["pass_at_1"], abs=1e-6)
        assert (line["low"] == "") == ("low" not in row) and int(line["problems"]) == PROBLEMS


def test_a_second_drawing_gives_the_same_bytes(measured, tmp_path):
    """Figures whose bytes change by themselves fill the history and hide a real change; nor may the caller's style
    matter: outside the project's, SVG ids were random and the PNG a third of its resolution."""
    for out, resolution in (("first", 50), ("second", 200)):
        with plt.rc_context({"savefig.dpi": resolution, "font.size": 20, "svg.fonttype": "path"}):
            for name in ("figure-1", "figure-a2"):
                style.save(*figures.render(name, measured), tmp_path / out, name)
    first = contents(tmp_path / "first")
    assert len(first) == 8 and first == contents(tmp_path / "second")
    assert not any(re.search(rb"<dc:date>|Software", data) for data in first.values())


def test_a_notebook_s_figure_stays_open_until_it_is_saved(measured, tmp_path):
    """The notebooks keep the returned figure in a name, so only an open one is shown; a saved one leaks no memory."""
    figure = figures.overview(measured)
    assert plt.fignum_exists(figure.number)
    style.save(figure, [], tmp_path, "picture")
    assert not plt.get_fignums()


# --- schematic -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["none", "all", "negative"])
@pytest.mark.parametrize("alpha", [0.5, 0.0, -0.25])
def test_the_schematic_s_weights_are_the_trainer_s(scope, alpha):
    """A second formula beside the one that trains would drift from it."""
    torch = pytest.importorskip("torch")
    from sa_ah_lib.weighting import rollout_weights

    entropy = np.random.default_rng(7).random(40).astype(np.float32)
    for advantage in (0.7, 0.0, -0.7):
        expected = rollout_weights(
            torch.tensor(entropy)[None], torch.ones(1, 40), torch.tensor([advantage]), alpha, scope
        )
        found = schematic.token_weights(entropy, advantage, alpha, scope)
        assert found == pytest.approx(expected[0].numpy(), rel=1e-5)


def with_rollouts(*rollouts):
    made = result("sa-ah-grpo", [0.5])
    made.completions.extend(rollouts)
    return family(made)


CONFIG = preset("micro-s", "sa-ah-grpo")


def test_the_schematic_shows_one_prompt_s_two_rollouts():
    """A good and a bad rollout of different prompts would compare problems, not methods."""
    calm, lively = pair(1, CONFIG, [0.1, 0.1]), pair(2, CONFIG, [0.4, 0.8, 0.3])
    stray = rollout(3, "other", -1.0, CONFIG, [5.0, 5.0])
    rows = [row for row in schematic.rows(with_rollouts(*calm, *lively, stray)) if row["source"] == "logged"]
    assert [row["step"] for row in rows] == [2] * 6 and [row["rollout"] for row in rows[::3]] == [
        "positive",
        "negative",
    ]
    bad = rows[3:]
    expected = np.exp(-0.5 * np.cumsum([0.4, 0.8, 0.3]))
    assert [row["sa-ah-grpo"] for row in bad] == pytest.approx(expected)
    assert [row["ah-grpo"] for row in rows[:3]] == pytest.approx(expected)
    assert {row["sa-ah-grpo"] for row in rows[:3]} == {row["grpo"] for row in rows} == {1.0}


@pytest.mark.parametrize("rollouts", [
    [], [rollout(1, "a", 1.0, CONFIG, [0.1]), rollout(1, "b", -1.0, CONFIG, [0.1])],
    [rollout(1, "a", 1.0, CONFIG, [0.1]), rollout(2, "a", -1.0, CONFIG, [0.1])],
    [rollout(1, "a", 0.0, CONFIG, [0.1]), rollout(1, "a", -1.0, CONFIG, [0.1])],
])  # fmt: skip
def test_without_such_a_pair_there_is_no_schematic(rollouts):
    with pytest.raises(MissingData, match="a positive and a negative rollout of one prompt"):
        schematic.rows(with_rollouts(*rollouts))


def test_a_tampered_log_is_refused():
    """Weights that the rule does not give were written by other code than is published here."""
    good, bad = pair(1, CONFIG)
    bad = {**bad, "weights": [*bad["weights"][:2], bad["weights"][2] + 0.01, *bad["weights"][3:]]}
    with pytest.raises(ValueError, match="logged weights of step 1.*the log was changed"):
        schematic.rows(with_rollouts(good, bad))


def test_the_schematic_prefers_rollouts_that_can_be_read():
    """Five tokens, or fifty-seven beside six, show no discount growing."""
    short, long = pair(1, CONFIG, [0.9] * 3), pair(2, CONFIG, [0.1] * 8)
    rows = schematic.rows(with_rollouts(*short, *long))
    assert {row["step"] for row in rows if row["source"] == "logged"} == {2}


def test_the_schematic_s_own_rollouts_are_weighted_by_eq_5():
    """Entropies are made up and said to be; weights are not."""
    rows = schematic.rows(with_rollouts(*pair(1, CONFIG)))
    for side, (advantage, tokens, entropy) in schematic.DRAWN_ROLLOUTS.items():
        members = [row for row in rows if (row["source"], row["rollout"]) == ("drawn", side)]
        assert [row["token"] for row in members] == tokens and len(tokens) == len(entropy) == schematic.SHOWN
        spent = np.exp(-0.5 * np.cumsum(entropy))
        assert [row["ah-grpo"] for row in members] == pytest.approx(spent, rel=1e-5)
        spared = np.ones(len(spent))
        assert [row["sa-ah-grpo"] for row in members] == pytest.approx(spent if advantage < 0 else spared, rel=1e-5)


def test_the_schematic_is_drawn_as_computed():
    """Four tables: entropy above three methods' weights, successes before failures, drawn before logged."""
    rows = schematic.rows(with_rollouts(*pair(1, CONFIG)))
    _, axes = plt.subplots(4, 1)
    schematic.draw(rows, axes)
    for ax, (source, side) in zip(axes, itertools.product(schematic.SOURCES, schematic.SIDES), strict=True):
        members = [row for row in rows if (row["source"], row["rollout"]) == (source, side)][: schematic.SHOWN]
        cells = [text.get_text() for text in ax.texts]
        wanted = [schematic._short(row[key]) for key in schematic.ROWS for row in members]
        assert [cell for cell in cells if re.fullmatch(r"1?\.?\d*", cell)][: len(wanted)] == wanted
        shades = [patch.get_alpha() for patch in ax.patches]
        assert len(shades) == len(wanted) and shades[len(members)] == 0.75
        title = ax.get_title(loc="left")
        assert title.startswith(f"{side}, ") and "α = " in title and ("made up" in title) == (source == "drawn")


def test_the_fixtures_are_the_protocol(found):
    """Figures of runs that no notebook makes would prove nothing."""
    assert found.messages == [] and len(found.results) == len(protocol()) == 6
