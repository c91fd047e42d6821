"""The reward of Sec. 3.4: both worked examples, every value of every set, any text at all."""

import itertools
import json
import math
import os
import re
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sa_ah_lib import rewards
from sa_ah_lib.rewards import (
    MAX_REWARD,
    REASONING_END,
    REASONING_START,
    REWARD_FUNCS,
    SOLUTION_END,
    SOLUTION_START,
    TAGS,
    answers_match,
    correctness_reward,
    extract_answer,
    format_reward,
    gold_answer,
    presence_reward,
    reward_parts,
    steps_reward,
    total_reward,
)

VALUES = {
    "correct": {-0.5, 0.0, 1.5, 4.0},
    "format": {-0.5, 0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.5},
    "present": {0.0, 0.3, 1.0},
    "steps": {0.0, 0.1, 0.4, 0.7, 1.0},
}
R0, R1, S0, S1 = TAGS
FIVE_STEPS = "1+1=2\n2*3 = 6\n6 / 2 = 3\n3 - 1 = 2\n2 × 21 = 42"

steady = settings(deadline=None, database=None, derandomize=True, max_examples=150)


def full(reasoning, solution):
    return f"{R0}{reasoning}{R1}{S0}{solution}{S1}"


# The paper's worked examples


def test_full_credit_example():
    parts = reward_parts(full(FIVE_STEPS, "42"), "42")
    assert parts == {"correct": 4.0, "format": 1.5, "present": 1.0, "steps": 1.0}
    assert total_reward(full(FIVE_STEPS, "42"), "42") == 7.5 == MAX_REWARD


@pytest.mark.parametrize("text", ["42", "The answer is 42.", "She has 42 apples in the end"])
def test_partial_credit_example(text):
    parts = reward_parts(text, "42")
    assert parts == {"correct": 4.0, "format": 0.0, "present": 0.0, "steps": 0.1}
    assert total_reward(text, "42") == 4.1


def test_lowest_total():
    assert total_reward(f"{R0}{R1}{R0}", "42") == -1.0


# Every value of each set

CORRECT = [
    ("100", 100, 4.0), ("1e2", 100, 4.0), ("200/2", 100, 4.0), ("-3", -3, 4.0),
    ("110", 100, 1.5), ("90", 100, 1.5), ("-95", -100, 1.5), ("1.1", 1, 1.5), ("0.9", 1, 1.5),
    ("110.01", 100, 0.0), ("89", 100, 0.0), ("-100", 100, 0.0), ("0.001", 0, 0.0),
    ("0", 0, 4.0), ("-0", 0, 4.0),
    ("", 100, -0.5), ("no number", 100, -0.5), (f"100 {S0}{S1}", 100, -0.5), ("3/0", 3, -0.5),
]  # fmt: skip

FORMAT = [
    (R0 + R0, -0.5), (full("a", "1") + S1, -0.5), (full("a", "1") * 2, -0.5),
    ("", 0.0), ("42", 0.0), (R0.upper(), 0.0),
    (R0, 0.2), (S0 + "5", 0.2), (R1, 0.3), (S1, 0.3), (R0 + S0, 0.4), (R0 + R1, 0.5),
    (S0 + S1, 0.5), (R1 + S1, 0.6), (R0 + R1 + S0, 0.7), (R0 + S0 + S1, 0.7),
    (R0 + R1 + S1, 0.8), (R1 + S0 + S1, 0.8),
    (S0 + S1 + R0 + R1, 1.0), (R0 + S0 + S1 + R1, 1.0), (R0 + S0 + R1 + S1, 1.0),
    (R1 + R0 + S0 + S1, 1.0), (R0 + R1 + S0 + S1, 1.5), ("so " + full("a", "1") + " done", 1.5),
]  # fmt: skip

PRESENT = [
    ("5", 0.0), (S1, 0.0), (S0 + "5", 0.3), (S1 + S0, 0.3), (S0 + S1, 1.0), (S0 + "5" + S1, 1.0),
    (S1 + S0 + S1, 1.0),
]  # fmt: skip

