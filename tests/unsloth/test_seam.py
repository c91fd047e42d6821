"""What the library relies on upstream without it being documented: stock TRL's names, and Unsloth's generated trainer.

Nothing from trl is imported at module level: the Unsloth half runs in a process of its own, where unsloth must
come first.
"""

import importlib.util
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("trl")

from generated import CASES, COMBINATIONS, LAYOUTS  # noqa: E402
from rules_by_loops import LOOPS  # noqa: E402

from sa_ah_lib.upstream import vllm
from sa_ah_lib.upstream.hooks import PROBES, UpstreamChangedError, check_instance  # noqa: E402
from sa_ah_lib.upstream.settings import SEAM_ARGUMENTS, UNSLOTH_SWITCHES, check_arguments  # noqa: E402
from sa_ah_lib.upstream.versions import PINNED, installed, version_of  # noqa: E402

TESTS = Path(__file__).parents[1]


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


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
def test_every_probe_passes_on_stock_trl(probe):
    """A drift upstream must fail here under its own name."""
    from sa_ah_lib.trainer import sa_ah_trainer_class

    assert probe.look(stock(), sa_ah_trainer_class(stock())) is None


def other(**methods):
    """A trainer class of another TRL: these methods replaced, or gone where None."""
    from transformers import Trainer

    kept = {name: value for c in stock().__mro__[1::-1] for name, value in vars(c).items() if inspect.isfunction(value)}
    return type("Drifted", (Trainer,), {n: f for n, f in (kept | methods).items() if f is not None})


def scores_by_itself(self, inputs):
    return self._calculate_all_rewards(inputs)


def prepares_by_itself(self, generation_batch):
    return self._make_batch(generation_batch)


DRIFTS = {
    "compute_loss": {"compute_loss": lambda self, model, batch: 0},
    "_calculate_rewards": {"_calculate_rewards": None},
    "_calculate_rewards is called": {"_generate_and_score_completions": scores_by_itself},
    "_generate_and_score_completions": {"_generate_and_score_completions": lambda self, prompts, inputs: 0},
    "_generate_and_score_completions is called": {"_prepare_inputs": prepares_by_itself},
    "rows of a micro-batch": {"_prepare_inputs": prepares_by_itself},
}


@pytest.mark.parametrize("name", DRIFTS)
def test_a_drift_is_named_with_the_installed_versions_and_the_remedy(name):
    """A method that is overridden and was renamed upstream is never called again, and nothing says so."""
    from sa_ah_lib.trainer import sa_ah_trainer_class

    with pytest.raises(UpstreamChangedError) as raised:
        sa_ah_trainer_class(other(**DRIFTS[name]))
    text = str(raised.value)
    assert text.startswith("Drifted is not what") and re.search(rf"\n- {re.escape(name)}: .*; .*\.", text)
    assert f"trl {version_of('trl')}" in text and f"Remedy: pip install unsloth=={PINNED.unsloth}" in text


def test_an_undrifted_stranger_passes():
    """The drifts above must fail for what was changed, and not for being made here."""
    from sa_ah_lib.trainer import sa_ah_trainer_class

    assert sa_ah_trainer_class(other()).__mro__[3].__name__ == "Drifted"


def test_unsloth_asks_our_hook_on_every_process(monkeypatch, caplog):
    """With several processes Unsloth reads the hook's source, and may use a copy of TRL's own instead."""
    from sa_ah_lib.trainer import sa_ah_trainer_class

    zoo = SimpleNamespace(_high_entropy_mask_pads=lambda hook: "pad_across_processes" in inspect.getsource(hook))
    monkeypatch.setitem(sys.modules, "unsloth_zoo.rl_replacements", zoo)
    with caplog.at_level("WARNING", "sa_ah_lib"):
        assert sa_ah_trainer_class(stock()).entrance == "advantages"
    assert "get_high_entropy_mask under Unsloth: with several processes" in caplog.text


HOOKS = {"gone": None, "with other parameters": lambda self, entropies, mask, quantile: mask}


