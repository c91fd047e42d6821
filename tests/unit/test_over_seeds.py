"""Claims by runs over seeds: each verdict reachable, the same as in the tables, and never of a single run."""

import numpy as np
import pytest
from families import result

from sa_ah_lib.analysis import compared, comparison, seeds
from sa_ah_lib.paper import claims, over_seeds, printed

LARGE, SMALL = printed.family(printed.LARGE), printed.family(printed.SMALL)
SEEDS = range(8)


def run(method, rate, seed, noise=0.0, base=0.3, alpha=None, rows=None, rewards=()):
    """One run of 60 steps that ends at ``rate`` of 1,000 problems."""
    given = {} if method == "grpo" or alpha is None else {"alpha": alpha}
    return result(
        method, [rate - 0.1 + noise, rate + noise], total=1000, base=base, seed=seed, steps=60, rows=rows,
        rewards=rewards, **given,
    )  # fmt: skip


def runs(count=8, **rates):
    """Runs of every method in ``rates``, which vary from seed to seed by some thousandths."""
    noise = np.random.default_rng(3).integers(-3, 4, (len(rates), count)) / 1000
    names = {"grpo": "grpo", "ah": "ah-grpo", "sa": "sa-ah-grpo"}
    return [
        run(names[name], rate, seed, noise[row, seed])
        for row, (name, rate) in enumerate(rates.items())
        for seed in range(count)
    ]


def found(text, results):
    (claim,) = [c for c in claims.judge(LARGE, SMALL, results) if c.text.startswith(text)]
    return claim.by_measured


@pytest.mark.parametrize("sa,word", [(0.7, "better"), (0.3, "worse"), (0.5, "equivalent")])
def test_a_claimed_difference(sa, word):
    said = found("Discounting failures alone", runs(ah=0.5, sa=sa, grpo=0.4))
    assert said.word == word and "8 runs" in said.reason and "micro-s-60steps-a0.5" in said.reason


def test_few_seeds_decide_nothing():
    """A difference of twenty points on three seeds has a sign-flip p of 0.25."""
    assert found("Discounting failures alone", runs(3, ah=0.5, sa=0.7, grpo=0.4)).word == "undecided"


def test_one_run_per_method_is_no_comparison():
    assert found("Discounting failures alone", runs(1, ah=0.5, sa=0.7, grpo=0.4)).word == over_seeds.UNTESTED


def test_a_claim_about_two_methods_needs_both():
    results = runs(grpo=0.5, ah=0.8, sa=0.7)
    assert found("SA-AH-GRPO ends higher", results).word == "worse"
    assert found("Entropy discounting helps", results).word == "better"
    assert found("SA-AH-GRPO ends higher", runs(grpo=0.5, ah=0.55, sa=0.7)).word == "better"


def test_the_audit_says_what_the_tables_say():
    """Corrected for other arms, or for none, one comparison had two verdicts in one project."""
    results = runs(grpo=0.5, ah=0.505, sa=0.508)
    arms = comparison.arms(results)
    beside = compared.against_reference(arms, "pass_at_1")
    sa = next(arm for arm in arms if arm.config.method == "sa-ah-grpo")
    judge = over_seeds.between("sa-ah-grpo", "grpo")
    assert judge(arms).word == seeds.verdict(beside[sa.label])
    assert compared.gain_text(beside[sa.label]) in judge(arms).reason


def test_a_gain_over_zero_shot():
    assert found("SA-AH-GRPO improves on zero-shot", runs(grpo=0.5, sa=0.5)).word == "better"
    assert found("All three methods improve", runs(grpo=0.5, ah=0.5, sa=0.2)).word == "worse"
    assert found("All three methods improve", runs(grpo=0.5, sa=0.5)).word == over_seeds.UNTESTED


@pytest.mark.parametrize("slope,word", [(-0.001, "better"), (0.001, "worse")])
def test_a_trend_over_seeds(slope, word):
    """Entropy falls in every seed, or rises in every one."""

    def rows(seed):
        return [{"step": s, "reward": 1.0, "sa_ah/entropy": 0.3 + slope * s + 1e-4 * ((s * seed) % 3)}
                for s in range(1, 61)]  # fmt: skip

    made = [run("sa-ah-grpo", 0.5, seed, rows=rows(seed)) for seed in SEEDS]
    made += [run("grpo", 0.5, seed, rows=rows(seed)) for seed in SEEDS]
    said = found("The policy becomes more confident", made)
    assert said.word == word and "8 runs" in said.reason
    assert found("SA-AH-GRPO prevents entropy collapse", made).word == "undecided"


