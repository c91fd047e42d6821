"""One backend of bench_step.py in a process of its own: every variant on one model, one step a request."""

import os
from contextlib import contextmanager, nullcontext
from pathlib import Path

from clock import Clock

PLAIN, EXACT, TOP_K, NAIVE = "GRPO", "SA-AH, exact", "SA-AH, K=500", "SA-AH, full logits"
VARIANTS = {"unsloth": (PLAIN, EXACT, TOP_K), "trl": (PLAIN, EXACT, TOP_K, NAIVE)}
TIMED = ("_generate_and_score_completions", "_get_per_token_logps_and_entropies")


class Stages(Clock):
    """Seconds of wall time, and where ``counted`` peak bytes, of a step's stages."""

    def __init__(self, counted):
        import shared

        super().__init__(shared.now)
        self.counted, self.memory = counted, {}

    @contextmanager
    def stage(self, name):
        import shared

        # Nested counters would reset each other's peaks: memory is counted for the outer stage only.
        counting = self.counted and not self.open
        with super().stage(name), shared.peak_bytes() if counting else nullcontext([0]) as held:
            yield
        self.memory[name] = max(self.memory.get(name, 0), held[0])


def worker(backend, chosen, model_dir, pipe):
    """Build every variant of one backend on one model, then answer the parent's requests until it says stop."""
    if chosen.device == "cpu":
        # The generated trainer on a machine without a GPU, uncompiled, as tests/unsloth/test_seam.py has it.
        os.environ.update(UNSLOTH_ALLOW_CPU="1", UNSLOTH_COMPILE_DISABLE="1", TORCHDYNAMO_DISABLE="1")
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.chdir(Path(model_dir).parent)
    policy, tokenizer = _unsloth_policy(chosen, model_dir) if backend == "unsloth" else _plain_policy(chosen, model_dir)
    made = {name: _trainer(name, policy, tokenizer, chosen) for name in VARIANTS[backend]}
    if backend == "trl" and chosen.device == "cuda":
        # As its train() begins: without autocast LoRA computes in float32.
        made[PLAIN].accelerator.prepare_model(policy)
    pipe.send(type(made[PLAIN]).__name__)
    kept = {}
    while (request := pipe.recv()) is not None:
        if request == "evaluate":
            pipe.send(_evaluation(policy, tokenizer, chosen))
        else:
            name, generate, counted = request
            pipe.send(_step_if_it_fits(made[name], chosen, kept, generate or not kept, counted))


def _unsloth_policy(chosen, model_dir):
    if chosen.device == "cpu":
        import unsloth  # noqa: F401
        from unsloth.models.rl import _patch_trl_rl_trainers

        _patch_trl_rl_trainers("grpo_trainer")
        policy, tokenizer = _plain_policy(chosen, model_dir)
        policy.for_training, policy.for_inference = (lambda **k: policy.train()), (lambda **k: policy.eval())
        return policy, tokenizer
    import shared  # noqa: F401  (it makes the library importable)

    from sa_ah_lib.config import preset
    from sa_ah_lib.train import models

    # As long as a run's: Unsloth checkpoints shorter ones in another way.
    whole = _config(chosen, model_dir)
    paper = preset("qwen2.5-1.5b", "grpo")
    loaded = models.load(
        whole.replace(
            max_prompt_tokens=max(whole.max_prompt_tokens, paper.max_prompt_tokens),
            max_completion_tokens=max(whole.max_completion_tokens, paper.max_completion_tokens),
        )
    )
    return loaded.model, loaded.tokenizer


def _plain_policy(chosen, model_dir):
    import shared
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from sa_ah_lib.config import LORA_TARGETS

    config = _config(chosen, model_dir)
    dtype = shared.training_dtype(chosen.device)
    base = AutoModelForCausalLM.from_pretrained(model_dir, dtype=dtype).to(chosen.device)
    lora = LoraConfig(
        r=config.lora_rank, lora_alpha=config.lora_alpha, lora_dropout=config.lora_dropout,
        target_modules=list(LORA_TARGETS), task_type="CAUSAL_LM",
    )  # fmt: skip
    return get_peft_model(base, lora), AutoTokenizer.from_pretrained(model_dir, padding_side="left")


