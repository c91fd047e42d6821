"""The configuration: the paper's numbers, the rules a run must keep, and the names that runs go by."""

import dataclasses
import hashlib
import json
import re

import pytest

from sa_ah_lib import rulebook
from sa_ah_lib.config import CONTROLS, METHOD_LABELS, METHODS, SCALES, RunConfig, preset

# Table 1 and Sections 4.1 to 4.3 as printed, under this project's field names.
TABLE_1 = {
    "learning_rate": 5e-6, "weight_decay": 0.01, "max_grad_norm": 1.0, "beta": 0.04, "epsilon": 0.2,
    "prompts_per_step": 4, "num_generations": 4, "gradient_accumulation_steps": 2, "max_completion_tokens": 512,
    "entropy_top_k": 500, "reward_threshold": 0.15, "train_examples": 800, "eval_examples": 500,
    "lora_rank": 16, "lora_alpha": 32, "lora_dropout": 0.05, "dataset": "openai/gsm8k",
    "eval_every": 30, "save_every": 15,
}  # fmt: skip
SECTION_4_3 = {"zero-shot": ("none", 0.0, 0), "grpo": ("none", 0.0, 150), "ah-grpo": ("all", 0.5, 150),
               "sa-ah-grpo": ("negative", 0.5, 180),
               **{name: (control["scope"], 0.5, 180) for name, control in CONTROLS.items()}}  # fmt: skip
TRAINED = [method for method in METHODS if method != "zero-shot"]


def test_defaults_are_table_1():
    """A default that drifts from the paper would go into every published run."""
    values = RunConfig().to_dict()
    assert {name: values[name] for name in TABLE_1} == TABLE_1


@pytest.mark.parametrize("scale", ["qwen2.5-1.5b", "qwen2.5-3b"])
@pytest.mark.parametrize("method", METHODS)
def test_the_paper_s_scales_keep_table_1(scale, method):
    """A preset of the paper's own models that changes a hyperparameter is no reproduction."""
    values = preset(scale, method).to_dict()
    assert {name: values[name] for name in TABLE_1} == TABLE_1
    assert (values["scope"], values["alpha"], values["steps"]) == SECTION_4_3[method]
    assert preset(scale, method).differences() == {}


def test_defaults_are_the_1_5b_sa_run():
    """``RunConfig()`` and the preset of the same name must not be two different runs."""
    assert RunConfig() == preset("qwen2.5-1.5b", "sa-ah-grpo")


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("method", METHODS)
def test_every_preset_loads(scale, method):
    """A scale that only fails once its model is downloaded wastes an evening."""
    config = preset(scale, method)
    assert (config.scale, config.method) == (scale, method)
    assert config.micro_batch_size % config.num_generations == 0
    assert (config.scope, config.alpha, config.steps) == SECTION_4_3[method]


GTPO = {"rule": "gtpo", "method": "grpo", "scope": "none", "alpha": 0.0}