@pytest.mark.parametrize("what", HOOKS)
def test_a_hook_that_drifted_leaves_the_second_entrance(what, caplog):
    """Two failures at once are an error: the second entrance needs the rest of the seam."""
    from sa_ah_lib.trainer import sa_ah_trainer_class

    with caplog.at_level("WARNING", "sa_ah_lib"):
        assert sa_ah_trainer_class(other(get_high_entropy_mask=HOOKS[what])).entrance == "advantages"
    assert "- get_high_entropy_mask: it " in caplog.text
    with pytest.raises(UpstreamChangedError, match="(?s)- get_high_entropy_mask: .*- _calculate_rewards: it is gone"):
        sa_ah_trainer_class(other(get_high_entropy_mask=HOOKS[what], _calculate_rewards=None))


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


def test_the_config_knows_every_seam_argument():
    """A renamed field would be refused by GRPOConfig; one that means something else would not."""
    from trl import GRPOConfig

    assert SEAM_ARGUMENTS.keys() <= GRPOConfig.__dataclass_fields__.keys()


OTHERWISE = {
    "top_entropy_quantile": 1.0, "loss_type": "dapo", "steps_per_generation": 2, "num_iterations": 2,
    "importance_sampling_level": "sequence", "scale_rewards": "none",
    "multi_objective_aggregation": "normalize_then_sum", "use_bias_correction_kl": True, "sync_ref_model": True,
    "entropy_coef": 0.01, "use_adaptive_entropy": True, "delta": 2.0, "off_policy_mask_threshold": 0.5,
    "mask_truncated_completions": True,
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERWISE)
def test_every_seam_argument_is_checked(tmp_path, name):
    """A requirement in the table that nothing enforces, or a setting that runs and trains another loss."""
    import tiny

    good = tiny.arguments(tmp_path)
    check_arguments(good, 4)
    assert OTHERWISE.keys() == SEAM_ARGUMENTS.keys()
    with pytest.raises(ValueError, match=f"{name} must be .* Got "):
        check_arguments(SimpleNamespace(**{**vars(good), name: OTHERWISE[name]}), 4)
    gone = SimpleNamespace(**{key: value for key, value in vars(good).items() if key != name})
    with pytest.raises(UpstreamChangedError, match=f"GRPOConfig has no {name}. Installed: "):
        check_arguments(gone, 4)


def test_a_loss_of_a_router_is_refused():
    """Stock TRL adds a mixture of experts' own loss where nothing is said, and it was trained beside Eq. 2's."""
    names = ("accelerator", "args", "num_generations", "num_generations_eval", "processing_class", "reward_weights")
    made = SimpleNamespace(**dict.fromkeys(names), aux_loss_enabled=True, router_aux_loss_coef=0.001)
    with pytest.raises(ValueError, match="router_aux_loss_coef must be 0.*Got the model's own, 0.001"):
        check_instance(made)
    check_instance(SimpleNamespace(**{**vars(made), "aux_loss_enabled": False}))


def test_a_vllm_correction_is_of_each_token(tmp_path):
    """TRL's default drops whole rollouts by a product over tokens that the weights all but remove."""
    import tiny

    values = {**vars(tiny.arguments(tmp_path)), **vllm.arguments(True)}
    check_arguments(SimpleNamespace(**values), 4)
    check_arguments(SimpleNamespace(**{**values, "vllm_importance_sampling_correction": False}), 4)
    values["vllm_importance_sampling_mode"] = "sequence_mask"
    with pytest.raises(ValueError, match="mode must be 'token_truncate'.* Got 'sequence_mask'"):
        check_arguments(SimpleNamespace(**values), 4)
    check_arguments(SimpleNamespace(**{**values, "use_vllm": False}), 4)


def test_the_clip_is_the_same_on_both_sides(tmp_path):
    """Clip-higher is DAPO's, not Eq. 2's."""
    import tiny

    check_arguments(tiny.arguments(tmp_path, epsilon_high=0.2), 4)
    with pytest.raises(ValueError, match=r"epsilon_high must be None or epsilon \(0.2\).* Got 0.28"):
        check_arguments(tiny.arguments(tmp_path, epsilon_high=0.28), 4)


