"""The token-weighted trainer on stock TRL: every loss and every gradient against a float64 reference of the paper."""

import copy
import inspect
import math
import statistics
from types import SimpleNamespace

import pytest

pytest.importorskip("trl")
import tiny  # noqa: E402
import torch  # noqa: E402
import trl.trainer.utils  # noqa: E402
from trl.trainer.grpo_trainer import GRPOTrainer  # noqa: E402

from sa_ah_lib.rulebook import DENOMINATORS, SCOPES  # noqa: E402
from sa_ah_lib.trainer import GROUP_KEY, REWARD_KEY, sa_ah_trainer_class  # noqa: E402
from sa_ah_lib.upstream.entropy_tap import EntropyTap  # noqa: E402
from sa_ah_lib.upstream.hooks import (  # noqa: E402
    HookNotCalledError,
    PrivateHooks,
    UpstreamChangedError,
    check_instance,
)
from sa_ah_lib.upstream.metrics import METRICS  # noqa: E402
from sa_ah_lib.weighting import group_normalized  # noqa: E402

pytestmark = [
    pytest.mark.usefixtures("plain_head"),
    pytest.mark.skipif(
        GRPOTrainer.__name__.startswith("Unsloth"), reason="no stock TRL in this process; see test_seam"
    ),
]
ALPHA, TOP_K = 0.7, 5
# Worst measured 6.4e-6, float32 against float64; another machine's rounding gets room, a real mistake is 1e-3 and up.
TOLERANCE = 2e-5


@pytest.fixture
def build(tmp_path):
    """``tiny.trainer`` on stock TRL, with this file's alpha."""
    return lambda policy=None, base=GRPOTrainer, **rest: tiny.trainer(
        tmp_path, policy, base, **{"alpha": ALPHA, **rest}
    )


def same(found, wanted, tolerance=TOLERANCE):
    assert tiny.worst_error(found, wanted) < tolerance


# --- the loss of the paper -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.0, 0.04])
@pytest.mark.parametrize("top_k", [None, TOP_K])
@pytest.mark.parametrize("denominator", DENOMINATORS)
@pytest.mark.parametrize("scope", SCOPES)
def test_loss_and_every_gradient_are_the_papers(build, scope, denominator, top_k, beta):
    """Any mistake between Eq. 2 to 9 and what is differentiated: on-policy, clipped, accumulated over two."""
    made = build(scope=scope, denominator=denominator, entropy_top_k=top_k, config={"beta": beta})
    for old_noise in (None, 0.3):
        batch = tiny.with_logps(tiny.micro_batch(left=1, right=2), made.model, old_noise=old_noise)
        wanted = tiny.reference(
            made.model, batch, alpha=ALPHA, scope=scope, denominator=denominator, top_k=top_k, beta=beta
        )  # fmt: skip
        same(tiny.loss_and_gradients(made, batch), wanted)
        assert made._metrics["train"]["clip_ratio/region_mean"][-1] > 0 or old_noise is None
    other = tiny.with_logps(tiny.micro_batch(seed=1, longest=5), made.model)
    rule = {"alpha": ALPHA, "scope": scope, "denominator": denominator, "top_k": top_k, "beta": beta}
    made.current_gradient_accumulation_steps = 2
    loss, gradients = tiny.mean([tiny.loss_and_gradients(made, part) for part in (batch, other)])
    summed = 2 * loss, {name: 2 * gradient for name, gradient in gradients.items()}
    same(summed, tiny.mean([tiny.reference(made.model, part, **rule) for part in (batch, other)]))


