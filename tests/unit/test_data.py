"""Problems: the same rows on every machine, none in both splits, and errors that name what to do."""

import json
import os
import shutil
from pathlib import Path

import pytest

from sa_ah_lib.config import preset
from sa_ah_lib.rewards import TAGS, gold_answer
from sa_ah_lib.train import data

# 800 training and 500 evaluation problems of GSM8K with the paper's seed 123.
GSM8K_SHA256 = "932d3cc025dfed07f700f398791c7036347c1543b0dd47025a996d4b0de43e9a"
REAL = os.environ.get(data.DATA_DIR_VARIABLE)


@pytest.fixture(autouse=True)
def no_local_gsm8k(monkeypatch):
    """The tests say themselves where GSM8K is; a variable of the machine must not decide."""
    monkeypatch.delenv(data.DATA_DIR_VARIABLE, raising=False)


def gsm8k_row(question, answer):
    return {"question": question, "answer": f"It is <<{answer}={answer}>>{answer}.\n#### {answer}"}


def write_split(directory, split, rows):
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    (directory / f"{split}.jsonl").write_text("".join(line + "\n" for line in lines), encoding="utf-8")


@pytest.fixture
def directory(tmp_path):
    """A GSM8K directory of 40 training and 20 test problems."""
    write_split(tmp_path, "train", [gsm8k_row(f"train question {i}?", i) for i in range(40)])
    write_split(tmp_path, "test", [gsm8k_row(f"test question {i}?", -i) for i in range(20)])
    return tmp_path


def small(train=12, evaluation=8, dataset=data.GSM8K, **changes):
    changes = {"train_examples": train, "eval_examples": evaluation, "dataset": dataset, **changes}
    return preset("qwen2.5-1.5b", "grpo", **changes)


def questions(problems):
    return {problem.question for problem in problems}


def test_a_directory_gives_the_same_rows_twice(directory):
    """Runs are compared problem by problem, so a draw must not hang on the process."""
    first, second = (data.load(small(), directory) for _ in range(2))
    assert (first, first.sha256) == (second, second.sha256)
    assert (len(first.train), len(first.evaluation)) == (12, 8)
    assert all(problem.question.startswith("train") for problem in first.train)
    assert all(problem.question.startswith("test") for problem in first.evaluation)


def test_the_data_seed_alone_decides_the_draw(directory):
    """The training seed must not change the problems, and another data seed must."""
    assert data.load(small(seed=9), directory) == data.load(small(), directory)
    assert data.load(small(data_seed=9), directory).sha256 != data.load(small(), directory).sha256
    # A draw, not the head of the file.
    assert [p.answer for p in data.load(small(), directory).train] != [str(i) for i in range(12)]


def test_a_task_whose_answers_are_no_numbers_is_named():
    """ "Correct that row of the answer column" is no advice for a generated problem."""
    config = preset("micro-s", "grpo", dataset="word_sorting", train_examples=2, eval_examples=2)
    with pytest.raises(ValueError, match="a task whose answers are numbers. Got 'word_sorting', which answers '"):
        data.load(config)


def test_gold_answers_are_plain_numbers(tmp_path):
    """A gold text with commas or working would make right answers wrong."""
    write_split(tmp_path, "train", [gsm8k_row("a", "1,234"), gsm8k_row("b", "-5"), gsm8k_row("c", "2.50")])
    assert [p.answer for p in data.read_gsm8k(tmp_path / "train.jsonl")] == ["1234", "-5", "2.5"]


def test_a_repeated_test_question_is_not_trained_on(directory):
    """A test question that leaked into the training file would be rewarded and then scored."""
    write_split(directory, "train", [gsm8k_row(f"test question {i}?", i) for i in range(20)])
    splits = data.load(small(train=12, evaluation=8), directory)
    assert not questions(splits.train) & questions(splits.evaluation)
    with pytest.raises(ValueError, match="training examples must be at most 12, as many as there are. Got 13"):
        data.load(small(train=13, evaluation=8), directory)