@pytest.mark.parametrize("name", UNSLOTH_SWITCHES)
def test_a_variable_that_changes_unsloths_loss_is_refused(tmp_path, monkeypatch, name):
    """Set in a shell or by another notebook, it would change the denominator without a word."""
    import tiny

    good = tiny.arguments(tmp_path)
    monkeypatch.setenv(name, "0")
    check_arguments(good, 4)
    monkeypatch.setenv(name, "prompt")
    with pytest.raises(ValueError, match=f"{name} must be unset, because it .* Got 'prompt'; unset it"):
        check_arguments(good, 4)


def test_a_micro_batch_must_hold_whole_groups(tmp_path):
    """Half a group a process would be normalised by itself; TRL asks for whole groups over all processes only."""
    import tiny

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

    from sa_ah_lib.upstream.entropy_tap import EntropyTap

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
    sampled = torch.zeros(mask.shape, dtype=torch.long)
    sampled[mask.bool()] = batch["completion_ids"][batch["completion_mask"].bool()]
    log_vocabulary = float(torch.log(torch.tensor(float(tiny.VOCABULARY))))
    found = tap.log_probs(policy, nats, mask, real, log_vocabulary, sampled)
    wanted = tiny.scores(policy, batch)[0].detach()[batch["completion_mask"].bool()].float()
    torch.testing.assert_close(found[mask.bool()], wanted, rtol=1e-4, atol=1e-5)
    assert (found[mask == 0] == 0).all()


@pytest.fixture(scope="module")
def peaked():
    """A bfloat16 model of realistic logits, its hidden states (8, 32, D), and their entropies from float32 logits."""
    import tiny
    import torch

    from sa_ah_lib.weighting import normalized_entropy

    policy = tiny.peaked_model().bfloat16()
    with torch.no_grad():
        hidden = policy.model(torch.randint(4, 50, (8, 33))).last_hidden_state
    logits = hidden.float() @ policy.get_output_embeddings().weight.detach().float().T
    return policy, hidden, normalized_entropy(logits, None)[:, :-1]


def tapped(policy, hidden, entropy, top_k=500):
    """What the tap makes of hidden states (B, T + 1, D), beside the trainer's own entropies (B, T)."""
    import math

    import torch

    from sa_ah_lib.upstream.entropy_tap import EntropyTap

    tap, log_vocabulary = EntropyTap(top_k, 1.0), math.log(policy.config.vocab_size)
    tap._hidden = [hidden]
    mask = torch.ones(entropy.shape, dtype=torch.long)
    found = tap.entropies(policy, entropy * log_vocabulary, mask, torch.ones(hidden.shape[:2]), log_vocabulary)
    return found, tap.difference


@pytest.mark.parametrize("autocast", [False, True])
def test_a_bfloat16_head_under_a_loss_in_float32_logits_is_no_other_layout(peaked, autocast):
    """What a card of compute capability 8 or more does; rounded logits alone are 3 % off and stopped correct runs."""
    import torch

    policy, hidden, entropy = peaked
    assert 0.02 < entropy.mean() < 0.035
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found, difference = tapped(policy, hidden, entropy)
    assert difference < 1e-3
    assert (found - entropy).abs().mean() < 0.01 * entropy.mean()


def test_a_loss_in_rounded_logits_is_no_other_layout_either(peaked):
    """What stock TRL and older cards do: its own entropies are the rounded ones then."""
    from sa_ah_lib.weighting import normalized_entropy

    policy, hidden, entropy = peaked
    rounded = normalized_entropy(hidden @ policy.get_output_embeddings().weight.T, None)[:, :-1]
    _, difference = tapped(policy, hidden, rounded)
    assert 0.02 < difference < 0.1


