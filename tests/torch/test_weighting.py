"""Token weights against numbers worked by hand, brute force and random search."""

import math

import pytest

torch = pytest.importorskip("torch")
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from reference_loss import reference_loss
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from sa_ah_lib import rulebook
from sa_ah_lib.upstream.entropy_tap import hidden_state_entropy
from sa_ah_lib.weighting import (  # noqa: E402
    DENOMINATORS,
    SCOPES,
    group_normalized,
    horizon_weights,
    normalized_entropy,
    rollout_weights,
    silenced,
    spread,
)

KNOWN = torch.tensor([0.5, 0.25, 0.125, 0.125]).log()  # 1.75 bits of 2
close = torch.testing.assert_close


def random_case(seed, rows=5, columns=7, groups=2):
    """Entropies, a mask with holes, advantages of both signs and group numbers."""
    generator = torch.Generator().manual_seed(seed)
    entropy = torch.rand(rows, columns, generator=generator)
    mask = (torch.rand(rows, columns, generator=generator) < 0.7).long()
    return entropy, mask, torch.randn(rows, generator=generator), torch.arange(rows) % groups


# --- entropy ---------------------------------------------------------------------------------------------------------


def test_entropy_of_a_uniform_distribution_is_one_and_of_a_certain_token_zero():
    """A missing division by log V, or a missing guard at p = 0."""
    certain = torch.tensor([0.0, -math.inf, -math.inf])
    close(normalized_entropy(torch.zeros(4), None), torch.tensor(1.0))
    assert normalized_entropy(certain, None) == 0.0
    assert normalized_entropy(certain, 2) == 0.0


@pytest.mark.parametrize(
    ("top_k", "expected"), [(1, 0.25), (2, 0.5), (3, 0.6875), (4, 0.875), (500, 0.875), (None, 0.875)]
)
def test_entropy_of_a_known_distribution(top_k, expected):
    """Renormalising the top K, dividing by log K, or taking the smallest K."""
    close(normalized_entropy(KNOWN[torch.tensor([2, 0, 3, 1])], top_k), torch.tensor(expected))


@pytest.mark.parametrize("top_k", [1, 3, 10, 11, None])
def test_entropy_equals_a_sorted_sum(top_k):
    """A wrong selection on other than hand-picked numbers; -inf logits (masked tokens) among them."""
    logits = torch.randn(6, 11, generator=torch.Generator().manual_seed(1)) * 3
    logits[0, :4] = -math.inf
    for row, found in zip(logits, normalized_entropy(logits, top_k), strict=True):
        p = sorted(torch.softmax(row.double(), 0).tolist(), reverse=True)[:top_k]
        assert found.item() == pytest.approx(-sum(x * math.log(x) for x in p if x) / math.log(11), abs=1e-6)


def test_entropy_of_bfloat16_logits_is_taken_in_float32():
    """Softmax and sum in bf16 lose the third digit."""
    logits = (torch.randn(4, 300, generator=torch.Generator().manual_seed(2)) * 4).bfloat16()
    found = normalized_entropy(logits, 50)
    assert found.dtype == torch.float32
    close(found, normalized_entropy(logits.float(), 50), rtol=0, atol=0)


def test_entropy_keeps_leading_shape_and_gradients_out():
    """A weight that carries gradients would change the objective."""
    found = normalized_entropy(torch.randn(2, 3, 5, requires_grad=True), 4)
    assert found.shape == (2, 3) and not found.requires_grad


def test_more_of_the_vocabulary_never_lowers_the_entropy():
    logits = torch.randn(20, 30, generator=torch.Generator().manual_seed(3))
    values = torch.stack([normalized_entropy(logits, k) for k in (*range(1, 31), None)])
    assert (values.diff(dim=0) >= -1e-6).all()
    assert values.min() >= 0 and values.max() <= 1