@pytest.mark.parametrize("sizes,message", [((41, 8), "training examples must be at most 40.*Got 41"),
                                           ((12, 21), "evaluation examples must be at most 20.*Got 21")])  # fmt: skip
def test_too_few_problems_say_how_many_there_are(directory, sizes, message):
    """A smaller set in silence would be reported as N = 500."""
    with pytest.raises(ValueError, match=message):
        data.load(small(*sizes), directory)


NO_NUMBER = '{"question": "q", "answer": "#### none"}'
BAD_LINES = ['{"question": "q"}', '{"answer": "#### 1"}', NO_NUMBER, "not json", "[1]", "7", ""]


@pytest.mark.parametrize("line", BAD_LINES)
def test_a_malformed_line_is_named_by_file_and_number(directory, line):
    """Among 7,473 lines, "KeyError: 'answer'" helps nobody."""
    write_split(directory, "train", [gsm8k_row("q", 1), gsm8k_row("r", 2), line, gsm8k_row("s", 3)])
    with pytest.raises(ValueError, match=r"train\.jsonl, line 3: expected a GSM8K row with question and answer"):
        data.load(small(), directory)


@pytest.mark.parametrize(("line", "key"), [('{"question": "q"}', "answer"), ('{"answer": "#### 1"}', "question")])
def test_a_missing_key_is_named(directory, line, key):
    """ "Got 'question'" was read as what the line has."""
    write_split(directory, "train", [line])
    with pytest.raises(ValueError, match=f"The key '{key}' is missing"):
        data.load(small(), directory)


def test_line_separators_inside_a_question_do_not_break_it(tmp_path):
    """JSON allows a raw U+2028 or U+0085, which str.splitlines takes for line ends."""
    write_split(tmp_path, "test", [gsm8k_row("one\u2028two\u0085three?", 4), gsm8k_row("next", 5)])
    problems = data.read_gsm8k(tmp_path / "test.jsonl")
    assert [p.question for p in problems] == ["one\u2028two\u0085three?", "next"]


def test_windows_line_ends_and_a_missing_last_one_are_read(tmp_path):
    """A directory that went through another system must give the same rows."""
    lines = [json.dumps(gsm8k_row("a", 1)), json.dumps(gsm8k_row("b", 2))]
    (tmp_path / "test.jsonl").write_bytes("\r\n".join(lines).encode())
    assert [p.answer for p in data.read_gsm8k(tmp_path / "test.jsonl")] == ["1", "2"]


def test_a_missing_directory_or_file_is_named(tmp_path, directory):
    """A typing error in DATA must not end in a download or in other problems."""
    with pytest.raises(FileNotFoundError, match="nowhere.*train.jsonl and test.jsonl"):
        data.load(small(), tmp_path / "nowhere")
    (directory / "test.jsonl").unlink()
    with pytest.raises(FileNotFoundError, match=r"test\.jsonl"):
        data.load(small(), directory)


def test_the_variable_stands_in_for_the_hub_alone(directory, monkeypatch):
    """SA_AH_GSM8K_DIR set for the paper's scales must not turn a micro run into GSM8K."""
    monkeypatch.setenv(data.DATA_DIR_VARIABLE, str(directory))
    assert data.load(small()) == data.load(small(), directory)
    assert data.load(small(dataset="chain_sum")).source == "reasoning-gym chain_sum"


def test_a_directory_beside_another_data_set_is_refused(directory):
    """Two runs on different problems would share one configuration and one run id."""
    with pytest.raises(ValueError, match="openai/gsm8k.*Got 'gsm_symbolic'"):
        data.load(small(dataset="gsm_symbolic"), directory)


def test_an_explicit_directory_beats_the_variable(directory, tmp_path_factory, monkeypatch):
    """What a notebook's DATA says must not be overruled from outside."""
    monkeypatch.setenv(data.DATA_DIR_VARIABLE, str(tmp_path_factory.mktemp("empty")))
    assert len(data.load(small(), directory).train) == 12


