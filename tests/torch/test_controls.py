"""The control rules against numbers worked by hand, a solver of another library, and the trainer's own loss."""

import math

import pytest

pytest.importorskip("trl")
import tiny  # noqa: E402
import torch  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from reference_loss import reference_loss  # noqa: E402
from scipy.optimize import brentq  # noqa: E402
from trl.trainer.grpo_trainer import GRPOTrainer  # noqa: E402

from sa_ah_lib import rulebook, rules  # noqa: E402
from sa_ah_lib.rules.cumulative import TOLERANCE, matched, shuffled, top_entropy  # noqa: E402
from sa_ah_lib.trainer import GROUP_KEY  # noqa: E402
from sa_ah_lib.weighting import group_normalized, rollout_weights  # noqa: E402

RULES = [name for name, record in rulebook.RECORDS.items() if record.takes_scope]
CONTROLS = [rule for rule in RULES if rule != "cumulative"]
GRADED = [rule for rule in CONTROLS if rule != "top_entropy"]
on_stock_trl = pytest.mark.skipif(
    GRPOTrainer.__name__.startswith("Unsloth"), reason="Unsloth has replaced stock TRL in this process"
)
close = torch.testing.assert_close
double = lambda rows: torch.tensor(rows, dtype=torch.float64)  # noqa: E731


def rule_weights(entropy, mask, advantages, groups, alpha, scope, rule="cumulative", seed=0):
    """The registry's rule on tensors in any columns."""
    batch, order = rules.left_aligned(entropy, mask, advantages, groups=groups, seed=seed)
    weights = rules.find(rule)(batch, alpha=alpha, scope=scope)
    return torch.ones_like(weights).scatter(1, order, weights)


def random_case(seed, rows=8, columns=9, groups=2):
    """Skewed entropies as a trained model has them, a mask with holes, advantages of both signs, group numbers."""
    generator = torch.Generator().manual_seed(seed)
    entropy = torch.rand(rows, columns, generator=generator) ** 3
    mask = (torch.rand(rows, columns, generator=generator) < 0.8).long()
    return entropy, mask, torch.randn(rows, generator=generator), torch.arange(rows) % groups


def mean_of_each_group(weights, mask, advantages, groups):
    rows = [(groups == g) & (advantages < 0) for g in groups.unique()]
    return [weights[r].double()[mask[r].bool()].mean().item() for r in rows if mask[r].any()]


# --- each rule by hand -----------------------------------------------------------------------------------------------

# One failed rollout of three tokens with entropies 0.4, 0, 0.2, at alpha = 1: Eq. 5 gives e^-0.4, e^-0.4, e^-0.6.
ENTROPY, MEAN = double([[0.4, 0.0, 0.2]]), (2 * math.exp(-0.4) + math.exp(-0.6)) / 3


def solved(exponents):
    """The weights exp(-c D) whose mean is MEAN, with c from scipy."""
    c = brentq(lambda c: sum(math.exp(-c * d) for d in exponents) / 3 - MEAN, 0, 100, xtol=1e-14)
    return torch.tensor([[math.exp(-c * d) for d in exponents]])


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("cumulative", torch.tensor([[math.exp(-0.4), math.exp(-0.4), math.exp(-0.6)]])),
        ("position", solved([1, 2, 3])),
        ("scalar", torch.full((1, 3), MEAN)),
        ("local", solved([0.4, 0.0, 0.2])),
        ("inverse", solved([0.0, 0.4, 0.2])),
        ("top_entropy", torch.tensor([[1.0, 0.0, 1.0]])),  # 3 x 0.63 rounds to 2 tokens
    ],
)
def test_a_rule_worked_by_hand(rule, expected):
    """A rule that counts something else than its name says."""
    found = rule_weights(
        ENTROPY.float(), torch.ones(1, 3), torch.tensor([-1.0]), torch.tensor([4]), 1.0, "negative", rule
    )
    close(found, expected, rtol=1e-6, atol=1e-6)


def test_the_shuffle_by_hand():
    """Entropies that move to another rollout, onto padding, or stay where they were."""
    entropy = torch.arange(1.0, 13.0, dtype=torch.float64).view(2, 6)
    mask = torch.tensor([[1, 0, 1, 1, 1, 1], [0, 0, 1, 1, 1, 0]]).bool()
    draws = [shuffled(entropy, mask, torch.Generator().manual_seed(seed)) for seed in range(40)]
    for found in draws:
        assert (found[~mask] == 0).all()
        for row in (0, 1):
            assert sorted(found[row][mask[row]].tolist()) == entropy[row][mask[row]].tolist()
    # Every order of the second rollout's three entropies comes up.
    assert len({tuple(found[1][mask[1]].tolist()) for found in draws}) == 6