@pytest.mark.parametrize("max_elements", [1, 13, 40, 10_000])
@pytest.mark.parametrize("top_k", [4, None])
def test_hidden_state_entropy_does_not_depend_on_its_chunks(max_elements, top_k):
    """A dropped last chunk, a forgotten bias or temperature."""
    generator = torch.Generator().manual_seed(4)
    hidden, head, bias = (torch.randn(size, generator=generator) for size in ((7, 5), (13, 5), (13,)))
    found = hidden_state_entropy(hidden, head, top_k, bias, temperature=0.7, max_elements=max_elements)
    close(found, normalized_entropy((hidden @ head.T + bias) / 0.7, top_k), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("max_elements", [40, 10_000])
def test_hidden_state_entropy_of_half_precision_heads_is_of_float32_logits(dtype, max_elements):
    """Logits rounded to the head's type are another distribution; the card's own loss does not round them."""
    generator = torch.Generator().manual_seed(5)
    hidden, head = (8 * torch.randn(size, generator=generator) for size in ((7, 5), (13, 5)))
    hidden, head = hidden.to(dtype), head.to(dtype)
    found = hidden_state_entropy(hidden, head, None, max_elements=max_elements)
    close(found, normalized_entropy(hidden.float() @ head.float().T, None), rtol=1e-5, atol=1e-6)


def test_hidden_state_entropy_of_no_rows_is_empty():
    """A micro-batch whose completions are all masked."""
    found = hidden_state_entropy(torch.zeros(0, 5), torch.zeros(13, 5))
    assert found.shape == (0,) and found.dtype == torch.float32


class LargestTensor(TorchDispatchMode):
    """Counts the elements of the largest tensor any operation returns."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for part in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(part, torch.Tensor):
                self.elements = max(self.elements, part.numel())
        return result


@pytest.mark.parametrize("top_k", [8, None])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_hidden_state_entropy_never_holds_all_logits(top_k, dtype):
    """The (B, T, V) tensor that the top-K path exists to avoid."""
    hidden, head = torch.randn(64, 8, dtype=dtype), torch.randn(100, 8, dtype=dtype)
    with LargestTensor() as whole:
        normalized_entropy(hidden @ head.T, top_k)
    with LargestTensor() as chunked:
        hidden_state_entropy(hidden, head, top_k, max_elements=1000)
    assert whole.elements == 64 * 100, "the counter must see what it is to forbid"
    assert chunked.elements <= 1000


# --- horizon ---------------------------------------------------------------------------------------------------------


def test_horizon_is_inclusive_of_the_token_itself():
    """cumsum shifted by one: the first weight would be 1."""
    found = horizon_weights(torch.tensor([[0.2, 0.4, 0.1]]), torch.ones(1, 3), 0.5)
    close(found, torch.tensor([[-0.1, -0.3, -0.35]]).exp())


@pytest.mark.parametrize(
    ("mask", "exponents"),
    [
        ((0, 1, 1), (0, 0.4, 0.5)),
        ((1, 0, 1), (0.2, 0, 0.3)),
        ((1, 1, 0), (0.2, 0.6, 0)),
        ((0, 1, 0), (0, 0.4, 0)),
        ((0, 0, 0), (0, 0, 0)),
    ],
)
def test_padding_adds_nothing_wherever_it_stands(mask, exponents):
    """Entropy under padding leaks into later tokens; even NaN there must not matter. Includes one token, and none."""
    mask = torch.tensor([mask])
    entropy = torch.tensor([[0.2, 0.4, 0.1]]).masked_fill(mask == 0, math.nan)
    close(horizon_weights(entropy, mask, 1.0), torch.tensor([exponents]).neg().exp())


def test_alpha_zero_is_all_ones_and_a_negative_alpha_amplifies():
    entropy, mask, *_ = random_case(0)
    assert (horizon_weights(entropy, mask, 0.0) == 1).all()
    close(horizon_weights(entropy, mask, -0.5) * horizon_weights(entropy, mask, 0.5), torch.ones_like(entropy))
    assert (horizon_weights(entropy, mask, -0.5) >= 1).all()


def test_bfloat16_entropies_are_summed_in_float32():
    """A bf16 running sum of 300 terms stalls at about 1."""
    entropy = torch.full((1, 300), 0.01).bfloat16()
    found = horizon_weights(entropy, torch.ones(1, 300), 1.0)
    assert found.dtype == torch.float32
    assert found[0, -1].item() == pytest.approx(math.exp(-300 * entropy[0, 0].item()), rel=1e-4)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 12), st.floats(0, 5))
def test_weights_fall_from_one_along_the_tokens(seed, rows, columns, alpha):
    """A sign slip anywhere between entropy and weight."""
    entropy, mask, *_ = random_case(seed, rows, columns)
    weights = horizon_weights(entropy, mask, alpha)
    assert ((weights > 0) & (weights <= 1)).all()
    for row, kept in zip(weights, mask.bool(), strict=True):
        assert (row[kept].diff() <= 0).all()
        assert (row[~kept] == 1).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 3), st.floats(0, 3))
def test_discounts_multiply(seed, first, second):
    """alpha must enter the exponent linearly."""
    entropy, mask, *_ = random_case(seed)
    product = horizon_weights(entropy, mask, first) * horizon_weights(entropy, mask, second)
    close(horizon_weights(entropy, mask, first + second), product, rtol=1e-4, atol=1e-6)


# --- scopes ----------------------------------------------------------------------------------------------------------


def test_negative_scope_discounts_strictly_negative_advantages_only():
    """An advantage of exactly 0 (a silenced group) must keep weight 1."""
    entropy, mask = torch.full((3, 2), 0.5), torch.ones(3, 2)
    found = rollout_weights(entropy, mask, torch.tensor([1.0, 0.0, -1e-9]), 1.0, "negative")
    close(found, torch.tensor([[1.0, 1.0], [1.0, 1.0], [math.exp(-0.5), math.exp(-1.0)]]))


def test_positive_scope_is_the_mirror():
    """An advantage of exactly 0 belongs to neither sign, and the failures keep weight 1."""
    entropy, mask = torch.full((3, 2), 0.5), torch.ones(3, 2)
    found = rollout_weights(entropy, mask, torch.tensor([1e-9, 0.0, -1.0]), 1.0, "positive")
    close(found, torch.tensor([[math.exp(-0.5), math.exp(-1.0)], [1.0, 1.0], [1.0, 1.0]]))


def test_all_scope_ignores_the_advantage_and_none_is_ones():
    entropy, mask, advantages, _ = random_case(1)
    close(rollout_weights(entropy, mask, advantages, 0.7, "all"), horizon_weights(entropy, mask, 0.7), rtol=0, atol=0)
    assert (rollout_weights(entropy, mask, advantages, 0.7, "none") == 1).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(-1, 3))
def test_sa_equals_ah_when_every_advantage_is_negative_and_grpo_when_none_is(seed, alpha):
    entropy, mask, advantages, _ = random_case(seed)
    weigh = lambda sign, scope: rollout_weights(entropy, mask, sign * (advantages.abs() + 1e-3), alpha, scope)  # noqa: E731
    assert torch.equal(weigh(-1, "negative"), weigh(-1, "all"))
    assert torch.equal(weigh(1, "negative"), weigh(1, "none"))


# --- denominators ----------------------------------------------------------------------------------------------------


def named_mean(weights, mask, loss, groups, denominator):
    """The named denominators from their definitions, with loops."""
    cells = lambda rows: [(i, t) for i in rows for t in range(mask.shape[1]) if mask[i, t]]  # noqa: E731

    def ratio(rows):
        total = sum(weights[i, t].item() for i, t in cells(rows))
        return sum(weights[i, t].item() * loss[i, t].item() for i, t in cells(rows)) / total if total else 0.0

    rows = range(len(mask))
    if denominator == "batch":
        return ratio(rows)
    if denominator == "group":
        labels = sorted(set(groups.tolist()))
        return sum(ratio([i for i in rows if groups[i] == g]) for g in labels) / len(labels)
    if denominator == "tokens":
        return sum(weights[i, t].item() * loss[i, t].item() for i, t in cells(rows)) / max(1, len(cells(rows)))
    means = [
        sum(weights[i, t].item() * loss[i, t].item() for _, t in cells([i])) / max(1, int(mask[i].sum())) for i in rows
    ]
    return sum(means) / len(means)


@pytest.mark.parametrize("denominator", DENOMINATORS)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.integers(1, 6), columns=st.integers(1, 6), groups=st.integers(1, 3))
def test_folded_weights_give_the_named_denominator(denominator, seed, rows, columns, groups):
    """Eq. 6 and 9, one sum, Eq. 2 and TRL's own count out of a loss that is sum(e l m) / sum(m)."""
    entropy, mask, advantages, labels = random_case(seed, rows, columns, groups)
    loss = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed + 1))
    weights = rollout_weights(entropy, mask, advantages, 0.8, "negative")
    folded = group_normalized(weights, mask, labels * 10 - 3, denominator)
    found = (folded * loss * mask).sum() / mask.sum().clamp(min=1)
    assert found.item() == pytest.approx(named_mean(weights, mask, loss, labels, denominator), rel=1e-4, abs=1e-5)
    assert folded.dtype == torch.float32 and (folded[mask == 0] == 0).all()