# One row per rule: the changes that break it, and what the message must expect and quote.
BROKEN = [
    ({"scale": "qwen-7b"}, "scale must be one of", "'qwen-7b'"),
    ({"scale": "../elsewhere"}, "scale must be one of", "elsewhere"),
    ({"method": "dapo"}, "method must be one of", "'dapo'"),
    ({"scope": "some"}, "scope must be one of", "'some'"),
    ({"rule": "linear"}, "rule must be one of", "'linear'"),
    ({"rule": "scalar", "scope": "none", "alpha": 0.0}, "a control rule needs a scope", "'scalar' with 'none'"),
    ({"rule": "scalar", "alpha": -0.5}, "an alpha of at least 0", "and -0.5"),
    ({"rule": "gtpo"}, "rule 'gtpo' does not know scope and alpha: use method 'grpo'", "Got scope 'negative'"),
    ({"rule_parameters": {"bonus": 1.0}}, "rule 'cumulative' has the parameters ['alpha', 'scope']", "Got ['bonus']"),
    ({"rule_parameters": {"alpha": 1.0}}, "alpha of rule 'cumulative' must be given beside rule_parameters", "by name"),
    ({"rule_parameters": 3}, "rule_parameters must be a dictionary", "Got 3"),
    ({**GTPO, "rule_parameters": {"bonus": -1}}, "bonus of rule 'gtpo' must be in [0.0, inf]", "Got -1.0"),
    ({**GTPO, "rule_parameters": {"bonus": "x"}}, "bonus of rule 'gtpo' must be a finite number", "Got 'x'"),
    ({"denominator": "token"}, "denominator must be one of", "'token'"),
    ({"system_prompt": "xml"}, "system_prompt must be one of", "'xml'"),
    *[({name: 0}, f"{name} must be at least 1", "Got 0") for name in (
        "train_examples", "eval_examples", "prompts_per_step", "gradient_accumulation_steps", "lora_rank",
        "lora_alpha", "max_prompt_tokens", "max_completion_tokens", "eval_every", "save_every", "eval_batch_size")],
    *[({name: float("nan")}, f"{name} must be finite", "Got nan") for name in (
        "alpha", "learning_rate", "weight_decay", "max_grad_norm", "beta", "epsilon", "temperature")],
    *[({name: -0.5}, f"{name} must be finite and at least 0", "Got -0.5") for name in (
        "learning_rate", "weight_decay", "max_grad_norm", "beta", "epsilon")],
    *[({name: -1}, f"{name} must be in [0, 4294967296)", "Got -1") for name in ("seed", "data_seed")],
    ({"seed": 2**32}, "seed must be in [0, 4294967296)", "Got 4294967296"),
    ({"alpha": float("inf")}, "alpha must be finite", "Got inf"),
    ({"scope": "none", "alpha": 0.3}, "alpha must be 0 where scope is 'none'", "Got 0.3"),
    ({"steps": 0}, "steps must be at least 1, or 0 for zero-shot", "Got 0 for sa-ah-grpo"),
    ({"steps": -1}, "steps must be at least 0", "Got -1"),
    ({"method": "zero-shot", "steps": 5}, "or 0 for zero-shot", "Got 5 for zero-shot"),
    ({"method": "zero-shot", "steps": -5}, "steps must be at least 0", "Got -5"),
    ({"temperature": 0}, "temperature must be finite and above 0", "Got 0"),
    ({"lora_dropout": 1.0}, "lora_dropout must be finite and in [0, 1)", "Got 1.0"),
    ({"lora_dropout": -0.1}, "lora_dropout must be finite and in [0, 1)", "Got -0.1"),
    ({"reward_threshold": -0.1}, "reward_threshold must be finite and at least 0", "Got -0.1"),
    ({"reward_threshold": float("inf")}, "reward_threshold must be finite and at least 0", "Got inf"),
    ({"entropy_top_k": 0}, "entropy_top_k must be at least 1, or None", "Got 0"),
    ({"num_generations": 1}, "num_generations must be at least 2", "Got 1"),
    ({"prompts_per_step": 3}, "multiple of gradient_accumulation_steps", "Got 3 and 2"),
    ({"steps": "150"}, "steps must be int", "Got '150'"),
    ({"steps": 1.5}, "steps must be int", "Got 1.5"),
    ({"steps": True}, "steps must be int", "Got True"),
    ({"alpha": "0.5"}, "alpha must be float", "Got '0.5'"),
    ({"alpha": False}, "alpha must be float", "Got False"),
    ({"load_in_4bit": 1}, "load_in_4bit must be bool", "Got 1"),
    ({"model": None}, "model must be str", "Got None"),
    ({"entropy_top_k": 2.5}, "entropy_top_k must be int | None", "Got 2.5"),
]  # fmt: skip


def test_every_field_says_what_it_means():
    """A field without a meaning is looked up in the source; one without a check takes anything."""
    for field in dataclasses.fields(RunConfig):
        declared = field.metadata["setting"]
        assert re.fullmatch(r"\S.*\.", declared.meaning), field.name
        assert field.type is not int or declared.least is not None, field.name


@pytest.mark.parametrize("changes,expected,got", BROKEN, ids=[str(row[0]) for row in BROKEN])
def test_a_broken_rule_says_what_was_expected_and_what_came(changes, expected, got):
    """A wrong value must stop here, in words, not hours later in a trainer."""
    with pytest.raises(ValueError) as error:
        RunConfig(**changes)
    assert expected in str(error.value) and got in str(error.value)


