"""Claims: each verdict reachable, and right on results whose truth is known."""

import re

import numpy as np
import pytest
from families import family, result

from sa_ah_lib.paper import claims, judges, over_seeds, printed
from sa_ah_lib.paper.judges import NOT_SUPPORTED, SUPPORTED, UNDECIDABLE

LARGE, SMALL = printed.family(printed.LARGE), printed.family(printed.SMALL)
ACCURACY = [0.2, 0.5, 0.6, 0.7]
N = 500


def verdict(text, judged=None):
    """The verdict on the claim that begins with ``text``, by the numbers of one family in the place of both, or of the
    paper's own."""
    families = (LARGE, SMALL) if judged is None else (judged, judged)
    (claim,) = [c for c in claims.judge(*families) if c.text.startswith(text)]
    return claim.by_paper


def methods(grpo, ah, sa, base=None):
    """A family of three methods that end at these rates of ``N`` problems, from a zero-shot ``base``."""
    rates = {"grpo": grpo, "ah-grpo": ah, "sa-ah-grpo": sa}
    return family(*(result(name, [rate - 0.01, rate], total=N, base=base) for name, rate in rates.items()))


@pytest.mark.parametrize(
    "sa,word", [(0.75, SUPPORTED), (0.52, UNDECIDABLE), (0.50, NOT_SUPPORTED), (0.3, NOT_SUPPORTED)]
)
def test_a_higher_final(sa, word):
    """p = 0.527 at 0.52 against 0.50: the direction is there and chance could have made it."""
    said = verdict("Discounting failures alone", methods(0.5, 0.5, sa))
    assert said.word == word and f"{sa - 0.5:+.3f}" in said.reason


@pytest.mark.parametrize("sa,word", [(0.75, SUPPORTED), (0.52, UNDECIDABLE), (0.4, NOT_SUPPORTED)])
def test_a_gain_over_zero_shot(sa, word):
    assert verdict("SA-AH-GRPO improves on zero-shot", methods(0.9, 0.9, sa, base=0.5)).word == word


@pytest.mark.parametrize("rates,word", [
    ((0.75, 0.75, 0.75), SUPPORTED), ((0.75, 0.52, 0.75), UNDECIDABLE), ((0.75, 0.4, 0.75), NOT_SUPPORTED),
    ((0.52, 0.4, 0.75), NOT_SUPPORTED),
])  # fmt: skip
def test_all_parts_of_a_claim_must_hold(rates, word):
    """'All three improve' is wrong where one does not, whatever the others do."""
    assert verdict("All three methods improve", methods(*rates, base=0.5)).word == word


@pytest.mark.parametrize("grpo,total,word", [
    (0.70, 40000, SUPPORTED), (0.70, 100, UNDECIDABLE), (0.705, 500, UNDECIDABLE), (0.4, 500, NOT_SUPPORTED),
])  # fmt: skip
def test_the_same_peak(grpo, total, word):
    """Equality needs an interval inside the paper's own margin of 0.02; 'no difference was seen' is not enough."""
    made = family(
        result("grpo", [grpo], total=total), *(result(m, [0.7], total=total) for m in ("ah-grpo", "sa-ah-grpo"))
    )
    assert verdict("SA-AH-GRPO has the peak accuracy", made).word == word


def test_a_pairing_decides_what_counts_alone_cannot():
    """The same counts: 8 of 200 problems gained and none lost is p = 0.008, paired."""
    before = np.arange(200) < 100
    after = before | (np.arange(200) >= 192)
    runs = [result("ah-grpo", [0.5], total=200, answers={30: before}),
            result("sa-ah-grpo", [0.54], total=200, answers={30: after})]  # fmt: skip
    paired = verdict("Discounting failures alone", family(*runs))
    assert paired.word == SUPPORTED and "McNemar" in paired.reason and "p = 0.008" in paired.reason
    unpaired = family(result("ah-grpo", [0.5], total=200), result("sa-ah-grpo", [0.54], total=200))
    assert verdict("Discounting failures alone", unpaired).word == UNDECIDABLE


@pytest.mark.parametrize("values,word", [
    (np.linspace(0.04, 0.01, 30), SUPPORTED), ([0.04, 0.03, 0.02, 0.01], UNDECIDABLE),
    ([0.02, 0.03, 0.01, 0.04, 0.02, 0.01], UNDECIDABLE), (np.linspace(0.01, 0.04, 30), NOT_SUPPORTED),
])  # fmt: skip
def test_a_trend(values, word):
    """Four points in perfect order happen by chance one time in twelve."""
    rows = [{"step": i + 1, "sa_ah/entropy": float(value)} for i, value in enumerate(values)]
    assert verdict("The policy becomes more confident", family(result("sa-ah-grpo", rows=rows))).word == word


