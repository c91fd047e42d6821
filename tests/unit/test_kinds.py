"""Pass@1 by kind of question."""

from types import SimpleNamespace

from sa_ah_lib.analysis import kinds
from sa_ah_lib.train import data

SUM, LETTERS = (
    "State the final answer to the following arithmetic problem: 1 + 1 =",
    'How many times does the letter "a"',
)


def run(dataset, *answers):
    """``answers``: (step, question, gold, correct)."""
    names = ("step", "question", "gold", "correct")
    config = SimpleNamespace(dataset=dataset)
    return SimpleNamespace(config=config, last=20, eval=[dict(zip(names, row, strict=True)) for row in answers])


def test_every_question_of_the_two_mixtures_has_a_kind():
    """A template that reasoning-gym words otherwise would leave its kind out of the table, in silence."""
    for dataset, expected in (("simple", set(kinds.KINDS.values())), ("arithmetic", {"sums", "products"})):
        task, settings = data.TASKS[dataset]
        questions = [item["question"] for item in data.task_problems(task, "evaluation", 60, **settings)]
        assert {kinds.kind(question) for question in questions} == expected
    assert kinds.kind("How many legs are there?") is None


def test_one_row_for_each_kind_with_its_likeliest_answer_and_its_seeds():
    """Kinds that answer each other's questions, or the last seed's Pass@1 for all."""
    before = [(0, SUM, 2.0, False), (0, SUM, 3.0, False), (0, LETTERS, 1.0, True)]
    first = run("simple", *before, (20, SUM, 2.0, True), (20, SUM, 3.0, True), (20, LETTERS, 1.0, False))
    second = run("simple", *before, (20, SUM, 2.0, True), (20, SUM, 3.0, False), (20, LETTERS, 1.0, True))
    other = run("arithmetic", (0, SUM, 2.0, False), (10, SUM, 2.0, False), (20, SUM, 2.0, True))
    assert kinds.rows({"GRPO": [first, second, other]}) == [
        ["arithmetic", "GRPO", "sums", 1, "1.00", "0.000", "1.000", "—", "1 of 1"],
        ["simple", "GRPO", "sums", 2, "0.50", "0.000", "0.750", "0.500 to 1.000", "2 of 2"],
        ["simple", "GRPO", "letter counts", 1, "1.00", "1.000", "0.500", "0.000 to 1.000", "0 of 2"],
    ]
