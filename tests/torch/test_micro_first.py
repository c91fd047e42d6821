"""The two first micro models: their tokenizer, problems, builds and shipped weights."""

import hashlib
import json
import random

import pytest

from sa_ah_lib.config import preset
from sa_ah_lib.micro import first as micro
from sa_ah_lib.micro.tokenizer import prompt_text
from sa_ah_lib.micro.training import corpus_sha256
from sa_ah_lib.rewards import answers_match, extract_answer, gold_answer, total_reward
from sa_ah_lib.train.data import Problem
from sa_ah_lib.train.evaluation import evaluate, pass_at_1
from sa_ah_lib.train.shipped import shipped_path

S = micro.RECIPES["micro-s"]


@pytest.fixture(scope="module")
def tokenizer():
    return micro.build_tokenizer()


@pytest.fixture(scope="module")
def splits():
    return micro.held_out(S)


@pytest.mark.parametrize(
    "text",
    [
        "".join(map(chr, range(128))),
        "Janet's ducks lay 16 eggs; she sells 12.50 of them -- for $2 each?\n\n#### 18",
        " 12+7=19\n19 - 5 = 14  ",
        "naïve 日本 −3 × 4",
    ],
)
def test_any_text_round_trips(tokenizer, text):
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_chat_template_with_and_without_system_message(tokenizer):
    chat = [{"role": "user", "content": "1 + 2 ="}]
    assert prompt_text(tokenizer, "1 + 2 =") == "<|im_start|>user\n1 + 2 =<|im_end|>\n<|im_start|>assistant\n"
    text = tokenizer.apply_chat_template([{"role": "system", "content": "Be brief."}, *chat], tokenize=False)
    assert text.startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n")


def test_every_problem_fits_64_prompt_and_96_answer_tokens(tokenizer, splits):
    items = splits[0] + splits[1]
    prompts = tokenizer([prompt_text(tokenizer, item["question"]) for item in items])["input_ids"]
    full = [micro.write_answer(item["metadata"]["expression"], item["answer"], "full") for item in items]
    assert max(map(len, prompts)) <= 64
    assert max(map(len, tokenizer(full)["input_ids"])) < 96


@pytest.mark.parametrize("style", ["full", "steps", "tagged", "bare"])
def test_every_style_ends_in_the_gold_answer(splits, style):
    for item in splits[0]:
        text = micro.write_answer(item["metadata"]["expression"], item["answer"], style)
        assert answers_match(extract_answer(text), gold_answer(item["answer"])), text


def test_worked_lines_are_true_and_earn_the_full_reward(splits):
    assert micro.worked_steps("12 + 7 - 25") == ["12+7=19", "19-25=-6"]
    for item in splits[1]:
        lines = micro.worked_steps(item["metadata"]["expression"])
        assert all(eval(line.replace("=", "==")) for line in lines)  # noqa: S307 - our own arithmetic
        if len(lines) > 4:
            assert (
                total_reward(micro.write_answer(item["metadata"]["expression"], item["answer"], "full"), item["answer"])
                == 7.5
            )


def test_worked_share_falls_and_slips_grow_with_length():
    """The room that reinforcement learning finds: worked answers are right, direct ones to long problems often slip."""
    rng = random.Random(0)
    short, long = (" + ".join("1" * n) for n in (S.task_kwargs["min_terms"], S.task_kwargs["max_terms"]))
    for end, expression in enumerate((short, long)):
        gold = str(len(expression) // 4 + 1)
        drawn = [micro.draw_answer(S, expression, gold, rng) for _ in range(4000)]
        direct = [text for text in drawn if "=" not in text]
        slipped = [text for text in direct if not answers_match(extract_answer(text), float(gold))]
        assert 1 - len(direct) / len(drawn) == pytest.approx(S.worked[end], abs=0.04)
        assert len(slipped) / len(direct) == pytest.approx(S.slips[end], abs=0.05)
        assert all(answers_match(extract_answer(text), float(gold)) for text in drawn if "=" in text)


def test_splits_and_corpus_are_disjoint(splits):
    evaluation, train = ({item["question"] for item in split} for split in splits)
    warm = {question for question, _ in micro.corpus(micro.replace(S, corpus=3000))}
    assert (len(evaluation), len(train), len(warm)) == (500, 800, 3000)
    assert not (evaluation & train or evaluation & warm or train & warm)


def test_builds_repeat_to_the_byte(tmp_path, monkeypatch):
    tiny = micro.replace(S, hidden=32, layers=1, heads=2, inter=32, corpus=300, batch=16)
    monkeypatch.setitem(micro.RECIPES, "micro-s", tiny)
    paths = [
        micro.build("micro-s", tmp_path / str(seed) / str(n), seed=seed, steps=3, progress=False)
        for seed, n in ((1, 0), (1, 1), (2, 0))
    ]
    digests = [hashlib.sha256((path / "model.safetensors").read_bytes()).hexdigest() for path in paths]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("scale", list(micro.RECIPES))
def test_shipped_weights_are_the_recipe_and_answer_in_the_band(scale, splits):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = shipped_path(scale)
    facts = json.loads((path / "recipe.json").read_text())
    recipe = json.loads(json.dumps(micro.asdict(micro.RECIPES[scale])))
    assert {name: facts[name] for name in recipe} == recipe
    model, tok = AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    assert model.dtype == torch.float32
    assert sum(p.numel() for p in model.parameters()) == facts["parameters"]
    problems = [Problem(item["question"], item["answer"]) for item in splits[0][:60]]
    rows = evaluate(model, tok, problems, preset(scale, "zero-shot"), progress=False)
    assert 0.2 < pass_at_1(rows)[0] / 60 < 0.85
    assert 0.3 <= facts["zero_shot_pass_at_1"] <= 0.7


@pytest.mark.parametrize("scale", list(micro.RECIPES))
def test_shipped_corpus_is_the_codes_corpus(scale):
    facts = json.loads((shipped_path(scale) / "recipe.json").read_text())
    assert corpus_sha256(micro.corpus(micro.RECIPES[scale])) == facts["corpus_sha256"]
