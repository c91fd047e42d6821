"""A question of one's own to a trained model: the answer, its reward, and what each token was worth."""

import pytest

pytest.importorskip("unsloth")

import torch

from sa_ah_lib.config import preset
from sa_ah_lib.report import display
from sa_ah_lib.rewards import reward_parts
from sa_ah_lib.train import ask, training
from sa_ah_lib.weighting import horizon_weights, normalized_entropy

TINY = {"steps": 2, "eval_examples": 4, "train_examples": 16, "prompts_per_step": 2, "eval_every": 2,
        "max_completion_tokens": 24, "temperature": 0.7, "alpha": 3.0}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return training.run(preset("micro-s", "sa-ah-grpo", **TINY), tmp_path_factory.mktemp("runs"), progress=False)


def test_the_default_question_is_answered_as_it_was_evaluated(run):
    """Another prompt, another adapter or sampling would answer for another model."""
    last = [row for row in run.eval if row["step"] == 2][0]
    given = ask.ask(run)
    assert (given.question, given.completion, given.gold) == (last["question"], last["completion"], last["gold"])
    assert given.correct == last["correct"] and given.trained and given.truncated == (last["tokens"] == 24)
    assert given.parts == reward_parts(last["completion"], last["gold"])


def test_entropies_are_the_policy_s_and_weights_are_equation_5(run):
    """Computed apart: one forward pass over prompt and completion, at the sampling temperature."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from sa_ah_lib.train import models

    path = models.model_path("micro-s")
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    model = PeftModel.from_pretrained(model, run.directory / "adapter").eval()
    given = ask.ask(run, "3 + 4 - 2 =", 5)
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": given.question}], add_generation_prompt=True,
                                           tokenize=False)  # fmt: skip
    ids = tokenizer([prompt, "".join(given.tokens)], add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        logits = model(torch.tensor([ids[0] + ids[1]])).logits[0, len(ids[0]) - 1 : -1]
    expected = normalized_entropy(logits / 0.7, 500)
    assert len(given.entropy) == len(given.tokens) > 1
    assert given.entropy == pytest.approx(expected.tolist(), abs=1e-4)
    weights = horizon_weights(expected[None], torch.ones(1, len(expected)), 3.0)[0]
    assert given.weights == pytest.approx(weights.tolist(), abs=1e-3)


def test_without_an_answer_nothing_is_said_of_correctness(run):
    given = ask.ask(run, "3 + 4 - 2 =")
    assert given.gold is None and "correct" not in given.parts and len(given.parts) == 3 and not given.correct
    page = display.answer(given)
    assert "no answer was given" in page and "wrong" not in page and "the trained model" in page


def test_the_page_shows_the_parts_and_every_token(run):
    given = ask.ask(run, "<b>3 + 4</b> =", "7")
    page = display.answer(given)
    assert "<b>3 + 4</b>" not in page and "&lt;b&gt;3 + 4" in page
    assert page.count("<span title") == 2 * len(given.tokens)
    assert all(f"{name} {value:g}" in page for name, value in given.parts.items())


def test_a_run_without_an_adapter_asks_the_untouched_model(tmp_path):
    config = training.zero_shot_config(preset("micro-s", "grpo", **{**TINY, "alpha": 0.0}))
    given = ask.ask(training.run(config, tmp_path, progress=False))
    assert not given.trained and "the untouched model" in display.answer(given)


def test_an_answer_without_a_number_is_refused(run):
    with pytest.raises(ValueError, match="number"):
        ask.ask(run, "3 + 4 =", "seven")