def test_the_shuffled_rule_keeps_the_amount_and_loses_the_place():
    """The steps of -log w are the rollout's own entropies times one c, in another order."""
    entropy, mask, advantages, groups = random_case(3, groups=1)
    entropy = 0.2 + 0.8 * entropy
    weights = rule_weights(entropy, mask, advantages, groups, 0.5, "negative", "shuffled", seed=1)
    ratios, moved = [], []
    for row in (advantages < 0).nonzero().flatten():
        kept = mask[row].bool()
        steps = (-weights[row][kept].double().log()).diff(prepend=torch.zeros(1, dtype=torch.float64))
        ratios += (steps.sort().values / entropy[row][kept].double().sort().values).tolist()
        moved.append(steps.argsort().tolist() != entropy[row][kept].argsort().tolist())
    assert ratios == pytest.approx([ratios[0]] * len(ratios), rel=1e-4) and len(ratios) > 20
    assert sum(moved) > len(moved) / 2


def test_top_entropy_keeps_the_uncertain_and_breaks_ties_by_order():
    """A threshold on tied entropies keeps all of them or none."""
    entropy, mask = double([[0.1, 0.3, 9.0], [0.3, 0.3, 0.2]]), torch.tensor([[1, 1, 0], [1, 1, 1]])
    for share, kept in ((0.0, []), (0.2, [(0, 1)]), (0.4, [(0, 1), (1, 0)]), (0.79, [(0, 1), (1, 0), (1, 1), (1, 2)])):
        found = top_entropy(entropy, mask, torch.tensor(share))
        assert [tuple(i) for i in (found * mask).nonzero().tolist()] == kept and found[0, 2] == 1


# --- the match -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", CONTROLS)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), alpha=st.floats(0, 4))
def test_every_control_has_the_mean_weight_of_sa_ah_in_every_group(rule, seed, alpha):
    """A control with more or less weight on failures answers another question."""
    entropy, mask, advantages, groups = random_case(seed)
    means = [
        mean_of_each_group(weigh, mask, advantages, groups)
        for weigh in (
            rollout_weights(entropy, mask, advantages, alpha, "negative"),
            rule_weights(entropy, mask, advantages, groups, alpha, "negative", rule, seed),
        )
    ]
    sizes = [int(mask[(groups == g) & (advantages < 0)].sum()) for g in groups.unique()]
    allowed = [0.5 / n if rule == "top_entropy" else 0.0 for n in sizes if n]
    for wanted, found, slack in zip(*means, allowed, strict=True):
        # Some tokens are nearly certain and one is the most uncertain: a few means are out of a rule's reach.
        reachable = wanted > 1 / max(min(sizes), 1) + 0.05 or rule not in ("local", "inverse")
        assert not reachable or abs(found - wanted) <= TOLERANCE + slack


@pytest.mark.parametrize("target", [1.0, 1 - 1e-12, 0.999, 0.5, 0.01])
@pytest.mark.parametrize("unit", [1e-6, 1.0, 512.0])
def test_the_bisection_reaches_its_target_whatever_the_unit(target, unit):
    """Bounds of the search too narrow for near-certain tokens or for long completions."""
    exponent, mask = unit * torch.arange(1.0, 301.0, dtype=torch.float64).view(3, 100), torch.ones(3, 100)
    found = matched(exponent, mask, double(target))
    assert abs(found.mean().item() - target) <= TOLERANCE
    assert target < 1 or (found == 1).all()


def test_a_mean_out_of_reach_gives_the_nearest_one():
    """Half of the tokens have no entropy at all, so a local discount cannot go below one half."""
    found = matched(double([[0.0, 0.0, 0.2, 0.4]]), torch.ones(1, 4), double(0.3))
    close(found, double([[1.0, 1.0, 0.0, 0.0]]))


@pytest.mark.parametrize("rule", RULES)
def test_at_alpha_zero_every_rule_is_ones(rule):
    """GRPO == every rule at alpha 0, to the bit."""
    entropy, mask, advantages, groups = random_case(5)
    assert (rule_weights(entropy, mask, advantages, groups, 0.0, "all", rule) == 1).all()


