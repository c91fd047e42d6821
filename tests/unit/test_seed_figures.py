"""Pictures of comparisons over seeds: what is drawn are the numbers, and readers can tell the arms apart."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest
from made_runs import family

from sa_ah_lib.analysis import comparison, loading, seeds
from sa_ah_lib.analysis.compared import Compared
from sa_ah_lib.config import CONTROLS, METHODS
from sa_ah_lib.report import __main__ as report
from sa_ah_lib.report import seed_figures
from sa_ah_lib.report.style import METHOD_STYLE, STYLE
from sa_ah_lib.train.runlog import RunLog

ROOT = Path(__file__).parents[2]
TRAINED = [method for method in METHODS if method != "zero-shot"]
COUNTS = [400, 410, 390, 430, 405, 395, 420, 415]
SPREADS = [1.0, 1.1, 0.9, 1.2, 0.8, 1.0, 1.05, 0.95]


@pytest.fixture(autouse=True)
def closed():
    with plt.style.context(STYLE):
        yield
    plt.close("all")


@pytest.fixture
def arms():
    """Every method over eight seeds, each 2 points above the one before and 1.5 times as restless."""
    runs = []
    for k, method in enumerate(TRAINED):
        runs += family(method, [count + 10 * k // 2 for count in COUNTS], [s * 1.5 ** (k / 2) for s in SPREADS])
    return comparison.arms(runs)


def marks(ax):
    return [line for line in ax.lines if len(line.get_xdata()) == 1 and line.get_marker() not in ("|", "None")]


def ticks(ax):
    return [line for line in ax.lines if line.get_marker() == "|"]


def names(ax):
    return [label.get_text() for label in ax.get_yticklabels()]


def test_scores_are_drawn_as_estimated(arms):
    """A mark beside another arm's name, or a mean drawn as an interquartile mean."""
    ax = seed_figures.plot_scores(arms, "pass_at_1")
    assert names(ax) == [arm.label for arm in arms]
    for row, (arm, mark, seeds_drawn) in enumerate(zip(arms, marks(ax), ticks(ax), strict=True)):
        assert mark.get_xydata().tolist() == [[seeds.interquartile_mean(arm, "pass_at_1").value, row]]
        assert sorted(seeds_drawn.get_xdata()) == sorted(seeds.scores(arm, "pass_at_1").values())


def test_gains_are_drawn_in_the_metric_s_own_direction(arms):
    """Percent for fractions, a ratio upside down, or the reference drawn against itself."""
    points = seed_figures.plot_gains(Compared.of(arms), "pass_at_1")
    assert names(points) == [arm.label for arm in arms[1:]]
    assert [mark.get_xdata()[0] for mark in marks(points)] == pytest.approx([k for k in range(1, 10)], abs=0.21)
    ratio = seed_figures.plot_gains(Compared.of(arms), "training_variance")
    assert [mark.get_xdata()[0] for mark in marks(ratio)] == pytest.approx([1.5**k for k in range(1, 10)])
    assert "better to the right" in points.get_xlabel() and "better to the left" in ratio.get_xlabel()
    band = ratio.patches[0].get_extents().transformed(ratio.transData.inverted())
    assert (band.x0, band.x1) == pytest.approx((0.8, 1.25))
    assert ratio.get_xscale() == "log"


def test_intervals_are_the_comparison_s(arms):
    ax = seed_figures.plot_gains(Compared.of(arms[:3]), "pass_at_1")
    drawn = [line.get_xdata() for line in ax.lines if len(line.get_xdata()) == 2 and line.get_linestyle() == "-"]
    found = [c.gain for c in seeds.compare_all([(arm, arms[0]) for arm in arms[1:3]], "pass_at_1")]
    wanted = [[100 * gain.low, 100 * gain.high] for gain in found]
    assert np.array([list(x) for x in drawn[-2:]]) == pytest.approx(np.array(wanted))


def test_gains_need_their_reference(arms):
    with pytest.raises(ValueError, match=r"must hold the reference 'grpo'. Got \['ah-grpo'\]"):
        seed_figures.plot_gains(Compared.of(arms[1:2]), "pass_at_1")


