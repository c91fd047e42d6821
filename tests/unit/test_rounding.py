"""Numbers that are drawn or written have no digit that depends on the CPU."""

import math

import matplotlib

matplotlib.use("Agg")
import numpy as np
import pytest
from families import write_protocol
from made_runs import family

from sa_ah_lib.analysis import comparison, loading, results, seeds, stats
from sa_ah_lib.analysis.results import MissingData
from sa_ah_lib.analysis.rounding import DRAWN, ESTIMATED, rounded
from sa_ah_lib.paper import printed
from sa_ah_lib.report import figure_data, figures

COUNTS = [401, 413, 390, 430, 405, 396, 420, 415]


@pytest.mark.parametrize("value,expected", [
    (2 / 3, 0.666667), (1234567.8, 1234570.0), (0.5, 0.5), (0, 0), (True, True), ("a", "a"), (None, None),
    (math.inf, math.inf), ([1 / 3, (2 / 3,)], [0.333333, (0.666667,)]), ({1 / 3: 1 / 3}, {1 / 3: 0.333333}),
    (stats.Difference(1 / 3, 0.0, 2 / 3), stats.Difference(0.333333, 0.0, 0.666667)), (np.float32(1 / 3), 0.333333),
])  # fmt: skip
def test_floats_are_rounded_wherever_they_are(value, expected):
    found = rounded(value, 6)
    assert found == expected and type(found) is type(expected)


def test_arrays_keep_their_shape_and_integers_their_type():
    found = rounded(np.array([[1 / 3], [2 / 3]]), 6)
    assert found.tolist() == [[0.333333], [0.666667]] and rounded(np.array([1, 2]), 6).dtype.kind == "i"


def test_nothing_is_left_of_the_sign_of_zero_or_of_nan():
    """ "-0.0 points" on one machine and "+0.0 points" on the next."""
    assert f"{rounded(-0.0, 6):+.1f}" == "+0.0" and math.isnan(rounded(math.nan, 6))


def test_the_last_digit_decides_no_printed_one():
    """What lies in the middle between two printed numbers was printed as either, by the order of a sum."""
    rates = [0.686, 0.704, 0.7, 0.7]
    sums = {sum(order) / 4 for order in (rates, rates[::-1], sorted(rates))} | {np.nextafter(0.6975, 0)}
    assert len({f"{value:.3f}" for value in sums}) == 2
    assert {f"{rounded(value, ESTIMATED):.3f}" for value in sums} == {"0.698"}


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs")
    write_protocol(directory)
    return loading.load(directory).families[0]


@pytest.mark.parametrize("name", sorted(figures.FIGURES))
def test_every_figure_s_data_are_rounded(measured, name):
    """CSV, PNG and SVG are made from these rows, and from nothing else."""
    made = []
    for source in (measured, printed.family(printed.LARGE), printed.family(printed.SMALL)):
        try:
            made.append(figures.FIGURES[name].rows(source))
        except MissingData:
            continue
    assert made and all(rows == rounded(rows, DRAWN) for rows in made)


def test_the_notebooks_data_and_running_means_are_rounded(measured):
    for rows in (figure_data.alpha_sweep(measured), figure_data.alpha_rewards(measured)):
        assert rows == rounded(rows, DRAWN)
    means, _ = figure_data.running(np.random.default_rng(0).normal(size=40), 9)
    assert means.tolist() == rounded(means.tolist(), DRAWN)


@pytest.mark.parametrize("metric", sorted(seeds.METRICS))
def test_comparisons_over_seeds_are_rounded(metric):
    spreads = np.random.default_rng(1).uniform(0.5, 2, 8).tolist()
    first, second = comparison.arms(family("grpo", COUNTS, spreads) + family("sa-ah-grpo", COUNTS, spreads[::-1]))
    for k, run in enumerate([*first.runs.values(), *second.runs.values()]):
        run.samples.extend({"problem": p, "n": 17, "correct": (k + p) % 4, "problems": 9} for p in range(9))
    found = [
        seeds.scores(first, metric),
        seeds.interquartile_mean(first, metric),
        seeds.compare_all([(second, first)], metric)[0],
    ]
    profile = seeds.performance_profile(first, metric, np.linspace(0.7, 0.9, 11))
    for made in (*found, profile.tolist()):
        assert made == rounded(made, ESTIMATED)


def test_statistics_are_rounded(measured):
    rng = np.random.default_rng(2)
    rewards, answers = rng.normal(size=60), rng.random((3, 90)) < 0.7
    result = measured.methods["grpo"]
    for made in (
        stats.wilson_interval(7, 9), stats.wald_interval(7, 9), stats.half_width(0.7, 90),
        stats.unpaired((7, 9), (4, 9)), stats.paired(*answers[:2]),
        stats.minimal_detectable_difference(0.7, 90), stats.expected_peak(0.7, 90, 4),
        stats.corrected_peak(answers), stats.training_variance(rewards),
        stats.trend(range(60), rewards), stats.variance_split(rewards, rewards**2, rewards**2, 4, 4),
        results.variance(result), results.mean_kl(result),
    ):  # fmt: skip
        assert made == rounded(made, ESTIMATED)