@pytest.mark.parametrize("scope", ["none", "all", "negative", "positive"])
@pytest.mark.parametrize("rule", CONTROLS)
def test_rows_out_of_scope_and_padding_weigh_one(rule, scope):
    """A control that discounts successes is no control of SA-AH-GRPO; NaN under padding must not matter."""
    entropy, mask, advantages, groups = random_case(6)
    advantages[0] = 0.0
    entropy[mask == 0] = math.nan
    found = rule_weights(entropy, mask, advantages, groups, 1.0, scope, rule)
    sign = {"none": torch.zeros(8), "all": torch.ones(8), "negative": -advantages, "positive": advantages}[scope]
    assert (found[sign <= 0] == 1).all() and (found[mask == 0] == 1).all()
    assert found.dtype == torch.float32 and ((found >= 0) & (found <= 1)).all()
    assert scope == "none" or (found[sign > 0] < 1).any()


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "shuffled"])
def test_a_group_is_weighed_by_itself(rule):
    """Micro-batches and processes hold other groups; a constant solved over them would change with the hardware."""
    entropy, mask, advantages, groups = random_case(7, rows=12, groups=3)
    whole = rule_weights(entropy, mask, advantages, groups, 1.0, "negative", rule)
    for g in range(3):
        rows = groups == g
        alone = rule_weights(entropy[rows], mask[rows], advantages[rows], groups[rows] + 5, 1.0, "negative", rule)
        close(alone, whole[rows], rtol=0, atol=0)


def test_one_scalar_on_all_rollouts_is_grpo():
    """Why the board has no such row: the division by a group's weights takes out what they have in common."""
    entropy, mask, advantages, groups = random_case(9)
    found = rule_weights(entropy, mask, advantages, groups, 1.0, "all", "scalar")
    assert (found[mask.bool()] < 1).all()
    close(group_normalized(found, mask, groups), group_normalized(torch.ones_like(found), mask, groups))


def test_the_shuffle_has_a_random_state_of_its_own():
    """Drawing from the global state would change every later rollout, and methods would no longer share seeds."""
    entropy, mask, advantages, groups = random_case(8)
    shuffle = lambda seed: rule_weights(entropy, mask, advantages, groups, 1.0, "all", "shuffled", seed)  # noqa: E731
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = shuffle(1)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(shuffle(1), first) and not torch.equal(shuffle(2), first)


def test_padding_does_not_change_the_shuffle():
    """Unsloth lays rows out in other columns than TRL; a run must not hang on that."""
    entropy, mask, advantages, groups = random_case(9)
    mask = (torch.arange(9) < torch.randint(3, 9, (8, 1))).long()
    weigh = lambda e, m: rule_weights(e, m, advantages, groups, 1.0, "all", "shuffled", 3)  # noqa: E731
    moved = torch.nn.functional.pad(mask, (1, 0))[:, :9], torch.nn.functional.pad(entropy, (1, 0))[:, :9]
    assert (moved[0].sum(1) == mask.sum(1)).all()
    close(weigh(moved[1], moved[0])[moved[0].bool()], weigh(entropy, mask)[mask.bool()], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("rule", "alpha", "message"),
    [("linear", 0.5, "rule must be one of .*position.* Got 'linear'"),
     ("local", -0.5, r"alpha of rule 'local' must be in \[0.0, inf\]. Got -0.5"),
     ("local", math.nan, "alpha of rule 'local' must be a finite number. Got nan"),
     ("cumulative", math.inf, "alpha of rule 'cumulative' must be a finite number. Got inf")],
)  # fmt: skip
def test_errors_say_what_was_expected_and_what_came(rule, alpha, message):
    entropy, mask, advantages, groups = random_case(0)
    with pytest.raises(ValueError, match=message):
        rule_weights(entropy, mask, advantages, groups, alpha, "negative", rule)


# --- in the trainer --------------------------------------------------------------------------------------------------


@pytest.fixture
def build(tmp_path, plain_head):
    return lambda policy=None, **rest: tiny.trainer(tmp_path, policy, GRPOTrainer, **rest)


