"""Problems of a run: GSM8K from the hub or a local directory, or a reasoning-gym task; seeded and disjoint."""

import hashlib
import json
import os
import random
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sa_ah_lib.config import RunConfig
from sa_ah_lib.rewards import REASONING_END, REASONING_START, SOLUTION_END, SOLUTION_START, gold_answer

GSM8K = "openai/gsm8k"
GSM8K_SHA256 = "c03f57a7e20fc0aa54754e0f353875c82d0b7cd670287b671d12bac26870d555"
"""``sha256_of`` all 7,473 training and 1,319 test problems of GSM8K, in the order of its own files."""
DATA_DIR_VARIABLE = "SA_AH_GSM8K_DIR"
SYSTEM_PROMPT = (
    "You solve grade-school mathematics problems. "
    f"Work step by step between {REASONING_START} and {REASONING_END}, one calculation a line. "
    f"Then give only the final number between {SOLUTION_START} and {SOLUTION_END}."
)
_TWO_SHORT = dict(min_terms=2, max_terms=2, min_digits=1, max_digits=2)
TASKS = {
    "micro": ("chain_sum", dict(min_terms=3, max_terms=8, min_digits=1, max_digits=1)),
    "micro-sum": ("chain_sum", dict(min_terms=4, max_terms=6, min_digits=1, max_digits=1)),
    "micro-legs": ("leg_counting", dict(min_animals=3, max_animals=4, min_instances=1, max_instances=6)),
    "simple": (
        "composite",
        {
            "chain_sum": _TWO_SHORT,
            "products": _TWO_SHORT,
            "gcd": dict(min_numbers=2, max_numbers=2, min_value=2, max_value=40),
            "letter_counting": dict(min_words=1, max_words=2),
        },
    ),
    "arithmetic": ("composite", {kind: _TWO_SHORT for kind in ("chain_sum", "products")}),
}
"""{dataset: (reasoning-gym task, its settings)}. "micro" is that of the two first micro models. "simple" and
"arithmetic" are mixtures of short questions, each kind as often as the others, that a small pre-trained model answers
now and then; "arithmetic" has the two kinds of "simple" in which no single answer is right often."""
# Reasoning-gym derives an item's seed from the task's seed plus its index: far apart, so splits do not meet.
TASK_SEEDS = {"evaluation": 10_000_000, "train": 20_000_000, "warm": 30_000_000}


@dataclass(frozen=True)
class Problem:
    """One problem: its question, and its gold answer as a plain number string."""

    question: str
    answer: str


@dataclass(frozen=True)
class Splits:
    """Training and evaluation problems, where they came from, and the SHA-256 of both together."""

    train: list
    evaluation: list
    source: str

    @property
    def sha256(self) -> str:
        return sha256_of(self.train + self.evaluation)

    @property
    def record(self) -> dict[str, str]:
        """What environment.json says of them under ``data``."""
        return {"source": self.source, "sha256": self.sha256}


def sha256_of(problems: Sequence[Any]) -> str:
    """SHA-256 of problems: of their questions, answers and order."""
    rows = [[problem.question, problem.answer] for problem in problems]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def load(config: RunConfig, data_dir: str | Path | None = None) -> Splits:
    """The problems of ``config``: the same rows on every machine, none in both splits.

    Args:
        config: a ``RunConfig``; ``dataset``, ``data_seed``, ``train_examples`` and ``eval_examples`` are read.
        data_dir: a directory with GSM8K's own ``train.jsonl`` and ``test.jsonl``. None reads the environment
            variable SA_AH_GSM8K_DIR, and where that is unset too, the hub.

    Raises:
        ValueError: too few problems, or an unknown task. FileNotFoundError: no such directory or file.
        ConnectionError: the hub could not be reached; names the offline choices.
    """
    if data_dir and config.dataset != GSM8K:
        # Else two runs on different problems would have one configuration, and one run id.
        raise ValueError(f"dataset must be {GSM8K!r} where a data directory is given. Got {config.dataset!r}.")
    directory = data_dir or (os.environ.get(DATA_DIR_VARIABLE) if config.dataset == GSM8K else None)
    if directory:
        train, test = (read_gsm8k(Path(directory) / f"{split}.jsonl") for split in ("train", "test"))
        source = _named(train + test, f"local data {Path(directory).resolve().name}")
    elif config.dataset == GSM8K:
        train, test = _hub_gsm8k()
        source = _named(train + test, f"{GSM8K}, changed on the hub")
    else:
        return _task_splits(config)
    evaluation = _sample(test, config.eval_examples, config.data_seed, "evaluation")
    held_out = {problem.question for problem in evaluation}
    train = [problem for problem in train if problem.question not in held_out]
    return Splits(_sample(train, config.train_examples, config.data_seed, "training"), evaluation, source)