def test_group_denominator_worked_by_hand():
    """Two groups of unequal weight count alike: the mean of ratios, not the ratio of sums."""
    weights, mask = torch.tensor([[1.0, 0.5], [0.25, 9.0]]), torch.tensor([[1, 1], [1, 0]])
    found = group_normalized(weights, mask, torch.tensor([7, 3]))
    # 3 tokens, 2 groups: e = w * 3 / (2 * group total), totals 1.5 and 0.25.
    close(found, torch.tensor([[1.0, 0.5], [6 * 0.25, 0.0]]))


@pytest.mark.parametrize("denominator", DENOMINATORS)
def test_empty_rows_groups_and_masks_give_zero_and_stay_finite(denominator):
    """0 / 0 where every completion of a prompt was truncated away; the empty group still counts in the mean."""
    weights, groups = torch.ones(4, 3), torch.tensor([0, 0, 1, 1])
    mask = torch.tensor([[1, 1, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]])
    folded = group_normalized(weights, mask, groups, denominator)
    # The two tokens' mean is 1; half of the groups and a quarter of the rollouts have any.
    expected = {"group": 0.5, "batch": 1.0, "sequence": 0.25, "tokens": 1.0}[denominator]
    assert ((folded * mask).sum() / mask.sum()).item() == pytest.approx(expected)
    empty = group_normalized(weights, torch.zeros_like(mask), groups, denominator)
    assert torch.equal(empty, torch.zeros(4, 3))


