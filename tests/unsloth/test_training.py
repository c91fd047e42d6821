"""Whole runs on a tiny model through Unsloth's loader: logs, reuse, repeatability, adapters."""

import json
import weakref

import pytest

pytest.importorskip("unsloth")

from sa_ah_lib.config import preset
from sa_ah_lib.train import __main__ as command
from sa_ah_lib.train import arguments, data, evaluation, models, runlog, training

TIMING = ("step_time", "train_runtime")


@pytest.fixture
def tiny(tiny_model_dir):
    """A factory of two-step configurations on the tiny model."""

    def make(method="sa-ah-grpo", **changes):
        small = {
            "model": str(tiny_model_dir), "dataset": "chain_sum", "eval_examples": 6, "train_examples": 12,
            "prompts_per_step": 2, "num_generations": 4, "max_completion_tokens": 8, "eval_every": 2,
            "learning_rate": 1e-2,
        }  # fmt: skip
        steps = {} if method == "zero-shot" else {"steps": 2}
        return preset("micro-s", method, **{**small, **steps, **changes})

    return make


def rows_without_timing(directory, name):
    rows = runlog.read_jsonl(directory / f"{name}.jsonl")
    return [{key: value for key, value in row.items() if key not in TIMING} for row in rows]


def test_a_run_leaves_every_file_the_readers_expect(tiny, tmp_path):
    run = training.run(tiny(), tmp_path, progress=False)
    assert run.finished
    assert [row["step"] for row in run.train] == [1, 2]
    assert run.evaluations.keys() == {0, 2} and all(total == 6 for _, total in run.evaluations.values())
    adapter = {
        path.relative_to(run.directory / "adapter").as_posix() for path in (run.directory / "adapter").rglob("*")
    }
    # TRL's reference copy of the untrained adapter is in the checkpoints, for a resumed run, and nowhere else.
    assert "adapter_model.safetensors" in adapter and not {name for name in adapter if name.startswith("ref")}
    assert run.environment["data"]["sha256"] == data.load(run.config).sha256
    for row in run.completions:
        assert len(row["tokens"]) == len(row["entropy"]) == len(row["weights"])


def test_table_6_columns_are_logged_at_every_step(tiny, tmp_path):
    columns = {
        "reward", "reward_std", "kl", "sa_ah/entropy", "sa_ah/weight", "sa_ah/weight_negative",
        "sa_ah/negative_fraction",
        "completions/mean_length", "clip_ratio/region_mean", "grad_norm", "learning_rate", "step_time",
        "sa_ah/effective_horizon", "rewards/correctness_reward/mean", "rewards/format_reward/mean",
        "rewards/presence_reward/mean", "rewards/steps_reward/mean",
    }  # fmt: skip
    run = training.run(tiny(), tmp_path, progress=False)
    for row in run.train:
        assert columns <= row.keys()


def test_same_config_and_seed_give_the_same_logs(tiny, tmp_path):
    first, second = (training.run(tiny(), tmp_path / name, progress=False).directory for name in ("a", "b"))
    for name in runlog.LOGS:
        assert rows_without_timing(first, name) == rows_without_timing(second, name)
    other = training.run(tiny(seed=7), tmp_path / "a", progress=False).directory
    assert rows_without_timing(first, "completions") != rows_without_timing(other, "completions")


def test_a_finished_run_is_read_not_repeated(tiny, tmp_path, monkeypatch):
    run = training.run(tiny(), tmp_path, progress=False)
    monkeypatch.setattr(models, "load", lambda *a, **k: pytest.fail("a finished run was started again"))
    assert training.run(tiny(), tmp_path, progress=False).train == run.train


def test_an_unfinished_run_is_set_aside_with_its_lines(tiny, tmp_path):
    directory = tmp_path / tiny().run_id
    directory.mkdir()
    (directory / "train.jsonl").write_text('{"step": 1}\n')
    assert len(training.run(tiny(), tmp_path, progress=False).train) == 2
    assert (tmp_path / f"{directory.name}.interrupted-1" / "train.jsonl").read_text() == '{"step": 1}\n'


