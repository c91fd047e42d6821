"""The second entrance, (B, T) advantages: the same loss and gradient as the first, and when it is taken."""

import logging

import pytest

pytest.importorskip("trl")
import tiny
import torch
import trl
from rules_by_loops import LOOPS
from trl.trainer.grpo_trainer import GRPOTrainer

from sa_ah_lib.rulebook import DENOMINATORS, SCOPES
from sa_ah_lib.trainer import sa_ah_trainer_class
from sa_ah_lib.upstream import settings
from sa_ah_lib.upstream.entrance import on_loss_columns
from sa_ah_lib.upstream.entropy_tap import EntropyTap

pytestmark = [
    pytest.mark.usefixtures("plain_head"),
    pytest.mark.skipif(
        GRPOTrainer.__name__.startswith("Unsloth"), reason="no stock TRL in this process; see test_seam"
    ),
]
ALPHA, TOP_K, TOLERANCE = 0.7, 5, 2e-5
"""As in test_trainer."""


@pytest.fixture
def build(tmp_path):
    return lambda policy=None, base=GRPOTrainer, **rest: tiny.trainer(
        tmp_path, policy, base, **{"entrance": "advantages", **rest}
    )


@pytest.mark.parametrize("top_k", [None, TOP_K])
@pytest.mark.parametrize("denominator", DENOMINATORS)
@pytest.mark.parametrize("scope", SCOPES)
def test_loss_and_every_gradient_are_the_papers(build, scope, denominator, top_k):
    """On policy and clipped: a factor that is not negative may stand inside the minimum of Eq. 2."""
    rule = {"alpha": ALPHA, "scope": scope, "denominator": denominator}
    made = build(entropy_top_k=top_k, config={"beta": 0.04, "temperature": 1.3}, **rule)
    for old_noise in (None, 0.3):
        batch = tiny.micro_batch(left=1, right=2)
        batch = tiny.with_logps(batch, made.model, old_noise=old_noise, temperature=1.3)
        wanted = tiny.reference(made.model, batch, top_k=top_k, beta=0.04, temperature=1.3, **rule)
        assert tiny.worst_error(tiny.loss_and_gradients(made, batch), wanted) < TOLERANCE


@pytest.mark.parametrize("name", [name for name in LOOPS if name != "gtpo_conflict"])
def test_every_published_rule_enters_this_way_too(build, name):
    """Log-probabilities and token ids in the columns of another rollout. A signed rule is on policy only."""
    made, batch, wanted = tiny.rule_case(build, name, old_noise=0.3)
    assert tiny.worst_error(tiny.loss_and_gradients(made, batch), wanted) < TOLERANCE


@pytest.mark.parametrize("name", ["forking_tokens_trl", "entropy_advantage"])
def test_a_rule_of_entropies_in_nats_is_the_same_at_top_k(build, name):
    """One entrance gave the exact entropies, the other those of the K most probable tokens."""
    losses = []
    for entrance in ("mask", "advantages"):
        torch.manual_seed(0)
        made = build(entrance=entrance, rule=name, denominator="tokens", entropy_top_k=TOP_K)
        batch = tiny.with_logps(tiny.micro_batch(left=1, right=2), made.model)
        losses.append(tiny.loss_and_gradients(made, batch))
    assert tiny.worst_error(*losses) < TOLERANCE


@pytest.mark.parametrize("name", ["final_logit_softcapping", "logits_scaling"])
def test_logits_that_are_not_the_head_s_are_refused(build, name):
    """Their entropies came out a third too low, in silence: Gemma 2's and Granite's logits are changed behind it."""
    made = build()
    setattr(made.model.config, name, 1.5)
    with pytest.raises(ValueError, match=f"need a model whose logits.*{name}"):
        tiny.loss_and_gradients(made, tiny.micro_batch())
    with pytest.raises(ValueError, match=f"need a model whose logits.*{name}"):
        EntropyTap.of(made.model, 500, 1.0)


def test_a_signed_rule_is_the_same_on_policy(build):
    made, batch, wanted = tiny.rule_case(build, "gtpo_conflict")
    assert tiny.worst_error(tiny.loss_and_gradients(made, batch), wanted) < TOLERANCE


def test_training_logs_the_same_diagnostics_by_both_entrances(tmp_path):
    """Two steps with LoRA: what was sampled, weighed and learnt."""
    logged, moved = {}, {}
    for entrance in ("mask", "advantages"):
        made = tiny.trainer(
            tmp_path, tiny.with_lora(tiny.model()), GRPOTrainer, alpha=ALPHA, entrance=entrance, entropy_top_k=TOP_K,
            config={"beta": 0.04, "max_steps": 2},
        )  # fmt: skip
        made.train()
        rows = [row for row in made.state.log_history if "reward" in row]
        keys = [key for key in rows[0] if key.startswith("sa_ah/") and key != "sa_ah/tap_difference"]
        logged[entrance] = [[row[key] for key in ("reward", "grad_norm", *keys)] for row in rows]
        moved[entrance] = torch.cat([p.detach().flatten() for p in made.model.parameters() if p.requires_grad])
    assert len(logged["mask"]) == 2
    for first, second in zip(*logged.values(), strict=True):
        assert second == pytest.approx(first, rel=1e-3, abs=1e-5)
    torch.testing.assert_close(moved["advantages"], moved["mask"], rtol=1e-3, atol=1e-4)


def test_the_probes_choose_the_first_where_it_is_open_and_say_so(caplog):
    """What happens where it is shut is in test_seam."""
    with caplog.at_level(logging.INFO, "sa_ah_lib"):
        assert sa_ah_trainer_class(GRPOTrainer).entrance == "mask"
    assert "Token weights reach GRPOTrainer through get_high_entropy_mask" in caplog.text


def test_the_switch_of_a_mask_that_is_gone_is_not_asked_for(tmp_path):
    """GRPOConfig would refuse it, and our own check its absence."""
    from types import SimpleNamespace

    known = settings.known_by(trl.GRPOConfig)
    assert known == settings.SEAM_ARGUMENTS
    gone = type("GRPOConfig", (), {"__dataclass_fields__": {k: 1 for k in known if k != settings.QUANTILE}})
    assert settings.known_by(gone) == {k: v for k, v in known.items() if k != settings.QUANTILE}
    args = SimpleNamespace(**{k: v for k, v in vars(tiny.arguments(tmp_path)).items() if k != settings.QUANTILE})
    settings.check_arguments(args, 4, "advantages")
    with pytest.raises(settings.UpstreamChangedError, match=settings.QUANTILE):
        settings.check_arguments(args, 4, "mask")


def test_an_unknown_entrance_is_refused(build):
    with pytest.raises(ValueError, match="entrance must be one of"):
        build(entrance="door")


def test_values_move_by_the_padding_of_their_prompts():
    """Row by row: a shift of the batch would weigh a neighbour's token."""
    values = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    inputs = {"prompt_mask": torch.tensor([[1, 1, 1], [0, 0, 1]])}
    assert on_loss_columns(values, inputs, False) is values
    assert on_loss_columns(values, inputs, True).tolist() == [[0, 0, 1, 2], [3, 4, 0, 0]]
    wider = on_loss_columns(values, {**inputs, "ref_per_token_logps": torch.zeros(2, 5)}, True)
    assert wider.tolist() == [[0, 0, 0, 1, 2], [0, 3, 4, 0, 0]]