@pytest.mark.parametrize("temperature", [0.6, 1.5])
@pytest.mark.parametrize("top_k", [None, TOP_K])
def test_temperature_enters_entropies_and_log_probabilities_alike(build, top_k, temperature):
    """Entropies at T = 1 beside rollouts sampled at another temperature."""
    made = build(scope="all", entropy_top_k=top_k, config={"temperature": temperature})
    batch = tiny.micro_batch()
    wanted = tiny.reference(made.model, batch, alpha=ALPHA, scope="all", top_k=top_k, temperature=temperature)
    same(tiny.loss_and_gradients(made, batch), wanted)
    _, entropy = tiny.scores(tiny.twin(made.model), batch, top_k, temperature)
    real = batch["completion_mask"].bool()
    torch.testing.assert_close(made.last_rollouts["entropy"][real].double(), entropy[real], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("top_k", [None, TOP_K])
def test_lora_gradients_are_the_papers(build, top_k):
    """The tap or the head looked up on the adapter's wrapper instead of the model below it."""
    made = build(tiny.with_lora(tiny.model()), entropy_top_k=top_k, config={"beta": 0.04})
    batch = tiny.with_logps(tiny.micro_batch(), made.model, old_noise=0.2)
    found = tiny.loss_and_gradients(made, batch)
    assert all("lora" in name for name in found[1])
    same(found, tiny.reference(made.model, batch, alpha=ALPHA, scope="negative", top_k=top_k, beta=0.04))


@pytest.mark.parametrize("top_k", [None, TOP_K])
def test_alpha_zero_is_grpo_bit_for_bit(build, top_k):
    """An alpha-independent factor in AH-GRPO or SA-AH-GRPO."""
    policy, batch = tiny.model(), tiny.micro_batch()
    grpo, *others = (
        tiny.loss_and_gradients(build(policy, scope=scope, alpha=alpha, entropy_top_k=top_k), batch)
        for scope, alpha in (("none", ALPHA), ("all", 0.0), ("negative", 0.0))
    )
    for other in others:
        assert other[0] == grpo[0]
        assert all(torch.equal(other[1][name], grpo[1][name]) for name in grpo[1])


def test_unweighted_batch_denominator_is_trls_own_loss(build, tmp_path):
    """A baseline that is not TRL's GRPO would make every comparison unfair."""
    policy = tiny.model()
    made = build(policy, scope="none", denominator="batch", config={"beta": 0.04})
    batch = tiny.with_logps(tiny.micro_batch(), policy, old_noise=0.3)
    weighted = tiny.loss_and_gradients(made, batch)
    plain = GRPOTrainer(
        model=policy, processing_class=tiny.tokenizer(), reward_funcs=tiny.digit_share, train_dataset=tiny.dataset(),
        args=tiny.arguments(tmp_path, beta=0.04, top_entropy_quantile=1.0),
    )  # fmt: skip
    plain.current_gradient_accumulation_steps = 1
    plain.model.train()
    same(tiny.loss_and_gradients(plain, batch), weighted, 1e-6)


@pytest.mark.parametrize("top_k", [None, TOP_K])
def test_sixteen_rollouts_at_once_equal_two_micro_batches_of_eight(build, top_k):
    """Gradient accumulation changing the objective: what the group denominator is for."""
    whole = tiny.micro_batch(groups=4)
    halves = [
        {key: value if value.ndim == 0 else value[part] for key, value in whole.items()}
        for part in (slice(0, 8), slice(8, 16))
    ]
    errors = {}
    for denominator in ("group", "batch"):
        made = build(denominator=denominator, entropy_top_k=top_k, config={"per_device_train_batch_size": 16})
        at_once = tiny.loss_and_gradients(made, whole)
        made.current_gradient_accumulation_steps = 2
        first, second = (tiny.loss_and_gradients(made, half) for half in halves)
        summed = first[0] + second[0], {name: first[1][name] + second[1][name] for name in first[1]}
        errors[denominator] = tiny.worst_error(summed, at_once)
    assert errors["group"] < TOLERANCE
    assert errors["batch"] > 1e-3, "unequal halves must show the difference, or this test shows nothing"


@pytest.mark.parametrize("top_k", [None, TOP_K])
@pytest.mark.parametrize(("left", "right"), [(5, 0), (0, 7), (3, 4)])
def test_padding_does_not_change_the_loss(build, left, right, top_k):
    """Off-by-one slices of hidden states or masks show as soon as columns are added."""
    made = build(entropy_top_k=top_k)
    wanted = tiny.loss_and_gradients(made, tiny.micro_batch())
    same(tiny.loss_and_gradients(made, tiny.micro_batch(left=left, right=right)), wanted)


@pytest.mark.parametrize("top_k", [None, TOP_K])
def test_row_order_does_not_matter(build, top_k):
    """TRL shuffles the rows of a micro-batch, so groups are found by number and never by position."""
    made, batch = build(entropy_top_k=top_k), tiny.micro_batch()
    order = torch.tensor([5, 0, 7, 2, 4, 1, 6, 3])
    shuffled = {key: value if value.ndim == 0 else value[order] for key, value in batch.items()}
    same(tiny.loss_and_gradients(made, shuffled), tiny.loss_and_gradients(made, batch))


@pytest.mark.parametrize("top_k", [None, TOP_K])
@pytest.mark.parametrize("emptied", [[3], [0, 1, 2, 3], list(range(8))])
def test_truncated_completions_leave_a_finite_loss(build, emptied, top_k):
    """mask_truncated_completions zeroes whole rows: a row, a group, or all of them."""
    made, batch = build(entropy_top_k=top_k), tiny.micro_batch()
    batch["completion_mask"][emptied] = 0
    loss, gradients = tiny.loss_and_gradients(made, batch)
    assert math.isfinite(loss) and all(torch.isfinite(gradient).all() for gradient in gradients.values())
    if len(emptied) == 8:
        assert loss == 0
    else:
        same((loss, gradients), tiny.reference(made.model, batch, alpha=ALPHA, scope="negative", top_k=top_k))


def test_a_rule_of_ones_own_replaces_the_weights(tmp_path):
    """``token_weights`` is the documented place for a new rule; overriding it must reach the loss."""

    class FirstTokenOnly(sa_ah_trainer_class(GRPOTrainer)):
        def token_weights(self, entropy, mask, advantages):
            return (mask.cumsum(1) == 1).float()

    made, batch = tiny.trainer(tmp_path), tiny.micro_batch()
    made.__class__ = FirstTokenOnly
    loss, _ = tiny.loss_and_gradients(made, batch)
    # On-policy every ratio is 1, so the loss is minus the mean over groups of the mean advantage.
    assert loss == pytest.approx(-batch["advantages"].view(2, 4).mean(1).mean().item(), rel=1e-5)


# --- the seam's own checks -------------------------------------------------------------------------------------------


def test_a_rule_is_divided_as_its_source_divides_unless_said_otherwise(build):
    named = {"alpha": None, "scope": None, "rule": "gtpo", "entropy_top_k": None}
    assert build(**named).denominator == "tokens" and build(**named, denominator="group").denominator == "group"
    assert build().denominator == "group"


def test_a_trainer_that_skips_the_hook_is_stopped(tmp_path):
    """The canary: silently training plain GRPO is the worst bug this project can have."""

    class Forgetful(GRPOTrainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            return torch.zeros((), requires_grad=True)

    made = tiny.trainer(tmp_path, base=Forgetful)
    with pytest.raises(HookNotCalledError, match="Forgetful computed a loss without calling get_high_entropy_mask"):
        made.compute_loss(made.model, tiny.micro_batch())
    made.__class__ = type("Derived", (type(made),), {})
    with pytest.raises(HookNotCalledError, match="Forgetful computed"):
        made.compute_loss(made.model, tiny.micro_batch())


def test_the_canary_watches_every_loss_and_not_only_the_first(build):
    """last_rollouts left over from an earlier loss would hide the silence."""
    made = build()
    made.compute_loss(made.model, tiny.micro_batch())
    made.top_entropy_quantile = 1.0
    with pytest.raises(HookNotCalledError):
        made.compute_loss(made.model, tiny.micro_batch())


def test_the_hook_refuses_to_guess_advantages(build):
    with pytest.raises(RuntimeError, match="outside compute_loss"):
        build().get_high_entropy_mask(torch.ones(2, 3), torch.ones(2, 3), 0.5)


@pytest.mark.parametrize("tamper", [lambda h: h.roll(1, 1), lambda h: h.flip(0), lambda h: h * 0.5])
def test_hidden_states_that_are_not_the_losss_own_are_noticed(build, monkeypatch, tamper):
    """Another layout upstream: states shifted by one token, of other rows, or before the final norm."""
    made, keep = build(entropy_top_k=TOP_K), EntropyTap._keep
    monkeypatch.setattr(EntropyTap, "_keep", lambda tap, m, i, out: keep(tap, m, i, (tamper(out.last_hidden_state),)))
    with pytest.raises(RuntimeError, match="differ from the loss's own.*entropy_top_k=None"):
        made.compute_loss(made.model, tiny.micro_batch())


@pytest.mark.parametrize("tamper", [lambda h: h[:, 1:], lambda h: h[1:], lambda h: h.flatten(0, 1)[None]])
def test_hidden_states_of_another_shape_are_noticed(build, monkeypatch, tamper):
    """A column or a row missing, or everything in one row with its padding."""
    made, keep = build(entropy_top_k=TOP_K), EntropyTap._keep
    monkeypatch.setattr(EntropyTap, "_keep", lambda tap, m, i, out: keep(tap, m, i, (tamper(out.last_hidden_state),)))
    with pytest.raises(RuntimeError, match=r"saw hidden states of shapes \[\(.*entropy_top_k=None"):
        made.compute_loss(made.model, tiny.micro_batch())


def test_a_loss_without_a_token_does_not_count_as_the_check(build):
    """The check on the first call must wait for a call that has something to compare."""
    made, batch = build(entropy_top_k=TOP_K), tiny.micro_batch()
    made.compute_loss(made.model, {**batch, "completion_mask": torch.zeros_like(batch["completion_mask"])})
    assert made._tap.difference is None
    made.compute_loss(made.model, batch)
    assert made._tap.difference < 1e-5


def test_the_loss_leaves_no_hook_and_no_graph_behind(build):
    """A hook per step, or a graph kept by the diagnostics, grows memory until the run dies."""
    for top_k in (None, TOP_K):
        made = build(entropy_top_k=top_k)
        tiny.loss_and_gradients(made, tiny.micro_batch())
        assert not made.model.get_decoder()._forward_hooks
        assert not any(value.requires_grad for value in made.last_rollouts.values())
    assert made._tap._hidden == []


def test_top_k_never_makes_the_logits_of_all_tokens(tmp_path, monkeypatch):
    """A (B, T, V) tensor is what runs a GPU out of memory at a real vocabulary."""
    if "fused_lm_head" not in inspect.getsource(GRPOTrainer._get_per_token_logps_and_entropies):
        pytest.skip("this TRL makes the logits of all tokens itself")
    monkeypatch.setattr(trl.trainer.utils, "_ChunkedLogProbFunction", tiny.ChunkedHead)
    made = tiny.trainer(tmp_path, tiny.wide_model(), GRPOTrainer, entropy_top_k=500)
    found = tiny.largest_of_a_loss(made)
    assert found["largest"] <= found["logits"] / 2


def test_a_batch_whose_hooks_were_not_called_is_refused(build):
    """A renamed private method upstream: no groups, no rewards, and a KeyError that says nothing."""
    made, batch = build(), tiny.micro_batch()
    for key in (GROUP_KEY, "prompt_mask"):
        short = {name: value for name, value in batch.items() if name != key}
        with pytest.raises(UpstreamChangedError, match=f"The micro-batch has no .*{key}.*Remedy: "):
            made.compute_loss(made.model, short)


def test_rewards_that_bypass_the_hook_are_refused(build, monkeypatch):
    """Rewards of an earlier batch would be paired with new rollouts."""
    made = build()
    made._generate_and_score_completions(examples())
    monkeypatch.setattr(PrivateHooks, "_calculate_rewards", GRPOTrainer._calculate_rewards)
    with pytest.raises(UpstreamChangedError, match="scored without calling _calculate_rewards. Installed: "):
        made._generate_and_score_completions(examples())


@pytest.mark.parametrize("attribute", ["reward_weights", "num_generations_eval"])
def test_an_attribute_gone_upstream_is_named(build, attribute):
    made = build()
    delattr(made, attribute)
    with pytest.raises(UpstreamChangedError, match=f"SAAHGRPOTrainer has no {attribute}. Installed: .* Remedy: "):
        check_instance(made)


@pytest.mark.parametrize("top_k", [TOP_K, 500])
def test_top_k_beyond_the_vocabulary_needs_no_tap(build, top_k):
    """K = 500 on a model of 300 tokens is the exact entropy, which is free."""
    assert (build(entropy_top_k=top_k)._tap is None) == (top_k == 500)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"alpha": math.inf}, "alpha of rule 'cumulative' must be a finite number. Got inf"),
        ({"scope": "some"}, "scope of rule 'cumulative' must be one of .*negative.* Got 'some'"),
        ({"rule": "linear"}, "rule must be one of .* Got 'linear'"),
        ({"rule": "scalar", "alpha": -0.1}, "alpha of rule 'scalar' must be in .*Got -0.1"),
        ({"rule": "gtpo", "alpha": 0.5}, "'gtpo' does not take alpha and scope but .*bonus.* Got alpha 0.5"),
        ({"rule": "gtpo", "alpha": None, "rule_parameters": {"beta": 1}}, "'gtpo' has the parameters .* Got .'beta'."),
        ({"rule_parameters": {"bonus": 1}}, "rule 'cumulative' has the parameters .*alpha.* Got .'bonus'."),
        ({"denominator": "token"}, "denominator must be one of .*tokens.* Got 'token'"),
        ({"reward_threshold": -0.1}, "at least 0 and finite. Got -0.1"),
        ({"entropy_top_k": 0}, "at least 1, or None.* Got 0"),
        ({"config": {"top_entropy_quantile": 1.0}}, "below 1, or TRL never asks .* Got 1.0"),
        ({"config": {"loss_type": "grpo"}}, "loss_type must be 'bnpo' .* Got 'grpo'; pass .*SEAM_ARGUMENTS"),
        ({"config": {"steps_per_generation": 2}}, "steps_per_generation must be 1 .* Got 2; pass .*SEAM_ARGUMENTS"),
        ({"config": {"use_bias_correction_kl": True}}, "use_bias_correction_kl must be False .* Got True"),
        ({"config": {"entropy_coef": 0.01}}, "entropy_coef must be 0.0 .* Got 0.01"),
        ({"config": {"multi_objective_aggregation": "normalize_then_sum"}}, "must be 'sum_then_norm"),
        ({"config": {"scale_rewards": "batch"}}, "scale_rewards must be 'group' .* Got 'batch'"),
    ],
)
def test_another_loss_than_the_papers_is_refused(build, rule, message):
    """A GRPOConfig that runs, and trains something else."""
    with pytest.raises(ValueError, match=message):
        build(**rule)


