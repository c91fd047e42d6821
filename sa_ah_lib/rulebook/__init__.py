"""What is known of every token-weight rule, without torch: source, equation, parameters, needs and limits.

A rule gives each completion token one weight, which multiplies the clipped policy term; weights are constants of the
loss. The functions are in ``rules``; the facts are here, so that configurations are checked, and cards and tables are
made, on machines without torch.

In equations H is the entropy in nats (H / log V in the paper's own rule), A the advantage, L a rollout's number of
tokens, p the probability of the sampled token, t a token's number in its rollout counted from 1, G the number of
rollouts of a group, i and k rollouts of one group.
"""

from sa_ah_lib.rulebook import ours, published  # noqa: F401
from sa_ah_lib.rulebook.record import DENOMINATORS, INPUTS, RECORDS, SCOPES, Record, add, get

__all__ = ["DENOMINATORS", "INPUTS", "RECORDS", "SCOPES", "Record", "add", "get"]
