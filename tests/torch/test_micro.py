"""The micro models: tokenizer, writers, builds, what is measured, and the shipped weights."""

import hashlib
import json
import random
import re
from dataclasses import asdict

import pytest

from sa_ah_lib.config import preset
from sa_ah_lib.micro import __main__ as command
from sa_ah_lib.micro import decisions, first, measure, tasks, training, warm_start
from sa_ah_lib.micro.tokenizer import build_tokenizer, prompt_text
from sa_ah_lib.micro.writer import Habits
from sa_ah_lib.rewards import TAGS, answers_match, extract_answer, gold_answer, total_reward
from sa_ah_lib.train import shipped
from sa_ah_lib.train.data import TASKS, Problem, load, task_problems

SCALES = list(warm_start.RECIPES)
PERFECT = Habits(1, weak=0.0, sure_slips=(0.0, 0.0), untagged=0.0)
STARTS = [(scale, start) for scale in SCALES for start in range(shipped.WARM_STARTS[scale])]


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


@pytest.fixture(scope="module")
def items():
    return {scale: warm_start.held_out(warm_start.RECIPES[scale], 0)[0] for scale in SCALES}


def answers(scale, items, habits, seed=0):
    rng = random.Random(seed)
    return [tasks.WRITERS[scale](item, habits, rng) for item in items[scale]]


def right(text, item):
    return answers_match(extract_answer(text), gold_answer(item["answer"]))


def line_truths(text):
    return [truth for _, truth in measure.calculations(text)]


@pytest.mark.parametrize("text", ["".join(map(chr, range(32, 127))) + "\n\n", " 12 + 7=19\n19 - 5 = 14; ants 3*6"])
def test_ascii_round_trips(tokenizer, text):
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_other_characters_become_one_known_token(tokenizer):
    assert tokenizer.unk_token_id in tokenizer("naïve 日本")["input_ids"]
    assert tokenizer.decode(tokenizer("日本 7")["input_ids"], skip_special_tokens=True) == " 7"


@pytest.mark.parametrize("made_by", [build_tokenizer, first.build_tokenizer], ids=["characters", "bytes"])
def test_tags_are_single_tokens_that_survive_skip_special_tokens(made_by):
    tokenizer = made_by()
    text = f"{TAGS[0]}3-7=-4\n-4+9=5{TAGS[1]}{TAGS[2]}5{TAGS[3]}"
    ids = tokenizer(text)["input_ids"]
    assert all(len(tokenizer(tag)["input_ids"]) == 1 for tag in TAGS)
    assert tokenizer.decode(ids + [tokenizer.eos_token_id], skip_special_tokens=True) == text


@pytest.mark.parametrize("made_by", [build_tokenizer, first.build_tokenizer], ids=["characters", "bytes"])
def test_digits_stand_alone(made_by):
    tokenizer = made_by()
    assert [tokenizer.decode([i]) for i in tokenizer("2026")["input_ids"]] == ["2", "0", "2", "6"]


@pytest.mark.parametrize("scale", SCALES)
def test_prompts_and_answers_fit_a_run(tokenizer, items, scale):
    config = preset(scale, "grpo")
    prompts = tokenizer([prompt_text(tokenizer, item["question"]) for item in items[scale]])["input_ids"]
    lengths = [len(ids) + 1 for ids in tokenizer(answers(scale, items, Habits(1)))["input_ids"]]
    assert max(map(len, prompts)) <= config.max_prompt_tokens
    assert sum(n <= config.max_completion_tokens for n in lengths) > 0.98 * len(lengths)


@pytest.mark.parametrize("scale", SCALES)
def test_a_writer_without_slips_is_right_in_every_line(items, scale):
    for text, item in zip(answers(scale, items, PERFECT), items[scale], strict=True):
        truths = line_truths(text)
        assert right(text, item) and all(truths) and len(truths) == text.count("=") >= 2, text
        assert total_reward(text, item["answer"]) == 7.5 - 0.3 * (len(truths) <= 4) - 0.3 * (len(truths) <= 2)


@pytest.mark.parametrize("scale", SCALES)
def test_a_wrong_answer_has_a_slip_in_one_of_many_lines(items, scale):
    """What makes an answer wrong is a fact somewhere in it, not a choice at its start."""
    habits = Habits(2, **warm_start.RECIPES[scale].habits)
    texts = answers(scale, items, habits)
    wrong = [text for text, item in zip(texts, items[scale], strict=True) if not right(text, item)]
    assert 0.2 < len(wrong) / len(texts) < 0.8
    if scale == "micro-sum":
        places = [truths.index(False) / len(truths) for truths in map(line_truths, wrong)]
        assert min(places) == 0 and max(places) > 0.7 and 0.2 < sum(places) / len(places) < 0.6


