"""What a step of a real run costs, stage by stage: a scale's own model, problems and preset.

    python tests/benchmarks/bench_run.py --scale smollm2 --method sa-ah-grpo --steps 5 --json OUT

Computing time of this process, all threads together, so that other work on the machine adds little. Stages: generation
(with rewards), reference (its log-probabilities), loss (forward, with the entropies), backward, and the rest of the
step (optimiser, logging). The first step warms up and is left out. One batch of a greedy evaluation is timed as well.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from clock import Clock

STAGES = {
    "_generate_and_score_completions": "generation",
    "_get_per_token_logps_and_entropies": "reference",
    "compute_loss": "loss",
}


def timed(clock, name, function):
    """``function``, whose calls count as stage ``name``; a reference inside of the loss is the loss."""

    def call(*args, **kwargs):
        if name == "reference" and "generation" not in clock.open:
            return function(*args, **kwargs)
        with clock.stage(name):
            return function(*args, **kwargs)

    return call


def measured(config, folder):
    """([{stage: seconds} of each step], evaluation seconds, mean completion length of each step)."""
    from sa_ah_lib.train import data, models, prompts, training  # isort: skip
    from transformers import TrainerCallback

    from sa_ah_lib.train.evaluation import evaluate
    from sa_ah_lib.train.progress import Progress

    models.choose_threads(config)
    splits, loaded = data.load(config), models.load(config)
    splits = prompts.fitting(splits, loaded.tokenizer, config)
    trainer = training.build_trainer(config, loaded, splits, None, folder, Progress(config, False))
    # The recorder would evaluate, and write logs that nobody reads.
    trainer.callback_handler.callbacks = [
        callback for callback in trainer.callback_handler.callbacks if type(callback).__name__ != "RunLogCallback"
    ]
    clock, steps = Clock(time.process_time), []

    class Recorder(TrainerCallback):
        def on_step_begin(self, *args, **kwargs):
            clock.spent.clear()
            self.started = time.process_time()

        def on_step_end(self, *args, **kwargs):
            took = time.process_time() - self.started
            steps.append({**clock.spent, "rest": took - sum(clock.spent.values()), "step": took})

    for method, name in STAGES.items():
        setattr(trainer, method, timed(clock, name, getattr(trainer, method)))
    trainer.accelerator.backward = timed(clock, "backward", trainer.accelerator.backward)
    trainer.add_callback(Recorder())
    trainer.train()
    lengths = [row["completions/mean_length"] for row in trainer.state.log_history if "reward" in row]
    started = time.process_time()
    evaluate(loaded.model, loaded.tokenizer, splits.evaluation[: config.eval_batch_size], config)
    return steps, time.process_time() - started, lengths


def main(given=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", default="smollm2")
    parser.add_argument("--method", default="sa-ah-grpo")
    parser.add_argument("--steps", type=int, default=5, help="measured steps, after one that is not")
    parser.add_argument("--json", help="also write everything here")
    chosen = parser.parse_args(given)

    from sa_ah_lib.train import models, training  # isort: skip
    import shared

    config = training.configure(chosen.scale, chosen.method, steps=chosen.steps + 1)
    with tempfile.TemporaryDirectory() as folder:
        steps, evaluation, lengths = measured(config, Path(folder))
    kept = steps[1:]
    medians = {stage: statistics.median(step[stage] for step in kept) for stage in kept[0]}
    setting = shared.setting(
        scale=config.scale, method=config.method, rollouts=config.rollouts_per_step,
        completion_tokens=statistics.mean(lengths[1:]), date=time.strftime("%Y-%m-%d"),
    )  # fmt: skip
    peak = (models.peak_memory() or 0) / 2**30
    result = {
        "setting": setting, "seconds": medians, "steps": kept, "peak_gib": peak,
        "evaluation": {"problems": config.eval_batch_size, "seconds": evaluation},
    }  # fmt: skip
    rows = [[stage, f"{took:.2f}", f"{took / medians['step']:.0%}"] for stage, took in medians.items()]
    text = shared.markdown(["stage", "seconds", "of the step"], rows)
    told = f"An evaluation of {config.eval_batch_size} problems took {evaluation:.1f} s; the peak was {peak:.1f} GiB."
    shared.report(f"{text}\n\n{told}", result, chosen.json)
    return result


if __name__ == "__main__":
    main()