# --- generation, thresholds, diagnostics -----------------------------------------------------------------------------


def by_position(*spreads):
    """A reward function whose k-th group has rewards 0, s, 2s, 3s."""
    return lambda completions, **kwargs: [spreads[i // 4] * (i % 4) for i in range(len(completions))]


def examples(count=2):
    return [
        {"prompt": [{"role": "user", "content": question}]} for question in tiny.QUESTIONS[:count] for _ in range(4)
    ]


def test_reward_threshold_silences_exactly_the_groups_below_it(build):
    """Advantages blown up from rewards that hardly differ; a threshold on the wrong side, or on the wrong group."""
    made = build(reward_funcs=[by_position(0.05, 1.0)], reward_threshold=0.15)
    advantages = made._generate_and_score_completions(examples())["advantages"]
    assert (advantages[:4] == 0).all() and (advantages[4:] != 0).all()
    made.reward_threshold = 0.0
    assert (made._generate_and_score_completions(examples())["advantages"] != 0).all()
    # Rewards that are all equal carry none at any threshold; their advantages are rounding errors.
    made.reward_funcs[0] = lambda completions, **kwargs: [2.4] * len(completions)
    assert (made._generate_and_score_completions(examples())["advantages"] == 0).all()
    made.reward_funcs[0] = by_position(0.05, 1.0)
    # "Below": a standard deviation equal to the threshold still carries a signal.
    made.reward_threshold = (torch.arange(4.0) * 0.05).std().item()
    assert (made._generate_and_score_completions(examples())["advantages"] != 0).all()


def test_a_rollout_that_no_function_scores_earned_nothing_and_not_0(build):
    """Three rewards that hardly differ and one None: taken for 0, it made the group's spread, and three advantages."""

    def rewards(completions, **kwargs):
        return [None if i % 4 == 3 else 1.0 + 0.05 * (i % 4 == 1) for i in range(len(completions))]

    made = build(reward_funcs=[rewards], reward_threshold=0.15)
    output = made._generate_and_score_completions(examples())
    assert (output["advantages"] == 0).all()
    assert output[REWARD_KEY].isnan().tolist() == [False, False, False, True] * 2
    made.train()
    row = next(row for row in made.state.log_history if "sa_ah/reward_group_std" in row)
    assert row["sa_ah/reward_group_std"] == pytest.approx(statistics.stdev([1.0, 1.05, 1.0]), rel=1e-4)


@pytest.mark.parametrize("level", [0.0, 6.9, 7.2])
def test_a_spread_that_equals_the_threshold_is_not_below_it_at_any_level(build, level):
    """One of four that is better by 0.3: rounding silenced it or not, by how high the four stood."""

    def rewards(completions, **kwargs):
        return [level + 0.3 * (i % 4 == 3) for i in range(len(completions))]

    made = build(reward_funcs=[rewards], reward_threshold=0.15)
    assert (made._generate_and_score_completions(examples())["advantages"] != 0).all()


def test_reward_weights_count_in_the_threshold(build):
    """The threshold is on the total reward as TRL weighs it."""
    made = build(reward_funcs=[by_position(1.0, 1.0)], config={"reward_weights": [0.01]})
    output = made._generate_and_score_completions(examples())
    assert (output["advantages"] == 0).all()
    torch.testing.assert_close(output[REWARD_KEY], torch.tensor([0.0, 0.01, 0.02, 0.03] * 2))


def test_training_moves_parameters_and_keeps_rows_together(build):
    """Real generation: after TRL's shuffle each row must still have its own prompt, group, reward and advantage."""
    made = build(reward_threshold=0.0, config={"max_steps": 2})
    before = copy.deepcopy(made.model.state_dict())
    made.train()
    assert any(not torch.equal(before[name], value) for name, value in made.model.state_dict().items())
    rows, tokenizer = made.last_rollouts, made.processing_class
    texts = [
        tokenizer.decode(ids[mask.bool()], skip_special_tokens=True)
        for ids, mask in zip(rows["completion_ids"], rows["completion_mask"], strict=True)
    ]
    chats = [[{"content": text}] for text in texts]
    expected = torch.tensor(tiny.digit_share(chats)) + torch.tensor(tiny.first_letter(chats))
    torch.testing.assert_close(rows["rewards"], expected)
    pairs = zip(rows["prompt_ids"], rows["prompt_mask"], strict=True)
    prompts = [tuple(ids[mask.bool()].tolist()) for ids, mask in pairs]
    for group in (0, 1):
        members = rows["groups"] == group
        assert members.sum() == 4 and len({prompts[i] for i in members.nonzero().flatten()}) == 1
        rewards = rows["rewards"][members]
        torch.testing.assert_close(rows["advantages"][members], (rewards - rewards.mean()) / (rewards.std() + 1e-4))


def diagnostics_by_hand(parts, alpha, threshold, scope="negative"):
    """Table 6's columns from rollouts, with plain loops."""
    tokens, negative, spreads, signs, means = [], [], [], [], []
    for rows in parts:
        for i, advantage in enumerate(rows["advantages"].tolist()):
            kept = [
                (h.item(), w.item())
                for h, w, m in zip(rows["entropy"][i], rows["weights"][i], rows["mask"][i], strict=True)
                if m
            ]
            tokens += kept
            negative += kept if advantage < 0 else []
            signs.append(advantage < 0)
        groups = [rows["rewards"][rows["groups"] == g] for g in set(rows["groups"].tolist())]
        spreads += [rewards.std().item() for rewards in groups]
        means += [rewards.mean().item() for rewards in groups]
    mean = lambda values: sum(values) / len(values) if values else 0.0  # noqa: E731
    entropy = mean([h for h, _ in tokens])
    return {
        "sa_ah/entropy": entropy,
        "sa_ah/weight": mean([w for _, w in tokens]),
        "sa_ah/weight_negative": mean([w for _, w in negative]),
        "sa_ah/weight_discounted": mean([w for _, w in (tokens if scope == "all" else negative)]),
        "sa_ah/weight_target": mean([w for _, w in (tokens if scope == "all" else negative)]),
        "sa_ah/negative_fraction": mean(signs),
        "sa_ah/silenced_fraction": mean([s < threshold for s in spreads]),
        "sa_ah/reward_group_std": mean(spreads),
        "sa_ah/reward_within_variance": mean([s**2 for s in spreads]),
        "sa_ah/reward_between_variance": statistics.variance(means) if len(means) > 1 else None,
        "sa_ah/effective_horizon": 1 / (alpha * entropy) if alpha > 0 else None,
    }


TABLE_6 = {
    "reward", "reward_std", "rewards/digit_share/mean", "rewards/first_letter/mean", "kl", "sa_ah/entropy",
    "sa_ah/weight", "sa_ah/weight_negative", "sa_ah/negative_fraction", "completions/mean_length",
    "clip_ratio/region_mean", "grad_norm", "learning_rate", "step_time", "sa_ah/effective_horizon",
}  # fmt: skip


def test_a_training_step_logs_table_6(build):
    """A column missing or computed from other rows than those trained on."""
    made = build(reward_threshold=0.0, config={"beta": 0.04})
    made.train()
    logged = made.state.log_history[0]
    assert TABLE_6 <= logged.keys()
    by_hand = diagnostics_by_hand([made.last_rollouts], ALPHA, 0.0)
    assert {key: logged[key] for key in by_hand} == pytest.approx(by_hand, rel=1e-5)
    assert 0 < by_hand["sa_ah/negative_fraction"] < 1 and by_hand["sa_ah/weight_negative"] < 1


@pytest.mark.parametrize("top_k", [TOP_K, None])
def test_every_logged_key_of_ours_is_in_the_table_of_metrics(build, top_k):
    """Tables, axes and the glossary are made from the table: a key that it lacks has no unit and no meaning."""
    made = build(reward_threshold=0.0, entropy_top_k=top_k)
    made.train()
    logged = {key for row in made.state.log_history for key in row if key.startswith("sa_ah/")}
    once = set() if top_k else {"sa_ah/tap_difference"}
    assert logged == {key for key in METRICS if key.startswith("sa_ah/")} - once


def test_every_sum_of_a_ratio_is_made_and_no_other(build):
    """A sum that no metric uses costs a reduction; one that is missing stops the first log of a run."""
    made = build()
    made.compute_loss(made.model, tiny.micro_batch())
    of_ratios = {name for metric in METRICS.values() for name in metric.ratio or ()}
    of_the_variance_between_groups = {"group_mean", "group_mean_squared"}
    assert made._sums.sums.keys() == of_ratios | of_the_variance_between_groups


def test_the_tap_s_difference_is_logged_once_and_only_where_there_is_a_tap(build):
    """How well the hidden states fit the loss on a card nobody here has seen: a number, not only a check."""
    for top_k, wanted in ((TOP_K, 1), (None, 0)):
        made = build(reward_threshold=0.0, entropy_top_k=top_k, config={"max_steps": 2})
        made.train()
        logged = [row["sa_ah/tap_difference"] for row in made.state.log_history if "sa_ah/tap_difference" in row]
        assert len(logged) == wanted and all(0 <= difference < 1e-4 for difference in logged)


def test_diagnostics_pool_tokens_over_micro_batches_and_start_afresh(build):
    """A mean of means: micro-batches differ in tokens and in negative rollouts."""
    made = build(scope="all")
    parts = []
    for seed, longest in ((0, 4), (1, 12)):
        made.compute_loss(made.model, tiny.micro_batch(seed=seed, longest=longest))
        parts.append(made.last_rollouts)
    assert made.diagnostics() == pytest.approx(diagnostics_by_hand(parts, ALPHA, 0.15, "all"), rel=1e-5)
    made.compute_loss(made.model, tiny.micro_batch(seed=2))
    assert made.diagnostics() == pytest.approx(diagnostics_by_hand([made.last_rollouts], ALPHA, 0.15, "all"), rel=1e-5)


def test_diagnostics_of_nothing_are_none(build):
    """Asked before the first step, or right after a log, they ended in an error of torch's."""
    assert build().diagnostics() == {}


def test_a_group_of_an_evaluation_may_span_processes(build):
    """TRL allows it; four of its eight rewards made no group here, and the first evaluation failed."""
    half = SimpleNamespace(
        model=SimpleNamespace(training=False), num_generations=4, num_generations_eval=8, reward_threshold=0.15,
        reward_weights=torch.ones(1), accelerator=SimpleNamespace(process_index=1),
    )  # fmt: skip
    for high, kept in ((1.0, [1.0] * 4), (0.1, [0.0] * 4)):
        rewards = torch.tensor([0.0] * 4 + [high] * 4)[:, None]
        found = type(build()).rollouts_scored(half, {"advantages": torch.ones(4)}, rewards)
        assert found["advantages"].tolist() == kept
        assert found[GROUP_KEY].tolist() == [0] * 4 and found[REWARD_KEY].tolist() == rewards[4:, 0].tolist()


def test_without_negatives_their_weight_is_zero(build):
    """0 / 0 in the log; the paper prints 0 for such steps."""
    made, batch = build(alpha=-0.1), tiny.micro_batch()
    made.compute_loss(made.model, {**batch, "advantages": batch["advantages"].abs()})
    found = made.diagnostics()
    assert found["sa_ah/weight_negative"] == 0 and found["sa_ah/negative_fraction"] == 0
    assert found["sa_ah/effective_horizon"] is None, "a horizon needs alpha > 0"


def test_evaluation_does_not_enter_the_training_diagnostics(build):
    """eval_loss between two logs would be counted into Table 6, or take the sums away."""
    made = build()
    made.compute_loss(made.model, tiny.micro_batch())
    kept = dict(made._sums.sums)
    made.model.eval()
    made.compute_loss(made.model, tiny.micro_batch(seed=3))
    logs = {}
    made.log(logs)
    assert not any(key.startswith("sa_ah/") for key in logs)
    assert made._sums.sums == kept
    made.model.train()
    made.log(logs)
    assert logs["sa_ah/entropy"] > 0 and not made._sums


def test_what_the_hook_returns_is_the_folded_weights(build, monkeypatch):
    """The last link: TRL must multiply what group_normalized gives, with the mask TRL itself uses."""
    made, seen = build(), {}
    hook = made.get_high_entropy_mask
    monkeypatch.setattr(made, "get_high_entropy_mask", lambda *args: seen.setdefault("returned", hook(*args)))
    batch = tiny.micro_batch()
    made.compute_loss(made.model, batch)
    rows = made.last_rollouts
    assert torch.equal(rows["mask"], batch["completion_mask"]) and torch.equal(rows["groups"], batch[GROUP_KEY])
    assert torch.equal(seen["returned"], group_normalized(rows["weights"], rows["mask"], rows["groups"], "group"))


def test_a_second_trainer_on_the_same_model_starts_from_where_the_first_ended(build):
    """README's two examples in sequence failed on TRL's reference adapter; a stale one would give a KL above 0."""
    found = tiny.second_trainer(build)
    assert found["error"] < TOLERANCE and found["moved"] > 1e-3
    assert found["kl"] == pytest.approx(0, abs=1e-7)