def test_arms_are_told_apart_without_colour(arms):
    """One reader in twelve does not see the colours; nor may a control look like a method of the paper."""
    assert set(seed_figures.STYLES) == set(TRAINED) and set(seed_figures.CONTROL_STYLE) == set(CONTROLS)
    styles = seed_figures.STYLES.values()
    for key in ("color", "marker"):
        assert len({style[key] for style in styles}) == len(TRAINED)
    assert all(seed_figures.STYLES[name] == style for name, style in METHOD_STYLE.items())


def test_arms_of_one_method_take_other_markers():
    """An alpha sweep whose points all look alike."""
    runs = [run for alpha in (0.5, 0.25, 1.0) for run in family("sa-ah-grpo", COUNTS, alpha=alpha)]
    ax = seed_figures.plot_scores(comparison.arms(runs), "pass_at_1")
    assert len({mark.get_marker() for mark in marks(ax)}) == 3 and len({mark.get_color() for mark in marks(ax)}) == 1


def test_many_arms_of_one_method_stay_apart():
    """The board has more rules under one method than there are markers; two of them looked alike."""
    arms = [
        arm for alpha in range(1, 20) for arm in comparison.arms(family("sa-ah-grpo", COUNTS[:2], alpha=alpha / 10))
    ]
    styles = seed_figures.styles(arms)
    assert len(arms) == 19 and len({(style["color"], style["marker"]) for style in styles}) == 19
    assert not {style["color"] for style in seed_figures.STYLES.values()} & set(seed_figures.SPARE)


def test_profiles_fall_from_one_to_zero(arms):
    ax = seed_figures.plot_profile(arms[:3], "pass_at_1")
    for line in ax.lines:
        assert line.get_ydata()[0] == 1 and line.get_ydata()[-1] == 0 and (np.diff(line.get_ydata()) <= 0).all()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["GRPO", "AH-GRPO", "SA-AH-GRPO"]
    assert len(ax.collections) == 3 and not seed_figures.plot_profile(arms, "pass_at_1", plt.subplots()[1]).collections


@pytest.mark.parametrize("width", [3.3, 6.9])
@pytest.mark.parametrize("draw", [seed_figures.overview, seed_figures.profiles, seed_figures.summary])
def test_nothing_leaves_the_page(arms, draw, width):
    """Labels cut off at one journal column, where half of the readers meet the figure."""
    figure = draw(Compared.of(arms), width=width)
    figure.canvas.draw()
    page = figure.get_tightbbox().width
    assert figure.get_figwidth() == width and page <= width * 1.005
    title = "measured: micro-s, made up, 8 steps, seeds 0, 1, 2, 3, 4, 5, 6, 7, cpu, 2026-01-05"
    bars = {seed_figures.overview: seed_figures.SCORE_BARS, seed_figures.profiles: seed_figures.PROFILE_BANDS}
    assert figure.get_suptitle().replace("\n", " ") == f"{title} {bars.get(draw, seed_figures.GAIN_BARS)}"


@pytest.mark.parametrize("width", [3.3, 6.9])
def test_a_long_caption_is_broken_into_lines(arms, width):
    """A card's full name and eight seeds are wider than a journal column."""
    for arm in arms:
        for run in arm.runs.values():
            run.environment["device"] = "NVIDIA GeForce RTX 4090 Laptop GPU, driver 580.95"
    figure = seed_figures.profiles(Compared.of(arms), width)
    figure.canvas.draw()
    (title,) = [text for text in figure.texts if text.get_text().startswith("measured")]
    box = title.get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width


@pytest.mark.parametrize("count", [1, 2])
def test_few_seeds_are_drawn_without_intervals_of_nothing(count):
    """The smoke form of notebook 06, before a verdict is possible."""
    runs = family("grpo", COUNTS[:count], steps=2) + family("sa-ah-grpo", COUNTS[:count], steps=2)
    for draw in (seed_figures.overview, seed_figures.profiles, seed_figures.summary):
        draw(Compared.of(comparison.arms(runs))).canvas.draw()


