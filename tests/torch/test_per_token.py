"""Per-token advantages for other trainers: the same loss and gradient as the rule's own, and what the file says."""

import json
import math
import re
from pathlib import Path

import pytest

pytest.importorskip("torch")
import torch
from reference_loss import reference_loss
from rules_by_loops import some_grams
from safetensors import safe_open

from sa_ah_lib.export import per_token as command
from sa_ah_lib.export.per_token import per_token
from sa_ah_lib.rulebook import DENOMINATORS
from sa_ah_lib.rules import RULES, RolloutBatch
from sa_ah_lib.train.runlog import read_jsonl

RUN = next((Path(__file__).parents[2] / "figures" / "logs").glob("micro-s-sa-ah-grpo-a0.5-seed123-180steps-*"))
BETA, EPSILON = 0.04, 0.2
SHOWN = {"tr_grpo": {"temperature": 0.02}, "cumulative": {"alpha": 4.0, "scope": "negative"}}
"""Parameters where the defaults would give all tokens of so small a batch one weight."""
RULES_AT_LEAST_0 = sorted(name for name, rule in RULES.items() if not rule.record.signed)


@pytest.fixture(scope="module")
def batch():
    """Two groups of four, of unequal length, with what any rule may ask for."""
    generator = torch.Generator().manual_seed(3)
    lengths = torch.tensor([6, 3, 1, 5, 2, 6, 4, 4])
    mask = (torch.arange(6) < lengths[:, None]).long()
    nats = torch.rand(mask.shape, generator=generator) * mask * 2
    return RolloutBatch(
        entropy=nats / math.log(50), mask=mask, groups=torch.arange(8) // 4, log_vocabulary=math.log(50),
        advantages=torch.tensor([1.2, -0.4, 0.0, -0.8, 0.7, -1.1, 0.9, -0.5]), rewards=torch.arange(8.0),
        completion_ids=torch.randint(1, 6, mask.shape, generator=generator) * mask,
        log_probs=-nats, progress=0.5, seed=1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def scored(batch):
    """(current, old, reference) log-probabilities: far enough apart that ratios are clipped on both sides."""
    generator = torch.Generator().manual_seed(4)
    old, ref, noise = (torch.randn(batch.mask.shape, generator=generator).double() * 0.5 for _ in range(3))
    return (old + 0.6 * noise).requires_grad_(), old, ref


def weights_of(name, batch):
    given = {"hicra": {"grams": some_grams(batch.completion_ids, batch.mask)}, **SHOWN}.get(name, {})
    return RULES[name](batch, **given)


def by_tokens(data, log_probs, old, ref):
    """GRPO's loss as trainers write it that divide by tokens, knowing nothing of a rule."""
    advantages, mask, ratio = data["advantages"].double(), data["response_mask"].double(), (log_probs - old).exp()
    policy = torch.minimum(ratio * advantages, ratio.clamp(1 - EPSILON, 1 + EPSILON) * advantages)
    divergence = (ref - log_probs).exp() - (ref - log_probs) - 1
    return ((BETA * divergence - policy) * mask).sum() / mask.sum()


def wanted_of(batch, weights, denominator, log_probs, old, ref, beta=BETA):
    return reference_loss(
        log_probs, old, ref, batch.entropy, batch.mask, batch.advantages, batch.groups,
        alpha=0.0, scope="none", weights=weights, denominator=denominator, beta=beta, epsilon=EPSILON,
    )  # fmt: skip


def same(found, wanted, log_probs):
    """Loss and gradient, in the precision of float32 advantages."""
    torch.testing.assert_close(found.double(), wanted.double(), rtol=1e-6, atol=1e-7)
    gradients = [torch.autograd.grad(loss, log_probs, retain_graph=True)[0].double() for loss in (found, wanted)]
    assert gradients[1].abs().max() > 1e-3
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("denominator", DENOMINATORS)
@pytest.mark.parametrize("name", RULES_AT_LEAST_0)
def test_a_loss_by_tokens_with_these_advantages_is_the_rules(name, denominator, batch, scored):
    """Clipped ratios and the KL included; without the factor a discount would be another step size."""
    weights = weights_of(name, batch)
    data = per_token(batch, weights, denominator)
    same(by_tokens(data, *scored), wanted_of(batch, weights, denominator, *scored), scored[0])
    assert torch.equal(data["responses"], batch.completion_ids)


def test_a_negative_weight_is_refused(batch):
    """Inside the minimum a negative factor chooses the other branch: another gradient wherever a ratio is clipped."""
    weights = torch.ones(batch.mask.shape)
    weights[0, 0] = -0.5
    with pytest.raises(ValueError, match=r"at least 0.*Got -0.5"):
        per_token(batch, weights, "tokens")
    weights[0, 0], weights[2, 3] = 1.0, -1.0  # padding counts for nothing
    per_token(batch, weights, "tokens")


def test_stock_trls_own_loss_reads_them(tmp_path, plain_head):
    """GRPOTrainer as it is, without this library's subclass."""
    pytest.importorskip("trl")
    import tiny
    import trl

    if trl.GRPOTrainer.__name__.startswith("Unsloth"):
        pytest.skip("Unsloth has replaced stock TRL in this process")
    policy = tiny.model()
    policy.save_pretrained(tmp_path / "model")
    policy.config._name_or_path = str(tmp_path / "model")
    plain = trl.GRPOTrainer(
        model=policy, processing_class=tiny.tokenizer(), reward_funcs=[tiny.digit_share], train_dataset=tiny.dataset(),
        args=tiny.arguments(tmp_path, beta=BETA, top_entropy_quantile=1.0),
    )  # fmt: skip
    plain.current_gradient_accumulation_steps = 1
    plain.model.train()
    batch = tiny.with_logps(tiny.micro_batch(left=1, right=2), plain.model, old_noise=0.3)
    reference = tiny.Reference(plain.model, batch)
    entropy, mask = reference.entropy.float(), batch["completion_mask"]
    seen = RolloutBatch(entropy, mask, batch["advantages"], batch[tiny.GROUP_KEY], math.log(tiny.VOCABULARY))
    weights = RULES["cumulative"](seen, alpha=0.7, scope="negative")
    data = per_token(seen, weights, "group")
    found = tiny.loss_and_gradients(plain, {**batch, "advantages": data["advantages"]})
    wanted = reference(denominator="group", beta=BETA, weights=weights)
    assert tiny.worst_error(found, wanted) < 2e-5
    assert tiny.worst_error(tiny.loss_and_gradients(plain, batch), wanted) > 1e-2


@pytest.mark.parametrize("denominator", DENOMINATORS)
def test_verls_own_loss_reads_them(denominator, batch, scored):
    """Where verl is installed: its policy loss as it is, summed over tokens. Its KL is another function."""
    core = pytest.importorskip("verl.trainer.ppo.core_algos")
    from verl.workers.config import ActorConfig

    weights = weights_of("cumulative", batch)
    data = per_token(batch, weights, denominator)
    config = ActorConfig(
        strategy="fsdp", rollout_n=4, ppo_micro_batch_size_per_gpu=8, clip_ratio=EPSILON, clip_ratio_low=EPSILON,
        clip_ratio_high=EPSILON, clip_ratio_c=100.0,
    )  # fmt: skip
    log_probs, old, ref = scored
    found, _ = core.compute_policy_loss_vanilla(
        old, log_probs, data["advantages"], data["response_mask"], "token-mean", config
    )
    same(found, wanted_of(batch, weights, denominator, log_probs, old, ref, beta=0.0), log_probs)


# --- the command ------------------------------------------------------------------------------------------------------


def test_a_logged_step_becomes_a_file(tmp_path, capsys):
    """By hand from the log: within a group of N tokens, A w N / sum of w."""
    path = tmp_path / "made" / "step.safetensors"
    command.main([str(RUN), "--step", "1", "--out", str(path)])
    rows = [row for row in read_jsonl(RUN / "completions.jsonl") if row["step"] == 1]
    assert f"{path}: step 1, {len(rows)} rollouts" in capsys.readouterr().out
    with safe_open(path, "pt") as file:
        data = {name: file.get_tensor(name) for name in file.keys()}
        told = json.loads(file.metadata()["per_token"])
    assert set(data) == {"advantages", "response_mask", "groups"}, "logs hold texts, not ids"
    everything = [w for row in rows for w in row["weights"]]
    assert min(everything) < 0.9 and max(everything) == 1
    for i, row in enumerate(rows):
        width = len(row["tokens"])
        expected = [row["advantage"] * w * len(everything) / sum(everything) for w in row["weights"]]
        assert data["advantages"][i, :width].tolist() == pytest.approx(expected, rel=1e-5)
        assert data["response_mask"][i].sum() == width and not data["advantages"][i, width:].any()
    assert told["tokens"] == [row["tokens"] for row in rows] and told["prompt"] == rows[0]["prompt"]
    assert (told["rule"], told["alpha"], told["scope"], told["denominator"]) == ("cumulative", 0.5, "negative", "group")
    assert "response_mask" in told["divided_by"]


def test_the_last_logged_step_is_the_default(tmp_path, capsys):
    command.main([str(RUN), "--out", str(tmp_path / "last.safetensors")])
    assert "step 180," in capsys.readouterr().out


@pytest.mark.parametrize(
    "given,said",
    [
        ([str(RUN), "--step", "7"], r"of \[1, 180\]. Got 7"),
        ([str(RUN.parent)], "expected a run directory"),
        ([str(next(RUN.parent.glob("micro-s-zero-shot-*")))], r"weights .* logged, of \[\]"),
    ],
)
def test_what_is_not_in_the_log_is_an_error(given, said, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        command.main(given)
    assert re.search(said, capsys.readouterr().err.replace("\n", " ")) and not list(tmp_path.iterdir())


def test_the_example_of_the_docs_runs(batch, tmp_path, monkeypatch):
    page = (Path(__file__).parents[2] / "docs" / "long-runs.md").read_text(encoding="utf-8")
    section = page.split("## Token weights for another trainer\n", 1)[1].split("\n## ", 1)[0]
    monkeypatch.chdir(tmp_path)
    given = {name: getattr(batch, name) for name in ("entropy", "mask", "advantages", "groups")}
    exec(re.search(r"```python\n(.*?)```", section, re.S)[1], given)  # noqa: S102
    with safe_open("batch.safetensors", "pt") as file:
        weights = RULES["cumulative"](batch, alpha=0.5, scope="negative")
        assert torch.equal(file.get_tensor("advantages"), per_token(batch, weights, "group")["advantages"])
        assert json.loads(file.metadata()["per_token"])["rule"] == "cumulative"
