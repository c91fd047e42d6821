"""The importance ratio of vLLM rollouts beside the paper's weights, in both trainers, with vLLM's answers made up.

vLLM itself needs a GPU. What it hands over is log-probabilities of the sampled tokens; here they are drawn at random,
far from the policy's own, and all that follows is the trainers' real code: ratio, truncation, weights, KL.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("trl")

from sa_ah_lib.config import preset
from sa_ah_lib.upstream import vllm

TESTS = Path(__file__).parents[1]
ALPHA, TOLERANCE = 0.7, 2e-5
CASES = {
    f"{scope}, {denominator}, beta {beta}": (scope, denominator, beta)
    for scope, denominator, beta in (
        ("negative", "group", 0.04), ("all", "batch", 0.0), ("none", "group", 0.0),
    )
}  # fmt: skip


def expected(policy, batch, sampling, scope, denominator, beta, shift=True):
    """The loss with w x rho x surrogate over the sum of w m, and its gradients, in float64.

    Args:
        sampling: (B, T) log-probabilities of the sampler. shift: False leaves the ratio out.
    """
    import tiny
    import torch

    double = tiny.twin(policy)
    log_probs, entropy = tiny.scores(double, batch)
    mask, advantages = batch["completion_mask"].double(), batch["advantages"].double()[:, None]
    ratio = torch.exp(log_probs.detach() - sampling.double()).clamp(max=2.0) if shift else torch.ones_like(mask)
    applies = (advantages < 0) if scope == "negative" else torch.full_like(advantages, scope == "all", dtype=torch.bool)
    weights = torch.where(applies, torch.exp(-ALPHA * (entropy * mask).cumsum(1)), 1.0) * mask
    # On-policy, so that neither side of the clip binds: the surrogate is the ratio to the policy itself.
    surrogate = torch.exp(log_probs - log_probs.detach()) * advantages
    groups = batch["rollout_group"] if denominator == "group" else torch.zeros_like(batch["rollout_group"])
    parts = [groups == g for g in groups.unique()]
    policy_term = sum((weights * ratio * surrogate)[part].sum() / weights[part].sum() for part in parts) / len(parts)
    gap = batch["ref_per_token_logps_aligned"].double() - log_probs if beta else torch.zeros_like(log_probs)
    loss = -policy_term + beta * ((torch.exp(gap) - gap - 1) * mask).sum() / mask.sum()
    loss.backward()
    return loss.item(), tiny.gradients(double)


def sampled(made, seed=0):
    """A micro-batch that ``made`` generated and scored itself, believing that vLLM had sampled it."""
    import tiny
    import torch

    generator, generate = torch.Generator().manual_seed(seed), made._generate

    def by_vllm(prompts):
        made.use_vllm = False
        found = list(generate(prompts))
        made.use_vllm = True
        # The fifth item is the sampler's log-probabilities, a list a completion.
        assert found[4] is None
        found[4] = [(-4 * torch.rand(len(ids), generator=generator)).tolist() for ids in found[1]]
        made.sampler = found[4]
        return tuple(found)

    made._generate = by_vllm
    examples = [{"prompt": [{"role": "user", "content": q}]} for q in tiny.QUESTIONS[:2] for _ in range(4)]
    batch = made._generate_and_score_completions(examples)
    batch["advantages"] = torch.tensor([0.0, -1.25, 0.75, 0.5, -0.5, 1.0, -1.0, 0.5])
    width = batch["completion_ids"].shape[1]
    return batch, torch.tensor([row + [0.0] * (width - len(row)) for row in made.sampler])


def errors(base=None):
    """{case: (worst error against the formula, the same against the formula without the ratio)}."""
    import tiny

    found = {}
    for name, (scope, denominator, beta) in CASES.items():
        policy = tiny.model()
        # What Unsloth's generated trainer asks of a model that Unsloth did not load.
        policy.for_training, policy.for_inference = (lambda p=policy, **k: p.train()), (lambda p=policy, **k: p.eval())
        options = {key: value for key, value in vllm.ON.items() if key.startswith("vllm_importance")}
        made = tiny.trainer(
            Path.cwd(), policy, base, config={"beta": beta, **options}, alpha=ALPHA, scope=scope,
            denominator=denominator, entropy_top_k=None, reward_threshold=0.0,
        )  # fmt: skip
        made._autocast_enabled, made._autocast_dtype = False, None
        batch, sampling = sampled(made)
        if beta:
            # The reference copy is the policy itself before training, so its gap is 0 unless it is moved.
            batch["ref_per_token_logps"] = batch["ref_per_token_logps"] - 0.4
            log_probs, _ = tiny.scores(tiny.twin(policy), batch)
            batch["ref_per_token_logps_aligned"] = log_probs.detach() - 0.4
        trained = {key: value for key, value in batch.items() if not key.endswith("_aligned")}
        result = tiny.loss_and_gradients(made, trained)
        found[name] = [
            tiny.worst_error(result, expected(made.model, batch, sampling, scope, denominator, beta, shift))
            for shift in (True, False)
        ]
    return found


def check_unsloth():
    """Runs in the child, where unsloth must come first."""
    import unsloth  # noqa: F401
    from unsloth.models.rl import _patch_trl_rl_trainers

    _patch_trl_rl_trainers("grpo_trainer")
    import trl

    args = trl.GRPOConfig(output_dir="out", use_cpu=True, bf16=False, **vllm.ON)
    said = {name: getattr(args, name) for name in vllm.ON}
    asked = asked_of_vllm(Path.cwd())
    print(
        "REPORT" + json.dumps({"errors": errors(), "said": said, "asked": asked, "trainer": trl.GRPOTrainer.__name__})
    )


def asked_of_vllm(directory, base=None):
    """The SamplingParams that a rollout under TRL's vLLM is asked with, where the model ships rules of its own.

    The engine is made up; how the settings get from ``GRPOConfig`` to it is TRL's real code, or Unsloth's.
    """
    import contextlib
    from types import SimpleNamespace

    import tiny
    from trl.generation import vllm_generation

    from sa_ah_lib.upstream import decoding

    asked = []

    class Parameters:
        def __init__(self, n=1, repetition_penalty=1.0, temperature=1.0, top_p=1.0, top_k=0, min_p=0.0,
                     max_tokens=16, logprobs=None, seed=None):  # fmt: skip
            given = {"n": n, "repetition_penalty": repetition_penalty, "temperature": temperature, "top_p": top_p}
            asked.append(
                {**given, "top_k": top_k, "min_p": min_p, "max_tokens": max_tokens, "logprobs": logprobs, "seed": seed}
            )

    class Engine:
        def generate(self, prompts, sampling_params, use_tqdm, **more):
            step = SimpleNamespace(token_ids=[5], logprobs=[{5: SimpleNamespace(rank=1, logprob=-0.5)}])
            return [SimpleNamespace(prompt_token_ids=p["prompt_token_ids"], outputs=[step]) for p in prompts]

        def __getattr__(self, name):
            return lambda *a, **k: None

    patch = pytest.MonkeyPatch()
    patch.setattr(vllm_generation, "SamplingParams", Parameters, raising=False)
    patch.setattr(vllm_generation.VLLMGeneration, "_init_vllm", lambda self: setattr(self, "llm", Engine()))
    policy = tiny.model()
    policy.generation_config.update(
        repetition_penalty=1.1, top_k=20, top_p=0.8, min_p=0.1, temperature=0.7, do_sample=True
    )
    policy.for_training, policy.for_inference = (lambda *a, **k: policy.train()), (lambda *a, **k: policy.eval())
    policy.vllm_engine = Engine()
    config = {"generation_kwargs": {}, **decoding.PLAIN_SAMPLING, **vllm.ON}
    try:
        made = tiny.trainer(directory, policy, base, config=config)
        made.vllm_generation.llm = Engine()
        made.vllm_generation.generate(
            prompts=[[5, 6]], images=None, num_generations=1, profiler=contextlib.nullcontext()
        )
    finally:
        patch.undo()
    return asked


@pytest.fixture(scope="module")
def unsloth(tmp_path_factory):
    if importlib.util.find_spec("unsloth") is None:
        pytest.skip("unsloth is not installed")
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("UNSLOTH", "ACCELERATE"))}
    child = {
        **clean, "UNSLOTH_ALLOW_CPU": "1", "UNSLOTH_COMPILE_DISABLE": "1", "TORCHDYNAMO_DISABLE": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": os.pathsep.join(map(str, (Path(__file__).parent, TESTS, TESTS.parent))),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", "import test_vllm; test_vllm.check_unsloth()"],
        cwd=tmp_path_factory.mktemp("unsloth"), env=child, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.rsplit("REPORT", 1)[1])


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    import tiny
    import trl.trainer.utils
    from trl.trainer.grpo_trainer import GRPOTrainer

    if GRPOTrainer.__name__.startswith("Unsloth"):
        pytest.skip("Unsloth has replaced stock TRL in this process")
    patch = pytest.MonkeyPatch()
    patch.setattr(trl.trainer.utils, "_ChunkedLogProbFunction", tiny.PlainHead)
    patch.chdir(tmp_path_factory.mktemp("stock"))
    try:
        yield errors(GRPOTrainer)
    finally:
        patch.undo()


@pytest.mark.parametrize("case", CASES)
def test_stock_trl_multiplies_the_ratio_into_the_weighted_surrogate_only(stock, case):
    """A ratio in the denominator, on the KL, or lost because the hook returns a tensor of its own."""
    with_ratio, without = stock[case]
    assert with_ratio < TOLERANCE
    assert without > 1e-2, "the made-up ratio must matter, or this test shows nothing"


@pytest.mark.parametrize("case", CASES)
def test_unsloths_trainer_multiplies_the_ratio_into_the_weighted_surrogate_only(unsloth, case):
    """Unsloth computes the ratio in its own loss, from the sampler's log-probabilities in its own row layout."""
    assert unsloth["trainer"] == "UnslothGRPOTrainer"
    with_ratio, without = unsloth["errors"][case]
    assert with_ratio < TOLERANCE
    assert without > 1e-2


