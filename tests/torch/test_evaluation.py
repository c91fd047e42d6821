"""Greedy evaluation: order, padding, and what counts as right."""

import random

import pytest

pytest.importorskip("torch")

from transformers import AutoModelForCausalLM, AutoTokenizer

from sa_ah_lib.config import preset
from sa_ah_lib.train import data, evaluation


@pytest.fixture
def loaded(tiny_model_dir):
    return AutoModelForCausalLM.from_pretrained(tiny_model_dir), AutoTokenizer.from_pretrained(tiny_model_dir)


@pytest.fixture
def problems():
    return [
        data.Problem("1 + 2 =", "3"),
        data.Problem("1 + 2 + 3 + 4 + 5 + 6 + 7 =", "28"),
        data.Problem("9 - 5 =", "4"),
    ]


def config(**changes):
    return preset("micro-s", "zero-shot", max_completion_tokens=6, **changes)


def test_batching_by_length_changes_neither_order_nor_completions(loaded, problems):
    one = evaluation.evaluate(*loaded, problems, config(eval_batch_size=1), progress=False)
    three = evaluation.evaluate(*loaded, problems, config(eval_batch_size=3), progress=False)
    assert [row["question"] for row in one] == [problem.question for problem in problems]
    assert one == three


@pytest.mark.parametrize("size", [16, 32])
def test_batches_of_like_length_are_hardly_padded(size):
    """A third of the compute of an evaluation goes into padding when prompts are batched as they come."""
    draw = random.Random(0)
    # As GSM8K's first 500 test questions in SmolLM2's tokens: median 58, 24 to 147; system prompt and template, 70.
    lengths = [70 + min(147, max(24, round(draw.lognormvariate(4.054, 0.353)))) for _ in range(500)]
    share = lambda batches: 1 - sum(lengths) / sum(len(b) * max(lengths[i] for i in b) for b in batches)  # noqa: E731
    batches = evaluation.length_batches(lengths, size)
    assert sorted(i for batch in batches for i in batch) == list(range(500))
    assert max(map(len, batches)) == size
    assert share(batches) < 0.10
    assert share([range(start, min(start + size, 500)) for start in range(0, 500, size)]) > 0.20


def test_a_completion_that_ends_at_the_limit_is_not_truncated(loaded, problems):
    """An end token in the last place is an end: a completion of that length is as whole as a shorter one."""
    rows = evaluation.evaluate(*loaded, problems, config(), progress=False)
    assert all(row["truncated"] and row["tokens"] == 6 and row["decoding"] == "greedy" for row in rows)
    last = evaluation.greedy(*loaded, evaluation.encode_prompts(problems, loaded[1], config()), 6)[0][-1]
    loaded[0].generation_config.eos_token_id = last
    row = evaluation.evaluate(*loaded, problems[:1], config(), progress=False)[0]
    assert row["tokens"] <= 6 and not row["truncated"]
    loaded[0].generation_config.eos_token_id = None
    assert evaluation.evaluate(*loaded, problems[:1], config(), progress=False)[0]["truncated"]


def test_the_models_mode_survives_an_evaluation(loaded, problems):
    for training in (True, False):
        loaded[0].train(training)
        evaluation.evaluate(*loaded, problems, config(), progress=False)
        assert loaded[0].training is training


def test_an_evaluation_draws_nothing_from_the_random_state(loaded, problems):
    import torch

    before = torch.get_rng_state()
    evaluation.evaluate(*loaded, problems, config(), progress=False)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("completion", "correct"),
    [
        ("<SOLUTION>3</SOLUTION>", True),
        ("1 + 2 = 3", True),
        ("<SOLUTION>3.0</SOLUTION>", True),
        ("4", False),
        ("", False),
    ],
)
def test_pass_at_1_reads_the_answer_as_the_reward_does(loaded, monkeypatch, completion, correct):
    tokenizer = loaded[1]
    tokens = tokenizer(completion, add_special_tokens=False)["input_ids"]
    monkeypatch.setattr(evaluation, "greedy", lambda *a: [tokens])
    rows = evaluation.evaluate(*loaded, [data.Problem("1 + 2 =", "3")], config(), progress=False)
    assert rows[0]["correct"] is correct
    assert evaluation.pass_at_1(rows) == (int(correct), 1)