STEPS = [
    ("", 0.0), (" \n\t", 0.0), (full(" \n", "1+1=2"), 0.0), (R0 + S0 + "1+1=2", 0.0),
    (R1 + "1+1=2", 0.0),
    ("42", 0.1), (full("we think", "1+1=2"), 0.1), ("1+1\n=2", 0.1), ("x = 5", 0.1),
    ("5 = 2+3", 0.1), ("2+3 = x", 0.1), ("3 cats + 4 cats = 7", 0.1), ("3x + 4 = 10", 0.1),
    ("3x - 4 = 10", 0.1),
    (R0 + "think" + S0 + "1+1=2", 0.1), ("5\n- 3 = 2", 0.1), ("2+3==5", 0.1),
    ("1+1=2", 0.4), ("48/2 = <<48/2=24>>24", 0.4), ("48/2 = $<<48/2=24>>24", 0.4),
    ("2+3=5+1=6", 0.4), (R0 + "1+1=2" + S0 + "5+5=10" + S1, 0.4), ("1+1=2" + R1 + "1+1=2", 0.4),
    (S0 + "1+1=2" + S1, 0.4), ("5 * -3 = -15, 5 - -3 = 8", 0.4), ("2*(3 + 4)= 14", 0.4),
    ("1+1=2\n" * 3, 0.7), ("1+1=2 " * 4, 0.7), ("1+1=2 " * 5, 1.0), (FIVE_STEPS, 1.0),
    ("1,000 - 1=999; $5 x $3 = $15; 50% * 20 = 10; .5+.5=1; 9 \u2212 2 = 7", 1.0),
    (r"3 \times 4 = 12, 8 \div 2 = 4, 3 \cdot 4 = 12, \$3+\$4 = \$7, 6 ÷ 3 = 2", 1.0),
]  # fmt: skip


@pytest.mark.parametrize("text, gold, value", CORRECT)
def test_correct(text, gold, value):
    assert correctness_reward([text], answer=[gold]) == [value]


@pytest.mark.parametrize("text, value", FORMAT)
def test_format(text, value):
    assert format_reward([text]) == [value]


@pytest.mark.parametrize("text, value", PRESENT)
def test_present(text, value):
    assert presence_reward([text]) == [value]


@pytest.mark.parametrize("text, value", STEPS)
def test_steps(text, value):
    assert steps_reward([text]) == [value]


def test_tables_reach_every_value():
    tables = {"correct": CORRECT, "format": FORMAT, "present": PRESENT, "steps": STEPS}
    assert {name: {row[-1] for row in table} for name, table in tables.items()} == VALUES


def test_printed_format_set_is_exactly_what_tags_can_give():
    orders = itertools.chain.from_iterable(itertools.permutations(TAGS, n) for n in range(5))
    reached = {format_reward(["".join(order)])[0] for order in orders}
    assert reached == VALUES["format"] - {-0.5}


# Reading numbers