def test_entropy_that_is_kept_is_corrected_for_every_arm():
    """Uncorrected it was "better" where the page itself said that nothing can be told from chance."""

    def rows(seed, height):
        return [{"step": s, "reward": 1.0, "sa_ah/entropy": height + 1e-3 * seed} for s in range(1, 61)]

    heights = {"grpo": 0.2, "sa-ah-grpo": 0.22}
    made = [run(method, 0.5, seed, rows=rows(seed, h)) for method, h in heights.items() for seed in SEEDS]
    alone = found("SA-AH-GRPO prevents entropy collapse", made)
    assert alone.word == "better" and "sign-flip p = 0.00781, 0.00781 after Holm" in alone.reason
    others = [f"control-{name}" for name in ("scalar", "position", "shuffled", "mirror", "local", "inverse")]
    made += [run(method, 0.5, seed, rows=rows(seed, 0.23)) for method in others for seed in SEEDS]
    beside = found("SA-AH-GRPO prevents entropy collapse", made)
    assert beside.word == "undecided" and "0.0547 after Holm" in beside.reason


def test_a_correlation_ends_at_one():
    """[-1.05, -0.35] is no interval of a correlation."""
    assert over_seeds._shown(0.7, 0.35, 1.05, -1) == "-0.70 [-0.35, -1.00]"


def test_several_comparisons_are_counted():
    """At one strength it helps and at another it does not: one word for both would hide it."""
    strong = [run(m, rate, seed, 0.001 * (seed % 3), alpha=4.0)
              for m, rate in (("ah-grpo", 0.5), ("sa-ah-grpo", 0.3)) for seed in SEEDS]  # fmt: skip
    results = [*runs(grpo=0.5, ah=0.5, sa=0.7), *strong]
    said = over_seeds.findings(results, over_seeds.between("sa-ah-grpo", "grpo"))
    assert said.word == "better (1 of 2), worse (1 of 2)"
    assert "micro-s-60steps-a0.5: better" in said.reason and "micro-s-60steps-a4: worse" in said.reason


def test_a_gain_over_zero_shot_needs_the_interval_over_warm_starts_too():
    """Ten gains of one sign, p = 0.002; but one warm start gains much and four little, which chance can do."""
    gains = {"alike": [0.1] * 5, "apart": [0.4, 0.02, 0.02, 0.02, 0.02]}
    words = {}
    for name, by_start in gains.items():
        made = [
            result("grpo", [0.5], total=1000, base=0.5, seed=9, steps=40, scale="micro-legs"),
            *(result("sa-ah-grpo", [0.5 + gain], total=1000, base=0.5, seed=seed, warm_start=start, steps=40,
                     scale="micro-legs") for start, gain in enumerate(by_start) for seed in (1, 2)),
        ]  # fmt: skip
        said = over_seeds.over_zero_shot("sa-ah-grpo")(comparison.arms(made))
        assert "10 runs" in said.reason
        words[name] = said.word
    assert words == {"alike": "better", "apart": "undecided"}


def test_a_gain_over_zero_shot_is_over_problems_too():
    """Six seeds that agree, on eight problems: other problems could take the gain away, other seeds could not."""
    few, many = ([False] * 6 + [True] * 2), ([False] * 3 + [True] * 5)
    words = {}
    for copies in (1, 50):
        before, after = (np.array(answers * copies) for answers in (few, many))
        made = [
            result("sa-ah-grpo", [after.mean()], total=len(after), base=before.mean(), seed=seed, steps=30,
                   answers={0: before, 30: after})
            for seed in range(6)
        ]  # fmt: skip
        said = over_seeds.over_zero_shot("sa-ah-grpo")(comparison.arms(made))
        words[copies] = said.word
        assert "+37.5 points [" in said.reason
    assert words == {1: "undecided", 50: "better"}


def test_every_strength_is_judged_once():
    """At one alpha SA-AH-GRPO stood beside GRPO alone; as one of its settings no claim was judged there."""
    results = runs(grpo=0.5, ah=0.5, sa=0.6)
    results += [run("sa-ah-grpo", 0.3, seed, 0.001 * (seed % 3), alpha=2.0) for seed in SEEDS]
    said = over_seeds.findings(results, over_seeds.between("sa-ah-grpo", "grpo"))
    assert "micro-s-60steps-a0.5: better" in said.reason and "micro-s-60steps-a2: worse" in said.reason
    assert "settings" not in said.reason
