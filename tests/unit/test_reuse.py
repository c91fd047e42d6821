"""A finished run stands for the asked-for one only where it saw the same problems."""

import json

import pytest

from sa_ah_lib.config import preset
from sa_ah_lib.train import data, reuse, runlog
from sa_ah_lib.train.run import Run

DECODING = {"evaluation": {"do_sample": False, "end_tokens": ["<eos>"]}, "rollouts": {"temperature": 1.0}}


def gsm8k(directory, first):
    """A GSM8K directory whose problems start at ``first``."""
    directory.mkdir()
    for split, count in (("train", 6), ("test", 4)):
        rows = [{"question": f"{split} {i}?", "answer": f"#### {i}"} for i in range(first, first + count)]
        (directory / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return directory


def here(problems, decoding=DECODING, **more):
    """This session's environment.json."""
    return runlog.environment(data=problems, decoding=decoding, model={"name": "Qwen", "commit": "abc"}, **more)


@pytest.fixture
def config():
    return preset("qwen2.5-1.5b", "zero-shot", train_examples=6, eval_examples=4)


@pytest.fixture
def finished(tmp_path, config, monkeypatch):
    """A finished zero-shot run on the directory ``mine``; ``other`` holds other problems."""
    monkeypatch.delenv(data.DATA_DIR_VARIABLE, raising=False)
    mine = gsm8k(tmp_path / "mine", 0)
    gsm8k(tmp_path / "other", 100)
    environment = here(data.load(config, mine).record)
    log = runlog.RunLog(tmp_path / config.run_id, config, environment)
    log.write("eval", {"step": 0, "problem": 0, "correct": True})
    log.finish({})
    return tmp_path / config.run_id


def test_the_same_problems_are_the_same_run(finished, config, tmp_path, capsys):
    """Also after the directory was moved: the hash decides, not the name."""
    (tmp_path / "mine").rename(tmp_path / "moved")
    reuse.check_same_data(finished, config, tmp_path / "moved")
    assert capsys.readouterr().out == f"finished before, read from its logs: {finished}\n"


def test_other_problems_are_an_error_that_names_both_and_the_remedies(finished, config, tmp_path):
    """The old run's score would be shown as the new data's."""
    with pytest.raises(reuse.OtherDataError) as error:
        reuse.check_same_data(finished, config, tmp_path / "other")
    theirs, ours = (data.load(config, tmp_path / name).sha256[:12] for name in ("mine", "other"))
    assert theirs != ours
    for part in (
        f"finished, on other problems: local data mine, sha256 {theirs}",
        f"asked for are local data other, sha256 {ours}",
        "in DATA", "another RUNS", f"delete {finished}",
    ):  # fmt: skip
        assert part in str(error.value)


def test_problems_that_are_gone_leave_the_run_readable_and_are_said(finished, config, tmp_path, capsys):
    """A run on a mounted drive must be read without its data; in silence it would be taken for a run on them."""
    reuse.check_same_data(finished, config, tmp_path / "nowhere")
    said = capsys.readouterr().out
    assert "Its problems (local data mine, sha256" in said and "could not be compared" in said and "nowhere" in said


def test_malformed_problems_are_an_error(finished, config, tmp_path):
    """They are there, and not the run's."""
    (tmp_path / "other" / "test.jsonl").write_text("[1]\n")
    with pytest.raises(ValueError, match="test.jsonl, line 1"):
        reuse.check_same_data(finished, config, tmp_path / "other")


def test_a_run_without_a_hash_is_not_taken_for_one_on_these_problems(finished, config, tmp_path):
    environment = runlog.read_environment(finished)
    runlog.write_json(finished / "environment.json", {**environment, "data": {"source": "unknown"}})
    with pytest.raises(reuse.OtherDataError, match="unknown, sha256 unknown"):
        reuse.check_same_data(finished, config, tmp_path / "mine")


def test_every_run_of_a_pair_is_looked_at(finished, config, tmp_path):
    """Of two seeds on one warm start only the last was, and a new run was paired with one on other problems."""
    trained = preset("qwen2.5-1.5b", "grpo", steps=2, train_examples=6, eval_examples=4)
    records = [data.load(trained, tmp_path / name).record for name in ("other", "mine")]
    runs = [
        Run("measured", trained.replace(seed=seed), {}, environment={"data": record})
        for seed, record in enumerate(records)
    ]
    reuse.check_pairs(runs[1:], tmp_path / "mine")
    for order in (runs, runs[::-1]):
        with pytest.raises(reuse.OtherDataError, match="local data other"):
            reuse.check_pairs(order, tmp_path / "mine")


def test_step_0_is_read_where_problems_and_decoding_agree(finished, config, tmp_path, capsys):
    """Of rollouts it has none, so their temperature decides nothing."""
    problems = data.load(config, tmp_path / "mine").record
    warmer = {**DECODING, "rollouts": {"temperature": 2.0}}
    now = here({**problems, "source": "x"}, warmer, threads=7)
    assert [row["problem"] for row in reuse.step_0(finished, now)] == [0]
    assert not capsys.readouterr().out


@pytest.mark.parametrize("changed", ["problems", "decoding", "unsaid"])
def test_step_0_of_other_problems_or_decoding_is_not_read(finished, config, tmp_path, capsys, changed):
    """Step 0 of problems B showed A's questions; one with a repetition penalty is no baseline for greedy answers."""
    problems = data.load(config, tmp_path / ("other" if changed == "problems" else "mine")).record
    decoding = {"evaluation": {"do_sample": False, "end_tokens": ["<other>"]}} if changed == "decoding" else DECODING
    if changed == "unsaid":
        environment = runlog.read_environment(finished)
        del environment["decoding"]
        runlog.write_json(finished / "environment.json", environment)
    assert reuse.step_0(finished, here(problems, decoding)) is None
    said = capsys.readouterr().out
    assert said.startswith("step 0 is evaluated anew")
    assert (
        ("local data mine" in said and "here local data other" in said) if changed == "problems" else "decoded" in said
    )


@pytest.mark.parametrize(
    "name,value",
    [("device", "Tesla T4"), ("packages", {"torch": "2.11.0"}), ("model", {"name": "Qwen", "commit": "b"})],
)
def test_step_0_of_another_card_package_or_model_is_not_read(finished, config, tmp_path, capsys, name, value):
    """Rounding turns a greedy answer on another card, and a gain over step 0 would count it as training's."""
    now = {**here(data.load(config, tmp_path / "mine").record), name: value}
    assert reuse.step_0(finished, now) is None
    assert f"it had another {name}, or does not say which" in capsys.readouterr().out


def test_an_unfinished_or_missing_zero_shot_run_is_no_step_0(finished, capsys):
    (finished / "finished.json").unlink()
    assert reuse.step_0(finished, {}) is None and reuse.step_0(finished / "none", {}) is None
    assert not capsys.readouterr().out
