"""Sampled evaluation of finished runs, for Pass@k: ``python -m sa_ah_lib.train.sampled RUN_DIR... --samples 16``.

Writes ``samples.jsonl`` into each run directory, one line per problem: ``problem`` (index), ``n`` (sampled
completions), ``correct`` (how many of them are right), ``problems`` (how many lines a complete file has) and
``temperature``.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sa_ah_lib.train import models  # first: it imports unsloth, which patches what follows

import torch
from tqdm import tqdm

from sa_ah_lib.config import RunConfig
from sa_ah_lib.rewards import answers_match, extract_answer, gold_answer
from sa_ah_lib.train import data, disk, reuse, runlog
from sa_ah_lib.train.data import Problem
from sa_ah_lib.train.evaluation import generating, length_batches, rollouts
from sa_ah_lib.train.prompts import encode_prompts

FILE = "samples.jsonl"


def evaluate_sampled(
    directory: str | Path,
    samples: int = 16,
    problems: int = 200,
    data_dir: str | Path | None = None,
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Sample completions of the first evaluation problems from a finished run's adapter, and count the right ones.

    What is in ``samples.jsonl`` already is kept, so that an interrupted evaluation goes on. The draws of a batch of
    problems depend on the run's seed and the batch alone: a resumed evaluation gives what an unbroken one gives.

    Args:
        directory: a run directory with its ``adapter/``; of a zero-shot run the untouched model is asked.
        samples: completions per problem, at least 1; Pass@k needs k of them.
        problems: how many, from the start of the run's evaluation problems; all of them where it has fewer.
        data_dir: GSM8K's own files, see ``data.load``.

    Returns:
        The lines of ``samples.jsonl``, by problem.

    Raises:
        ValueError: the run is not finished, has no adapter, or was sampled with another number of samples or
            problems. ``reuse.OtherDataError``: today's problems are not the run's.
    """
    directory = Path(directory)
    # Two at once would each write every line; the second finds the first one's.
    with disk.alone(directory.parent, f"{directory.name}.samples"):
        return _evaluated(directory, samples, problems, data_dir, progress)


def _evaluated(directory, samples, problems, data_dir, progress):
    run = runlog.read_run(directory)
    adapter = _adapter(run)
    reuse.check_same_data(directory, run.config, data_dir)
    asked = data.load(run.config, data_dir).evaluation[:problems]
    done = _done(run, directory, samples, len(asked))
    if len(done) < len(asked):
        models.choose_threads(run.config)
        # It is sampled by transformers here, whatever training sampled with.
        loaded = models.load(run.config.replace(fast_inference=False), adapter)
        _sample_missing(loaded, asked, run.config, samples, directory / FILE, done, progress)
    return [done[number] for number in sorted(done)]


def _sample_missing(loaded, problems, config, samples, path, done, progress):
    """Sample every batch that has a problem which is not in ``done``, and write each one's lines when it is through."""
    prompts = encode_prompts(problems, loaded.tokenizer, config)
    batches = length_batches([len(tokens) for tokens in prompts], max(1, config.eval_batch_size // samples))
    # Written anew first: a torn last line would swallow the next one.
    runlog.replace_file(path, "".join(json.dumps(done[number]) + "\n" for number in sorted(done)).encode())
    bar = tqdm(total=len(problems), initial=len(done), desc=f"sampling, {config.run_id}", disable=not progress)
    with generating(loaded.model), open(path, "a", encoding="utf-8") as file, bar:
        for number, batch in enumerate(batches):
            missing = [index for index in batch if index not in done]
            if not missing:
                continue
            with torch.random.fork_rng():
                torch.manual_seed((config.seed * 1_000_003 + number) % 2**63)
                drawn = rollouts(loaded.model, loaded.tokenizer, [prompts[index] for index in batch], config, samples)
            for index, answers in zip(batch, drawn, strict=True):
                if index in missing:
                    texts = loaded.tokenizer.batch_decode(answers, skip_special_tokens=True)
                    done[index] = _row(index, problems, texts, config)
                    file.write(json.dumps(done[index]) + "\n")
            file.flush()
            bar.update(len(missing))


def _row(index: int, problems: Sequence[Problem], answers: Sequence[str], config: RunConfig) -> dict[str, Any]:
    gold = gold_answer(problems[index].answer)
    correct = sum(answers_match(extract_answer(text), gold) for text in answers)
    counts = {"problem": index, "n": len(answers), "correct": correct}
    return {**counts, "problems": len(problems), "temperature": config.temperature}


def _adapter(run):
    if not run.finished:
        raise ValueError(f"expected a finished run. {run.directory} has no finished.json; run it to its end.")
    adapter = run.directory / "adapter"
    if run.config.steps and not adapter.is_dir():
        raise ValueError(
            f"expected {adapter}, the trained model. Published logs have none; use the run's own directory."
        )
    return adapter if run.config.steps else None


def _done(run, directory, samples, problems):
    """{problem: line} of what was sampled before."""
    others = sorted({row["n"] for row in run.samples} - {samples})
    if others:
        raise ValueError(f"{directory / FILE} has {others} samples per problem, asked for are {samples}; move it away.")
    sizes = sorted({row["problems"] for row in run.samples} - {problems})
    if sizes:
        raise ValueError(f"{directory / FILE} is of {sizes} problems, asked for are {problems}; ask for as many.")
    return {row["problem"]: row for row in run.samples}


def main(arguments: list[str] | None = None) -> None:
    """Sample finished runs, one after the other."""
    parser = argparse.ArgumentParser(prog="python -m sa_ah_lib.train.sampled", description=main.__doc__)
    parser.add_argument("runs", nargs="+", help="run directories with their adapter/")
    parser.add_argument("--samples", type=int, default=16, help="completions per problem (16)")
    parser.add_argument("--problems", type=int, default=200, help="evaluation problems, from the first (200)")
    parser.add_argument("--data", help="a directory with GSM8K's train.jsonl and test.jsonl")
    options = parser.parse_args(arguments)
    if options.samples < 1 or options.problems < 1:
        parser.error("--samples and --problems must be at least 1")
    for directory in options.runs:
        rows = evaluate_sampled(directory, options.samples, options.problems, options.data)
        right = sum(row["correct"] for row in rows) / sum(row["n"] for row in rows)
        print(f"{directory}: {len(rows)} problems, {options.samples} samples each, {right:.3f} of them right")


if __name__ == "__main__":
    main()