def read_gsm8k(path: str | Path) -> list[dict[str, Any]]:
    """Problems of one of GSM8K's own JSON-lines files, in file order.

    Raises:
        FileNotFoundError: no such file. ValueError: a line without question and answer, with file and line number.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"expected GSM8K's JSON lines at {path}; DATA must hold train.jsonl and test.jsonl.")
    problems = []
    # Split at line feeds only: a question may hold U+2028 and the like, which splitlines() would break at.
    for number, line in enumerate(path.read_text(encoding="utf-8").removesuffix("\n").split("\n"), 1):
        try:
            problems.append(_gsm8k_problem(json.loads(line)))
        except KeyError as error:
            message = f"{path}, line {number}: expected a GSM8K row with question and answer"
            raise ValueError(f"{message}. The key {error} is missing.") from error
        except (ValueError, TypeError) as error:
            message = f"{path}, line {number}: expected a GSM8K row with question and answer. Got {error}."
            raise ValueError(message) from error
    return problems


def task_problems(
    task: str, split: str, count: int, exclude: Collection[str] = (), seed: int = 0, **settings: Any
) -> Iterator[dict[str, Any]]:
    """``count`` distinct problems of a reasoning-gym task whose questions are not in ``exclude``.

    Args:
        task: a reasoning-gym task name; settings: its own keyword arguments, or of "composite" {task: its settings}.
        split: a key of ``TASK_SEEDS``; seed: added to that key's seed.

    Yields:
        reasoning-gym items (dicts with question, answer, metadata).

    Raises:
        ValueError: an unknown task, or one that cannot give that many distinct problems.
    """
    import reasoning_gym
    from reasoning_gym.composite import DatasetSpec

    if task == "composite":
        settings = {"datasets": [DatasetSpec(name, 1.0, options) for name, options in settings.items()]}
    try:
        items = reasoning_gym.create_dataset(task, size=20 * count + 1000, seed=TASK_SEEDS[split] + seed, **settings)
    except ValueError as error:
        known = ", ".join((GSM8K, *TASKS))
        raise ValueError(f"dataset must be {known} or a reasoning-gym task. Got {task!r} ({error}).") from error
    seen, found = set(exclude), 0
    for index in range(len(items)):
        if found == count:
            return
        item = items[index]
        if item["question"] not in seen:
            seen.add(item["question"])
            found += 1
            yield item
    if found < count:
        raise ValueError(f"{split} examples of {task} must be at most {found}, as many as are distinct. Got {count}.")


def messages(question: str, system_prompt: str = "tags") -> list[dict[str, str]]:
    """The chat messages of one question: "tags" puts the tag instructions first, "none" the question alone."""
    system = [{"role": "system", "content": SYSTEM_PROMPT}] if system_prompt == "tags" else []
    return [*system, {"role": "user", "content": question}]


def prompt_rows(problems: Sequence[Any], config: RunConfig) -> list[dict[str, Any]]:
    """Rows for TRL: conversational ``prompt``, gold ``answer``."""
    return [{"prompt": messages(p.question, config.system_prompt), "answer": p.answer} for p in problems]


def split_seed(data_seed: int = 123, warm_start: int = 0) -> int:
    """What is added to ``TASK_SEEDS``: the paper's seed and the first warm start are the published split, 0.

    Others move past every split, or they would be the same list shifted.
    """
    return ((data_seed - 123) % 2**32 + 2**32 * warm_start) * 2 * TASK_SEEDS["train"]


def held_out_items(
    task: str, evaluation: int, train: int, seed: int = 0, **settings: Any
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(evaluation, train) reasoning-gym items, as many as asked for, disjoint by question."""
    tested = list(task_problems(task, "evaluation", evaluation, seed=seed, **settings))
    taken = {item["question"] for item in tested}
    return tested, list(task_problems(task, "train", train, taken, seed=seed, **settings))


def _task_splits(config):
    task, settings = TASKS.get(config.dataset, (config.dataset, {}))
    offset = split_seed(config.data_seed, config.warm_start)
    evaluation, train = held_out_items(task, config.eval_examples, config.train_examples, offset, **settings)

    def problem(item):
        try:
            return Problem(item["question"], f"{gold_answer(item['answer']):.12g}")
        except ValueError as error:
            raise ValueError(
                f"dataset must be a task whose answers are numbers. Got {config.dataset!r}, which answers "
                f"{item['answer']!r:.60}."
            ) from error

    return Splits(list(map(problem, train)), list(map(problem, evaluation)), f"reasoning-gym {task}")


def _hub_gsm8k():
    from datasets import load_dataset

    try:
        splits = load_dataset(GSM8K, "main")
    except Exception as error:
        raise ConnectionError(
            f"could not load {GSM8K} from the hub ({type(error).__name__}: {error}). Offline, set DATA (or "
            f"the variable {DATA_DIR_VARIABLE}) to a directory with train.jsonl and test.jsonl, or run SCALE='micro-s'."
        ) from error
    return tuple([_gsm8k_problem(row) for row in splits[split]] for split in ("train", "test"))


def _named(problems, otherwise):
    """GSM8K's name for its own problems only: a directory may hold anything, under any name."""
    return GSM8K if sha256_of(problems) == GSM8K_SHA256 else otherwise


def _gsm8k_problem(row):
    return Problem(row["question"], f"{gold_answer(row['answer']):.12g}")


def _sample(problems, count, seed, name):
    if count > len(problems):
        raise ValueError(f"{name} examples must be at most {len(problems)}, as many as there are. Got {count}.")
    return [problems[index] for index in random.Random(seed).sample(range(len(problems)), count)]
