"""The numbers of arXiv 2606.05434v1 as printed, transcribed table by table; nothing here is corrected.

Counts are exact where the paper's Pass@1 is one: 0.852 of 500 is 426. Known slips (``audit``) are kept.
"""

from sa_ah_lib.analysis.results import Family
from sa_ah_lib.config import METHODS, preset
from sa_ah_lib.train.run import Run

CITATION = "arXiv:2606.05434v1"
ENVIRONMENT = {"data": {"source": "GSM8K"}, "device": "A100-40GB", "started": f"{CITATION}, 2026-06-03"}
LARGE, SMALL = "qwen2.5-3b", "qwen2.5-1.5b"
PROBLEMS = 500
STEPS = (30, 60, 90, 120, 150, 180)

HYPERPARAMETERS = {
    "Learning rate": "5×10⁻⁶",
    "LR scheduler": "cosine",
    "Warmup steps": "max(5, ⌊steps/10⌋)",
    "Weight decay": "0.01",
    "Gradient clip": "1.0",
    "KL penalty β": "0.04",
    "PPO clip ε": "0.2",
    "Batch prompts per step": "4",
    "Completions per prompt G": "4",
    "Gradient accumulation steps": "2",
    "Max completion tokens": "512",
    "Entropy top-K": "500",
    "Reward threshold": "0.15",
    "Training examples N_train": "800",
    "Evaluation examples N_eval": "500",
}
"""Table 1."""

BASE = {LARGE: 0.831, SMALL: 0.637}
"""Table 2's base rows: the raw evaluations less 1.5 points (Section 4.1)."""
RAW_BASE = {LARGE: 0.846, SMALL: 0.652}
"""The evaluations before that (Section 4.1)."""

SUMMARY = {
    (LARGE, "zero-shot"): ("0.831", "0.032", None, None, None, None),
    (LARGE, "grpo"): ("0.846", "0.032", "0.852", "0.031", "0.0885", "0.00537"),
    (LARGE, "ah-grpo"): ("0.848", "0.032", "0.862", "0.030", "0.0630", "0.00512"),
    (LARGE, "sa-ah-grpo"): ("0.846", "0.032", "0.858", "0.031", "0.0246", "0.00785"),
    (SMALL, "zero-shot"): ("0.637", "0.042", None, None, None, None),
    (SMALL, "grpo"): ("0.660", "0.042", "0.668", "0.041", "0.0885", "0.00537"),
    (SMALL, "ah-grpo"): ("0.650", "0.042", "0.676", "0.041", "0.0630", "0.00512"),
    (SMALL, "sa-ah-grpo"): ("0.686", "0.041", "0.686", "0.041", "0.1718", "0.00986"),
}
"""Table 2: final Pass@1 and its +-, peak Pass@1 and its +-, training variance, mean KL."""

BOLD = {(SMALL, "sa-ah-grpo", "final"), (SMALL, "sa-ah-grpo", "peak")}
"""The cells of Table 2 that are printed in bold."""

CHECKPOINTS = {
    (LARGE, "grpo", 0.0): (0.852, 0.840, 0.844, 0.848, 0.846),
    (LARGE, "ah-grpo", 0.5): (0.860, 0.862, 0.846, 0.844, 0.848),
    (LARGE, "sa-ah-grpo", 0.5): (0.858, 0.844, 0.858, 0.854, 0.854, 0.846),
    (SMALL, "grpo", 0.0): (0.656, 0.666, 0.650, 0.668, 0.660),
    (SMALL, "ah-grpo", 0.5): (0.654, 0.676, 0.674, 0.660, 0.650),
    (SMALL, "sa-ah-grpo", 0.5): (0.648, 0.644, 0.664, 0.682, 0.670, 0.686),
    (SMALL, "ah-grpo", -0.25): (0.648, 0.632, 0.630, 0.650, 0.634),
    (SMALL, "ah-grpo", 0.1): (0.670, 0.658, 0.664, 0.664, 0.640),
    (SMALL, "ah-grpo", 0.25): (0.676, 0.654, 0.650, 0.648, 0.654),
}
"""Tables 3, 4 and 5: Pass@1 every 30 steps. Table 5 repeats three rows of Table 4 with the same numbers."""

PARTIAL = 0.25
"""The alpha whose run Table 5's footnote calls partial (steps 30 to 60); all five checkpoints are printed."""

_COLUMNS = (
    "step", "reward", "reward_std", "kl", "sa_ah/entropy", "sa_ah/weight", "sa_ah/weight_negative",
    "sa_ah/negative_fraction", "completions/mean_length",
)  # fmt: skip
DIAGNOSTICS = {
    LARGE: [
        (5, 6.815, 0.809, 0.00373, 0.0291, 0.516, 0.174, 0.50, 243),
        (30, 6.933, 0.602, 0.00396, 0.0232, 1.000, 0.000, 0.00, 213),
        (60, 7.202, 0.115, 0.00821, 0.0114, 1.000, 0.000, 0.00, 242),
        (90, 6.782, 0.163, 0.00472, 0.0246, 1.000, 0.000, 0.00, 250),
        (120, 7.040, 0.488, 0.00542, 0.0085, 0.891, 0.584, 0.25, 212),
        (150, 6.820, 0.197, 0.02236, 0.0111, 0.912, 0.609, 0.25, 224),
        (180, 7.085, 0.240, 0.00894, 0.0092, 0.805, 0.619, 0.50, 171),
    ],
    SMALL: [
        (5, 2.980, 2.000, 0.00494, 0.0432, 0.580, 0.143, 0.50, 151),
        (30, 3.767, 2.090, 0.00374, 0.0307, 0.997, 0.810, 0.25, 131),
        (60, 5.757, 1.411, 0.00413, 0.0195, 0.618, 0.462, 0.75, 186),
        (90, 5.505, 1.529, 0.00756, 0.0344, 0.636, 0.169, 0.50, 205),
        (120, 6.350, 1.571, 0.00703, 0.0153, 0.677, 0.439, 0.50, 156),
        (150, 6.125, 1.040, 0.00949, 0.0211, 0.668, 0.174, 0.25, 181),
        (180, 7.205, 0.255, 0.01630, 0.0246, 0.593, 0.340, 0.50, 142),
    ],
}
"""Tables 6 and 7, SA-AH-GRPO: the columns in the order of ``_COLUMNS``."""


def family(scale: str) -> Family:
    """The paper's results at one scale, ``LARGE`` or ``SMALL``, as a ``Family``."""
    return Family(tuple(_result(*key) for key in CHECKPOINTS if key[0] == scale))


def _result(scale, method, alpha):
    steps = 180 if method == "sa-ah-grpo" else 150
    rates = CHECKPOINTS[scale, method, alpha]
    rows = DIAGNOSTICS[scale] if method == "sa-ah-grpo" else []
    return Run(
        "paper",
        preset(scale, method, alpha=alpha, steps=steps),
        {step: (round(rate * PROBLEMS), PROBLEMS) for step, rate in zip(STEPS, rates, strict=False)},
        BASE[scale],
        [dict(zip(_COLUMNS, row, strict=True)) for row in rows],
        printed=_printed(scale, method) if alpha == METHODS[method]["alpha"] else {},
        environment=ENVIRONMENT,
    )


def _printed(scale, method):
    final, final_half, peak, peak_half, variance, divergence = SUMMARY[scale, method]
    base, base_half = SUMMARY[scale, "zero-shot"][:2]
    return {
        "base": f"{base} ± {base_half}",
        "final": f"{final} ± {final_half}",
        "peak": f"{peak} ± {peak_half}",
        "variance": float(variance),
        "kl": float(divergence),
    }
