"""The pages of the rules: made from the registry, and the committed ones are today's."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

pytest.importorskip("torch")

from sa_ah_lib import rulebook
from sa_ah_lib.report import rule_cards

DOCS = Path(__file__).parents[2] / "docs" / "rules"


def test_the_committed_cards_are_todays(tmp_path):
    """A card that shows an older default, or no card at all; run python -m sa_ah_lib.report.rule_cards docs/rules."""
    made = {path.name: path.read_text(encoding="utf-8") for path in rule_cards.write_cards(tmp_path)}
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
def test_a_card_has_every_part(record):
    page = rule_cards.card(record)
    parts = [record.label, record.equation, f"{record.name}.svg", f"`{record.denominator}`", *record.defaults]
    assert all(part in page for part in parts) and all(rulebook.INPUTS[name] in page for name in record.inputs)
    assert record.source == "this project" or f"arxiv.org/abs/{record.source}" in page