def test_a_hub_failure_names_the_offline_choices(monkeypatch):
    """Offline, a reader must learn about DATA and micro-s, not about a socket."""
    datasets = pytest.importorskip("datasets")

    def fail(*args, **kwargs):
        raise OSError("no route")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(ConnectionError) as error:
        data.load(small())
    for part in ("OSError: no route", "DATA", "SA_AH_GSM8K_DIR", "train.jsonl", "test.jsonl", "SCALE='micro-s'"):
        assert part in str(error.value)


def test_the_hub_and_a_directory_give_the_same_rows(directory, monkeypatch):
    """A run at home and one offline must be comparable problem by problem."""
    datasets = pytest.importorskip("datasets")
    rows = {split: [json.loads(line) for line in (directory / f"{split}.jsonl").read_text().splitlines()]
            for split in ("train", "test")}  # fmt: skip
    asked = []
    monkeypatch.setattr(datasets, "load_dataset", lambda *names: asked.append(names) or rows)
    hub, local = data.load(small()), data.load(small(), directory)
    assert (hub.train, hub.evaluation, hub.sha256) == (local.train, local.evaluation, local.sha256)
    assert asked == [("openai/gsm8k", "main")]
    # Neither has the official rows, so neither has their name.
    assert (hub.source, local.source) == ("openai/gsm8k, changed on the hub", f"local data {directory.name}")


@pytest.mark.skipif(not REAL, reason="SA_AH_GSM8K_DIR names no GSM8K directory")
def test_the_published_sample_of_gsm8k():
    """Scores are comparable only on the same 500 problems; every machine must draw this sample."""
    splits = data.load(preset("qwen2.5-1.5b", "sa-ah-grpo"), REAL)
    assert (len(splits.train), len(splits.evaluation)) == (800, 500)
    assert not questions(splits.train) & questions(splits.evaluation)
    assert (splits.source, splits.sha256) == ("openai/gsm8k", GSM8K_SHA256)


@pytest.mark.skipif(not REAL, reason="SA_AH_GSM8K_DIR names no GSM8K directory")
def test_gsm8k_with_one_other_answer_is_not_called_gsm8k(tmp_path):
    """A caption would name the benchmark for results on other problems, in a directory of the same name."""
    place = tmp_path / "gsm8k"
    shutil.copytree(REAL, place)
    lines = (place / "test.jsonl").read_text(encoding="utf-8").split("\n")
    row = json.loads(lines[700])
    row["answer"] = "#### 123456"
    (place / "test.jsonl").chmod(0o644)
    (place / "test.jsonl").write_text("\n".join([*lines[:700], json.dumps(row), *lines[701:]]), encoding="utf-8")
    assert data.load(small(), place).source == "local data gsm8k"


@pytest.mark.skipif(not REAL, reason="SA_AH_GSM8K_DIR names no GSM8K directory")
def test_every_row_of_gsm8k_has_a_gold_number():
    """A row whose gold answer is misread would be scored against another number."""
    counts = {"train": 7473, "test": 1319}
    for split, count in counts.items():
        problems = data.read_gsm8k(Path(REAL) / f"{split}.jsonl")
        assert len(problems) == count and all(float(p.answer) == int(p.answer) for p in problems)


@pytest.mark.parametrize("task", ["chain_sum", "gsm_symbolic"])
def test_tasks_are_seeded_and_disjoint(task):
    """chain_sum repeats short problems, so two draws alone would share questions."""
    first, second = (data.load(small(60, 30, task)) for _ in range(2))
    assert first == second and first.source == f"reasoning-gym {task}"
    assert (len(first.train), len(first.evaluation)) == (60, 30)
    assert not questions(first.train) & questions(first.evaluation)
    assert len(questions(first.train)) == 60 and len(questions(first.evaluation)) == 30
    assert all(float(problem.answer) == gold_answer(problem.answer) for problem in first.train)


def test_held_out_questions_are_passed_over():
    """Disjointness must come from the questions: far seeds do not keep small problems apart."""
    settings = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}
    taken = {item["question"] for item in data.task_problems("chain_sum", "evaluation", 30, **settings)}
    unguarded = {item["question"] for item in data.task_problems("chain_sum", "train", 60, **settings)}
    guarded = {item["question"] for item in data.task_problems("chain_sum", "train", 60, taken, **settings)}
    assert unguarded & taken and not guarded & taken