@pytest.mark.parametrize(
    "text, value",
    [
        ("18", 18), ("18.", 18), ("18 dollars", 18), ("5km", 5), ("+7", 7), ("-7", -7),
        ("\u22127", -7), ("$18", 18), ("$ 18", 18), ("-$5", -5), ("$-5", -5),
        (r"\$1,234.50", 1234.5),
        ("€3.5", 3.5), ("£2", 2), ("¥900", 900), ("12€", 12), ("50%", 50), (".5", 0.5),
        ("0.25", 0.25), ("1,234", 1234), ("1,234,567", 1234567), ("1, 2", 2), ("1,2345", 2345),
        ("1234,567", 567),
        ("3/4", 0.75), ("-3/4", -0.75), ("3 / 4", 0.75), ("1,000/4", 250), ("1 1/2", 0.5),
        ("$12/hour", 12), ("1.5e3", 1500), ("2E-1", 0.2), ("5e", 5), ("1e5km", 1),
        ("5 + 3 = 8", 8), ("10-3", 3), ("(-3)", -3), ("x=-3", -3), ("10 - 3", 3), ("10:30", 30),
        ("18 m2", 18), ("18 cm^2", 18), ("H2O", None), ("1st", 1), ("**18**", 18), ("_18_", 18),
        ("\\boxed{18}", 18), ("答案是18", 18), ("１８", None), ("٣", None), ("18²", 18),
        ("", None), ("none", None), (".", None), ("-", None), ("$", None), ("/", None),
        ("3/0", None), ("7 or 3/0", None), ("9" * 400, None), ("5 " + "9" * 400, None),
        ("1e999", None), ("1/" + "9" * 400, None), ("0." + "0" * 400 + "1", 0),
        ("\ud800 5 \x00", 5), ("18\n#### 18", 18),
        ("12{,}000", 12000), (r"\$1{,}234{,}500", 1234500), (r"12\,000", 12000), ("12'000.5", 12000.5),
        ("12\u202f000", 12000), ("1{,}00", 0), ("5' 300", 300), ("4 500", 500), ("3\u00a01234", 1234),
        ("12 cm^{2}", 12), ("10^{-3}", 10), ("x^2", None), ("5 m^-2", 5), ("2^{a", 2), ("^{" * 5 + "7", 7),
    ],
)  # fmt: skip
def test_extract_number(text, value):
    assert extract_answer(text) == value
    assert extract_answer(full("7 + 7 = 14", text)) == value


@pytest.mark.parametrize(
    "text, value",
    [
        (f"1 {S0}2{S1} 3", 2), (f"{S0}2{S1}{S0}3{S1}", 2), (f"{S0}2 or 3", 3), (f"1 {S0}", None),
        (f"1 {S0}two{S1} 3", None), (f"1 {S1} 3", 3), (f"{S1} 1 {S0}2{S1} 3", 2),
        (f"{S0}{S0}2{S1}", 2), ("<solution>2</solution> 3", 3),
    ],
)  # fmt: skip
def test_extract_from_solution_block(text, value):
    assert extract_answer(text) == value


@steady
@given(
    st.integers(-(10**12), 10**12),
    st.integers(0, 4),
    st.sampled_from(["", ","]),
    st.sampled_from(["", "$", "€", "£", "¥", "$ ", "\\$"]),
    st.sampled_from(["", ".", " dollars", "km", "%", "€", "\n", " m2", "!", "**", " per hour"]),
    st.sampled_from(["-", "\u2212"]),
    st.sampled_from(["", "= ", "The answer is ", "1 + 1 = ", "(", "x=", "**", "a\n"]),
)
def test_decimals_round_trip(whole, places, comma, currency, unit, minus, lead):
    value = Decimal(whole).scaleb(-places)
    digits = f"{abs(value):{comma}.{places}f}"
    written = (minus if whole < 0 else "") + currency + digits + unit
    assert answers_match(extract_answer(lead + written), float(value))
    assert answers_match(extract_answer(f"7 {S0}{lead}{written}{S1} 7"), float(value))
    assert answers_match(gold_answer(f"1 + 1 = 2\n#### {written}"), float(value))


@steady
@given(st.integers(-999999, 999999), st.integers(1, 99999), st.sampled_from(["/", " / ", "/ "]))
def test_fractions_round_trip(top, bottom, slash):
    assert answers_match(extract_answer(f"so {top}{slash}{bottom} left"), top / bottom)


@steady
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_printed_floats_round_trip(value):
    assert extract_answer(repr(value)) == value == gold_answer(value) == gold_answer(repr(value))


@steady
@given(st.text(st.sampled_from("0123456789.,/-$% e"), max_size=40))
def test_extracted_numbers_are_finite(text):
    value = extract_answer(text)
    assert value is None or math.isfinite(value)


@pytest.mark.parametrize(
    "predicted, gold, same",
    [
        (0.1 + 0.2, 0.3, True), (18.0, 18, True), (0.0, 0, True), (None, 18, False),
        (18.001, 18, False), (1e-6, 0, False), (-18, 18, False), (1 / 3, 0.3333, False),
    ],
)  # fmt: skip
def test_answers_match(predicted, gold, same):
    assert answers_match(predicted, gold) is same


