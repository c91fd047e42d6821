"""The measures of one run, each by hand."""

import itertools
import math

import numpy as np
import pytest

pytest.importorskip("scipy")
from made_runs import made_run

from sa_ah_lib.analysis import measures
from sa_ah_lib.train.run import assemble

METRICS = measures.METRICS


def curve(rates, scale="micro-sum"):
    """A run whose Pass@1 is ``rates``, {step: of 10 problems right}."""
    run = made_run(scale=scale, steps=max(rates))
    rows = [{"step": step, "problem": k, "correct": k < right} for step, right in rates.items() for k in range(10)]
    logs = {"train": run.train, "eval": rows, "completions": [], "samples": []}
    return assemble(run.directory, run.config, run.environment, True, **logs)


def test_the_area_by_hand_also_where_steps_are_not_evenly_spaced():
    """A plain mean over checkpoints counts a short last stretch as much as a long one."""
    run = curve({0: 2, 30: 4, 60: 6, 70: 8})
    assert METRICS["auc"].read(run) == pytest.approx((30 * 0.3 + 30 * 0.5 + 10 * 0.7) / 70)
    by_problem = METRICS["auc"].by_problem(run)
    assert by_problem.mean() == pytest.approx(METRICS["auc"].read(run))
    # Problem 4 is right at 60 and 70: half of the second stretch, and the last one.
    assert by_problem[4] == pytest.approx((15 + 10) / 70) and by_problem[9] == 0 and by_problem[0] == 1


def test_an_area_needs_step_0():
    """From the first checkpoint on, an arm that starts fast would lose what it has gained."""
    for rates in ({30: 4, 60: 6}, {30: 4}):
        run = curve(rates)
        assert METRICS["auc"].read(run) is None and METRICS["steps_to"].read(run) is None
        assert METRICS["auc"].by_problem(run) is None


@pytest.mark.parametrize(
    ("rates", "scale", "steps", "ended"),
    [
        ({0: 2, 20: 4, 40: 8}, "micro-sum", 30, False),  # level 0.6, half of the errors: halfway from 0.4 to 0.8
        ({0: 2, 20: 6, 40: 5}, "micro-sum", 20, False),  # reached, and lost again
        ({0: 2, 20: 5, 40: 5}, "micro-sum", 40, True),
        ({0: 2, 20: 4, 40: 8}, "micro-s", 20, False),  # a quarter of the errors: 0.4
        ({0: 0, 20: 10}, "micro-legs", 10, False),
    ],
)
def test_steps_to_the_level_by_hand(rates, scale, steps, ended):
    found = measures.steps_to_level(curve(rates, scale))
    assert found == (pytest.approx(steps), ended)
    assert METRICS["steps_to"].censored(curve(rates, scale)) is ended


def test_without_errors_there_is_no_level():
    assert measures.steps_to_level(curve({0: 10, 20: 10})) is None


@pytest.mark.parametrize(("n", "c", "k"), [(5, 2, 1), (5, 2, 3), (6, 0, 4), (6, 6, 2), (7, 4, 4), (7, 1, 7)])
def test_pass_at_k_is_the_share_of_all_draws_that_hold_a_right_answer(n, c, k):
    draws = list(itertools.combinations([True] * c + [False] * (n - c), k))
    (found,) = measures.pass_at_k([n], [c], k)
    assert found == pytest.approx(sum(map(any, draws)) / len(draws))


def test_pass_at_k_up_to_64_and_unbiased():
    """1 - (1 - c/n)^k, the usual shortcut, is biased: at n = 64 and k = 64 by a lot."""
    assert measures.pass_at_k([128], [3], 64)[0] == pytest.approx(1 - math.comb(125, 64) / math.comb(128, 64))
    rng = np.random.default_rng(0)
    right = rng.binomial(20, 0.07, 20000)
    estimate = measures.pass_at_k(np.full(20000, 20), right, 16).mean()
    assert estimate == pytest.approx(1 - 0.93**16, abs=0.01)
    assert abs((1 - (1 - right / 20) ** 16).mean() - (1 - 0.93**16)) > 0.03


@pytest.mark.parametrize("k", [0, 5])
def test_pass_at_k_of_more_than_was_sampled_is_an_error(k):
    with pytest.raises(ValueError, match=f"k must be in 1 to the number of samples.*Got {k} and 4"):
        measures.pass_at_k([4, 8], [1, 1], k)


def test_pass_at_16_needs_sixteen_samples_of_every_problem():
    """An interrupted evaluation is one of the easy problems, or of the short ones."""
    run = made_run(samples=[0, 16, 1, 0])
    assert METRICS["pass_at_16"].read(run) == pytest.approx(2 / 4)
    assert METRICS["pass_at_16"].by_problem(run).tolist() == [0, 1, 1, 0]
    run.samples.pop()
    assert METRICS["pass_at_16"].read(run) is None
    twice = made_run(samples=[0, 16, 1, 0])
    twice.samples.append(dict(twice.samples[1]))
    assert METRICS["pass_at_16"].read(twice) is None, "two processes wrote it"
    few = made_run(samples=[1, 2])
    few.samples[0]["n"] = 15
    assert METRICS["pass_at_16"].read(few) is None and METRICS["pass_at_16"].read(made_run()) is None