@pytest.mark.parametrize("text,key,sign", [
    ("The discount anneals", "sa_ah/weight_negative", 1), ("Completions become shorter", "completions/mean_length", -1),
])  # fmt: skip
def test_a_trend_s_direction_is_the_claim_s(text, key, sign):
    for direction, word in ((sign, SUPPORTED), (-sign, NOT_SUPPORTED)):
        rows = [{"step": s, key: 0.5 + direction * s / 100, "sa_ah/negative_fraction": 0.5} for s in range(1, 31)]
        assert verdict(text, family(result("sa-ah-grpo", rows=rows))).word == word


def test_steps_without_a_negative_rollout_have_no_weight():
    """Their logged 0 would turn a rising weight into a falling one."""
    rows = [{"step": s, "sa_ah/weight_negative": s / 40, "sa_ah/negative_fraction": 0.5} for s in range(1, 31)]
    idle = [{"step": s, "sa_ah/weight_negative": 0.0, "sa_ah/negative_fraction": 0.0} for s in range(31, 90)]
    assert verdict("The discount anneals", family(result("sa-ah-grpo", rows=rows + idle))).word == SUPPORTED


def test_alphas_are_compared_with_their_own_baseline():
    """Positive alpha against -0.25 and against 0 are two claims."""
    rates = {-0.25: 0.3, 0.1: 0.6, 0.25: 0.6, 0.5: 0.6}
    made = family(result("grpo", [0.6], total=N), *(result("ah-grpo", [r], total=N, alpha=a) for a, r in rates.items()))
    assert verdict("Positive α ends higher than α = −0.25", made).word == SUPPORTED
    assert verdict("Entropy discounting helps", made).word == NOT_SUPPORTED


def test_without_runs_nothing_is_decided():
    """Absent evidence is not evidence of absence."""
    for claim in claims.judge(LARGE, SMALL):
        assert claim.by_measured.word == over_seeds.UNTESTED and "no comparison over seeds" in claim.by_measured.reason


@pytest.mark.parametrize("made", [
    family(result("grpo", [0.5])), family(*(result(m) for m in ("grpo", "ah-grpo", "sa-ah-grpo"))),
    family(result("zero-shot", base=0.5)),
])  # fmt: skip
def test_runs_that_lack_what_a_claim_needs_decide_nothing(made):
    """A run without checkpoints (TRL's log has none) ended the audit in a ValueError."""
    for claim in claims.judge(made, made):
        assert claim.by_paper.word == UNDECIDABLE and claim.by_paper.reason


def test_the_paper_s_own_numbers_decide_little():
    """DESIGN's section 4: no difference in Pass@1 is significant at N = 500, and two are not there at all."""
    words = {c.text: c.by_paper.word for c in claims.judge(LARGE, SMALL)}
    assert len(words) == 13
    assert [text for text, word in words.items() if word == SUPPORTED] == [
        "The policy becomes more confident: entropy falls"
    ]
    for text in ("SA-AH-GRPO ends higher than GRPO and AH-GRPO", "All three methods improve on zero-shot",
                 "Entropy discounting helps: positive α ends higher than α = 0"):  # fmt: skip
        assert words[text] == NOT_SUPPORTED
    improves = verdict("SA-AH-GRPO improves on zero-shot")
    assert (
        improves.word == UNDECIDABLE and "+0.034, p = 0.253" in improves.reason and "raw base 0.652" in improves.reason
    )
    ratio = verdict("SA-AH-GRPO has a lower training variance than GRPO")
    assert ratio.word == UNDECIDABLE and "= 3.60" in ratio.reason and "printed for two models" in ratio.reason
    ends = verdict("SA-AH-GRPO ends higher").reason
    assert "+0.026, p = 0.381" in ends and ends.count("1.5B") == 1 and re.search(r"SA-AH − AH -0\.002", ends)


def test_compare_falls_back_to_counts_where_problems_differ():
    """Answers of 7 and of 8 problems cannot be paired one by one."""
    a = result("grpo", [0.5], total=8, answers={30: [True] * 4 + [False] * 4}, base=0.25)
    b = result("ah-grpo", [0.5], total=8, answers={30: [True] * 4 + [False] * 3})
    assert judges.compare(a, 30, b, 30)[1].startswith("two-proportion")
    assert judges.compare(a, 30, a, 0)[0].estimate == pytest.approx(0.25)
    assert judges.compare(a, 30, a, 30)[1].startswith("McNemar")
