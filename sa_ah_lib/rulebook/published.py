"""Records of the rules that others published, family by family."""

import math

from sa_ah_lib.rulebook.record import Record, add

_SHARE, _POSITIVE, _NOT_NEGATIVE = (0.0, 1.0), (1e-12, math.inf), (0.0, math.inf)
_QUADRANTS = ("all", "none", "high", "low", "not_high", "not_low")

add(
    Record(
        name="forking_tokens", label="80/20 mask, micro-batch", source="2506.01939",
        equation=r"\mathbf 1[H_t \text{ among the top } \lceil \rho n \rceil \text{ of the micro-batch's } n]",
        inputs=("entropy", "mask"), denominator="tokens", defaults={"keep": 0.2},
        ranges={"keep": _SHARE}, neutral={"keep": 1.0},
        limits="the authors' variant: a count, so ties are broken by order, and nothing is shared between processes. "
        "On this project's published rollouts, each group a micro-batch, it differs from forking_tokens_trl on "
        "0 of 5344 tokens, and 106 where the quantile is taken over all groups of a scale, as over many processes",
        checked="the authors' function as a public reimplementation quotes it: a count of ceil(rho n), ties by order",
    ),
    Record(
        name="forking_tokens_trl", label="80/20 mask, TRL", source="2506.01939",
        equation=r"\mathbf 1[H_t \ge \tau],\quad \tau = \text{the } 1 - \rho \text{ quantile over all processes}",
        inputs=("entropy", "mask", "gather"), denominator="tokens", defaults={"keep": 0.2},
        ranges={"keep": _SHARE}, neutral={"keep": 1.0},
        limits="TRL's variant: the quantile is interpolated and ties are kept; equal in loss and gradient to "
        "GRPOTrainer with top_entropy_quantile = rho",
        checked="TRL 1.15, get_high_entropy_mask, and its loss in the tests",
    ),
    Record(
        name="four_quadrants", label="Four quadrants", source="2604.11056",
        equation=r"\mathbf 1[H_t \ge q_{1-\rho}] \text{ (high) or } \mathbf 1[H_t \le q_\rho] \text{ (low)},"
        r"\text{ chosen for } A > 0 \text{ and for } A < 0",
        inputs=("entropy", "mask", "advantages"), denominator="tokens",
        defaults={"successes": "high", "failures": "low", "share": 0.2},
        ranges={"successes": _QUADRANTS, "failures": _QUADRANTS, "share": _SHARE},
        neutral={"successes": "all", "failures": "all"},
        limits="each sign keeps one of all, none, high, low, not_high, not_low; dropping one quadrant is not_high or "
        "not_low for one sign and all for the other. The board's row, the default, drops a "
        "part of both signs. The paper's own method, EAPO, is not this rule",
        checked="the paper's abstract and a third party's note; the quantile's set (the micro-batch) is our reading",
    ),
    Record(
        name="entropy_advantage", label="Entropy advantage", source="2506.14758",
        equation=r"1 + \min(a H_t, |A| / k) / A,\quad 1 \text{ where } A = 0",
        inputs=("entropy", "mask", "advantages"), denominator="tokens", defaults={"strength": 0.4, "cap": 2.0},
        ranges={"strength": _NOT_NEGATIVE, "cap": (1.0, math.inf)}, neutral={"strength": 0.0},
        limits="where A = 0 the source's term is min(a H, 0) = 0, so that a factor of A loses nothing",
        checked="the authors' code, in an earlier reading",
    ),
    Record(
        name="gtpo", label="GTPO (entropy)", source="2508.04349",
        equation=r"a_1 + a_2 d_t H_{it} / \sum_k H_{kt} \;(A > 0),\quad "
        r"a_1 + a_2 h_t H_{it}^{-1} / \sum_k H_{kt}^{-1} \;(A < 0)",
        inputs=("entropy", "mask", "advantages", "groups"), denominator="tokens",
        defaults={"base": 1.0, "bonus": 0.1},
        ranges={"base": _NOT_NEGATIVE, "bonus": _NOT_NEGATIVE}, neutral={"bonus": 0.0},
        limits="The counts d_t and h_t are of the rollouts of one sign that have a token t; sums run over them. "
        "Normalised entropies below 1e-8 count as 1e-8. In the source these shape rewards, which are normalised "
        "afterwards; here the weight multiplies GRPO's advantage",
        checked="Eq. 3 and 5 and the authors' code, in an earlier reading",
    ),
    Record(
        name="edge", label="EDGE", source="2507.21848",
        equation=r"\overline{\bar H} / \bar H_i,\quad \bar H_i = \tfrac1{L_i} \sum_t H_{it}",
        inputs=("entropy", "mask", "groups"), denominator="tokens",
        limits="no parameter makes it GRPO. Means are masked and over the group; the authors' code averages padding "
        "too, and takes the mean over all rollouts of the micro-batch. Guided error correction, the other half of the "
        "source, changes rollouts and is not a weight. A rollout without any entropy gets a very large weight, of "
        "millions beside ordinary ones: means below 1e-8 count as 1e-8",
        checked="the authors' code (grpo_aha_trainer.py)",
    ),
    Record(
        name="prefix_discount", label="Prefix discount", source="2606.22600",
        equation=r"1 + g\left(1 - \sum_{s < t} H_s / \sum_s H_s\right)",
        inputs=("entropy", "mask"), denominator="group", defaults={"gain": 0.5},
        ranges={"gain": (-1.0, math.inf)}, neutral={"gain": 0.0},
        limits="the source weighs a distillation loss by the drift from a teacher; only the shape is taken, with "
        "entropy as the drift", checked="a third party's note",
    ),
    Record(
        name="w_reinforce", label="W-REINFORCE", source="2506.01347",
        equation=r"\lambda \text{ where } A > 0,\quad \mu \text{ where } A < 0",
        inputs=("mask", "advantages"), denominator="tokens", defaults={"successes": 0.1, "failures": 1.0},
        ranges={"successes": _NOT_NEGATIVE, "failures": _NOT_NEGATIVE},
        neutral={"successes": 1.0, "failures": 1.0},
        limits="NSR is successes = 0, PSR failures = 0. The source weighs rewards of +1 and -1 without a baseline; "
        "here the factor multiplies GRPO's advantage",
        checked="the authors' code (core_algos.py): +0.1 and -1 as advantages",
    ),
    Record(
        name="prefix_mask", label="PPPO prefix mask", source="2512.15274",
        equation=r"\mathbf 1[t \le \lfloor \eta L \rfloor]",
        inputs=("mask", "progress"), denominator="tokens", defaults={"start": 0.15, "end": 0.35},
        ranges={"start": _SHARE, "end": _SHARE}, neutral={"start": 1.0, "end": 1.0},
        limits="eta grows linearly over the steps, which is our reading. Rewards accumulated over several "
        "continuations of a prefix, the other half of the source, are not a weight. A rollout shorter than 1 / eta "
        "trains nothing",
        checked="the paper's abstract and a third party's note",
    ),
    Record(
        name="lambda_grpo", label="lambda-GRPO, fixed", source="2510.06870",
        equation=r"G\,\mathrm{softmax}_i\left((1 + r z_i)^\lambda\right),\quad z = (L - \bar L) / \sigma_L",
        inputs=("mask", "groups"), denominator="tokens", defaults={"power": 1.0, "scale": 1 / 9},
        neutral={"power": 0.0},
        limits="the source learns lambda by gradient; a weight is a constant of the loss, so lambda is fixed. sigma is "
        "the population's, 0 where lengths are equal",
        checked="the formula in one third-party implementation, and a hand-worked group",
    ),
    Record(
        name="advantage_reweighting", label="Advantage reweighting", source="2505.12929",
        equation=r"a\,p_t + 1 - a", inputs=("mask", "log_probs"), denominator="tokens", defaults={"share": 0.3},
        ranges={"share": _SHARE}, neutral={"share": 0.0},
        limits="0.2 to 0.3 in the source. Lopti, its other method, splits a batch into two updates and is not a weight",
        checked="the paper's formula, in an earlier reading; a and 1 - a are the authors' script's two constants",
    ),
    Record(
        name="clip_cov", label="Clip-Cov", source="2505.22617",
        equation=r"0 \text{ on } \max(1, \lfloor r n \rfloor) \text{ random tokens with } \omega_l < "
        r"(\log p_t - \overline{\log p})(A - \bar A) < \omega_h,\text{ else } 1",
        inputs=("mask", "advantages", "log_probs", "seed"), denominator="tokens",
        defaults={"ratio": 0.0002, "low": 1.0, "high": 5.0}, ranges={"ratio": _SHARE},
        neutral={"low": 1.0, "high": 1.0},
        limits="means are over the micro-batch's tokens, as in the authors' code. Tokens that PPO's clip stopped are "
        "excluded there; on policy there are none. KL-Cov adds a KL term and is not a weight",
        checked="the authors' code and verl's copy of it",
    ),
    Record(
        name="tr_grpo", label="TR-GRPO", source="2511.00066",
        equation=r"\mathrm{clip}(\alpha(\sigma(p_t / \tau) - \mu), L, U)", inputs=("mask", "log_probs"),
        denominator="tokens",
        defaults={"gain": 2.0, "temperature": 1 / 9, "offset": 0.25, "low": 1.0, "high": 1.4},
        ranges={"temperature": _POSITIVE, "low": _NOT_NEGATIVE, "high": _NOT_NEGATIVE},
        neutral={"low": 1.0, "high": 1.0},
        limits="a public implementation has tau = 9, with which every weight is 1; tau = 1/9 is our reading: of "
        "the two the one under which both bounds are reached",
        checked="the form in one third-party implementation; the constants could not be checked",
    ),
    Record(
        name="gtpo_conflict", label="GTPO (conflict tokens)", source="2508.03772",
        equation=r"\frac{\lambda^{f_t + b_t} \text{ or } 0}{\max(1, n_i)} \left(1 - \gamma \bar H_i / A\right)"
        r"\mathbf 1[\bar H_i \le \theta]",
        inputs=("entropy", "mask", "advantages", "groups", "completion_ids"), denominator="sequence",
        defaults={"amplify": 2.0, "entropy_scale": 0.1, "entropy_limit": 0.7}, signed=True,
        ranges={"amplify": _NOT_NEGATIVE, "entropy_scale": _NOT_NEGATIVE, "entropy_limit": _NOT_NEGATIVE},
        limits="The marks f_t and b_t are 1 on the run of tokens that a success and a failure share at one place, "
        "counted from the start and from the end; there successes weigh lambda, failures 0; n_i counts such tokens of "
        "the rollout. The source adds its entropy term also where A = 0, which a factor cannot. It has no KL term: "
        "set beta to 0. No parameter makes it GRPO",
        checked="the authors' code (gtpo_training.py)",
    ),
    Record(
        name="hicra", label="HICRA", source="2509.03646",
        equation=r"1 + \alpha\,\mathrm{sign}(A) \text{ on planning tokens, else } 1",
        inputs=("mask", "advantages", "completion_ids"), denominator="tokens",
        defaults={"amplification": 0.2, "grams": ()}, ranges={"amplification": _SHARE, "grams": (int,)},
        neutral={"amplification": 0.0},
        limits="A + alpha |A| on the tokens of strategic grams. Which n-grams are strategic the source finds by "
        "clustering a corpus; here they are given as lists of token ids",
        checked="two third-party implementations that agree; alpha 0.2 in one of them",
    ),
)  # fmt: skip
