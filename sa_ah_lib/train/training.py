"""One run from configuration to logs: load, train with the token-weighted trainer, evaluate, save."""

from typing import Any
from collections.abc import Mapping
import time
from contextlib import nullcontext
from datetime import datetime, UTC
from pathlib import Path

from sa_ah_lib.train import models  # first: it imports unsloth, which patches what follows

import torch
from datasets import Dataset
from transformers import PrinterCallback, ProgressCallback, set_seed

from sa_ah_lib.train import data, disk, distributed, prompts, resume, reuse, runlog
from sa_ah_lib.upstream import decoding
from sa_ah_lib.config import RunConfig, preset
from sa_ah_lib.config.fields import check_kind
from sa_ah_lib.train.arguments import grpo_arguments
from sa_ah_lib.train.callback import RunLogCallback, evaluate_together
from sa_ah_lib.train.evaluation import pass_at_1
from sa_ah_lib.train.progress import Progress
from sa_ah_lib.train.run import Run
from sa_ah_lib.train.restore import RestoreCallback
from sa_ah_lib.train.scales import resolve_scale
from sa_ah_lib.train.shipped import check_warm_start
from sa_ah_lib.rewards import REWARD_FUNCS
from sa_ah_lib.trainer import sa_ah_trainer_class

EVALUATION_FIELDS = (
    "model", "warm_start", "load_in_4bit", "dataset", "data_seed", "train_examples", "eval_examples", "system_prompt",
    "max_prompt_tokens", "max_completion_tokens", "eval_batch_size",
)  # fmt: skip


def run(
    config: RunConfig,
    runs_dir: str | Path = "runs",
    data_dir: str | Path | None = None,
    progress: Any = True,
    report_to: Any = None,
) -> Run:
    """Do one run, go on with it where it was interrupted, or return it if it was finished on the same problems.

    An unfinished run goes on from its newest usable checkpoint and then gives the logs of an unbroken one; the lines
    after that checkpoint go to ``<log>.discarded-<k>.jsonl``. Where there is none (see ``resume``), its directory is
    set aside under ``<run_id>.interrupted-<k>``, with its logs, and the run starts anew; what happened is printed.
    While another process is at the same run, this one waits for it.

    Args:
        config: a ``RunConfig``; method "zero-shot" only evaluates.
        runs_dir: parent of the run directories; made if missing.
        data_dir: GSM8K's own files, see ``data.load``.
        progress: show how far the run is, see ``progress``.
        report_to: "trackio", "tensorboard", "wandb" or a list, as in TRL: who is shown the logged values too. None
            reads the variable SA_AH_REPORT_TO, and where that is unset, nobody. It decides nothing of the run.

    Returns:
        The ``run.Run`` read back from its files.

    Raises:
        OSError: ``runs_dir`` cannot be written, or its disk is too full for the run; said before training.
        ValueError: an evaluation prompt is longer than ``max_prompt_tokens``, or, as ``reuse.OtherDataError``, the
            finished run of this configuration was made on other problems.
    """
    directory = Path(runs_dir) / config.run_id
    if not distributed.decided_by_main(lambda: runlog.is_finished(directory)):
        distributed.decided_by_main(lambda: disk.check_writable(runs_dir))
        with disk.alone(runs_dir, config.run_id) if distributed.is_main() else nullcontext():
            # Another process may have finished it while this one waited.
            if not distributed.decided_by_main(lambda: runlog.is_finished(directory)):
                return _run(config, directory, data_dir, progress, report_to)
    distributed.decided_by_main(lambda: reuse.check_same_data(directory, config, data_dir))
    return runlog.read_run(directory)


def _run(config, directory, data_dir, progress, report_to):
    started = time.monotonic()
    models.choose_threads(config)
    models.free()
    splits = data.load(config, data_dir)
    environment = _environment(splits)
    checkpoint, environment = distributed.decided_by_main(lambda: resume.prepare(directory, config, environment))
    trained = resume.step_of(checkpoint) == config.steps
    set_seed(config.seed)
    loaded = models.load(config, checkpoint if trained else None)
    environment["parameters"] = models.parameters(loaded.model)
    _check_same_model(environment, loaded.source, directory)
    environment["model"] = loaded.source
    environment["decoding"] = decoding.described(loaded.model, loaded.tokenizer, config)
    splits = prompts.fitting(splits, loaded.tokenizer, config)
    needed = disk.run_bytes(config, sum(p.numel() for p in loaded.model.parameters() if p.requires_grad))
    distributed.decided_by_main(lambda: disk.check_room(directory, needed))
    log = runlog.RunLog(directory, config, environment) if distributed.is_main() else None
    shown = Progress(config, progress and distributed.is_main())
    try:
        if checkpoint is None:
            _evaluate_base(config, loaded, splits, log, directory.parent, environment, shown)
        if not trained:
            _train(build_trainer(config, loaded, splits, log, directory, shown, report_to), checkpoint)
        if log:
            if config.steps:
                models.save_adapter(loaded, directory / "adapter")
            log.finish(_summary(directory, environment, time.monotonic() - started))
    finally:
        shown.close()
        if log:
            log.close()
        # Else the next model is loaded beside this one.
        models.release(loaded)
        del loaded
        models.free()
    distributed.wait()
    return runlog.read_run(directory)


