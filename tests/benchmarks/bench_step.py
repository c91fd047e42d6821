"""What a whole training step costs, stage by stage, and what an evaluation does: Unsloth, stock TRL, and a naive loss.

    python tests/benchmarks/bench_step.py [--scale qwen2.5-1.5b] [--steps 10] [--json OUT]     on a CUDA machine
    python tests/benchmarks/bench_step.py --device cpu --scale tiny --prompt-tokens 24 ...     anywhere

Random weights in Qwen2.5's geometry and the paper's batch: 4 prompts x 4 rollouts in 2 micro-batches, 200 prompt and
512 forced completion tokens, so nothing is downloaded and every step does the same work. Unsloth patches transformers
for good, so stock TRL runs in a process of its own; both models stay on one device and take turns (A B C A B C ...).

Stages of a step: generation (with rewards), reference (its log-probabilities), loss (forward and backward) and
optimiser; the step is the sum of their medians. Memory is the peak that a stage held beyond what was there before it
(the model, mostly), the step's is the largest of its stages'; the reference's is part of generation's.
"""

import argparse
import multiprocessing
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

# No torch here: a worker is started with this module imported, and unsloth must come first there.
from step_worker import NAIVE, VARIANTS, worker

STAGES = ("generation", "reference", "loss", "optimiser")
GOALS = (
    "Goals, not asserted: exact at most 1.01x the step time and 1.00x the peak memory of plain Unsloth GRPO; K = 500 "
    "at most 1.03x; a fifth of the naive loss stage's memory or less."
)