@pytest.mark.parametrize("changes", [
    {"alpha": -0.25}, {"entropy_top_k": None}, {"entropy_top_k": 1}, {"reward_threshold": 0}, {"beta": 0.0},
    {"temperature": 0.8}, {"seed": 0}, {"seed": 2**32 - 1}, {"lora_dropout": 0}, {"steps": 1},
])  # fmt: skip
def test_the_edges_that_are_allowed(changes):
    """Rules that grow too strict would refuse the paper's own sweep (alpha below 0) or an honest option."""
    config = RunConfig(**changes)
    assert {name: getattr(config, name) for name in changes} == changes


def test_unknown_fields_are_refused_by_name():
    """A misspelt override that is dropped in silence trains the wrong run under the right name."""
    with pytest.raises(ValueError, match=r"Got unknown \['learning_rat'\]"):
        preset("micro-s", "grpo", learning_rat=1e-4)
    with pytest.raises(ValueError, match=r"unknown \['a', 'b'\]"):
        RunConfig.from_dict({"b": 1, "a": 2})


@pytest.mark.parametrize("call,name", [
    (lambda: preset("nano", "grpo"), "scale"),
    (lambda: preset("micro-s", "ppo"), "method"),
    (lambda: preset("micro-s", "grpo", batch_reading="guess"), "batch_reading"),
    (lambda: RunConfig().sibling("ppo"), "method"),
])  # fmt: skip
def test_unknown_choices_list_the_known_ones(call, name):
    """A KeyError of one word does not tell a reader what to type instead."""
    with pytest.raises(ValueError, match=f"{name} must be one of .*Got"):
        call()


def test_json_gives_the_same_run_back(tmp_path):
    """A field lost on the way to config.json would make a saved run another run."""
    config = preset("micro-l", "ah-grpo", alpha=-0.25, entropy_top_k=None, model="modèle")
    config.to_json(tmp_path / "config.json")
    assert RunConfig.from_json(tmp_path / "config.json") == config
    saved = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert set(saved) == {field.name for field in dataclasses.fields(RunConfig)}


def test_a_config_cannot_be_changed_in_place():
    """A field changed after the run_id was taken would file a run under the wrong name."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        RunConfig().alpha = 0.1


def other_value(name, value):
    """A legal value of a field that differs from ``value``."""
    chosen = {
        "scale": "micro-s", "method": "ah-grpo", "scope": "all", "denominator": "batch", "system_prompt": "none",
        "lora_dropout": 0.1, "prompts_per_step": 8, "model": "other", "dataset": "chain_sum",
        "gradient_accumulation_steps": 4, "rule": "scalar",
    }  # fmt: skip
    if name == "rule_parameters":
        return {"bonus": 0.2}
    if name in chosen:
        return chosen[name]
    return not value if isinstance(value, bool) else value + 1


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(RunConfig)])
def test_run_id_differs_by_any_field(name):
    """Two runs of one id: the second would be read from the first one's logs."""
    config = RunConfig(**(GTPO if name == "rule_parameters" else {}))
    changed = config.replace(**{name: other_value(name, getattr(config, name))})
    assert changed.run_id != config.run_id
    assert changed.replace(**{name: getattr(config, name)}).run_id == config.run_id


def test_parameters_of_a_rule_are_part_of_a_run(tmp_path):
    """One run under two ids, two under one, or n-grams that JSON turned into something else."""
    usual = preset("micro-s", "grpo", rule="gtpo", denominator="tokens")
    assert usual.replace(rule_parameters={"bonus": 0.1}) == usual, "a default that is said is still the default"
    one, two = (usual.replace(rule_parameters={"bonus": x, "base": 2}) for x in (1, 1.0))
    assert one.run_id == two.run_id != usual.run_id and hash(one) == hash(two)
    assert one.to_dict()["rule_parameters"] == {"base": 2.0, "bonus": 1.0}
    hicra = usual.replace(rule="hicra", rule_parameters={"grams": [[1, 2], [3]]})
    hicra.to_json(tmp_path / "config.json")
    assert RunConfig.from_json(tmp_path / "config.json") == hicra
    assert hicra.rule_parameters == (("grams", ((1, 2), (3,))),)
    assert hicra.replace(rule="gtpo") == usual, "another rule starts with its own parameters"
    assert one.sibling("sa-ah-grpo") == preset("micro-s", "sa-ah-grpo", denominator="tokens")
    assert not usual.has_own_rule and preset("micro-s", "grpo").has_own_rule


