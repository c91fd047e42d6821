"""Pairs by seed: with one seed every method starts from one adapter and sees one sequence of prompts."""

import pytest

pytest.importorskip("unsloth")

import torch

from sa_ah_lib.config import preset
from sa_ah_lib.train import runlog, training
from sa_ah_lib.trainer import TokenWeighted

ARMS = ["grpo", "ah-grpo", "sa-ah-grpo", "control-shuffled", "control-top-entropy"]


@pytest.fixture(scope="module")
def objective():
    """{method: (rule, scope, alpha, denominator) of the trainer that ran}, filled by ``observed``."""
    return {}


@pytest.fixture(scope="module")
def observed(tiny_model_dir, tmp_path_factory, objective):
    """{(method, seed): (adapter before training, prompts a step, first rollouts)} of three-step runs."""
    directory, found = tmp_path_factory.mktemp("runs"), {}
    small = {
        "model": str(tiny_model_dir), "dataset": "chain_sum", "eval_examples": 2, "train_examples": 24, "steps": 3,
        "prompts_per_step": 4, "num_generations": 4, "gradient_accumulation_steps": 2, "max_completion_tokens": 8,
        "learning_rate": 1e-2, "eval_every": 3, "reward_threshold": 0.0,
    }  # fmt: skip
    score, begin = TokenWeighted._generate_and_score_completions, training.RunLogCallback.on_train_begin
    with pytest.MonkeyPatch.context() as patch:
        for method, seed in [(method, 5) for method in ARMS] + [("grpo", 6)]:
            adapter, prompts = {}, []

            def scoring(self, inputs, prompts=prompts):
                prompts.append([row["prompt"][-1]["content"] for row in inputs])
                return score(self, inputs)

            def beginning(self, *args, adapter=adapter, method=method, **kwargs):
                named = self.loaded.model.named_parameters()
                trainer = self.trainer
                objective[method] = trainer.rule, trainer.scope, trainer.alpha, trainer.denominator
                adapter |= {name: value.detach().clone() for name, value in named if value.requires_grad}
                return begin(self, *args, **kwargs)

            patch.setattr(TokenWeighted, "_generate_and_score_completions", scoring)
            patch.setattr(training.RunLogCallback, "on_train_begin", beginning)
            run = training.run(preset("micro-s", method, seed=seed, **small), directory, progress=False)
            first = [row for row in runlog.read_jsonl(run.directory / "completions.jsonl") if row["step"] == 1]
            rewards = run.curve("reward")[1]
            found[method, seed] = adapter, prompts, [row["completion"] for row in first], rewards[0]
    return found


@pytest.mark.parametrize("method", ARMS[1:])
def test_methods_of_one_seed_start_alike_and_see_the_same_prompts(observed, method):
    """Differences of two methods that are differences of two shuffles or two initial adapters."""
    adapter, prompts, first, reward = observed["grpo", 5]
    other, others_prompts, others_first, others_reward = observed[method, 5]
    assert adapter.keys() == other.keys() and any("lora_A" in name for name in adapter)
    assert all(torch.equal(value, other[name]) for name, value in adapter.items())
    assert prompts == others_prompts and len(prompts) == 6 and all(len(rows) == 8 for rows in prompts)
    # The policies are still the same at the first step, so their rollouts are too.
    assert (first, reward) == (others_first, others_reward)


def test_seeds_differ_in_adapter_and_prompts(observed):
    """Eight runs of one seed under eight names have no spread, and any difference would look certain."""
    (adapter, prompts, *_), (other, others_prompts, *_) = observed["grpo", 5], observed["grpo", 6]
    assert prompts != others_prompts
    assert not all(torch.equal(value, other[name]) for name, value in adapter.items())


@pytest.mark.parametrize("method", ARMS)
def test_the_objective_of_the_configuration_is_the_trainer_s(observed, objective, method):
    """A control whose rule is lost on the way trains SA-AH-GRPO under the control's name."""
    config = preset("micro-s", method)
    assert objective[method] == (config.rule, config.scope, config.alpha, config.denominator)