@pytest.mark.parametrize("denominator", ["group", "batch"])
def test_weights_that_add_up_to_less_than_0_are_no_denominator(denominator):
    """Such a loss was divided by 1 in place of the sum, and was many times too large."""
    weights, mask = torch.tensor([[-1.0, 0.5], [1.0, 1.0]]), torch.ones(2, 2)
    with pytest.raises(ValueError, match="add up to less than 0.*-.*'tokens' or 'sequence'"):
        group_normalized(weights if denominator == "group" else -weights, mask, torch.tensor([0, 1]), denominator)
    assert torch.equal(group_normalized(weights, mask, torch.tensor([0, 1]), "tokens"), weights)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(DENOMINATORS))
def test_row_order_and_group_numbers_do_not_matter(seed, denominator):
    """TRL shuffles the rows of a generation batch."""
    entropy, mask, advantages, groups = random_case(seed, rows=6, groups=3)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
    weights = rollout_weights(entropy, mask, advantages, 0.5, "negative")
    straight = group_normalized(weights, mask, groups, denominator)
    close(group_normalized(weights[order], mask[order], 50 - groups[order], denominator), straight[order])


# --- the reference the trainers are tested against -------------------------------------------------------------------


def test_reference_loss_worked_by_hand():
    """Everything else is compared with it, so it is checked with pencil and paper: clipping, weights, KL."""
    lp = torch.tensor([[math.log(1.5), 0.0], [math.log(1.5), 0.0]], dtype=torch.float64)
    mask = torch.tensor([[1, 0], [1, 1]])
    args = (
        lp,
        torch.zeros(2, 2),
        lp + math.log(2),
        torch.tensor([[0.3, 9.0], [0.2, 0.4]]),
        mask,
        torch.tensor([1.0, -1.0]),
    )
    groups = torch.tensor([0, 0])
    # Ratio 1.5 is clipped to 1.2 for the good rollout and not for the bad one (the minimum is taken).
    a, b = math.exp(-0.2), math.exp(-0.6)
    divergence = 2 - math.log(2) - 1
    call = lambda **rest: reference_loss(*args, groups, alpha=1.0, **rest).item()  # noqa: E731
    assert call(scope="negative", beta=0.0) == pytest.approx(-(1.2 - 1.5 * a - b) / (1 + a + b))
    assert call(scope="negative", beta=0.5) == pytest.approx(-(1.2 - 1.5 * a - b) / (1 + a + b) + 0.5 * divergence)
    assert call(scope="none", beta=0.0) == pytest.approx(-(1.2 - 2.5) / 3)
    c = math.exp(-0.3)
    assert call(scope="all", beta=0.0) == pytest.approx(-(1.2 * c - 1.5 * a - b) / (c + a + b))
    assert call(scope="negative", beta=0.0, denominator="tokens") == pytest.approx(-(1.2 - 1.5 * a - b) / 3)
    assert call(scope="negative", beta=0.0, denominator="sequence") == pytest.approx(-(1.2 - (1.5 * a + b) / 2) / 2)
    groups = torch.tensor([4, 2])
    assert call(scope="negative", beta=0.0) == pytest.approx(-(1.2 - (1.5 * a + b) / (a + b)) / 2)
    assert call(scope="negative", beta=0.0, denominator="batch") == pytest.approx(-(1.2 - 1.5 * a - b) / (1 + a + b))