def test_every_rule_of_the_book_can_be_configured():
    """A rule that no configuration can name."""
    for name, record in rulebook.RECORDS.items():
        method = "sa-ah-grpo" if record.takes_scope else "grpo"
        assert preset("micro-s", method, rule=name, denominator=record.denominator).rule == name


def test_run_id_is_readable_and_the_same_everywhere():
    """An id that hangs on a process (hash seeds, field order) would repeat finished runs."""
    config = preset("micro-s", "sa-ah-grpo", seed=7, steps=20)
    assert config.run_id.startswith("micro-s-sa-ah-grpo-a0.5-seed7-20steps-")
    assert RunConfig.from_dict(dict(reversed(config.to_dict().items()))).run_id == config.run_id
    assert config.run_id.replace("-", "").replace(".", "").isalnum()


def test_run_id_does_not_hang_on_fields_left_at_their_defaults():
    """A new field of RunConfig would rename every published run, and train each of them again."""
    changed = {"scale": "micro-s", "method": "grpo", "model": "micro-s", "scope": "none", "alpha": 0.0, "steps": 9}
    digest = hashlib.sha256(json.dumps(changed, sort_keys=True).encode()).hexdigest()[:8]
    assert RunConfig(**changed).run_id.endswith(f"-{digest}")


@pytest.mark.parametrize("whole,same", [({"temperature": 1}, {"temperature": 1.0}), ({"alpha": -0.0}, {"alpha": 0}),
                                        ({"max_grad_norm": 2}, {"max_grad_norm": 2.0})])  # fmt: skip
def test_equal_numbers_are_one_run(whole, same):
    """``temperature=1`` in a notebook must find the run that ``1.0`` made, not train it again."""
    assert RunConfig(**whole) == RunConfig(**same)
    assert RunConfig(**whole).run_id == RunConfig(**same).run_id


@pytest.mark.parametrize("steps,warmup", [(1, 5), (49, 5), (59, 5), (60, 6), (150, 15), (180, 18), (189, 18)])
def test_warmup_is_the_table_s_formula(steps, warmup):
    """max(5, floor(steps / 10)): a rounded tenth would differ between 150 and 180 steps."""
    assert RunConfig(steps=steps).warmup_steps == warmup


@pytest.mark.parametrize("reading,rollouts,micro_batch", [(None, 16, 8), ("table", 16, 8), ("log", 8, 4)])
def test_both_batch_readings(reading, rollouts, micro_batch):
    """Table 1 says 16 completions a step, the paper's logged fractions 8; neither may stand for the other."""
    config = preset("qwen2.5-1.5b", "grpo", batch_reading=reading)
    assert (config.rollouts_per_step, config.micro_batch_size) == (rollouts, micro_batch)
    assert config.gradient_accumulation_steps == 2
    assert ("prompts_per_step" in config.differences()) == (reading == "log")


def test_an_override_wins_over_preset_and_reading():
    """Otherwise a notebook's OVERRIDES would be shown and not used."""
    assert preset("micro-s", "grpo", learning_rate=3e-4).learning_rate == 3e-4
    assert preset("qwen2.5-1.5b", "grpo", batch_reading="log", prompts_per_step=6).prompts_per_step == 6


def test_siblings_differ_in_the_method_alone():
    """A comparison of two methods must not compare two learning rates as well."""
    config = preset("micro-s", "sa-ah-grpo", seed=5, learning_rate=2e-4)
    for method in METHODS:
        assert config.sibling(method) == preset("micro-s", method, seed=5, learning_rate=2e-4)
    assert config.sibling("sa-ah-grpo") == config
    assert config.sibling("ah-grpo", alpha=0.1) == preset("micro-s", "ah-grpo", seed=5, learning_rate=2e-4, alpha=0.1)