@pytest.mark.parametrize("shift", [1, -1])
def test_a_layout_off_by_one_is_noticed_at_low_entropy(peaked, shift):
    """The check must still tell another token's state, where nearly every entropy is nearly 0."""
    policy, hidden, entropy = peaked
    with pytest.raises(RuntimeError, match="differ from the loss's own by 0.0.*entropy_top_k=None"):
        tapped(policy, hidden.roll(shift, 1), entropy)


# --- Unsloth's generated trainer -------------------------------------------------------------------------------------

# Float32 against float64; the worst case measured is in the report this file makes of a run.
TOLERANCE = 1e-5
SECTIONS = (
    "lineage", "layouts", "combinations", "rules", "accumulation", "training", "three_steps", "resumed", "canaries",
    "memory", "guide", "sampling", "second", "entrances",
)  # fmt: skip


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
        "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": os.pathsep.join(map(str, (TESTS / "torch", TESTS, TESTS.parent))),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", f"import generated; generated.main(*{SECTIONS})"],
        cwd=directory, env=child, capture_output=True, text=True, timeout=1500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.rsplit("REPORT", 1)[1])


def test_the_class_extends_unsloths_generated_trainer(unsloth):
    """Bound to stock TRL at import time, the weights would never reach an Unsloth run."""
    assert unsloth["lineage"]["bases"] == ["TokenWeighted", "PrivateHooks", "UnslothGRPOTrainer"]


@pytest.mark.parametrize("step", ["3", "6"])
def test_a_run_goes_on_under_unsloth_as_if_it_was_never_interrupted(unsloth, step):
    """Colab disconnects; what transformers and TRL forget is put back on this trainer too."""
    unbroken, resumed = unsloth["resumed"]["0"], unsloth["resumed"][step]
    assert (unbroken["trained"], resumed["trained"]) == (8, 8 - int(step))
    assert resumed["steps"] == unbroken["steps"] and resumed["adapter"] == unbroken["adapter"]


def test_the_switches_that_are_refused_are_still_unsloths(unsloth):
    """A variable renamed upstream would change the loss again, unrefused."""
    known = unsloth["lineage"]["switches"]
    # UNSLOTH_GRPO_ROLLOUT_LOGPROBS_AS_OLD is newer than the older set.
    assert known == list(UNSLOTH_SWITCHES) if installed() == PINNED.versions else set(known) < set(UNSLOTH_SWITCHES)


@pytest.mark.parametrize("case", CASES)
def test_unsloths_loss_and_every_gradient_are_the_papers(unsloth, case):
    """Unsloth has a loss, a row layout and a backward of its own."""
    assert unsloth["layouts"]["errors"][case] < TOLERANCE


@pytest.mark.parametrize("case", [*CASES, "gtpo", "advantage_reweighting"])
def test_the_second_entrance_gives_the_papers_loss_under_unsloth_too(unsloth, case):
    """Factors in the columns of the completions, which Unsloth's loss moves over the prompt's padding."""
    assert unsloth["entrances"]["errors"][case] < TOLERANCE


def test_unsloth_trains_by_the_second_entrance(unsloth):
    assert len(unsloth["entrances"]["steps"]) == 2 and all(0 < value < 1 for value in unsloth["entrances"]["steps"])


@pytest.mark.parametrize("case", COMBINATIONS)
def test_every_combination_of_the_rules_is_the_papers_under_unsloth(unsloth, case):
    """Two settings that are right one by one and wrong together; rows of unequal prompts are packed anew each time."""
    assert unsloth["combinations"][case] < TOLERANCE


@pytest.mark.parametrize("name", LOOPS)
def test_every_published_rule_is_its_equation_under_unsloth(unsloth, name):
    """Token ids and log-probabilities of another column, or weights that were put back into one."""
    found = {case: error for case, error in unsloth["rules"].items() if case.startswith(f"{name}, ")}
    # Some divide entropies by advantages, which doubles the rounding: 1.1e-5 was measured.
    assert found and max(found.values()) < 2 * TOLERANCE, found


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_cases_ran_in_the_layout_they_name(unsloth, layout):
    """A switch that Unsloth ignores would test one layout three times."""
    cases = unsloth["layouts"]["shapes"].items()
    rows = {shape[0] for name, shapes in cases if name.startswith(f"{layout}, top-K") for shape in shapes}
    assert rows == {"packed": {1}, "padded": {8}, "chunks": {2}}[layout]