# --- errors ----------------------------------------------------------------------------------------------------------

ONES = torch.ones(2, 3)
ADVANTAGES = torch.zeros(2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: normalized_entropy(torch.tensor(1.0)), r"\(\.\.\., V\) with V >= 2\. Got \(\)"),
        (lambda: normalized_entropy(torch.zeros(3, 1)), r"V >= 2\. Got \(3, 1\)"),
        (lambda: normalized_entropy(torch.tensor([0.0, math.nan])), "Got NaN"),
        (lambda: normalized_entropy(torch.zeros(3), 0), "at least 1, or None .* Got 0"),
        (lambda: normalized_entropy(torch.zeros(3), 2.0), "whole number .* Got 2.0"),
        (lambda: normalized_entropy(torch.zeros(3), True), "whole number .* Got True"),
        (
            lambda: hidden_state_entropy(torch.zeros(2, 4), torch.zeros(9, 5)),
            r"\(N, D\) and lm_head \(V, D\)\. Got \(2, 4\) and \(9, 5\)",
        ),
        (lambda: hidden_state_entropy(torch.zeros(1, 2, 5), torch.zeros(9, 5)), r"Got \(1, 2, 5\)"),
        (lambda: hidden_state_entropy(torch.zeros(2, 5), torch.zeros(9, 5), temperature=0.0), r"above 0\. Got 0\.0"),
        (lambda: hidden_state_entropy(torch.zeros(2, 5), torch.zeros(9, 5), top_k=0), "at least 1"),
        (lambda: horizon_weights(ONES, torch.ones(2, 4), 0.5), r"one shape \(B, T\)\. Got \(2, 3\) and \(2, 4\)"),
        (lambda: horizon_weights(torch.ones(3), torch.ones(3), 0.5), r"one shape \(B, T\)\. Got \(3,\)"),
        (lambda: horizon_weights(ONES, ONES, math.nan), "finite number. Got nan"),
        (lambda: horizon_weights(ONES, ONES, -math.inf), "finite number. Got -inf"),
        (lambda: horizon_weights(ONES * math.nan, ONES, 0.5), "finite on every completion token. Got NaN"),
        (lambda: horizon_weights(ONES, ONES, -100.0), "alpha = -100.0 overflows float32 on completions of 3"),
        (lambda: rollout_weights(ONES, ONES, ADVANTAGES, 0.5, "some"), "one of .*negative.* Got 'some'"),
        (lambda: rollout_weights(ONES, ONES, torch.zeros(2, 1), 0.5, "all"), r"shape \(2,\)\. Got \(2, 1\)"),
        (lambda: rollout_weights(ONES, ONES, torch.tensor([0.0, math.nan]), 0.5, "none"), "numbers. Got NaN"),
        (lambda: group_normalized(ONES, torch.ones(3, 2), torch.zeros(3)), r"Got \(2, 3\) and \(3, 2\)"),
        (lambda: group_normalized(ONES, ONES, torch.zeros(3)), r"shape \(2,\)\. Got \(3,\)"),
        (lambda: group_normalized(ONES, ONES, ADVANTAGES, "token"), "one of .*sequence.* Got 'token'"),
    ],
)
def test_errors_say_what_was_expected_and_what_came(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_configuration_knows_the_names_that_the_weights_know():
    """Configurations are checked without torch, by the rulebook's names: one more there would fail in training."""
    assert (rulebook.SCOPES, rulebook.DENOMINATORS) == (SCOPES, DENOMINATORS)


def test_every_scope_has_a_method_and_every_method_a_scope():
    """A scope added without a method, or a method without a scope."""
    from sa_ah_lib.config import METHODS

    assert {method["scope"] for method in METHODS.values()} == set(SCOPES)


def test_a_group_of_equal_rewards_is_silenced_at_any_threshold():
    """Float32 means are inexact: three equal rewards had advantages of 0.005, and rules that read signs read them."""
    rewards = torch.tensor([[2.4] * 3, [0.7] * 3, [7.5, 7.5, 7.4]])
    assert silenced(spread(rewards), 0.0).tolist() == [True, True, False]