# Any text

pieces = st.sampled_from(
    [*TAGS, *"+-*/=1 \n$%.,x", "42", "7,000", "1+1=2", "<<"],
)
texts = st.text(max_size=60) | st.lists(pieces | st.text(max_size=3), max_size=25).map("".join)
wild = st.text(st.characters(codec=None), max_size=40)


def assert_lawful(text, gold):
    parts = reward_parts(text, gold)
    assert all(parts[name] in values for name, values in VALUES.items()) and len(parts) == 4
    total = total_reward(text, gold)
    assert -1.0 <= total <= MAX_REWARD
    assert abs(total - sum(parts.values())) < 1e-9 and total == float(f"{total:.1f}")


@steady
@given(texts | wild, st.integers(-100, 100))
def test_any_text_is_lawful(text, gold):
    assert_lawful(text, gold)


@steady
@given(st.lists(texts, max_size=4))
def test_chat_form_equals_plain_form(plain):
    chat = [[{"role": "assistant", "content": text}] for text in plain]
    golds = ["42"] * len(plain)
    for reward in REWARD_FUNCS:
        scores = reward(plain, answer=golds, prompts=plain, trainer_state=None)
        assert reward(completions=chat, answer=golds) == scores
        assert len(scores) == len(plain) and all(type(score) is float for score in scores)


@pytest.mark.parametrize("lead", ["", "1", "1+", R0, S0])
@pytest.mark.parametrize(
    "unit",
    [
        "1", "1,", "12,345,", ",", "/", "1/", "1 / ", "-", "$", "$-", "\\$", "1e", "e1", "=", "1+",
        "1 + ", "1+1", "1+1=", "1" + " " * 8 + "+" + " " * 8, "+" + "(" * 8 + "-" + "(" * 8, "(",
        " ", "\n", "1.", ".", ".1", "^1", "<", "</", "\x00", "\ud800", "٣", "x", "\\times", "####",
        *TAGS, S0 + S1,
    ],
)  # fmt: skip
def test_long_hostile_text(lead, unit):
    # Quadratic work on 100,000 characters would show as a test that hardly ends.
    size = 100_000
    assert_lawful((lead + unit * size)[:size], 5)


# Messages and errors


def test_only_the_assistant_is_read():
    chat = [
        {"role": "assistant", "content": "It is 41."},
        {"role": "tool", "content": "99"},
        {"role": "assistant", "content": "No, 42."},
        {"role": "user", "content": "7?"},
    ]
    assert correctness_reward([chat], answer=["42"]) == [4.0]


@pytest.mark.parametrize(
    "completion", [None, 42, b"42", {"role": "assistant", "content": "42"}, [], ["42"], [42],
                   [{"role": "assistant"}], [{"role": "assistant", "content": None}],
                   [{"role": "assistant", "content": [{"type": "text", "text": "42"}]}],
                   [{"role": "user", "content": "42"}]],
)  # fmt: skip
@pytest.mark.parametrize("reward", REWARD_FUNCS)
def test_other_completions_are_refused(reward, completion):
    with pytest.raises(TypeError, match="(?s)expected.*got.*; decode"):
        reward([completion], answer=["42"])


@pytest.mark.parametrize("completions", ["42", None, 42])
@pytest.mark.parametrize("reward", REWARD_FUNCS)
def test_bare_completions_are_refused(reward, completions):
    with pytest.raises(TypeError, match="expected a list.*got.*; put"):
        reward(completions, answer=["4", "2"])


@pytest.mark.parametrize("answer", [None, "18", 18, [], ["18"], ["18"] * 3])
def test_miscounted_gold_is_refused(answer):
    with pytest.raises(ValueError, match="expected 2 gold answers.*got.*; give"):
        correctness_reward(["18", "18"], answer=answer)


