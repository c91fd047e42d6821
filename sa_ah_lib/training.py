"""One run from configuration to logs: load, train with the token-weighted trainer, evaluate, save."""

import gc
import sys
import time
from datetime import datetime, UTC
from pathlib import Path

from sa_ah_lib import models  # first: it imports unsloth, which patches what follows

import torch
from datasets import Dataset
from tqdm.auto import tqdm
from transformers import PrinterCallback, ProgressCallback, TrainerCallback, set_seed

from sa_ah_lib import data, runlog, vllm_rollouts
from sa_ah_lib.config import RunConfig, preset
from sa_ah_lib.evaluation import evaluate, pass_at_1
from sa_ah_lib.rewards import REWARD_FUNCS
from sa_ah_lib.seam import SEAM_ARGUMENTS
from sa_ah_lib.trainer import sa_ah_trainer_class

EVALUATION_FIELDS = (
    "model", "load_in_4bit", "dataset", "data_seed", "train_examples", "eval_examples", "system_prompt",
    "max_prompt_tokens", "max_completion_tokens",
)  # fmt: skip


def run(config, runs_dir="runs", data_dir=None, progress=True):
    """Do one run, or return it as it is if it was finished before.

    An unfinished directory of the same run is set aside under ``<run_id>.interrupted-<k>``, with its logs.

    Args:
        config: a ``RunConfig``; method "zero-shot" only evaluates.
        runs_dir: parent of the run directories; made if missing.
        data_dir: GSM8K's own files, see ``data.load``.
        progress: show progress bars.

    Returns:
        The ``runlog.Run`` read back from its files.
    """
    directory = Path(runs_dir) / config.run_id
    if runlog.is_finished(directory):
        print(f"finished before, read from its logs: {directory}")
        return runlog.read_run(directory)
    if directory.exists():
        print(f"unfinished, set aside: {runlog.set_aside(directory)}")
    started = time.monotonic()
    splits = data.load(config, data_dir)
    set_seed(config.seed)
    loaded = models.load(config)
    log = runlog.RunLog(directory, config, _environment(config, loaded, splits))
    try:
        _evaluate_base(config, loaded, splits, log, Path(runs_dir), progress)
        if config.steps:
            trainer = build_trainer(config, loaded, splits, log, directory, progress)
            trainer.train()
            models.save_adapter(loaded, directory / "adapter")
        log.finish(_summary(directory, time.monotonic() - started))
    finally:
        log.close()
    del loaded
    gc.collect()
    torch.cuda.empty_cache()
    return runlog.read_run(directory)


def configure(scale, method, seed=123, steps=0, data_dir="", overrides=None):
    """The configuration that a notebook's parameters mean.

    Args:
        scale: "auto" or a key of ``SCALES``; method: a key of ``METHODS``.
        steps: 0 keeps the method's own number; zero-shot has none.
        data_dir: a GSM8K directory means that GSM8K is the data set, whatever the scale's own problems are.
        overrides: {field of ``RunConfig``: value}; they win over all of the above.
    """
    changes = {"seed": seed}
    if steps and method != "zero-shot":
        changes["steps"] = steps
    if data_dir:
        changes["dataset"] = data.GSM8K
    return preset(models.resolve_scale(scale), method, **{**changes, **(overrides or {})})


def zero_shot_config(config):
    """The zero-shot evaluation that is step 0 of ``config``: only what decides an evaluation is kept."""
    kept = {name: getattr(config, name) for name in EVALUATION_FIELDS}
    return preset(config.scale, "zero-shot", **kept)


def build_trainer(config, loaded, splits, log, directory, progress=True):
    """The token-weighted trainer of ``config`` on a loaded model, writing into ``log``."""
    recorder = RunLogCallback(config, loaded, splits.evaluation, log, progress)
    trainer = sa_ah_trainer_class()(
        model=loaded.model,
        processing_class=loaded.tokenizer,
        reward_funcs=list(REWARD_FUNCS),
        args=grpo_arguments(config, directory / "checkpoints"),
        train_dataset=Dataset.from_list(data.prompt_rows(splits.train, config)),
        callbacks=[recorder],
        alpha=config.alpha,
        scope=config.scope,
        rule=config.rule,
        denominator=config.denominator,
        entropy_top_k=config.entropy_top_k,
        reward_threshold=config.reward_threshold,
    )
    recorder.trainer = trainer
    # The recorder has a bar of its own; the default ones print every step's log.
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    return trainer


