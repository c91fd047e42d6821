"""What the library relies on upstream without it being documented: stock TRL's names, and Unsloth's generated trainer.

Nothing from trl is imported at module level: the Unsloth half runs in a process of its own, where unsloth must
come first.
"""

import importlib.util
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("trl")

TESTS = Path(__file__).parent


def stock():
    from trl.trainer.grpo_trainer import GRPOTrainer

    # Unsloth's generated class, where another test brought it in, keeps stock TRL's as an ancestor.
    for ancestor in GRPOTrainer.__mro__:
        if ancestor.__name__ == "GRPOTrainer" and ancestor.__module__.startswith("trl."):
            return ancestor
    return GRPOTrainer


def parameters(function):
    return list(inspect.signature(function).parameters)


# --- stock TRL -------------------------------------------------------------------------------------------------------


def test_the_hook_takes_entropies_mask_and_threshold():
    assert parameters(stock().get_high_entropy_mask) == ["self", "entropies", "mask", "threshold"]


def test_the_loss_is_public_and_takes_model_and_inputs():
    assert parameters(stock().compute_loss) == ["self", "model", "inputs", "return_outputs", "num_items_in_batch"]


def test_the_hook_multiplies_the_policy_term_before_the_kl_is_added():
    """The KL must stay unweighted, as in Eq. 2; the equivalence tests show it in numbers, this says where."""
    source = inspect.getsource(stock()._compute_loss)
    places = [
        source.index(line)
        for line in (
            "self.get_high_entropy_mask(entropies, mask, 1 - self.top_entropy_quantile)",
            "per_token_loss = per_token_loss * entropy_mask",
            "per_token_loss = per_token_loss + self.beta * per_token_kl",
            'elif self.loss_type == "bnpo":',
        )
    ]
    assert places == sorted(places)


def test_bnpo_divides_by_the_mask_sum_and_the_accumulation_steps():
    source = inspect.getsource(stock()._compute_loss)
    bnpo = source[source.index('elif self.loss_type == "bnpo":') :][:400]
    assert "loss = (per_token_loss * mask).sum() / mask.sum().clamp(min=1.0)" in bnpo
    assert "loss = loss / normalizer" in bnpo


def test_rewards_are_scored_per_function_from_the_inputs():
    assert parameters(stock()._calculate_rewards)[:2] == ["self", "inputs"]


def test_rollouts_come_as_one_dictionary_from_the_inputs():
    assert parameters(stock()._generate_and_score_completions) == ["self", "inputs"]
    assert "return output" in inspect.getsource(stock()._generate_and_score_completions)


def test_the_config_knows_every_seam_argument():
    """A renamed field would be refused by GRPOConfig; one that means something else would not."""
    from trl import GRPOConfig

    from sa_ah_lib.seam import SEAM_ARGUMENTS

    assert SEAM_ARGUMENTS.keys() <= GRPOConfig.__dataclass_fields__.keys()


def test_every_seam_argument_is_checked(tmp_path):
    """A requirement in the table that nothing enforces."""
    import tiny

    from sa_ah_lib.seam import SEAM_ARGUMENTS, check_arguments

    good = tiny.arguments(tmp_path)
    check_arguments(good, 4)
    other = {
        "top_entropy_quantile": 1.0,
        "loss_type": "dapo",
        "importance_sampling_level": "sequence",
        "scale_rewards": "none",
    }
    for name, value in SEAM_ARGUMENTS.items():
        changed = SimpleNamespace(**{**vars(good), name: other.get(name, 2 if type(value) is int else not value)})
        with pytest.raises(ValueError, match=f"{name} must be .* Got "):
            check_arguments(changed, 4)


def test_a_micro_batch_must_hold_whole_groups(tmp_path):
    """Half a group a process would be normalised by itself; TRL asks for whole groups over all processes only."""
    import tiny

    from sa_ah_lib.seam import check_arguments

    with pytest.raises(ValueError, match=r"multiple of num_generations \(3\)\. Got 8"):
        check_arguments(tiny.arguments(tmp_path), 3)