def test_unsloth_accumulates_micro_batches_to_the_same_gradient(unsloth):
    """Unsloth has an accumulation divisor of its own."""
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


# The tap's difference is rounding, another on each.
CLOCKS = {"step_time", "epoch", "sa_ah/tap_difference"}
# Logged by one of the two only, or, for the KL, another mean of the same numbers.
ONLY_STOCK, ONLY_UNSLOTH, TWO_MEANS = {"entropy"}, {"completion_length"}, {"kl"}


def test_three_steps_log_the_same_under_unsloth_and_stock_trl(unsloth, tmp_path, plain_head):
    """The same rollouts must give the same training, so that a result does not depend on where it was run."""
    import tiny

    plain = tiny.scripted_run(tmp_path, lambda policy, **rest: tiny.trainer(tmp_path, policy, stock(), **rest))
    assert len(plain) == len(unsloth["three_steps"]) == 3
    for mine, other in zip(plain, unsloth["three_steps"], strict=True):
        assert mine.keys() - other.keys() == ONLY_STOCK and other.keys() - mine.keys() == ONLY_UNSLOTH
        same = mine.keys() & other.keys() - CLOCKS - TWO_MEANS
        assert {key for key in same if key.startswith("sa_ah/")} and {"reward", "loss", "grad_norm"} <= same
        assert {k: other[k] for k in same} == pytest.approx({k: mine[k] for k in same}, rel=1e-4, abs=1e-6)
        # TRL logs the mean over tokens, Unsloth the mean over rollouts of each rollout's mean.
        assert mine["kl"] == pytest.approx(mine["kl of tokens"], rel=1e-3, abs=1e-6)
        assert other["kl"] == pytest.approx(other["kl of rollouts"], rel=1e-3, abs=1e-6)
    assert plain[-1]["kl"] > 1e-3 and plain[-1]["sa_ah/weight_negative"] < 1, "nothing was trained, nothing compared"


@pytest.mark.parametrize("broken", ["switched off", "answered by Unsloth itself"])
def test_a_hook_that_unsloth_skips_stops_the_training(unsloth, broken):
    """The canary on the generated trainer, where the call goes through unsloth_zoo."""
    assert unsloth["canaries"][broken].startswith(
        "HookNotCalledError: UnslothGRPOTrainer computed a loss without calling get_high_entropy_mask"
    )
    assert unsloth["canaries"]["restored"] == "nothing"


def test_top_k_under_unsloth_never_makes_the_logits_of_all_tokens(unsloth):
    """A (B, T, V) tensor is what runs a GPU out of memory at a real vocabulary."""
    assert unsloth["memory"]["largest"] <= unsloth["memory"]["logits"] / 2


def test_the_readme_s_own_rule_trains_under_unsloth(unsloth):
    """The guide answers how to change the loss under Unsloth; on stock TRL alone it would prove nothing about it."""
    from guide import check

    assert unsloth["guide"]["base"] == "UnslothGRPOTrainer"
    check(unsloth["guide"])


def test_unsloth_samples_by_no_rule_of_the_models_own(unsloth):
    """Its generate is another one, with settings of its own on the way."""
    assert unsloth["sampling"]["processors"] == [[]]


def test_padding_that_ends_completions_is_refused_under_unsloth(unsloth):
    """Its loss drops every pad token: where completions of a tiny batch end with one, the gradient is another."""
    assert "Got '<pad>'; set tokenizer.pad_token = " in unsloth["sampling"]["refused"]


def test_a_second_trainer_on_the_same_model_trains_under_unsloth(unsloth):
    """README's two examples in sequence. Unsloth's reference is the model without any adapter, so the KL is not 0."""
    found = unsloth["second"]
    assert found["error"] < TOLERANCE and found["moved"] > 1e-3 and found["kl"] > 1e-4
