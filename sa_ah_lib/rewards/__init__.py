"""The composite reward of Sec. 3.4 (Eq. 10): correctness, format, presence and steps.

Every reward function has TRL's form, ``f(completions, answer=None, **kwargs) -> list[float]``.
Completions are plain strings or chat message lists, of which the assistant's are read; others
raise TypeError. Any text at all is scored in linear time and never raises.
"""

from sa_ah_lib.rewards.answers import (
    REASONING_END,
    REASONING_START,
    SOLUTION_END,
    SOLUTION_START,
    TAGS,
    answers_match,
    extract_answer,
    gold_answer,
    said,
)
from sa_ah_lib.rewards.parts import (
    MAX_REWARD,
    REWARD_FUNCS,
    correctness_reward,
    format_reward,
    presence_reward,
    reward_parts,
    steps_reward,
    total_reward,
)

__all__ = [
    "MAX_REWARD", "REASONING_END", "REASONING_START", "REWARD_FUNCS", "SOLUTION_END", "SOLUTION_START", "TAGS",
    "answers_match", "correctness_reward", "extract_answer", "format_reward", "gold_answer", "presence_reward",
    "reward_parts", "said", "steps_reward", "total_reward",
]  # fmt: skip