def test_trl_shuffles_our_tensors_with_its_own():
    """Rows lose their group and reward if the shuffle stops at TRL's own keys."""
    import torch
    from trl.trainer.utils import shuffle_sequence_dict

    rows = torch.arange(32)
    made = shuffle_sequence_dict(
        {"prompt_ids": rows[:, None], "num_items_in_batch": torch.tensor(9), "rollout_group": rows * 2}
    )
    assert torch.equal(made["prompt_ids"][:, 0] * 2, made["rollout_group"])
    assert not torch.equal(made["rollout_group"], rows * 2)
    assert made["num_items_in_batch"] == 9


def test_a_generation_is_one_micro_batch(tmp_path):
    """With steps_per_generation = 1 a micro-batch holds whole groups and old log-probabilities are the current ones."""
    import tiny

    made = tiny.arguments(tmp_path, gradient_accumulation_steps=2)
    assert made.generation_batch_size == made.per_device_train_batch_size
    assert "self.args.gradient_accumulation_steps % generate_every != 0" in inspect.getsource(
        stock()._generate_and_score_completions
    )


# --- the entropy tap's two layouts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["padded", "chunks", "packed", "packed and verified", "verified, then padded"])
def test_the_tap_reads_both_layouts(layout):
    """Unsloth packs rows end to end and forwards single rows beside them to verify it; TRL pads."""
    import tiny
    import torch

    from sa_ah_lib.seam import EntropyTap

    policy, batch = tiny.model(), tiny.micro_batch(right=1)
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    real = ids != tiny.PAD
    lengths = real.sum(1)
    assert lengths.max() < ids.shape[1] and len(set(lengths.tolist())) > 2
    # Left-packed, as Unsloth shifts rows before it scores them; the mask then spans the prompt's padding too.
    packed_ids = [row[keep] for row, keep in zip(ids, real, strict=True)]
    width = batch["completion_ids"].shape[1] + int((batch["prompt_mask"] == 0).sum(1).max())
    mask = torch.zeros(len(ids), ids.shape[1], dtype=torch.long)
    for row, length in enumerate(lengths.tolist()):
        mask[row, int(batch["prompt_mask"][row].sum()) : length] = 1
    mask = mask[:, -width:]
    alone = [policy(input_ids=row[None], output_hidden_states=True).hidden_states[-1].detach() for row in packed_ids]
    padded = torch.zeros(len(ids), ids.shape[1], 32)
    for row, states in enumerate(alone):
        padded[row, : states.shape[1]] = states[0]
    tap = EntropyTap(5, 1.0)
    tap._hidden = {
        "padded": [padded],
        "chunks": list(padded.split(3)),
        "packed": [torch.cat(alone, 1)],
        "packed and verified": [torch.cat(alone, 1), *alone],
        "verified, then padded": [torch.cat(alone, 1).flip(1), *alone, *padded.split(1)],
    }[layout]
    _, exact = tiny.scores(policy, batch, None)
    _, wanted = tiny.scores(policy, batch, 5)
    nats = torch.zeros(mask.shape)
    nats[mask.bool()] = exact[batch["completion_mask"].bool()].float() * float(
        torch.log(torch.tensor(float(tiny.VOCABULARY)))
    )
    found = tap.entropies(policy, nats, mask, real, float(torch.log(torch.tensor(float(tiny.VOCABULARY)))))
    torch.testing.assert_close(
        found[mask.bool()], wanted[batch["completion_mask"].bool()].float(), rtol=1e-4, atol=1e-5
    )
    assert (found[mask == 0] == 0).all()


# --- Unsloth's generated trainer -------------------------------------------------------------------------------------