def grpo_arguments(config, output_dir):
    """``GRPOConfig`` with every hyperparameter of Table 1 said, because TRL's defaults differ on several."""
    import trl

    _, precision = models.precision()
    return trl.GRPOConfig(
        output_dir=str(output_dir),
        per_device_train_batch_size=config.micro_batch_size,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        num_generations=config.num_generations,
        max_completion_length=config.max_completion_tokens,
        temperature=config.temperature,
        top_p=1.0,
        top_k=0,
        beta=config.beta,
        epsilon=config.epsilon,
        max_steps=config.steps,
        learning_rate=config.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=config.warmup_steps,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        optim="adamw_torch",
        logging_steps=1,
        save_strategy="steps",
        save_steps=config.save_every,
        save_total_limit=2,
        seed=config.seed,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
        **precision,
        **vllm_rollouts.arguments(config.fast_inference),
        **SEAM_ARGUMENTS,
    )


class RunLogCallback(TrainerCallback):
    """Writes a line a step, evaluates every ``eval_every`` steps, and keeps sampled rollouts token by token."""

    def __init__(self, config, loaded, problems, log, progress):
        self.config, self.loaded, self.problems, self.log = config, loaded, problems, log
        self.progress = progress
        self.trainer = None

    def on_train_begin(self, args, state, control, **kwargs):
        self.bar = tqdm(total=self.config.steps, desc=self.config.run_id, disable=not self.progress)

    def on_step_end(self, args, state, control, **kwargs):
        self.bar.update(1)
        due = state.global_step % self.config.eval_every == 0 or state.global_step == self.config.steps
        if due or state.global_step == 1:
            for row in rollout_rows(self.trainer.last_rollouts, self.loaded.tokenizer, state.global_step):
                self.log.write("completions", row)
        if due:
            self._evaluate(state.global_step)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if logs and "reward" in logs:
            self.log.write("train", {"step": state.global_step, **logs})
            self.bar.set_postfix(reward=f"{logs['reward']:.2f}")

    def on_train_end(self, args, state, control, **kwargs):
        self.bar.close()

    def _evaluate(self, step):
        rows = evaluate(self.loaded.model, self.loaded.tokenizer, self.problems, self.config, step, self.progress)
        for row in rows:
            self.log.write("eval", row)
        self.bar.write(f"step {step}: Pass@1 {pass_at_1(rows)[0]}/{len(rows)}")


def rollout_rows(rollouts, tokenizer, step):
    """One group of the last micro-batch as rows for completions.jsonl, the group whose rewards differ most.

    Each row: step, prompt, tokens (list of text), entropy (normalised) and weights (lists as long as tokens),
    advantage, reward, completion.
    """
    groups = rollouts["groups"].unique().tolist()
    spread = {g: rollouts["rewards"][rollouts["groups"] == g].std().item() for g in groups}
    members = (rollouts["groups"] == max(groups, key=spread.get)).nonzero().flatten().tolist()
    rows = []
    for i in members:
        # Unsloth shifts rows when it packs them, so tokens are matched by order, not by column.
        tokens = rollouts["completion_ids"][i][rollouts["completion_mask"][i].bool()].tolist()
        mask = rollouts["mask"][i].bool()
        prompt = rollouts["prompt_ids"][i][rollouts["prompt_mask"][i].bool()]
        rows.append(
            {
                "step": step,
                "prompt": tokenizer.decode(prompt, skip_special_tokens=True),
                "tokens": [tokenizer.decode([token]) for token in tokens],
                "entropy": [round(x, 6) for x in rollouts["entropy"][i][mask].tolist()],
                "weights": [round(x, 6) for x in rollouts["weights"][i][mask].tolist()],
                "advantage": round(rollouts["advantages"][i].item(), 6),
                "reward": round(rollouts["rewards"][i].item(), 6),
                "completion": tokenizer.decode(tokens, skip_special_tokens=True),
            }
        )
    return rows


def _evaluate_base(config, loaded, splits, log, runs_dir, progress):
    """Step 0: read from the finished zero-shot run of the same model and problems, else evaluated here."""
    known = runs_dir / zero_shot_config(config).run_id
    if runlog.is_finished(known):
        rows = runlog.read_run(known).eval
    else:
        rows = evaluate(loaded.model, loaded.tokenizer, splits.evaluation, config, 0, progress)
    for row in rows:
        log.write("eval", row)


def _environment(config, loaded, splits):
    return runlog.environment(
        device=loaded.device,
        threads=torch.get_num_threads(),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        data={"source": splits.source, "sha256": splits.sha256},
        parameters=sum(p.numel() for p in loaded.model.parameters()),
    )


def _summary(directory, seconds):
    scores = {step: correct / total for step, (correct, total) in runlog.read_run(directory).pass_at_1.items()}
    return {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "pass_at_1": scores,
    }


def main():
    """Run a configuration file: ``python -m sa_ah_lib.training CONFIG.json [RUNS]``."""
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: python -m sa_ah_lib.training CONFIG.json [RUNS]")
    finished = run(RunConfig.from_json(sys.argv[1]), *sys.argv[2:])
    print(finished.directory)


if __name__ == "__main__":
    main()