def test_habits_belong_to_the_seed():
    one, same, other = Habits(1), Habits(1), Habits(2)
    facts = [("sum", a, b) for a in range(10) for b in range(1, 10)]
    chances = [[h.tendency(0, 1, *fact) for fact in facts] for h in (one, same, other)]
    assert chances[0] == chances[1] != chances[2]
    rng = random.Random(0)
    often = [sum(one.slips(rng, *fact) for _ in range(200)) / 200 for fact in facts]
    weak = sum(share > 0.25 for share in often) / len(facts)
    assert weak == pytest.approx(one.weak, abs=0.12) and 0.5 < max(often) < 0.85


@pytest.mark.parametrize("scale", SCALES)
def test_seeds_are_the_first_whose_writers_leave_room(scale):
    """Published warm starts are chosen by a rule that needs no training, not by how a method does on them."""
    recipe, (low, high) = warm_start.RECIPES[scale], warm_start.LIKELIEST
    task, settings = TASKS[scale]
    drawn = list(task_problems(task, "warm", 400, **settings))
    shares = {seed: warm_start.likeliest_pass_at_1(recipe, seed, drawn) for seed in range(4100, recipe.seeds[-1] + 1)}
    assert tuple(seed for seed, share in shares.items() if low <= share <= high) == recipe.seeds
    assert warm_start.likeliest_pass_at_1(warm_start.replace(recipe, habits={"weak": 0.0}), 1, drawn[:50]) == 1


@pytest.mark.parametrize("scale", SCALES)
def test_the_same_problem_is_written_in_many_ways(items, scale):
    rng, item = random.Random(0), items[scale][0]
    texts = {tasks.WRITERS[scale](item, PERFECT, rng) for _ in range(200)}
    assert len(texts) == 200
    starts = [re.match(r"\D*\d+", text)[0] for text in texts]
    assert max(map(starts.count, set(starts))) < 100


def test_line_truths_reads_every_spelling():
    text = "so 23 + 9=32\nnow 32-40 = -8; -8+3-1=-7, crab 3 * 10 = 31\nthen 1+1=22</SOLUTION>"
    assert line_truths(text) == [True, True, False, False, False]


def test_a_uniform_model_measures_as_one(tokenizer):
    """Each number of a model whose distribution is known: uniform over the vocabulary at every token."""
    import torch

    recipe = warm_start.Recipe("micro-sum", hidden=32, layers=1, heads=2, inter=32)
    model = warm_start.new_model(recipe, tokenizer).eval()
    torch.nn.init.zeros_(model.lm_head.weight)
    numbers = measure.measure(model, tokenizer, [Problem("1 + 2 =", "3")] * 64, limit=20, progress=False)
    assert numbers["entropy"] == 1 and numbers["entropy_spent"] == numbers["tokens"]
    assert numbers["largest_position_share"] == numbers["first_token_share"] > 1 / 20
    assert numbers["greedy_pass_at_1"] == 0
    assert set(measure.LIMITS) < set(numbers) and "largest_position_share" in measure.in_words(numbers)


@pytest.mark.parametrize("scale", SCALES)
def test_splits_and_corpus_are_disjoint(scale):
    recipe = warm_start.replace(warm_start.RECIPES[scale], corpus=2000)
    for start in (0, 1):
        evaluation, train = ({i["question"] for i in split} for split in warm_start.held_out(recipe, start))
        warm = {question for question, _ in warm_start.corpus(recipe, start)}
        assert (len(evaluation), len(train), len(warm)) == (500, 800, 2000)
        assert not (evaluation & train or evaluation & warm or train & warm)
        # What a run trains and tests on is what the corpus left out.
        splits = load(preset(scale, "grpo", warm_start=start))
        assert {p.question for p in splits.train} == train and {p.question for p in splits.evaluation} == evaluation


def test_builds_repeat_to_the_byte(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "measure", lambda *args, **kwargs: {})
    tiny = dict(hidden=32, layers=1, heads=2, inter=32, corpus=300, batch=16, steps=3)
    digests = []
    for number, start in ((0, 1), (1, 1), (2, 0)):
        warm_start.build("micro-sum", start, tmp_path / str(number), progress=False, **tiny)
        path = tmp_path / str(number) / f"micro-sum-{start}"
        digests.append(hashlib.sha256((path / "model.safetensors").read_bytes()).hexdigest())
    assert digests[0] == digests[1] != digests[2]


def test_unknown_scales_and_missing_weights_say_what_to_do(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="micro-sum, micro-legs"):
        shipped.shipped_path("micro-xl")
    with pytest.raises(ValueError, match="micro-sum, micro-legs"):
        warm_start.build("micro-xl", 0, tmp_path)
    with pytest.raises(ValueError, match=r"warm_start must be in \[0, \d\) for micro-sum. Got 9"):
        shipped.shipped_path("micro-sum", 9)
    monkeypatch.setattr(shipped, "WEIGHTS", tmp_path)
    with pytest.raises(FileNotFoundError, match="python -m sa_ah_lib.micro --scale micro-s"):
        shipped.shipped_path("micro-s")