ALPHA, TOP_K = 0.7, 5
# Float32 against float64; the worst case measured is in the report this file makes of a run.
TOLERANCE = 1e-5
LAYOUTS = {"packed": {}, "padded": {"UNSLOTH_GRPO_SEQ_PACKING": "0"}, "chunks": {"UNSLOTH_GRPO_SEQ_PACKING": "0"}}
CASES = {
    f"{layout}, {'top-K' if top_k else 'exact'}, {scope}, {denominator}, beta {beta}, {'old' if old else 'fresh'}": (
        layout, top_k, scope, denominator, beta, old,
    )
    for layout in LAYOUTS
    for top_k in (None, TOP_K)
    for scope, denominator, beta, old in (
        ("negative", "group", 0.0, None), ("negative", "group", 0.04, 0.3),
        ("all", "batch", 0.04, None), ("none", "sequence", 0.0, 0.3),
    )
}  # fmt: skip


def check_unsloth():
    """Runs in the child: prints one JSON object of everything the tests below assert."""
    import unsloth  # noqa: F401
    from unsloth.models.rl import _patch_trl_rl_trainers

    _patch_trl_rl_trainers("grpo_trainer")
    import tiny
    import trl

    from sa_ah_lib.seam import EntropyTap
    from sa_ah_lib.trainer import sa_ah_trainer_class

    report = {
        "bases": [c.__name__ for c in sa_ah_trainer_class().__mro__[1:3]],
        "hook": parameters(trl.GRPOTrainer.get_high_entropy_mask),
    }
    shapes, states = [], EntropyTap._predicting_states

    def recording(tap, tokens, real):
        shapes.extend(list(part.shape[:2]) for part in tap._hidden)
        return states(tap, tokens, real)

    EntropyTap._predicting_states = recording
    report["errors"], report["shapes"] = {}, {}
    for name, (layout, top_k, scope, denominator, beta, old) in CASES.items():
        os.environ.pop("UNSLOTH_GRPO_SEQ_PACKING", None)
        os.environ.update(LAYOUTS[layout])
        made = _unsloth_trainer(
            tiny, tiny.model(), beta=beta, alpha=ALPHA, scope=scope, denominator=denominator, entropy_top_k=top_k
        )
        made.args.unsloth_grpo_mini_batch = 4 if layout == "chunks" else 1
        batch = tiny.with_logps(tiny.micro_batch(left=1, right=2), made.model, old_noise=old)
        wanted = tiny.reference(
            made.model, batch, alpha=ALPHA, scope=scope, denominator=denominator, top_k=top_k, beta=beta
        )  # fmt: skip
        shapes.clear()
        # Twice: the first packed forward is verified row by row, the second is trusted.
        found = [tiny.loss_and_gradients(made, tiny.in_unsloths_layout(batch)) for _ in range(2)]
        report["errors"][name] = max(tiny.worst_error(f, wanted) for f in found)
        report["shapes"][name] = [list(shape) for shape in shapes]
    os.environ.pop("UNSLOTH_GRPO_SEQ_PACKING", None)
    report["accumulation"] = _unsloth_accumulation(tiny)
    report["training"] = _unsloth_training(tiny)
    print("REPORT" + json.dumps(report))


def _unsloth_trainer(tiny, policy, beta=0.0, reward_threshold=0.0, max_steps=1, **rule):
    policy.for_training, policy.for_inference = (lambda *a, **k: policy.train()), (lambda *a, **k: policy.eval())
    config = {"beta": beta, "max_steps": max_steps}
    made = tiny.trainer(Path.cwd(), policy, reward_threshold=reward_threshold, config=config, **rule)
    # A float32 model is trained under autocast there; the comparison is in float32.
    made._autocast_enabled, made._autocast_dtype = False, None
    return made


def _unsloth_accumulation(tiny):
    made = _unsloth_trainer(tiny, tiny.model(), alpha=ALPHA, entropy_top_k=TOP_K)
    whole = tiny.micro_batch(groups=4)
    halves = [{k: v if v.ndim == 0 else v[part] for k, v in whole.items()} for part in (slice(0, 8), slice(8, 16))]
    at_once = tiny.loss_and_gradients(made, whole)
    made.current_gradient_accumulation_steps = 2
    first, second = (tiny.loss_and_gradients(made, half) for half in halves)
    return tiny.worst_error((first[0] + second[0], {n: first[1][n] + second[1][n] for n in first[1]}), at_once)