def _config(chosen, model_dir):
    from sa_ah_lib.config import preset

    scale = "micro-s" if chosen.scale == "tiny" else chosen.scale
    return preset(
        scale, "sa-ah-grpo", model=str(model_dir), prompts_per_step=chosen.prompts, num_generations=chosen.group,
        gradient_accumulation_steps=chosen.micro_batches, max_prompt_tokens=chosen.prompt_tokens,
        max_completion_tokens=chosen.completion_tokens, eval_batch_size=32, system_prompt="none",
    )  # fmt: skip


def _trainer(name, policy, tokenizer, chosen):
    import shared
    import tiny
    import torch
    import trl
    import trl.trainer.utils

    from sa_ah_lib.trainer import sa_ah_trainer_class

    if chosen.device == "cpu":
        trl.trainer.utils._ChunkedLogProbFunction = tiny.PlainHead
    if "ref" in policy.peft_config:
        # Stock TRL copies the adapter for its reference, once a trainer; the copies are equal here.
        policy.delete_adapter("ref")
    config = _config(chosen, "")
    weighted, dtype = name != PLAIN, shared.training_dtype(chosen.device)
    args = tiny.arguments(
        Path.cwd(), top_entropy_quantile=0.5 if weighted else 1.0, use_cpu=chosen.device == "cpu",
        bf16=dtype == torch.bfloat16, fp16=dtype == torch.float16,
        per_device_train_batch_size=config.micro_batch_size, beta=config.beta,
        num_generations=config.num_generations, gradient_accumulation_steps=config.gradient_accumulation_steps,
        max_completion_length=config.max_completion_tokens, learning_rate=config.learning_rate,
        gradient_checkpointing=chosen.device == "cuda",
        # Every row is as long as the limit, and never holds the padding token, which Unsloth takes for padding.
        generation_kwargs={"min_new_tokens": config.max_completion_tokens, "suppress_tokens": [tokenizer.pad_token_id]},
    )  # fmt: skip
    common = {
        "model": policy, "processing_class": tokenizer, "reward_funcs": [tiny.digit_share], "args": args,
        "train_dataset": tiny.dataset(["1"] * config.rollouts_per_step),
    }  # fmt: skip
    if not weighted:
        made = trl.GRPOTrainer(**common)
    else:
        made = (_naive_class() if name == NAIVE else sa_ah_trainer_class())(
            entropy_top_k=500 if name == TOP_K else None, reward_threshold=0.0, **common
        )
    made.current_gradient_accumulation_steps = config.gradient_accumulation_steps
    made.create_optimizer()
    return made


def _naive_class():
    """SA-AH-GRPO as a first version would write it: all logits of the micro-batch at once, in float32."""
    import torch

    from sa_ah_lib.trainer import GROUP_KEY, sa_ah_trainer_class
    from sa_ah_lib.weighting import group_normalized, rollout_weights

    class FullLogits(sa_ah_trainer_class()):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            completion, mask = inputs["completion_ids"], inputs["completion_mask"]
            ids = torch.cat([inputs["prompt_ids"], completion], 1)
            attention = torch.cat([inputs["prompt_mask"], mask], 1)
            logits = model(input_ids=ids, attention_mask=attention).logits[:, -completion.shape[1] - 1 : -1]
            table = torch.log_softmax(logits.float() / self.temperature, -1)  # (B, T, V)
            log_probs = table.gather(2, completion[:, :, None])[:, :, 0]
            with torch.no_grad():
                entropy = (-(table.exp() * table).sum(-1) / self._log_vocabulary).clamp(0.0, 1.0)
                weights = rollout_weights(entropy, mask, inputs["advantages"], self.alpha, self.scope)
                factors = group_normalized(weights, mask, inputs[GROUP_KEY], self.denominator)
            surrogate = torch.exp(log_probs - log_probs.detach()) * inputs["advantages"][:, None]
            gap = inputs["ref_per_token_logps"] - log_probs
            token_loss = -surrogate * factors + self.beta * (torch.exp(gap) - gap - 1)
            return (token_loss * mask).sum() / mask.sum() / self.current_gradient_accumulation_steps

    return FullLogits


