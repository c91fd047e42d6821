"""The pages of the rules: made from the registry, and the committed ones are today's."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

pytest.importorskip("torch")

from made_runs import made_of

from sa_ah_lib import rulebook
from sa_ah_lib.analysis import board, loading
from sa_ah_lib.report import rule_cards

DOCS = Path(__file__).parents[2] / "docs" / "rules"
LOGS = Path(__file__).parents[2] / "figures" / "logs"


@pytest.fixture(scope="module")
def boards():
    """GRPO and EDGE, six pairs, EDGE one point ahead; nothing else was run."""
    known = {entry.label: entry for entry in board.entries()}
    runs = []
    for label, correct in (("GRPO", 300), ("EDGE", 305)):
        for seed in range(6):
            config = known[label].config("micro-sum", seed=seed)
            runs.append(made_of(config, correct + seed))
    return {"micro-sum": rule_cards.board_cells(board.rows(runs, "micro-sum"), "micro-sum")}


def test_the_committed_cards_are_todays(tmp_path):
    """A card that shows an older default, or no card at all; run `make figures`."""
    found = loading.load(LOGS).results
    written = rule_cards.save({scale: board.rows(found, scale) for scale in board.SCALES}, tmp_path)
    made = {path.name: path.read_text(encoding="utf-8") for path in written}
    assert made == {path.name: path.read_text(encoding="utf-8") for path in DOCS.iterdir()}


@pytest.mark.parametrize("record", rulebook.RECORDS.values(), ids=lambda record: record.name)
def test_a_strip_shows_the_rules_own_weights(record):
    """A drawing of twelve ones explains nothing."""
    weights = rule_cards.example_weights(record)
    drawn = ET.fromstring(rule_cards.strip(weights)).iter()
    bold = [element.text for element in drawn if element.get("font-weight") == "bold"]
    assert bold == [f"{w:.2f}" for row in weights for w in row]
    assert len({f"{w:.2f}" for row in weights for w in row}) > 1


@pytest.mark.parametrize("record", rulebook.RECORDS.values(), ids=lambda record: record.name)
def test_a_card_has_every_part(record, boards):
    page = rule_cards.card(record, boards)
    parts = [record.label, record.equation, f"{record.name}.svg", f"`{record.denominator}`", *record.defaults]
    assert all(part in page for part in parts) and all(rulebook.INPUTS[name] in page for name in record.inputs)
    assert record.source == "this project" or f"arxiv.org/abs/{record.source}" in page


def test_a_card_has_its_rows_of_the_board(boards):
    """A result that stands beside another rule's equation."""
    results = {name: rule_cards.results(rulebook.get(name), boards) for name in ("edge", "gtpo", "hicra", "cumulative")}
    assert "| micro-sum | EDGE" in results["edge"] and "+1.0 points" in results["edge"]
    assert "not run" in results["gtpo"] and "EDGE" not in results["gtpo"]
    assert "no row" in results["hicra"] and board.LEFT_OUT["hicra"] in results["hicra"]
    rows = [line.split("|")[2].strip() for line in results["cumulative"].splitlines() if line.startswith("| micro-sum")]
    assert {"GRPO", "AH-GRPO", "SA-AH-GRPO", "Mirror (successes)"} <= set(rows)


def test_without_torch_the_pages_are_written_and_the_drawings_left(tmp_path, monkeypatch):
    """`make figures` needs no torch, and the results change with the logs."""
    monkeypatch.setattr(rule_cards.importlib.util, "find_spec", lambda name: None)
    boards = {"micro-sum": board.rows([], "micro-sum")}
    assert {path.suffix for path in rule_cards.save(boards, tmp_path)} == {".md"}