@pytest.mark.parametrize("task", ["chain_sum", "gsm_symbolic"])
def test_neighbouring_data_seeds_share_no_list(task):
    """reasoning-gym counts items up from its seed, so seeds 123 and 124 would be one list shifted by one."""
    lists = [data.load(small(20, 20, task, data_seed=seed)) for seed in (122, 123, 124)]
    for first, second in zip(lists, lists[1:], strict=False):
        shared = questions(first.evaluation) & questions(second.evaluation)
        assert len(shared) <= 2  # short sums may meet by chance
        assert first.train[:5] != second.train[:5]


def test_the_published_task_splits_start_at_their_own_seeds():
    """The micro models' warm start leaves exactly these problems out; a shifted split would test what it learnt."""
    wanted = [item["question"] for item in data.task_problems("chain_sum", "evaluation", 10)]
    assert [p.question for p in data.load(small(5, 10, "chain_sum")).evaluation] == wanted


@pytest.mark.parametrize("name", list(data.TASKS))
def test_a_micro_dataset_is_its_task_and_settings(name):
    """Problems of another difficulty than the warm start's would measure nothing."""
    task, settings = data.TASKS[name]
    wanted = [item["question"] for item in data.task_problems(task, "evaluation", 10, **settings)]
    assert [p.question for p in data.load(small(5, 10, name)).evaluation] == wanted


def test_each_warm_start_has_problems_of_its_own():
    """Warm starts are replications only where their problems are drawn anew."""
    small_run = dict(train_examples=20, eval_examples=20)
    loaded = [data.load(preset("micro-sum", "grpo", warm_start=k, **small_run)) for k in range(3)]
    questions = [{p.question for p in (*splits.train, *splits.evaluation)} for splits in loaded]
    assert len(set.union(*questions)) == 3 * 40


def test_an_unknown_task_is_named_with_the_choices():
    """A misspelt dataset must not end in reasoning-gym's own traceback."""
    with pytest.raises(
        ValueError,
        match="dataset must be openai/gsm8k, micro, micro-sum, micro-legs, simple, arithmetic or a .* Got 'sums'",
    ):
        data.load(small(dataset="sums"))


def test_a_task_that_runs_out_says_so():
    """A task with few problems would otherwise give a short split in silence."""
    settings = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}
    with pytest.raises(ValueError, match="evaluation examples of chain_sum must be at most .*Got 500"):
        list(data.task_problems("chain_sum", "evaluation", 500, **settings))


def test_messages_with_and_without_the_tag_instructions():
    """The reward asks for tags that only the system prompt names; the micro models know them already."""
    system, user = data.messages("2 + 2?")
    assert system["role"] == "system" and all(tag in system["content"] for tag in TAGS)
    assert user == {"role": "user", "content": "2 + 2?"}
    assert data.messages("2 + 2?", "none") == [user]


def test_prompt_rows_are_what_trl_reads():
    """TRL passes every column but ``prompt`` to the rewards; they read ``answer``."""
    problems = [data.Problem("2 + 2?", "4"), data.Problem("1 + 1?", "2")]
    rows = data.prompt_rows(problems, small(system_prompt="none"))
    assert rows == [{"prompt": [{"role": "user", "content": "2 + 2?"}], "answer": "4"},
                    {"prompt": [{"role": "user", "content": "1 + 1?"}], "answer": "2"}]  # fmt: skip
    assert data.prompt_rows(problems, small())[0]["prompt"][0]["role"] == "system"


def test_the_hash_sees_every_problem_and_its_place():
    """A hash that forgets answers or order would call different data the same."""
    a, b = data.Problem("a", "1"), data.Problem("b", "2")
    hashes = {data.Splits(train, evaluation, "x").sha256 for train, evaluation in (
        ([a], [b]), ([b], [a]), ([a], [data.Problem("b", "3")]), ([a], []), ([a, b], [b]))}  # fmt: skip
    assert len(hashes) == 5
    assert data.Splits([a], [b], "x").sha256 == data.Splits([a], [b], "y").sha256