@pytest.mark.parametrize("scale,start", STARTS)
def test_shipped_warm_starts_are_an_instrument(scale, start):
    """Spread entropy, a strong discount at the paper's alpha, and room: as measured when they were built."""
    path = shipped.shipped_path(scale, start)
    numbers, facts = (json.loads((path / name).read_text()) for name in ("measured.json", "recipe.json"))
    for name, (low, high) in measure.LIMITS.items():
        assert low <= numbers[name] <= high, (name, numbers[name])
    recipe = json.loads(json.dumps(asdict(warm_start.RECIPES[scale])))
    assert facts["warm_start"] == start and facts["seed"] == recipe.pop("seeds")[start]
    assert {name: facts[name] for name in recipe} == recipe
    assert (path / "model.safetensors").stat().st_size < 4e6


@pytest.mark.parametrize("scale,start", STARTS)
def test_shipped_weights_answer_as_measured(scale, start):
    """A sixth of the problems answered again: the stored numbers are those of the stored weights."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = shipped.shipped_path(scale, start)
    model, tok = AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    assert model.dtype == torch.float32
    problems = [
        Problem(item["question"], item["answer"])
        for item in warm_start.held_out(warm_start.RECIPES[scale], start)[0][:80]
    ]
    again = measure.measure(model, tok, problems, progress=False)
    stored = json.loads((path / "measured.json").read_text())
    assert again["greedy_pass_at_1"] == pytest.approx(stored["greedy_pass_at_1"], abs=0.16)
    assert again["entropy_spent"] == pytest.approx(stored["entropy_spent"], rel=0.1)
    assert again["greedy_line_truth"] == pytest.approx(stored["greedy_line_truth"], abs=0.06)


@pytest.mark.parametrize("scale,start", STARTS)
def test_shipped_corpus_is_the_codes_corpus(scale, start):
    facts = json.loads((shipped.shipped_path(scale, start) / "recipe.json").read_text())
    assert training.corpus_sha256(warm_start.corpus(warm_start.RECIPES[scale], start)) == facts["corpus_sha256"]


def rows(right, completions):
    return [{"correct": i < right, "completion": text} for i, text in enumerate(completions)]


def test_one_choice_that_decides_all_is_found():
    """A task of one bit: Pass@1 is the share of answers that open with the tag, and no other start says anything."""
    tagged, bare = f"{TAGS[0]}so 1+1=2", "then 2"
    arms = {str(n): rows(n, [tagged] * n + [bare] * (10 - n)) for n in (3, 5, 8)}
    assert decisions.choice_correlations(arms) == {TAGS[0]: 1.0, "then ": -1.0}
    assert decisions.choices([tagged, tagged, bare, ""], 1) == {"so ": 0.5, "2": 0.25, "": 0.25}
    mixed = {str(n): rows(n, [tagged] * k + [bare] * (10 - k)) for n, k in ((3, 6), (5, 4), (8, 5))}
    assert abs(decisions.choice_correlations(mixed)[TAGS[0]]) < 0.8
    with pytest.raises(ValueError, match="at least 3 arms. Got 2"):
        decisions.choice_correlations({"a": [], "b": []})


def test_truth_is_counted_by_form():
    text = f"{TAGS[0]}so 3 * 6=18; -4+9 = 5, 8+7-5=11\n1+1=3{TAGS[1]}"
    assert decisions.truth_by_form([text, "7"]) == {"product": (1, 1), "sum": (1, 2), "two at once": (0, 1)}


def test_the_command_builds_what_it_is_asked(tmp_path, monkeypatch, capsys):
    built = []
    numbers = dict.fromkeys((*measure.LIMITS, "tokens"), 0.5)
    monkeypatch.setattr(command, "build", lambda *args: built.append(args) or numbers)
    command.main(["--scale", "micro-legs", "--out", str(tmp_path)])
    command.main(["--scale", "micro-sum", "--warm-start", "-1", "--out", str(tmp_path)])
    for given in ("-2", "7"):
        with pytest.raises(SystemExit):
            command.main(["--scale", "micro-sum", "--warm-start", given, "--out", str(tmp_path)])
    legs = [("micro-legs", start, str(tmp_path)) for start in range(len(warm_start.RECIPES["micro-legs"].seeds))]
    assert built == [*legs, ("micro-sum", warm_start.DESIGN, str(tmp_path))]
    assert "greedy_pass_at_1" in capsys.readouterr().out
