"""Sampled evaluation of a finished run: what is counted, and that an interrupted one goes on as if it had not been."""

import json

import pytest

pytest.importorskip("unsloth")
import torch

from sa_ah_lib.analysis.measures import METRICS
from sa_ah_lib.config import preset
from sa_ah_lib.rewards import answers_match, extract_answer, gold_answer
from sa_ah_lib.train import data, models, publish, runlog, sampled, training
from sa_ah_lib.train.evaluation import generating, rollouts
from sa_ah_lib.train.prompts import encode_prompts

# Batches of two problems: 32 completions, 16 of each.
TINY = {"steps": 2, "eval_examples": 7, "train_examples": 16, "prompts_per_step": 2, "eval_every": 2,
        "max_completion_tokens": 48, "eval_batch_size": 32}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return training.run(preset("micro-s", "sa-ah-grpo", **TINY), tmp_path_factory.mktemp("runs"), progress=False)


def test_a_run_is_sampled_once_and_an_interrupted_evaluation_goes_on(run, monkeypatch, tmp_path):
    """Anew from the start, or twice the same problem, or other draws than without the interruption."""
    rows = sampled.evaluate_sampled(run.directory, 16, 5, progress=False)
    path = run.directory / "samples.jsonl"
    assert [row["problem"] for row in rows] == list(range(5))
    assert all(row["n"] == 16 and row["problems"] == 5 and row["temperature"] == 1.0 for row in rows)
    assert 0 < sum(row["correct"] for row in rows) < 5 * 16
    read = runlog.read_run(run.directory)
    assert METRICS["pass_at_16"].read(read) == sum(row["correct"] > 0 for row in rows) / 5
    assert (publish.publish(run.directory, tmp_path) / "samples.jsonl").is_file()
    assert runlog.read_run(tmp_path / run.directory.name).samples == read.samples
    # Killed in the middle of a line, within a batch.
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:3]) + lines[3][:9])
    with pytest.warns(UserWarning, match="torn last line"):
        assert METRICS["pass_at_16"].read(runlog.read_run(run.directory)) is None
        assert sampled.evaluate_sampled(run.directory, 16, 5, progress=False) == rows
    assert sorted(path.read_text().splitlines()) == sorted(json.dumps(row) for row in rows)
    monkeypatch.setattr(models, "load", lambda *_: pytest.fail("nothing is missing"))
    assert sampled.evaluate_sampled(run.directory, 16, 5, progress=False) == rows
    with pytest.raises(ValueError, match=r"has \[16\] samples per problem, asked for are 4"):
        sampled.evaluate_sampled(run.directory, 4, 5, progress=False)
    with pytest.raises(ValueError, match=r"is of \[5\] problems, asked for are 7"):
        sampled.evaluate_sampled(run.directory, 16, 7, progress=False)


def test_samples_are_draws_of_the_trained_policy_at_temperature_1(run):
    """Greedy answers sixteen times over; right is what evaluation calls right."""
    loaded = models.load(run.config, run.directory / "adapter")
    problems = data.load(run.config).evaluation[:2]
    prompts = encode_prompts(problems, loaded.tokenizer, run.config)
    found = []
    with generating(loaded.model):
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            drawn = rollouts(loaded.model, loaded.tokenizer, prompts, run.config, 16)
            found.append([loaded.tokenizer.batch_decode(rows, skip_special_tokens=True) for rows in drawn])
    texts = found[0]
    assert texts == found[1] != found[2]
    assert [len(answers) for answers in texts] == [16, 16] and all(len(set(answers)) > 4 for answers in texts)
    row = sampled._row(1, problems, texts[1], run.config)
    gold = gold_answer(problems[1].answer)
    assert row["correct"] == len([text for text in texts[1] if answers_match(extract_answer(text), gold)])


def test_without_an_adapter_or_an_end_nothing_is_sampled(run, tmp_path):
    """The untouched model's answers under a trained run's name."""
    published = publish.publish(run.directory, tmp_path)
    with pytest.raises(ValueError, match="adapter, the trained model. Published logs have none"):
        sampled.evaluate_sampled(published)
    (published / "finished.json").unlink()
    with pytest.raises(ValueError, match="expected a finished run"):
        sampled.evaluate_sampled(published)