def test_a_crash_in_training_keeps_the_lines_before_it(tiny, tmp_path, monkeypatch):
    def fail(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr(training.RunLogCallback, "_evaluate", fail)
    with pytest.raises(OSError, match="disk full"):
        training.run(tiny(), tmp_path, progress=False)
    directory = tmp_path / tiny().run_id
    assert not runlog.is_finished(directory)
    assert [row["step"] for row in runlog.read_jsonl(directory / "train.jsonl")] == [1]


@pytest.fixture
def gsm8k(tmp_path):
    """A factory of GSM8K directories with the problems of one seed."""
    import json
    import random

    def make(name, seed):
        draw, place = random.Random(seed), tmp_path / name
        place.mkdir()
        for split, count in (("train", 20), ("test", 8)):
            pairs = [(draw.randrange(1000), draw.randrange(1000)) for _ in range(count)]
            rows = [{"question": f"{a} + {b} =", "answer": f"#### {a + b}"} for a, b in pairs]
            (place / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return place

    return make


def test_a_run_on_other_problems_is_neither_returned_nor_its_step_0(tiny, tmp_path, gsm8k, capsys):
    """The id says how problems are drawn, not from which files."""
    first, second = gsm8k("first", 1), gsm8k("second", 2)
    config, runs = tiny(dataset=data.GSM8K), tmp_path / "runs"
    training.run(training.zero_shot_config(config), runs, first, progress=False)
    run = training.run(config, runs, second, progress=False)
    assert "step 0 is evaluated anew" in capsys.readouterr().out
    asked = [p.question for p in data.load(config, second).evaluation]
    assert [row["question"] for row in run.eval if row["step"] == 0] == asked
    assert run.environment["data"]["source"] == "local data second"
    with pytest.raises(ValueError, match="on other problems: local data second.*asked for are local data first"):
        training.run(config, runs, first, progress=False)
    assert training.run(config, runs, second, progress=False).eval == run.eval
    assert training.run(config, runs, tmp_path / "gone", progress=False).eval == run.eval
    assert "could not be compared" in capsys.readouterr().out


def test_rules_that_a_model_ships_change_no_line_of_a_run(tiny, tmp_path, tiny_model_dir):
    """Qwen2.5 Instruct's repetition penalty in evaluation and rollouts, through Unsloth's loader and its generate."""
    import shutil

    from tiny import EVERY_RULE

    ships = shutil.copytree(tiny_model_dir, tmp_path / "ships")
    path = ships / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **EVERY_RULE}))
    plain = training.run(tiny(), tmp_path / "plain", progress=False)
    ruled = training.run(tiny(model=str(ships)), tmp_path / "ruled", progress=False)
    for name in runlog.LOGS:
        assert rows_without_timing(plain.directory, name) == rows_without_timing(ruled.directory, name)
    said = ruled.environment["decoding"]
    assert said == plain.environment["decoding"]
    assert said["evaluation"]["do_sample"] is False and said["evaluation"]["end_tokens"]
    assert (said["rollouts"]["repetition_penalty"], said["rollouts"]["top_k"], said["rollouts"]["min_p"]) == (
        1,
        0,
        None,
    )
    assert ruled.environment["model"] == {"name": "ships", "commit": None}