def _unsloth_training(tiny):
    """Two optimizer steps with real generation and LoRA: what moved, what was logged."""
    made = _unsloth_trainer(
        tiny, tiny.with_lora(tiny.model()), beta=0.04, max_steps=2, alpha=ALPHA, entropy_top_k=TOP_K
    )
    before = {n: p.detach().clone() for n, p in made.model.named_parameters()}
    made.train()
    moved = [n for n, p in made.model.named_parameters() if not before[n].equal(p)]
    rows = made.last_rollouts
    mask = rows["mask"].bool()
    return {
        "moved": moved,
        "trainable": [n for n, p in made.model.named_parameters() if p.requires_grad],
        "logged": made.state.log_history[1],
        "weight": rows["weights"][mask].mean().item(),
        "entropy": rows["entropy"][mask].mean().item(),
        "tokens": [int(mask.sum()), int(rows["completion_mask"].sum())],
    }


@pytest.fixture(scope="module")
def unsloth(tmp_path_factory):
    """The child's report. Unsloth patches trl for good and writes its cache into the working directory."""
    if importlib.util.find_spec("unsloth") is None:
        pytest.skip("unsloth is not installed")
    directory = tmp_path_factory.mktemp("unsloth")
    # Unsloth and accelerate leave settings in the environment of a process that imported them.
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("UNSLOTH", "ACCELERATE"))}
    child = {
        **clean, "UNSLOTH_ALLOW_CPU": "1", "UNSLOTH_COMPILE_DISABLE": "1", "TORCHDYNAMO_DISABLE": "1",
        "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)]),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", "import test_seam; test_seam.check_unsloth()"],
        cwd=directory, env=child, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.rsplit("REPORT", 1)[1])


def test_the_class_extends_unsloths_generated_trainer(unsloth):
    """Bound to stock TRL at import time, the weights would never reach an Unsloth run."""
    assert unsloth["bases"] == ["TokenWeighted", "UnslothGRPOTrainer"]
    assert unsloth["hook"] == ["self", "entropies", "mask", "threshold"]


@pytest.mark.parametrize("case", CASES)
def test_unsloths_loss_and_every_gradient_are_the_papers(unsloth, case):
    """Unsloth has a loss, a row layout and a backward of its own."""
    assert unsloth["errors"][case] < TOLERANCE


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_cases_ran_in_the_layout_they_name(unsloth, layout):
    """A switch that Unsloth ignores would test one layout three times."""
    seen = [
        shape for name, shapes in unsloth["shapes"].items() if name.startswith(f"{layout}, top-K") for shape in shapes
    ]
    rows = {shape[0] for shape in seen}
    assert rows == {"packed": {1}, "padded": {8}, "chunks": {2}}[layout]


def test_unsloth_accumulates_micro_batches_to_the_same_gradient(unsloth):
    assert unsloth["accumulation"] < TOLERANCE


def test_unsloth_trains_and_logs_table_6(unsloth):
    """Rewards, groups and diagnostics must survive Unsloth's own generation and scoring."""
    from test_trainer import TABLE_6

    run = unsloth["training"]
    assert run["moved"] == run["trainable"]
    assert TABLE_6 <= run["logged"].keys()
    assert run["logged"]["sa_ah/weight"] == pytest.approx(run["weight"], rel=1e-5)
    assert run["logged"]["sa_ah/entropy"] == pytest.approx(run["entropy"], rel=1e-5)
    assert 0 < run["logged"]["sa_ah/negative_fraction"] < 1 and run["logged"]["sa_ah/weight_negative"] < 1
    assert run["tokens"][0] == run["tokens"][1]