def by_loops(entropy, mask, advantages, groups, alpha, rule):
    """Weights of a control on negative rollouts in plain Python, c from scipy's brentq."""
    weights = torch.ones(entropy.shape, dtype=torch.float64)
    for g in set(groups.tolist()):
        rows = [i for i in range(len(groups)) if groups[i] == g and advantages[i] < 0]
        cells = [(i, t) for i in rows for t in range(mask.shape[1]) if mask[i, t]]
        spent = {(i, t): sum(float(entropy[i, s]) for s in range(t + 1) if mask[i, s]) for i, t in cells}
        if not cells:
            continue
        target = sum(math.exp(-alpha * spent[cell]) for cell in cells) / len(cells)
        values = {cell: float(entropy[cell]) for cell in cells}
        count = {(i, t): int(mask[i, : t + 1].sum()) for i, t in cells}
        exponent = {
            "position": count, "scalar": dict.fromkeys(cells, 1.0), "local": values,
            "inverse": {cell: max(values.values()) - values[cell] for cell in cells},
        }.get(rule)  # fmt: skip
        if rule == "top_entropy":
            kept = sorted(cells, key=values.get, reverse=True)[: round(target * len(cells))]
            for cell in cells:
                weights[cell] = float(cell in kept)
            continue
        gap = lambda c, d=exponent, m=target: sum(math.exp(-c * d[cell]) for cell in cells) / len(cells) - m  # noqa: E731, B023
        c = brentq(gap, 0, 1e4, xtol=1e-13)
        for cell in cells:
            weights[cell] = math.exp(-c * exponent[cell])
    return weights


@on_stock_trl
@pytest.mark.parametrize("rule", [rule for rule in CONTROLS if rule != "shuffled"])
def test_loss_and_every_gradient_are_the_controls(build, rule):
    """A control that is tested as a function and never reaches the loss."""
    made = build(scope="negative", alpha=0.7, rule=rule, entropy_top_k=None, config={"beta": 0.04})
    batch = tiny.with_logps(tiny.micro_batch(left=1, right=2), made.model, old_noise=0.3)
    policy = tiny.twin(made.model)
    log_probs, entropy = tiny.scores(policy, batch)
    mask, advantages, groups = batch["completion_mask"], batch["advantages"], batch[GROUP_KEY]
    loss = reference_loss(
        log_probs, batch["old_per_token_logps"], batch["ref_per_token_logps"], entropy, mask, advantages, groups,
        alpha=0.7, scope="negative", beta=0.04, weights=by_loops(entropy, mask, advantages, groups, 0.7, rule),
    )  # fmt: skip
    loss.backward()
    assert tiny.worst_error(tiny.loss_and_gradients(made, batch), (loss.item(), tiny.gradients(policy))) < 2e-5


@on_stock_trl
def test_alpha_zero_is_grpo_bit_for_bit_under_every_rule(build):
    """A control with a factor of its own at alpha 0 would not be compared with GRPO but with something else."""
    policy, batch = tiny.model(), tiny.micro_batch()
    grpo = tiny.loss_and_gradients(build(policy, scope="none", alpha=0.0), batch)
    for rule in RULES:
        other = tiny.loss_and_gradients(build(policy, scope="negative", alpha=0.0, rule=rule), batch)
        assert other[0] == grpo[0] and all(torch.equal(other[1][n], grpo[1][n]) for n in grpo[1])


@on_stock_trl
@pytest.mark.parametrize("rule", RULES)
def test_the_log_shows_the_match(build, rule):
    """Without the two numbers side by side nobody can see that a control was matched."""
    made = build(scope="negative", alpha=0.7, rule=rule)
    made.compute_loss(made.model, tiny.micro_batch())
    logged = made.diagnostics()
    assert logged["sa_ah/weight_discounted"] == logged["sa_ah/weight_negative"] < 1
    slack = 0.05 if rule == "top_entropy" else 2e-6
    assert logged["sa_ah/weight_discounted"] == pytest.approx(logged["sa_ah/weight_target"], abs=slack)


@on_stock_trl
def test_the_shuffle_differs_by_step_and_seed_and_repeats(build):
    """One permutation for a whole run would be a fixed reordering, not a shuffle."""
    made, batch = build(scope="all", alpha=0.7, rule="shuffled"), tiny.micro_batch()

    def weights(step, seed=0):
        made.state.global_step, made.args.seed = step, seed
        made.compute_loss(made.model, batch)
        return made.last_rollouts["weights"]

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4)) and not torch.equal(weights(3), weights(3, seed=1))