def arguments(given=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--scale", choices=("qwen2.5-1.5b", "qwen2.5-3b", "tiny"), default="qwen2.5-1.5b")
    parser.add_argument("--steps", type=int, default=10, help="measured steps of each variant")
    parser.add_argument("--generations", type=int, help="how many of them generate; the rest repeat the last rollouts")
    parser.add_argument(
        "--generate-once", action="store_true", help="only a backend's first variant generates, for all of them"
    )
    parser.add_argument("--warm-up", type=int, default=2)
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--group", type=int, default=4, help="rollouts of one prompt")
    parser.add_argument("--micro-batches", type=int, default=2)
    parser.add_argument("--prompt-tokens", type=int, default=200)
    parser.add_argument("--completion-tokens", type=int, default=512)
    parser.add_argument("--eval-problems", type=int, default=500, help="0 leaves the evaluation out")
    parser.add_argument("--backends", nargs="+", choices=tuple(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--json", help="also write everything here")
    return parser.parse_args(given)


def measure(chosen, model_dir):
    """{"backend variant": {"seconds": {stage: [s]}, "bytes": {stage: n}}}, evaluation, and the base trainers' names.

    A variant that does not fit into the device's memory takes no further turn, and is None.
    """
    context = multiprocessing.get_context("spawn")
    pipes, processes = {}, []
    for backend in chosen.backends:
        pipes[backend], other = context.Pipe()
        process = context.Process(target=worker, args=(backend, chosen, model_dir, other), daemon=True)
        process.start()
        other.close()
        processes.append(process)
    bases = {backend: pipes[backend].recv() for backend in chosen.backends}
    turns = [(backend, name) for backend in chosen.backends for name in VARIANTS[backend]]
    generations = chosen.steps if chosen.generations is None else chosen.generations
    found = {turn: {"seconds": {stage: [] for stage in STAGES}} for turn in turns}

    def ask(backend, request):
        pipes[backend].send(request)
        return pipes[backend].recv()

    def generates(backend, name):
        return not chosen.generate_once or name == VARIANTS[backend][0]

    def each_turn(generation, counted):
        """(turn, what its step cost) one after another, of those that fit."""
        for turn in [turn for turn in turns if found[turn]]:
            cost = ask(turn[0], (turn[1], generation and generates(*turn), counted))
            if cost is None:
                found[turn] = None
            else:
                yield turn, cost

    for _ in range(chosen.warm_up):
        list(each_turn(True, False))
    for turn, counted in each_turn(True, True):
        found[turn] |= {"bytes": counted["bytes"], "tokens": counted["tokens"], "losses": []}
    for step in range(chosen.steps):
        for (backend, name), once in each_turn(step < generations, False):
            found[backend, name]["losses"].append(once["loss"])
            for stage, took in once["seconds"].items():
                found[backend, name]["seconds"][stage].append(took)
    evaluation = {backend: ask(backend, "evaluate") for backend in chosen.backends if chosen.eval_problems}
    for pipe, process in zip(pipes.values(), processes, strict=True):
        pipe.send(None)
        process.join()
    return found, evaluation, bases


def summary(found):
    """One dict a variant: medians, the step as their sum, ratios to plain GRPO of the first backend.

    A stage that a variant did not do, because its backend's first did it for all, is that one's.
    """
    import shared

    plain = found[next(iter(found))]
    rows = []
    for (backend, name), values in found.items():
        first = found.get((backend, VARIANTS[backend][0]), values)
        seconds = {stage: times or first["seconds"][stage] for stage, times in values["seconds"].items()}
        medians = {stage: statistics.median(times) for stage, times in seconds.items() if times}
        held = {**first["bytes"], **values["bytes"]}
        rows.append(
            {
                "backend": backend, "variant": name, "seconds": medians, "step_seconds": sum(medians.values()),
                "step_peak_mib": max(held.values()) / 2**20,
                "loss_peak_mib": values["bytes"]["loss"] / 2**20, "tokens": values["tokens"],
            }
        )  # fmt: skip
    for row, values in zip(rows, found.values(), strict=True):
        row["time_ratio"] = row["step_seconds"] / rows[0]["step_seconds"]
        row["memory_ratio"] = row["step_peak_mib"] / rows[0]["step_peak_mib"]
        row["loss_time_ratio"] = shared.paired_ratio(values["seconds"]["loss"], plain["seconds"]["loss"])
    naive = next((row["loss_peak_mib"] for row in rows if row["variant"] == NAIVE), None)
    for row in rows:
        row["naive_loss_memory_over_this"] = naive / row["loss_peak_mib"] if naive else None
    return rows


def table(rows):
    import shared

    header = [
        "backend", "variant", *(f"{stage} s" for stage in STAGES), "step s", "step ratio", "loss ratio",
        "step peak MiB", "ratio", "loss peak MiB", "naive / this",
    ]  # fmt: skip
    cells = [
        [
            row["backend"], row["variant"], *(f"{row['seconds'][stage]:.4f}" for stage in STAGES),
            f"{row['step_seconds']:.4f}", f"{row['time_ratio']:.3f}", f"{row['loss_time_ratio']:.3f}",
            f"{row['step_peak_mib']:.0f}", f"{row['memory_ratio']:.3f}", f"{row['loss_peak_mib']:.0f}",
            "—" if row["naive_loss_memory_over_this"] is None else f"{row['naive_loss_memory_over_this']:.2f}",
        ]
        for row in rows
    ]  # fmt: skip
    return shared.markdown(header, cells)


def evaluation_table(evaluation):
    import shared

    formats = {"problems": "", "problems_per_second": ".2f", "tokens_per_second": ".0f", "padding_share": ".1%"}
    cells = [[name, *(format(e[key], how) for key, how in formats.items())] for name, e in evaluation.items()]
    return shared.markdown(["backend", "problems", "problems / s", "tokens / s", "padding"], cells)


def main(given=None):
    chosen = arguments(given)
    import shared
    import torch

    if chosen.device == "cuda" and not torch.cuda.is_available():
        sys.exit("no CUDA device; use --device cpu --scale tiny with small --prompt-tokens and --completion-tokens")
    with tempfile.TemporaryDirectory() as directory:
        model_dir = shared.save_random_model(
            chosen.scale, Path(directory) / "model", shared.training_dtype(chosen.device)
        )
        found, evaluation, bases = measure(chosen, model_dir)
    plain = next(iter(found))
    if found[plain] is None:
        sys.exit(
            f"{' '.join(plain)}, which every ratio is to, does not fit into the device's memory. Take a smaller "
            "--scale, or fewer --prompts or --completion-tokens."
        )
    too_large = [" ".join(turn) for turn, values in found.items() if values is None]
    found = {turn: values for turn, values in found.items() if values is not None}
    rows = summary(found)
    result = {
        "setting": shared.setting(**vars(chosen), base_trainers=bases), "goals": GOALS, "variants": rows,
        "out of memory": too_large,
        "samples": {f"{backend} {name}": values for (backend, name), values in found.items()}, "evaluation": evaluation,
    }  # fmt: skip
    text = "\n\n".join([table(rows), GOALS, *([evaluation_table(evaluation)] if evaluation else [])])
    shared.report(text, result, chosen.json)
    return result


if __name__ == "__main__":
    main()