@pytest.mark.parametrize(
    "gold",
    ["", "none", "1, 2", "12 and 6 make 18", "#### ", "18 ####", "3/0", "9" * 400, "1e999", None,
     True, [18], math.nan, math.inf, -math.inf, 10**400,
     pytest.param(10**6000, id="unprintable integer")],
)  # fmt: skip
def test_unusable_gold_is_refused(gold):
    with pytest.raises(ValueError, match="(?s)expected a gold answer.*got.*; correct"):
        gold_answer(gold)
    with pytest.raises(ValueError, match="expected a gold answer"):
        total_reward("18", gold)


@pytest.mark.parametrize(
    "gold, value",
    [("18", 18), (" 18\n", 18), ("1,234", 1234), ("$18.50", 18.5), ("-3", -3), (18, 18), (0.5, 0.5),
     (Fraction(1, 4), 0.25), ("2+2=4\n#### 4", 4), ("#### 3\n#### 4", 4), ("18 dollars", 18)],
)  # fmt: skip
def test_gold_answer(gold, value):
    result = gold_answer(gold)
    assert result == value and type(result) is float


def test_names_and_order():
    assert REWARD_FUNCS == (correctness_reward, format_reward, presence_reward, steps_reward)
    assert (REASONING_START, REASONING_END) == ("<start_working_out>", "</start_working_out>")
    assert (SOLUTION_START, SOLUTION_END) == ("<SOLUTION>", "</SOLUTION>")


def test_no_completions_no_rewards():
    assert [reward([], answer=[]) for reward in REWARD_FUNCS] == [[], [], [], []]


def test_standard_library_only():
    """The rewards of a GRPO run of one's own must need nothing but this folder."""
    sources = [path.read_text(encoding="utf-8") for path in Path(rewards.__file__).parent.glob("*.py")]
    imported = {name for source in sources for name in re.findall(r"^(?:from|import) ([\w.]+)", source, re.M)}
    own = {"sa_ah_lib.rewards.answers", "sa_ah_lib.rewards.parts"}
    assert imported - own <= {"__future__", "collections", "collections.abc", "math", "numbers", "re", "sys"}


# GSM8K


@pytest.fixture(scope="module")
def gsm8k():
    folder = os.environ.get("SA_AH_GSM8K_DIR")
    if not folder:
        pytest.skip("set SA_AH_GSM8K_DIR to a folder with GSM8K's train.jsonl and test.jsonl")
    files = [Path(folder) / f"{split}.jsonl" for split in ("train", "test")]
    return [json.loads(line)["answer"] for f in files for line in f.open(encoding="utf-8")]


def test_every_gsm8k_gold_parses(gsm8k):
    assert len(gsm8k) == 8792
    for answer in gsm8k:
        final = answer.rpartition("#### ")[2]
        plain = float(final.replace(",", ""))
        assert gold_answer(answer) == gold_answer(final) == extract_answer(answer) == plain
        assert extract_answer(f"{S0}{final}{S1}") == plain


def test_official_gsm8k_workings_have_steps(gsm8k):
    # Measured: 98.5 %; the others put words between the numbers or do not calculate.
    stepped = sum(score > 0.1 for score in steps_reward(gsm8k))
    assert stepped / len(gsm8k) > 0.95


@pytest.mark.parametrize("thought", ["between <SOLUTION> and </SOLUTION>: 7", "<think>so <SOLUTION>8</SOLUTION>", ""])
def test_a_hidden_thought_is_no_part_of_an_answer(thought):
    """A thought repeats the tags that it is told to use, and the perfect answer behind it had -0.5 twice."""
    answer = "<start_working_out>3+4=7</start_working_out><SOLUTION>7</SOLUTION>"
    whole = f"{thought}</think>\n{answer}"
    assert rewards.reward_parts(whole, 7) == rewards.reward_parts(answer, 7)
    assert rewards.extract_answer(whole) == 7 and rewards.extract_answer("<think>It may be 7") is None
    assert rewards.total_reward("<think>It may be <SOLUTION>7</SOLUTION>", 7) == rewards.total_reward("", 7)