def _train(trainer, checkpoint):
    """In a call of its own, so that nothing here holds the trainer, and its model, when it is through."""
    trainer.add_callback(RestoreCallback(checkpoint))
    trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))


def _check_same_model(environment, source, directory):
    """Raise ValueError where a run goes on that was begun on another base model, or another commit of it."""
    begun = environment.get("model", source)
    if begun != source:
        raise ValueError(
            f"a run must go on with the base model that it was begun with, {begun}. Got {source}. Put that one back "
            f"into the hub's cache, or rename {directory} to begin anew."
        )


def configure(
    scale: str,
    method: str,
    seed: int = 123,
    steps: int = 0,
    data_dir: str | Path = "",
    overrides: Mapping[str, Any] | None = None,
    fast_inference: bool = False,
) -> RunConfig:
    """The configuration that a notebook's parameters mean.

    Args:
        scale: "auto" or a key of ``SCALES``; method: a key of ``METHODS``.
        steps: 0 keeps the method's own number; zero-shot has none.
        data_dir: a GSM8K directory means that GSM8K is the data set, whatever the scale's own problems are.
        overrides: {field of ``RunConfig``: value}; they win over all of the above.
        fast_inference: sample with Unsloth's vLLM, see ``upstream.vllm``.

    Raises:
        ValueError: a parameter out of its range or of another kind, with the nearest name where one was mistyped.
    """
    check_kind("OVERRIDES", overrides or {}, dict, "{temperature: 0.8}")
    if steps < 0:
        raise ValueError(f"STEPS must be at least 1, or 0 for the method's own number. Got {steps}.")
    if method == "zero-shot" and (unused := sorted(set(overrides or {}) - set(EVALUATION_FIELDS))):
        print(f"not used by an evaluation, and left out: {', '.join(unused)}")
    changes: dict[str, Any] = {"seed": seed, "fast_inference": fast_inference}
    if steps and method != "zero-shot":
        changes["steps"] = steps
    if data_dir:
        changes["dataset"] = data.GSM8K
    config = preset(resolve_scale(scale), method, **{**changes, **(overrides or {})})
    check_warm_start(config.model, config.warm_start)
    return config


def zero_shot_config(config: RunConfig) -> RunConfig:
    """The zero-shot evaluation that is step 0 of ``config``: only what decides an evaluation is kept."""
    kept = {name: getattr(config, name) for name in EVALUATION_FIELDS}
    return preset(config.scale, "zero-shot", **kept)


def build_trainer(
    config: RunConfig, loaded: Any, splits: Any, log: Any, directory: Path, progress: Any, report_to: Any = None
) -> Any:
    """The token-weighted trainer of ``config`` on a loaded model, writing into ``log``, which only the main has."""
    recorder = RunLogCallback(config, loaded, splits.evaluation, log, progress)
    trainer = sa_ah_trainer_class()(
        model=loaded.model,
        processing_class=loaded.tokenizer,
        reward_funcs=list(REWARD_FUNCS),
        args=grpo_arguments(config, directory / "checkpoints", report_to),
        train_dataset=Dataset.from_list(data.prompt_rows(splits.train, config)),
        callbacks=[recorder],
        alpha=config.alpha,
        scope=config.scope,
        rule=config.rule,
        rule_parameters=dict(config.rule_parameters),
        denominator=config.denominator,
        entropy_top_k=config.entropy_top_k,
        reward_threshold=config.reward_threshold,
    )
    recorder.trainer = trainer
    # The recorder shows the progress; the default callbacks print every step's log.
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    return trainer


def _evaluate_base(config, loaded, splits, log, runs_dir, environment, progress):
    """Step 0: read from the finished zero-shot run of the same model, problems and decoding, else evaluated here."""
    known = runs_dir / zero_shot_config(config).run_id
    rows = distributed.decided_by_main(lambda: reuse.step_0(known, environment))
    if rows is None:
        rows = evaluate_together(loaded, splits.evaluation, config, 0, progress)
    progress.evaluated(0, *pass_at_1(rows))
    if log:
        for row in rows:
            log.write("eval", row)


def _environment(splits):
    return runlog.environment(
        device=models.device_name(),
        threads=torch.get_num_threads(),
        precision=str(models.precision()[0]).removeprefix("torch."),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        data=splits.record,
        processes=distributed.count(),
    )


def _summary(directory, environment, seconds):
    """Of a resumed run, ``seconds`` are those of its last session."""
    scores = {step: correct / total for step, (correct, total) in runlog.read_run(directory).evaluations.items()}
    return {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "peak_memory": models.peak_memory(),
        "resumed_after": [session["step"] for session in environment.get("resumed", [])],
        "pass_at_1": scores,
    }