def test_another_length_is_kept_by_siblings():
    """A smoke run of 6 steps must not be drawn beside a full one of 150."""
    assert {preset("micro-s", "grpo", steps=6).sibling(method).steps for method in TRAINED} == {6}
    assert preset("micro-s", "grpo", steps=6).sibling("zero-shot").steps == 0


def test_another_alpha_is_kept_by_siblings():
    """AH-GRPO at 0.25 is compared with itself and SA-AH-GRPO at 0.25, and GRPO has no alpha."""
    config = preset("micro-s", "ah-grpo", alpha=0.25)
    assert config.sibling("ah-grpo") == config
    assert {config.sibling(method).alpha for method in METHODS} == {0.0, 0.25}
    assert config.sibling("grpo").alpha == config.sibling("zero-shot").alpha == 0.0


def test_siblings_of_a_control_leave_its_rule_behind():
    """GRPO with a leftover rule is refused, and SA-AH-GRPO with one would be the control under another name."""
    control = preset("micro-s", "control-position", seed=5)
    assert control.sibling("control-position") == control
    for method in METHODS:
        assert control.sibling(method) == preset("micro-s", method, seed=5)


def test_controls_differ_from_sa_ah_grpo_in_one_thing():
    """A control that changes two things answers no question."""
    sa = preset("micro-s", "sa-ah-grpo").to_dict()
    for method in CONTROLS:
        changed = {name for name, value in preset("micro-s", method).to_dict().items() if sa[name] != value}
        assert len(changed - {"method"}) == 1
    scoped = {name for name, record in rulebook.RECORDS.items() if record.takes_scope}
    assert {METHODS[method].get("rule", "cumulative") for method in METHODS} == scoped
    assert list(METHODS)[:4] == ["zero-shot", "grpo", "ah-grpo", "sa-ah-grpo"]
    assert list(METHOD_LABELS) == list(METHODS) and len(set(METHOD_LABELS.values())) == len(METHODS)


@pytest.mark.parametrize("changes", [{}, {"scope": "all"}, {"steps": 6}, {"alpha": 0.1, "denominator": "batch"}])
def test_a_run_is_its_own_sibling(changes):
    """A notebook draws a run beside its siblings; one that is not among them would leave nothing to draw."""
    config = preset("micro-s", "sa-ah-grpo", **changes)
    assert config.sibling("sa-ah-grpo") == config


def test_differences_name_both_values():
    """The micro scales must say where they leave Table 1, and with which value."""
    changed = preset("micro-s", "grpo").differences()
    assert changed["learning_rate"] == (5e-6, 2e-4)
    assert changed["num_generations"] == (4, 8)
    assert "alpha" not in changed and "model" not in changed
    assert preset("qwen2.5-3b", "grpo", steps=10, seed=9).differences() == {"steps": (150, 10)}


@pytest.mark.parametrize("made,hint", [
    (lambda: preset("micro_s", "grpo"), "Got 'micro_s'. Did you mean 'micro-s'?"),
    (lambda: preset("micro-s", "SA-AH-GRPO"), "Did you mean 'sa-ah-grpo'?"),
    (lambda: preset("micro-s", "grpo", temprature=0.8), "Got unknown ['temprature']. Did you mean 'temperature'?"),
])  # fmt: skip
def test_a_mistyped_name_is_told_the_nearest(made, hint):
    """One of 35 fields is looked up faster than it is guessed."""
    with pytest.raises(ValueError, match=re.escape(hint)):
        made()


def test_a_name_like_no_other_is_told_none():
    with pytest.raises(ValueError, match="Got 'xyzzy'.$"):
        preset("xyzzy", "grpo")


def test_a_rule_is_divided_as_its_source_divides_unless_said_otherwise():
    """GTPO divided by the sum of a group's weights is not what its card shows."""
    assert preset("micro-s", "grpo", rule="gtpo").denominator == rulebook.get("gtpo").denominator == "tokens"
    assert preset("micro-s", "grpo", rule="gtpo", denominator="group").denominator == "group"
    assert preset("micro-s", "sa-ah-grpo").denominator == preset("micro-s", "grpo").denominator == "group"
