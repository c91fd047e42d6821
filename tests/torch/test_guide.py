"""The docs' example of a token rule of one's own runs under stock TRL; test_seam runs it under Unsloth."""

import pytest
from guide import check, example, run_the_example


def test_the_example_trains_its_own_rule_on_stock_trl(tmp_path, monkeypatch):
    """A guide that was right once."""
    pytest.importorskip("trl")
    import tiny
    import trl.trainer.utils

    if trl.GRPOTrainer.__name__.startswith("Unsloth"):
        pytest.skip("Unsloth has replaced stock TRL in this process; see test_seam")
    monkeypatch.setattr(trl.trainer.utils, "_ChunkedLogProbFunction", tiny.PlainHead, raising=False)
    report = run_the_example(tmp_path, tiny.model())
    check(report)


def test_the_example_is_ten_lines(tmp_path):
    """The seam's promise: a rule is a method, not a fork."""
    lines = [line for line in example().splitlines() if line.strip() and not line.strip().startswith("#")]
    assert len(lines) <= 10
