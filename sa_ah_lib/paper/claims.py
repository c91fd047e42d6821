"""The paper's claims, each judged twice: by the paper's printed numbers, and by our runs over seeds. Needs no torch."""

from collections.abc import Sequence
from dataclasses import dataclass

from sa_ah_lib.analysis.results import Family, MissingData
from sa_ah_lib.paper import judges, over_seeds
from sa_ah_lib.paper.judges import NOT_SUPPORTED, SUPPORTED, UNDECIDABLE, Verdict
from sa_ah_lib.train.run import Run


@dataclass(frozen=True)
class Claim:
    """One sentence of the paper, the verdict of its own numbers, and what our comparisons over seeds found."""

    text: str
    where: str
    by_paper: Verdict
    by_measured: Verdict


def judge(large: Family, small: Family, results: Sequence[Run] = ()) -> list[Claim]:
    """Every claim with both verdicts.

    Args:
        large, small: the families in the place of the paper's two models, its own as a rule.
        results: measured runs of any scale and seed.
    """
    families = {"large": [large], "small": [small], "both": [large, small]}
    return [
        Claim(text, where, _all(found, families[model]), over_seeds.findings(results, measured))
        for text, where, found, model, measured in _CLAIMS
    ]


def _all(found, families):
    """The verdict on a claim of several parts: all must hold, one that fails is enough."""
    verdicts = []
    for family in families:
        for one in found:
            try:
                verdicts.append(one(family))
            except MissingData as missing:
                verdicts.append(Verdict(UNDECIDABLE, f"for want of {missing}"))
    words = [verdict.word for verdict in verdicts]
    word = NOT_SUPPORTED if NOT_SUPPORTED in words else UNDECIDABLE if UNDECIDABLE in words else SUPPORTED
    return Verdict(word, _joined(dict.fromkeys(verdict.reason for verdict in verdicts)))


def _joined(reasons):
    """Reasons in one line, a model named once for those that follow each other."""
    parts, last = [], None
    for reason in reasons:
        model, _, rest = reason.partition(": ")
        parts.append(rest if rest and model == last else reason)
        last = model
    return "; ".join(parts)


SA, AH, GRPO = "sa-ah-grpo", "ah-grpo", "grpo"
_POSITIVE = (0.1, 0.25, 0.5)
_CLAIMS = (
    (
        "SA-AH-GRPO has a lower training variance than GRPO (3.6×)",
        "Abstract, large model",
        [judges.lower_variance(SA, GRPO)],
        "large",
        over_seeds.between(SA, GRPO, metric="training_variance"),
    ),
    (
        "SA-AH-GRPO has a lower training variance than AH-GRPO (2.6×)",
        "Section 5.1, large model",
        [judges.lower_variance(SA, AH)],
        "large",
        over_seeds.between(SA, AH, metric="training_variance"),
    ),
    (
        "SA-AH-GRPO has the peak accuracy of GRPO and AH-GRPO",
        "Abstract, large model",
        [judges.same_peak(SA, GRPO), judges.same_peak(SA, AH)],
        "large",
        # No peak over checkpoints is an endpoint of ours: it favours the noisier arm.
        over_seeds.unseen,
    ),
    (
        "SA-AH-GRPO ends higher than GRPO and AH-GRPO",
        "Section 1, both models",
        [judges.higher_final(SA, GRPO), judges.higher_final(SA, AH)],
        "both",
        over_seeds.between(SA, GRPO, AH),
    ),
    (
        "SA-AH-GRPO improves on zero-shot",
        "Abstract, small model",
        [judges.higher_than_base(SA)],
        "small",
        over_seeds.over_zero_shot(SA),
    ),
    (
        "All three methods improve on zero-shot",
        "Section 5.1, both models",
        [judges.higher_than_base(m) for m in (GRPO, AH, SA)],
        "both",
        over_seeds.over_zero_shot(GRPO, AH, SA),
    ),
    (
        "Positive α ends higher than α = −0.25",
        "Section 5.2, small model",
        [judges.higher_final(AH, AH, a, -0.25) for a in _POSITIVE],
        "small",
        over_seeds.unseen,
    ),
    (
        "Entropy discounting helps: positive α ends higher than α = 0",
        "Conclusion, small model",
        [judges.higher_final(AH, GRPO, a, 0.0) for a in _POSITIVE],
        "small",
        over_seeds.between(AH, GRPO),
    ),
    (
        "Discounting failures alone is the decisive improvement on AH-GRPO",
        "Section 5.2, small model",
        [judges.higher_final(SA, AH)],
        "small",
        over_seeds.between(SA, AH),
    ),
    (
        "The discount anneals: the weight on negative rollouts rises",
        "Sections 5.3 and 6, both models",
        [judges.trending("sa_ah/weight_negative", 1, "mean weight on negative rollouts", "sa_ah/negative_fraction")],
        "both",
        over_seeds.rising(SA, "sa_ah/weight_negative", 1, "sa_ah/negative_fraction"),
    ),
    (
        "The policy becomes more confident: entropy falls",
        "Section 5.3, large model",
        [judges.trending("sa_ah/entropy", -1, "mean entropy")],
        "large",
        over_seeds.rising(SA, "sa_ah/entropy", -1),
    ),
    (
        "SA-AH-GRPO prevents entropy collapse",
        "Abstract, both models",
        [judges.not_printed("GRPO's entropies")],
        "both",
        over_seeds.larger_late(SA, GRPO, "sa_ah/entropy"),
    ),
    (
        "Completions become shorter",
        "Section 5.3, large model",
        [judges.trending("completions/mean_length", -1, "mean length")],
        "large",
        over_seeds.rising(SA, "completions/mean_length", -1),
    ),
)