def _examples(trainer, chosen, micro_batch):
    """The rows of one micro-batch: prompts of exactly ``prompt_tokens`` tokens, each once a rollout."""
    from sa_ah_lib.train.data import Problem
    from sa_ah_lib.train.evaluation import encode_prompts

    config, rows = _config(chosen, ""), []

    def count(text):
        return len(encode_prompts([Problem(text, "")], trainer.processing_class, config)[0])

    each = chosen.prompts // chosen.micro_batches
    for prompt in range(micro_batch * each, (micro_batch + 1) * each):
        # A digit is one token of the byte-level tokenizer.
        text = str(prompt) + "7" * (chosen.prompt_tokens - count(str(prompt)))
        if count(text) != chosen.prompt_tokens:
            raise ValueError(f"--prompt-tokens must leave room for the chat template. Got {chosen.prompt_tokens}.")
        rows += [{"prompt": [{"role": "user", "content": text}]} for _ in range(chosen.group)]
    return rows


def _step_if_it_fits(trainer, *rest):
    """``_step``, or None where the device's memory is too small for it."""
    import torch

    try:
        return _step(trainer, *rest)
    except torch.OutOfMemoryError:
        trainer.model.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
        return None


def _step(trainer, chosen, kept, generate, counted):
    """One optimizer step: {"seconds": {stage: s}, "bytes": {stage: peak}, "tokens": completion tokens}."""
    import torch

    trainer.model.train()
    stages = Stages(counted)
    original = {name: getattr(trainer, name) for name in TIMED}

    def rollouts(inputs):
        number = trainer._bench_micro_batch
        if generate:
            with stages.stage("generation"):
                kept[number] = original[TIMED[0]](inputs)
        return _as_weighted(kept[number], chosen)

    def log_probs(*args, **kwargs):
        if stages.open[-1:] != ["generation"]:
            return original[TIMED[1]](*args, **kwargs)
        with stages.stage("reference"):
            return original[TIMED[1]](*args, **kwargs)

    for name, timed in zip(TIMED, (rollouts, log_probs), strict=True):
        setattr(trainer, name, timed)
    tokens = 0
    try:
        for number in range(chosen.micro_batches):
            trainer._bench_micro_batch = number
            batch = trainer._prepare_inputs(_examples(trainer, chosen, number))
            tokens += int(batch["completion_mask"].sum())
            with stages.stage("loss"):
                with trainer.compute_loss_context_manager():
                    loss = trainer.compute_loss(trainer.model, batch)
                trainer.accelerator.backward(loss)
            trainer._step += 1
    finally:
        for name, method in original.items():
            setattr(trainer, name, method)
    with stages.stage("optimiser"):
        norm = torch.nn.utils.clip_grad_norm_([p for p in trainer.model.parameters() if p.requires_grad], 1.0)
        # A GradScaler's first scales overflow, and a run leaves these steps out.
        if torch.isfinite(norm):
            trainer.optimizer.step()
        trainer.model.zero_grad(set_to_none=True)
    return {"seconds": stages.spent, "bytes": stages.memory, "tokens": tokens, "loss": float(loss.detach())}


def _as_weighted(batch, chosen):
    """Rollouts that any variant of the backend can train on: the plain trainer makes no groups and rewards."""
    import torch

    from sa_ah_lib.trainer import GROUP_KEY, REWARD_KEY

    rows = len(batch["advantages"])
    missing = {
        GROUP_KEY: torch.arange(rows, device=batch["advantages"].device) // chosen.group,
        REWARD_KEY: torch.zeros(rows, device=batch["advantages"].device),
    }
    return {**missing, **batch}


def _evaluation(policy, tokenizer, chosen):
    """Greedy evaluation of problems as long as GSM8K's: problems and tokens a second, and the share of padding."""
    import random

    import shared

    from sa_ah_lib.train.data import Problem
    from sa_ah_lib.train.evaluation import encode_prompts, evaluate, length_batches

    draw = random.Random(0)
    longest = chosen.prompt_tokens
    problems = [
        Problem("7" * max(1, min(longest, round(longest / 2 * draw.lognormvariate(0, 0.35)))), "7")
        for _ in range(chosen.eval_problems)
    ]
    config = _config(chosen, "")
    lengths = [len(tokens) for tokens in encode_prompts(problems, tokenizer, config)]
    padded = sum(len(b) * max(lengths[i] for i in b) for b in length_batches(lengths, config.eval_batch_size))
    with shared.seconds() as took:
        rows = evaluate(policy, tokenizer, problems, config, progress=False)
    return {
        "problems": len(rows), "seconds": took[0], "problems_per_second": len(rows) / took[0],
        "tokens_per_second": sum(row["tokens"] for row in rows) / took[0], "padding_share": 1 - sum(lengths) / padded,
    }  # fmt: skip
