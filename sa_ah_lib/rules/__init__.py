"""Every token-weight rule behind one seam: ``RULES[name](batch, **parameters)`` gives (B, T) weights.

    cumulative   the paper's rule, Eq. 4 to 9, and its controls
    entropy      masks and gradings by the entropy of the token
    rollouts     by sign, length and position
    sampled      by the sampled token's probability or id

A rule of one's own is a function with a record::

    @rule(Record("mine", "Mine", "this project", r"1 - H", ("entropy",), "tokens"))
    def mine(batch):
        return 1 - batch.entropy
"""

from sa_ah_lib.rulebook import Record
from sa_ah_lib.rules import cumulative, entropy, rollouts, sampled  # noqa: F401
from sa_ah_lib.rules.batch import RolloutBatch, left_aligned, of_all_processes, sampled_ids
from sa_ah_lib.rules.registry import RULES, Rule, find, rule

__all__ = ["RULES", "Record", "RolloutBatch", "Rule", "find", "left_aligned", "of_all_processes", "rule", "sampled_ids"]
