"""The docs' example of a token rule of one's own runs under stock TRL; test_seam runs it under Unsloth."""

import re
import sys
from functools import partial

import pytest
from guide import PAGE, check, example, run_the_example


def blocks(heading):
    """The Python blocks between a heading, or the bold start of a paragraph, and the next heading."""
    section = PAGE.read_text(encoding="utf-8").split(heading, 1)[1].split("\n## ", 1)[0]
    return re.findall(r"```python\n(.*?)```", section, re.S)


@pytest.fixture
def stock(plain_head):
    import tiny
    import trl

    if trl.GRPOTrainer.__name__.startswith("Unsloth"):
        pytest.skip("Unsloth has replaced stock TRL in this process; see test_seam")
    return tiny


def test_the_example_trains_its_own_rule_on_stock_trl(tmp_path, stock):
    """A guide that was right once."""
    report = run_the_example(tmp_path, stock.model())
    check(report)


def test_the_scripts_of_the_page_train(tmp_path, stock, monkeypatch):
    """The paper's rules and a rule file's, as written; the model, its data and the device are a tiny stand-in's."""
    import trl
    from datasets import Dataset

    from sa_ah_lib import rulebook
    from sa_ah_lib.rules import RULES

    small = {"output_dir": str(tmp_path), "use_cpu": True, "bf16": False, "report_to": "none", "max_steps": 1}
    small |= {"max_completion_length": 8, "learning_rate": 1e-2, "generation_kwargs": {"suppress_tokens": [stock.PAD]}}
    monkeypatch.setattr(trl, "GRPOConfig", partial(trl.GRPOConfig, **small))
    policy = stock.model()
    policy.save_pretrained(tmp_path / "model")
    policy.config._name_or_path = str(tmp_path / "model")
    script, rewards = blocks("## The paper's rules in your script\n")
    script = script.split("from trl import", 1)[1]
    rows = [{"prompt": "1+2=", "answer": "3"}, {"prompt": "7*8", "answer": "56"}] * 2
    scope = {"model": policy, "tokenizer": stock.tokenizer(), "train_dataset": Dataset.from_list(rows)}
    exec(rewards, scope)  # noqa: S102
    assert scope["correct"](["so 3", [{"role": "assistant", "content": "4"}]], ["3", "3"]) == [1.0, 0.0]
    # A random model is never right: rewards that differ, so that there is something to learn.
    scope["reward_funcs"] = [lambda completions, **_: [float(len(set(text))) for text in completions]]
    exec("from trl import" + script, scope)  # noqa: S102
    trainer = scope["trainer"]
    assert (trainer.alpha, trainer.scope) == (0.5, "negative") and trainer.state.global_step == 1
    written, used = blocks("## Your own rule in five minutes\n")
    (tmp_path / "my_rule.py").write_text(written, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    try:
        exec(used, scope)  # noqa: S102
        scope["trainer"].train()
    finally:
        sys.modules.pop("my_rule", None)
        for registry in (RULES, rulebook.RECORDS):
            registry.pop("sure_failures", None)
    seen = scope["trainer"].last_rollouts
    failed = seen["weights"][seen["advantages"] < 0][seen["mask"][seen["advantages"] < 0].bool()]
    assert len(failed) and 0.1 <= failed.min() < failed.max() <= 1
    assert (seen["weights"][seen["advantages"] >= 0] == 1).all()


def test_the_example_is_ten_lines(tmp_path):
    """The seam's promise: a rule is a method, not a fork."""
    lines = [line for line in example().splitlines() if line.strip() and not line.strip().startswith("#")]
    assert len(lines) <= 10