def test_unsloths_config_takes_every_option_as_said(unsloth):
    """The generated GRPOConfig has defaults of its own: the correction is off there."""
    assert unsloth["said"] == vllm.ON


PLAIN = {
    "n": 1, "repetition_penalty": 1.0, "temperature": 1.0, "top_p": 1.0, "top_k": -1, "min_p": 0.0, "max_tokens": 12,
    "logprobs": 0, "seed": None,
}  # fmt: skip


def test_vllm_is_asked_for_the_plain_softmax(unsloth, stock, tmp_path):
    """The model's own file must not reach vLLM's sampling: what it rules out, the loss still counts as possible."""
    from trl.trainer.grpo_trainer import GRPOTrainer

    assert asked_of_vllm(tmp_path, GRPOTrainer) == [PLAIN]
    assert unsloth["asked"] == [PLAIN]


def test_without_fast_inference_nothing_of_vllm_is_asked_for():
    """A CPU run that imports vLLM, or a GRPOConfig that turns the correction on without a sampler."""
    assert vllm.arguments(False) == {"use_vllm": False}
    assert vllm.loader_arguments(preset("micro-s", "grpo")) == {}


def test_fast_inference_reaches_loader_and_trainer(monkeypatch):
    """An engine built for rank 64 by default wastes memory; one built for less than the adapter's rank refuses it."""
    monkeypatch.setattr(vllm, "find_spec", lambda name: object())
    config = preset("qwen2.5-1.5b", "grpo", fast_inference=True, lora_rank=32)
    assert vllm.loader_arguments(config) == {"fast_inference": True, "max_lora_rank": 32}
    assert vllm.arguments(config.fast_inference) == vllm.ON


def test_missing_vllm_says_what_to_do(monkeypatch):
    monkeypatch.setattr(vllm, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="needs vLLM.*pip install vllm.*or set fast_inference to False"):
        vllm.loader_arguments(preset("qwen2.5-1.5b", "grpo", fast_inference=True))