def test_axes_that_are_given_are_drawn_on(arms):
    _, axes = plt.subplots(1, 3)
    assert seed_figures.plot_scores(arms, "pass_at_1", axes[0]) is axes[0]
    assert seed_figures.plot_gains(Compared.of(arms), "pass_at_1", ax=axes[1]) is axes[1]
    assert seed_figures.plot_profile(arms, "pass_at_1", axes[2]) is axes[2]
    assert len(plt.get_fignums()) == 1


def write(directory, run):
    log = RunLog(directory / run.config.run_id, run.config, run.environment)
    for row in run.train:
        log.write("train", row)
    for row in run.eval:
        log.write("eval", row)
    log.finish({})


@pytest.mark.slow
def test_the_command_draws_comparisons_and_the_same_bytes_again(tmp_path):
    """`make figures` on the published logs: figures that change by themselves hide a real change."""
    for run in family("grpo", COUNTS[:2]) + family("sa-ah-grpo", COUNTS[:2]) + family("ah-grpo", COUNTS[:1]):
        write(tmp_path / "runs", run.__class__(**{**vars(run), "config": run.config.replace(steps=150)}))
    contents = []
    for out in ("first", "second"):
        seed_figures.save_all(loading.load(tmp_path / "runs").results, tmp_path / out / "seeds")
        contents.append({path.name: path.read_bytes() for path in (tmp_path / out / "seeds").iterdir()})
    assert contents[0] == contents[1]
    name = "micro-s-150steps-a0.5"
    endings = ("png", "svg", "pdf")
    names = [f"{kind}-{name}.{ending}" for kind in ("seeds", "profiles", "summary") for ending in endings]
    assert set(contents[0]) == {*names, *(f"seeds-{name}.{ending}" for ending in ("md", "csv", "tex"))}
    page = contents[0][f"seeds-{name}.md"].decode()
    assert "150 steps, seeds 0, 1" in page.splitlines()[0] and "at least 6 seeds are needed" in page.splitlines()[-1]
    assert (
        contents[0][f"seeds-{name}.csv"]
        .decode()
        .splitlines()[1]
        .startswith("GRPO,grpo,cumulative,0.0,micro-s,0,0,0.8,")
    )


@pytest.mark.slow
def test_settings_are_drawn_against_grpo_in_their_own(tmp_path):
    """A temperature's own effect shown as SA-AH-GRPO's, or an arm of GRPO in a row of differences from GRPO."""
    runs = []
    for changes, points in (({}, 2), ({"temperature": 0.7}, 9)):
        runs += family("grpo", [count + 5 * (points - 2) for count in COUNTS], steps=12, **changes)
        runs += family("sa-ah-grpo", [count + 5 * points for count in COUNTS], steps=12, **changes)
    ((name, arms),) = comparison.by_family(runs).items()
    ax = seed_figures.plot_gains(Compared.of(arms), "pass_at_1")
    assert names(ax) == ["SA-AH-GRPO", "SA-AH-GRPO, temperature = 0.7"]
    assert [mark.get_xdata()[0] for mark in marks(ax)] == [pytest.approx(2), pytest.approx(2)]
    for run in runs:
        write(tmp_path / "runs", run)
    seed_figures.save_all(loading.load(tmp_path / "runs").results, tmp_path / "out")
    kinds = {path.name.split("-")[0] for path in (tmp_path / "out").iterdir()}
    assert name == "micro-s-12steps-settings" and kinds == {"seeds", "summary"}


def test_the_command_says_when_there_is_nothing_to_draw(tmp_path, capsys):
    """Published logs of one seed each must not stop `make figures`."""
    write(tmp_path, family("grpo", COUNTS[:1])[0])
    report.main([str(tmp_path), "--out", str(tmp_path / "out")])
    assert "two seeds or more" in capsys.readouterr().out and not (tmp_path / "out" / "seeds").exists()
