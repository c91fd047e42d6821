"""Logs with every accident a log can have: a message that names file and line, and the rest is still read."""

import json
import math
import shutil
import warnings

import numpy as np
import pytest
from families import ENVIRONMENT, PROBLEMS, protocol, result, write_protocol, write_run

from sa_ah_lib.analysis import loading, results
from sa_ah_lib.config import preset
from sa_ah_lib.report import paper_tables
from sa_ah_lib.train.scales import resolve_scale

GRPO = preset("micro-s", "grpo", eval_examples=PROBLEMS)


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path, GRPO)


def lines(run, name):
    return (run.directory / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()


def rewrite(run, name, new, end="\n"):
    (run.directory / f"{name}.jsonl").write_text("\n".join(new) + end, encoding="utf-8")


def changed(line, **values):
    return json.dumps({**json.loads(line), **values})


def only(found):
    (result,) = found.results
    return result


def test_a_run_is_read_with_all_its_numbers(tmp_path, run):
    """Anything lost here is missing from every table and figure."""
    found = loading.load(tmp_path)
    result = only(found)
    assert found.messages == [] and result.source == "measured" and result.config == GRPO
    assert {0: result.base, **result.pass_at_1}.keys() == {0, 30, 60, 90, 120, 150} and len(result.train) == 150
    right = {step: sum(row["correct"] for row in run.eval if row["step"] == step) for step in range(0, 151, 30)}
    assert result.evaluations == {step: (count, PROBLEMS) for step, count in right.items()}
    assert result.base == right[0] / PROBLEMS and 0 not in result.pass_at_1
    assert result.answers[0].sum() == right[0] and result.answers[30].dtype == bool
    told = {"data": "made up", "device": "some CPU", "date": "2026-01-05", "parameters": 1_050_000}
    assert result.origin == {**told, "data_sha256": None}
    steps, rewards = result.curve("reward")
    assert steps.tolist() == list(range(1, 151)) and rewards[7] == run.train[7]["reward"]


def test_what_was_left_out_can_be_shown_alone(tmp_path, run):
    """Notebooks that train drew a comparison without the runs that could not be read, and said nothing."""
    assert str(loading.Found([], []).notes._repr_html_()) == ""
    (tmp_path / "empty").mkdir()
    assert "run a notebook first" in loading.load(tmp_path / "empty").notes._repr_html_()


def test_an_empty_directory_says_what_to_do(tmp_path):
    """A mistyped RUNS would otherwise show the paper's numbers alone, without a word."""
    for directory in (tmp_path, tmp_path / "nowhere"):
        found = loading.load(directory)
        assert found.results == [] and found.families == []
        assert found.messages == [
            f"{directory}: expected run directories. Found none; run a notebook first, or set RUNS."
        ]
        assert "run a notebook first" in found._repr_html_()


@pytest.mark.parametrize("name", ["train", "eval", "completions"])
def test_a_half_written_last_line_is_dropped_and_named(tmp_path, run, name):
    """A crash or a full disk tears the last line; the lines before it count."""
    whole = lines(run, name)
    rewrite(run, name, whole[:-1] + [whole[-1][:20]], end="")
    found = loading.load(tmp_path)
    *lost, message = found.messages
    assert [f"Got {PROBLEMS - 1}; Pass@1 is of these" in said for said in lost] == [True] * (name == "eval")
    assert f"{name}.jsonl, line {len(whole)}: torn last line dropped" in message and str(run.directory) in message
    result = only(found)
    assert (len(result.train), sum(map(len, result.answers.values())), len(result.completions)) == tuple(
        len(lines_) - (name == kind)
        for kind, lines_ in (("train", run.train), ("eval", run.eval), ("completions", run.completions))
    )


def test_a_broken_line_inside_leaves_the_run_out(tmp_path, run):
    """A curve with a hole that nobody sees is worse than no curve; the other runs stay."""
    whole = lines(run, "train")
    rewrite(run, "train", [*whole[:4], whole[4][:30], *whole[5:]])
    write_run(tmp_path, preset("micro-s", "ah-grpo", eval_examples=PROBLEMS))
    found = loading.load(tmp_path)
    (message,) = found.messages
    assert "train.jsonl, line 5: expected a JSON object" in message and message.startswith(f"left out {run.directory}")
    assert only(found).config.method == "ah-grpo"


def test_a_step_logged_twice_after_a_resume_is_used_once(tmp_path, run):
    """Both lines would count a step twice in the variance; the later one belongs to the weights that went on."""
    whole = lines(run, "train")
    again = [changed(line, reward=7.0) for line in whole[100:110]]
    rewrite(run, "train", [*whole[:110], *again, *whole[110:]])
    found = loading.load(tmp_path)
    assert len(found.messages) == 10
    assert "train.jsonl, line 111: step 101 again; this later line is used." in found.messages[0]
    result = only(found)
    assert len(result.train) == 150 and [r["reward"] for r in result.train[100:110]] == [7.0] * 10


def test_a_problem_answered_twice_counts_once(tmp_path, run):
    """Two answers of one problem would change N, and unpair the tests."""
    whole = lines(run, "eval")
    flipped = changed(whole[3], correct=not json.loads(whole[3])["correct"])
    rewrite(run, "eval", [*whole, flipped])
    found = loading.load(tmp_path)
    assert found.messages[0].endswith(f"line {len(whole) + 1}: step 0, problem 3 again; this later line is used.")
    answers = only(found).answers[0]
    assert len(answers) == PROBLEMS and answers[3] == json.loads(flipped)["correct"]


@pytest.mark.parametrize("written", ["NaN", "null", "Infinity"])
def test_a_reward_that_is_no_number_is_left_out_of_the_curve(tmp_path, run, written):
    """One NaN would make the training variance NaN; a 0 in its place would be a collapse that never was."""
    whole = lines(run, "train")
    marks = {4: written, 149: written}
    rewrite(
        run,
        "train",
        [changed(x, reward="?").replace('"?"', marks[i]) if i in marks else x for i, x in enumerate(whole)],
    )
    found = loading.load(tmp_path)
    assert [m.split("train.jsonl, ")[1] for m in found.messages] == [
        "line 5, 150: no finite reward; left out of the reward curve."
    ]
    steps, rewards = only(found).curve("reward")
    assert len(steps) == 148 and 5 not in steps and np.isfinite(rewards).all()
    assert math.isfinite(results.variance(only(found))) and len(only(found).curve("kl")[0]) == 150


def test_a_step_that_is_no_integer_is_named(tmp_path, run):
    whole = lines(run, "train")
    rewrite(run, "train", [changed(whole[0], step="one"), *whole[1:]])
    found = loading.load(tmp_path)
    assert "train.jsonl, line 1: expected an integer step. Got 'one'" in found.messages[0]
    assert len(only(found).train) == 149


@pytest.mark.parametrize("values", [{"step": None}, {"step": "30"}, {"problem": None}, {"correct": None}])
def test_an_answer_without_its_place_is_named(tmp_path, run, values):
    """Read as step None or as a wrong answer, it would shift Pass@1 in silence."""
    whole = lines(run, "eval")
    rewrite(run, "eval", [changed(whole[0], **values), *whole[1:]])
    found = loading.load(tmp_path)
    lost, message = found.messages
    assert lost.endswith(f"step 0: expected {PROBLEMS} answers. Got {PROBLEMS - 1}; Pass@1 is of these.")
    assert "eval.jsonl, line 1: expected step, problem and correct. Got" in message
    assert len(only(found).answers[0]) == PROBLEMS - 1


def test_unknown_keys_in_a_log_are_kept_out_of_the_way(tmp_path, run):
    """Another version logs more; that must cost nothing and say nothing."""
    for name in ("train", "eval"):
        rewrite(run, name, [changed(line, novelty={"a": [1]}) for line in lines(run, name)])
    found = loading.load(tmp_path)
    assert found.messages == [] and only(found).pass_at_1 == only(loading.load(run.directory.parent)).pass_at_1


@pytest.mark.parametrize("config,said", [
    ('{"method": "grpo", "flux": 1}', "Got unknown ['flux']"), ("{", "Expecting property name"),
    ('{"alpha": "high"}', "alpha must be"), ("[]", ""),
])  # fmt: skip
def test_a_configuration_of_another_version_is_named(tmp_path, run, config, said):
    """Half-understood settings would put a run beside runs it does not belong to."""
    (run.directory / "config.json").write_text(config)
    found = loading.load(tmp_path)
    (message,) = found.messages
    assert found.results == [] and str(run.directory / "config.json") in message
    assert said in message


def test_a_rollout_that_lacks_a_key_is_named(tmp_path, run):
    """The schematic would end in a KeyError, after everything else was drawn."""
    whole = lines(run, "completions")
    row = {k: v for k, v in json.loads(whole[0]).items() if k not in ("prompt", "weights")}
    rewrite(run, "completions", [json.dumps(row), *whole[1:]])
    found = loading.load(tmp_path)
    assert "completions.jsonl, line 1: expected a rollout. It lacks prompt, weights" in found.messages[0]
    assert len(only(found).completions) == len(whole) - 1


def test_an_unfinished_run_is_left_out_with_its_reason(tmp_path):
    """Half a run beside whole ones would end at another step and be called its final."""
    directory = write_run(tmp_path, GRPO, finish=False).directory
    found = loading.load(tmp_path)
    assert found.results == []
    assert found.messages == [f"left out {directory}: the run is not finished (no finished.json)"]


def test_files_of_adapters_and_checkpoints_are_no_runs(tmp_path, run):
    """An adapter has a config.json too."""
    for folder in ("adapter", "checkpoints/checkpoint-15"):
        (run.directory / folder).mkdir(parents=True)
        shutil.copy(run.directory / "config.json", run.directory / folder / "config.json")
    assert loading.load(tmp_path).messages == [] and only(loading.load(tmp_path))


def test_an_environment_without_the_usual_entries(tmp_path):
    """Logs of older versions have no start date; they are shown as undated, not refused."""
    write_run(tmp_path, GRPO, environment={"device": "cpu"})
    found = loading.load(tmp_path)
    assert found.messages == [] and "unknown date" in found.families[0].caption


def test_other_seeds_and_scales_are_counted_out(tmp_path):
    """Mixed seeds in one line of a table would be nobody's run."""
    write_protocol(tmp_path, sweep=())
    write_run(tmp_path, GRPO.replace(seed=7))
    write_run(tmp_path, preset("micro-l", "grpo", eval_examples=PROBLEMS))
    found = loading.load(tmp_path)
    assert len(found.results) == 5 and len(found.families) == 3
    mine = found.of_seed(123)
    assert {r.config.seed for r in mine.results} == {123} and len(mine.results) == 4
    assert mine.messages == ["left out: runs of other seeds than 123 (7)"]
    assert [r.config.scale for r in mine.of_scale("micro-l").results] == ["micro-l"]
    assert mine.of_scale("all").results == mine.results
    # "auto" is what it is where runs are trained.
    assert mine.of_scale("auto").results == mine.of_scale(resolve_scale("auto")).results
    with pytest.raises(ValueError, match="Did you mean 'micro-l'"):
        mine.of_scale("micro-L1")
    assert "no run of scale smollm2 was found" in mine.of_scale("smollm2").messages[-1]


def test_several_directories_are_one_collection(tmp_path):
    write_run(tmp_path / "a", GRPO)
    write_run(tmp_path / "b", preset("micro-s", "ah-grpo", eval_examples=PROBLEMS))
    assert len(loading.load(tmp_path / "a", tmp_path / "b").families[0].results) == 2


# --- families --------------------------------------------------------------------------------------------------------


def test_families_differ_in_method_and_alpha_alone(tmp_path):
    """A changed learning rate beside unchanged runs would be read as the method's doing."""
    write_protocol(tmp_path)
    odd = [GRPO.replace(learning_rate=3e-4), GRPO.replace(seed=7), GRPO.replace(denominator="batch")]
    for config in odd:
        write_run(tmp_path, config)
    families = loading.load(tmp_path).families
    assert [r.config for r in families[0].results] == sorted(
        protocol(), key=lambda c: (("grpo", "ah-grpo", "sa-ah-grpo").index(c.method), c.alpha)
    )
    assert len(families) == 4 and len({f.name for f in families}) == 4 and families[0].name == "micro-s"
    assert (
        list(families[0].alphas) == [-0.25, 0.0, 0.1, 0.25, 0.5] and families[0].methods["ah-grpo"].config.alpha == 0.5
    )
    assert [f.is_large for f in families] == [False] * 4


def test_an_alpha_of_another_length_or_rule_is_no_row_of_the_sweep(tmp_path):
    """A comparison over seeds has shorter runs: their schedule ended, so their Pass@1 is not GRPO's at that step."""
    write_protocol(tmp_path)
    own = preset("micro-s", "ah-grpo", eval_examples=PROBLEMS)
    short = own.replace(alpha=4.0, steps=60)
    write_run(tmp_path, short, checkpoints=[0, 30, 60])
    for alpha in (0.5, 4.0):
        write_run(tmp_path, own.replace(alpha=alpha, rule="position"))
    (family,) = loading.load(tmp_path).families
    assert list(family.alphas) == [-0.25, 0.0, 0.1, 0.25, 0.5]
    assert [r.config for r in family.other_lengths] == [short] and family.methods["ah-grpo"].config == own
    assert paper_tables.alphas(family).notes[0] == "α = 4.00 is left out: 60 steps."


def test_of_two_lengths_the_paper_s_is_kept(tmp_path):
    """A smoke run of two steps would otherwise replace the real one, or stand beside it under one name."""
    for steps in (2, 150, 400):
        write_run(tmp_path, GRPO.replace(steps=steps), checkpoints=[0, min(steps, 150)])
    (family,) = loading.load(tmp_path).families
    assert [r.config.steps for r in family.results] == [150]


def test_peers_are_the_runs_of_the_same_setting(tmp_path):
    """Notebooks 02 to 04 show a run beside its siblings; a stranger there is a false comparison."""
    write_protocol(tmp_path)
    write_run(tmp_path, GRPO.replace(learning_rate=3e-4))
    found = loading.load(tmp_path)
    assert len(found.peers(GRPO).results) == 6 and list(found.peers(GRPO).methods) == ["grpo", "ah-grpo", "sa-ah-grpo"]
    assert [r.config for r in found.peers(GRPO.replace(learning_rate=3e-4)).results] == [
        GRPO.replace(learning_rate=3e-4)
    ]
    with pytest.raises(results.MissingData, match="no finished run beside"):
        found.peers(GRPO.replace(seed=99))


def test_a_caption_says_where_numbers_are_from(tmp_path):
    """A picture without source, seed and date passes for the newest, or for the paper's."""
    write_run(tmp_path, GRPO)
    later = {**ENVIRONMENT, "started": "2026-01-07T00:00:00+00:00"}
    write_run(tmp_path, preset("micro-s", "ah-grpo", eval_examples=PROBLEMS), environment=later)
    (family,) = loading.load(tmp_path).families
    assert (
        family.caption
        == "measured: micro-s (1.05M parameters with LoRA) on made up, seed 123, some CPU, 2026-01-05 to 2026-01-07"
    )


def test_a_caption_names_every_device(tmp_path):
    """Of a family from a card and a CPU it named the first run's alone."""
    write_run(tmp_path, GRPO)
    card = {**ENVIRONMENT, "device": "Tesla T4"}
    write_run(tmp_path, preset("micro-s", "ah-grpo", eval_examples=PROBLEMS), environment=card)
    (family,) = loading.load(tmp_path).families
    assert "some CPU, Tesla T4" in family.caption


def test_runs_of_rule_files_are_one_message(tmp_path, run):
    """After one entry every notebook's notes were twelve lines with the names of all rules."""
    for seed in (1, 2):
        place = write_run(tmp_path / "enter" / "mine-1234", GRPO.replace(seed=seed)).directory
        config = json.loads((place / "config.json").read_text())
        (place / "config.json").write_text(json.dumps({**config, "rule": "mine"}))
    found = loading.load(tmp_path)
    assert found.messages == ["2 runs below enter/ of rule files of your own: not shown here"]
    (place / "config.json").write_text("[]")
    first, last = loading.load(tmp_path).messages
    assert "config.json" in first and "1 run below enter/" in last


def test_variance_and_kl_by_hand():
    """Table 2's columns: population variance of the second half, mean over all steps."""
    rows = [{"step": i + 1, "reward": r, "kl": 0.1 * i} for i, r in enumerate([50.0, -9.0, 1.0, 3.0, 5.0])]
    made = result("grpo", rows=rows)
    assert results.variance(made) == pytest.approx(8 / 3) and results.mean_kl(made) == pytest.approx(0.2)
    assert results.variance(result("grpo", rewards=[1, 2, 3])) is None
    assert results.mean_kl(result("grpo")) is None


# --- foreign logs ----------------------------------------------------------------------------------------------------

HISTORY = [
    {
        "step": 1,
        "epoch": 0.01,
        "loss": 0.0,
        "grad_norm": 0.2,
        "learning_rate": 0.0,
        "num_tokens": 2520.0,
        "reward": 2.5,
        "reward_std": 1.0,
        "kl": 0.0,
        "completions/mean_length": 120.0,
        "completions/clipped_ratio": 0.0,
    },
    {
        "step": 2,
        "epoch": 0.02,
        "loss": 0.1,
        "grad_norm": 0.3,
        "learning_rate": 1e-6,
        "num_tokens": 5040.0,
        "reward": 3.5,
        "reward_std": 0.5,
        "kl": 0.002,
        "completions/mean_length": 110.0,
        "completions/clipped_ratio": 0.0,
    },
    {
        "step": 2,
        "epoch": 0.02,
        "eval_loss": 0.1,
        "eval_reward": 3.0,
        "eval_runtime": 10.0,
        "eval_samples_per_second": 5.0,
    },
    {
        "step": 3,
        "epoch": 0.03,
        "loss": 0.1,
        "grad_norm": 0.3,
        "learning_rate": 2e-6,
        "num_tokens": 7560.0,
        "reward": 4.5,
        "reward_std": 0.5,
        "kl": 0.004,
        "completions/mean_length": 100.0,
        "completions/clipped_ratio": 0.0,
    },
    {
        "step": 3,
        "epoch": 0.03,
        "total_flos": 0.0,
        "train_loss": 0.07,
        "train_runtime": 60.0,
        "train_steps_per_second": 0.05,
    },
]


@pytest.fixture
def foreign(tmp_path):
    """A foreign log of the given text, read as GRPO at the paper's scale."""

    def read(text, name="run.csv", **fields):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        entry = {"path": str(path), "scale": "qwen2.5-1.5b", "method": "grpo", **fields}
        return loading.load(foreign=[entry])

    return read


def state(history):
    return json.dumps({"global_step": 3, "epoch": 0.03, "is_hyper_param_search": False, "log_history": history})


def test_trl_s_trainer_state_is_read(foreign):
    """Its history mixes training lines with evaluations and a summary; only the first are steps."""
    found = foreign(state(HISTORY), "trainer_state.json")
    result = only(found)
    assert found.messages == [] and result.config == preset("qwen2.5-1.5b", "grpo", steps=3)
    assert result.curve("reward")[1].tolist() == [2.5, 3.5, 4.5] and results.mean_kl(result) == pytest.approx(0.002)
    assert result.curve("completions/mean_length")[0].tolist() == [1, 2, 3]
    assert result.pass_at_1 == {} and result.base is None and result.source == "measured"
    assert "trainer_state.json" in found.families[0].caption and "foreign log" in found.families[0].caption


@pytest.mark.parametrize("text,said", [
    ("[]", "expected TRL's trainer_state.json"), ('{"log_history": 3}', "expected TRL's trainer_state.json"),
    ('{"log_history": []}', "expected lines with an integer step"), ("{", "Expecting property name"),
])  # fmt: skip
def test_another_json_is_refused_by_name(foreign, text, said):
    found = foreign(text, "other.json")
    assert found.results == [] and said in found.messages[0] and "other.json" in found.messages[0]


def test_a_plain_csv_is_read(foreign):
    """step, reward and pass_at_1, each cell optional but the step; step 0 is zero-shot."""
    found = foreign("step,reward,pass_at_1\n0,,0.652\n1,2.5,\n2,3.5,\n30,4.5,0.656\n60,,0.666\n", learning_rate=1e-6)
    result = only(found)
    assert found.messages == [] and result.base == 0.652 and result.pass_at_1 == {30: (328, 500), 60: (333, 500)}
    assert result.curve("reward")[0].tolist() == [1, 2, 30] and result.config.steps == 60
    assert result.config.learning_rate == 1e-6 and result.final == (333, 500)


@pytest.mark.parametrize("text,said", [
    ("step,reward\n1,2.5\n2,high\n", "line 3: expected numbers"),
    ("step,reward\n1,2.5\n,3\n", "line 3: expected numbers"),
    ("step,reward\n1,2.5,9,9\n", "line 2: expected numbers"),
    ("iteration,reward\n1,2.5\n", "expected a CSV with a column step. Got the columns ['iteration', 'reward']"),
    ("", "expected a CSV with a column step"),
    ("step,pass_at_1\n30,65.6\n", "step 30: expected pass_at_1 in [0, 1]. Got 65.6"),
    ("step,pass_at_1\n30,nan\n", "step 30: expected pass_at_1 in [0, 1]. Got nan"),
    ("step,reward\n", "expected lines with an integer step"),
])  # fmt: skip
def test_a_bad_csv_is_refused_by_file_and_line(foreign, text, said):
    """Percent for a rate, or a shifted column, would give a figure like any other."""
    found = foreign(text)
    assert found.results == [] and said in found.messages[0] and "run.csv" in found.messages[0]


def test_a_rate_that_is_no_count_is_rounded_aloud(foreign):
    found = foreign("step,pass_at_1\n30,0.6333\n")
    assert only(found).pass_at_1 == {30: (317, 500)}
    assert "step 30: Pass@1 0.6333 is no count over 500 problems; rounded to 317" in found.messages[0]
    assert foreign("step,pass_at_1\n30,0.633\n", eval_examples=1000).messages == []


@pytest.mark.parametrize("entry,said", [
    ({"scale": "micro-s", "method": "grpo"}, "expected the key 'path'"),
    ({"path": "x.csv", "scale": "huge", "method": "grpo"}, ""),
    ({"path": "x.csv", "method": "grpo"}, "expected the key 'scale'"),
])  # fmt: skip
def test_an_entry_that_lacks_a_key_is_said(entry, said):
    found = loading.load(foreign=[entry])
    assert found.results == [] and said in found.messages[0] and found.messages[0].startswith("left out")


def test_a_healthy_load_warns_of_nothing(tmp_path):
    """Messages at every run teach readers to overlook them."""
    write_protocol(tmp_path, sweep=())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert loading.load(tmp_path).messages == []


def test_messages_are_escaped(tmp_path):
    """A path is anybody's text."""
    page = loading.load(tmp_path / "<script>")._repr_html_()
    assert "<script>" not in page and "&lt;script&gt;" in page


def test_runs_on_other_problems_are_no_family(tmp_path):
    """Two files of problems under one configuration would be paired problem by problem."""
    for method, problems in (("grpo", "a"), ("ah-grpo", "b"), ("sa-ah-grpo", "a")):
        data = {"source": "local data x", "sha256": problems}
        write_run(tmp_path, preset("micro-s", method, steps=30, eval_examples=8), environment={"data": data})
    found = loading.load(tmp_path)
    assert [sorted(f.methods) for f in found.families] == [["grpo", "sa-ah-grpo"], ["ah-grpo"]]
    config = preset("micro-s", "grpo", steps=30, eval_examples=8)
    assert sorted(found.peers(config).methods) == ["grpo", "sa-ah-grpo"]


def test_a_run_in_two_directories_is_used_once_and_said(tmp_path):
    """Tables over seeds took the last and tables of one seed the first, and nobody was told."""
    for name, seed in (("published", 0), ("own", 1)):
        write_run(tmp_path / name, GRPO, seed=seed)
    found = loading.load(tmp_path / "published", tmp_path / "own")
    assert only(found).directory.parent.name == "own"
    published, own = (tmp_path / name / GRPO.run_id for name in ("published", "own"))
    assert found.messages == [f"{GRPO.run_id} was found twice: {own} is used, {published} left out"]
    again = loading.load(tmp_path / "own", tmp_path / "own")
    assert only(again) and again.messages == []


def test_lost_answers_are_said(tmp_path, run):
    """Pass@1 of fewer problems looks like any other."""
    kept = [line for line in lines(run, "eval") if json.loads(line)["step"] != 60 or json.loads(line)["problem"] > 2]
    rewrite(run, "eval", kept)
    found = loading.load(tmp_path)
    assert only(found).pass_at_1[60][1] == PROBLEMS - 3
    (message,) = found.messages
    assert message.endswith(
        f"eval.jsonl, step 60: expected {PROBLEMS} answers. Got {PROBLEMS - 3}; Pass@1 is of these."
    )