def test_a_prompt_above_the_limit_stops_a_run_before_it_starts(tiny, tmp_path):
    with pytest.raises(ValueError, match="every evaluation prompt must fit max_prompt_tokens"):
        training.run(tiny(max_prompt_tokens=3), tmp_path, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == [".locks"]


def test_step_0_is_read_from_the_zero_shot_run(tiny, tmp_path):
    base = training.run(training.zero_shot_config(tiny()), tmp_path, progress=False)
    assert base.evaluations.keys() == {0} and not base.train
    marked = [{**row, "completion": "from the zero-shot run"} for row in base.eval]
    (base.directory / "eval.jsonl").write_text("".join(json.dumps(row) + "\n" for row in marked))
    run = training.run(tiny(), tmp_path, progress=False)
    assert [row["completion"] for row in run.eval if row["step"] == 0] == ["from the zero-shot run"] * 6


def test_a_finished_run_holds_no_model(tiny, tmp_path, monkeypatch):
    """Trainer and callback hold each other: the next run's model, or the question asked next, came beside it."""
    held, load = [], models.load

    def watched(*args, **kwargs):
        loaded = load(*args, **kwargs)
        held.append(weakref.ref(loaded.model))
        return loaded

    monkeypatch.setattr(models, "load", watched)
    training.run(tiny(), tmp_path, progress=False)
    assert len(held) == 1 and held[0]() is None


def test_a_run_begun_on_another_commit_of_its_model_does_not_go_on(tiny, tmp_path):
    """A hub's cache emptied between two sessions: half of the steps would be another model's."""
    config = tiny(save_every=1)
    run = training.run(config, tmp_path, progress=False)
    (run.directory / "finished.json").unlink()
    record = runlog.read_environment(run.directory)
    runlog.write_json(run.directory / "environment.json", {**record, "model": {**record["model"], "commit": "abc"}})
    with pytest.raises(ValueError, match="begun with, .*abc"):
        training.run(config, tmp_path, progress=False)
    assert runlog.read_environment(run.directory)["model"]["commit"] == "abc"


def test_a_saved_adapter_gives_the_trained_model_back(tiny, tmp_path):
    config = tiny()
    run = training.run(config, tmp_path, progress=False)
    problems = data.load(config).evaluation
    again = models.load(config, run.directory / "adapter")
    rows = evaluation.evaluate(again.model, again.tokenizer, problems, config, step=2, progress=False)
    assert rows == [row for row in run.eval if row["step"] == 2]


def test_a_run_that_learns_nothing_comes_to_its_end_and_says_so(tiny, tmp_path, capsys):
    """The first step of the warm-up has learning rate 0: a run of one step failed after it, at every attempt."""
    run = training.run(tiny(steps=1), tmp_path, progress=False)
    assert run.finished and "Nothing was learnt" in capsys.readouterr().out


def test_every_hyperparameter_of_table_1_reaches_trl(tmp_path):
    config = preset("qwen2.5-1.5b", "sa-ah-grpo")
    args = arguments.grpo_arguments(config, tmp_path)
    said = {
        "learning_rate": 5e-6, "lr_scheduler_type": "cosine", "warmup_steps": 18, "weight_decay": 0.01,
        "max_grad_norm": 1.0, "beta": 0.04, "epsilon": 0.2, "num_generations": 4, "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": 2, "max_completion_length": 512, "temperature": 1.0, "max_steps": 180,
        "loss_type": "bnpo", "scale_rewards": "group", "num_iterations": 1, "steps_per_generation": 1,
        "use_bias_correction_kl": False, "save_steps": 15, "seed": 123,
    }  # fmt: skip
    assert {name: getattr(args, name) for name in said} == said


def test_a_missing_model_names_the_offline_choices(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(OSError, match="micro-s"):
        models.load(preset("micro-s", "grpo", model=str(tmp_path / "empty")))


def test_vllm_missing_is_said_before_anything_is_loaded(tiny):
    with pytest.raises(ValueError, match="needs vLLM"):
        models.load(tiny(fast_inference=True))


def test_notebook_parameters_become_the_configuration_they_say():
    """DATA with another data set in the configuration would give two different runs one id."""
    plain = training.configure("micro-s", "grpo", seed=7)
    assert plain == preset("micro-s", "grpo", seed=7)
    changed = training.configure("smollm2", "sa-ah-grpo", 1, 6, "some/gsm8k", {"temperature": 0.8})
    assert changed == preset("smollm2", "sa-ah-grpo", seed=1, steps=6, dataset=data.GSM8K, temperature=0.8)
    assert training.configure("micro-s", "zero-shot", steps=6).steps == 0
    # 0 has another meaning in the notebooks than in RunConfig, and the message is about the notebooks'.
    with pytest.raises(ValueError, match="STEPS must be at least 1, or 0 for the method's own number. Got -2"):
        training.configure("micro-s", "grpo", steps=-2)


def test_a_full_disk_is_said_before_the_first_step(tiny, tmp_path, monkeypatch):
    """Hours of training that end in an OSError; nor may the refusal leave half a run behind."""
    monkeypatch.setattr(training.disk, "run_bytes", lambda config, trainable: 10**18)
    with pytest.raises(OSError, match="for this run. Got"):
        training.run(tiny(), tmp_path, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == [".locks"]


def test_a_finished_run_is_read_from_a_read_only_place(tiny, tmp_path, monkeypatch):
    """Published logs on a mounted archive must still be read by the notebooks."""
    run = training.run(training.zero_shot_config(tiny()), tmp_path, progress=False)
    monkeypatch.setattr(training.disk, "check_writable", lambda place: pytest.fail("a finished run was written to"))
    assert training.run(run.config, tmp_path, progress=False).eval == run.eval


def test_trackers_are_asked_for_by_argument_or_variable(tiny, tmp_path, monkeypatch):
    """The notebooks have no such parameter; and without either nothing may leave the machine."""
    shown = lambda *asked: arguments.grpo_arguments(tiny(), tmp_path, *asked).report_to  # noqa: E731
    assert shown() == [] and shown("tensorboard") == ["tensorboard"]
    monkeypatch.setenv(arguments.REPORT_VARIABLE, "trackio")
    assert shown() == ["trackio"] and shown("tensorboard") == ["tensorboard"] and shown("none") == []


def test_a_tracker_is_shown_what_the_log_has_and_changes_nothing(tiny, tmp_path, monkeypatch):
    """A dashboard that lacks Pass@1, or a tracker that takes metrics away from the log or enters the run's id."""
    from transformers import TrainerCallback
    from transformers.integrations import integration_utils

    rows = []

    class Recording(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            rows.append({"step": state.global_step, **logs})

    plain = training.run(tiny(), tmp_path / "plain", progress=False)
    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "tensorboard", Recording)
    run = training.run(tiny(), tmp_path / "shown", progress=False, report_to="tensorboard")
    assert run.directory.name == plain.directory.name
    for name in runlog.LOGS:
        assert rows_without_timing(run.directory, name) == rows_without_timing(plain.directory, name)
    steps = [row for row in rows if "reward" in row]
    assert [{key: row[key] for key in logged} for row, logged in zip(steps, run.train, strict=True)] == run.train
    (right, total) = run.pass_at_1[2]
    assert {"step": 2, "eval_pass_at_1": right / total} in rows


def test_tensorboard_s_event_files_hold_the_logged_values(tiny, tmp_path):
    """The real tracker: values that it refuses or renames would be missing from the dashboard."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = training.run(tiny(), tmp_path, progress=False, report_to="tensorboard")
    (events,) = run.directory.glob("checkpoints/runs/*/events.*")
    shown = EventAccumulator(str(events)).Reload()
    for key in ("reward", "sa_ah/weight", "kl"):
        assert [s.value for s in shown.Scalars(f"train/{key}")] == pytest.approx([row[key] for row in run.train])
    assert [s.step for s in shown.Scalars("eval/pass_at_1")] == [2]


def test_fast_inference_is_a_parameter_that_reaches_the_run():
    """A notebook's FAST_INFERENCE that stops half-way would sample without vLLM in silence."""
    config = training.configure("micro-s", "grpo", fast_inference=True)
    assert config.fast_inference and config.sibling("sa-ah-grpo").fast_inference
    assert not training.configure("micro-s", "grpo").fast_inference


def test_one_run_from_a_configuration_file(tiny, tmp_path, capsys):
    """The command under accelerate launch, and the one that repeats a published run."""
    config = training.zero_shot_config(tiny())
    config.to_json(tmp_path / "config.json")
    command.main([str(tmp_path / "config.json"), str(tmp_path / "runs")])
    place = tmp_path / "runs" / config.run_id
    assert capsys.readouterr().out.splitlines()[-1] == str(place) and runlog.read_run(place).config == config
