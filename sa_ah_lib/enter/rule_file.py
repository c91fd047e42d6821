"""A user's rule file: loaded, and checked on replayed and made-up rollouts before anything is trained."""

import importlib.util
import inspect
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from sa_ah_lib import rulebook
from sa_ah_lib.analysis import board
from sa_ah_lib.rules import RULES, RolloutBatch, Rule
from sa_ah_lib.weighting import DENOMINATORS, group_normalized

ON_REQUEST = ("rewards", "completion_ids", "log_probs")
"""Fields of the batch that a rule has only where its record names them."""
SMALLEST = 1e-6
"""A factor of the policy term that differs from GRPO's by less is GRPO's."""

_LOADED: dict[str, Path] = {}


class RuleFileError(ValueError):
    """A rule file that cannot be entered; the message says what was expected and what came."""


@dataclass(frozen=True)
class Checked:
    """What the checks found on replayed rollouts.

    ``groups``: how many; ``least``, ``mean``, ``largest``: of the weights of their tokens; ``changed``: the share of
    tokens with an advantage whose factor of the policy term is not GRPO's.
    """

    groups: int
    least: float
    mean: float
    largest: float
    changed: float

    def __str__(self):
        return (
            f"weights {self.least:.3g} to {self.largest:.3g}, mean {self.mean:.3g}, on {self.groups} logged groups; "
            f"the gradient of {100 * self.changed:.0f} % of their tokens is not GRPO's"
        )


def load(path: str | Path) -> Rule:
    """Import a rule file and return the one rule that it registers.

    Loading a file again replaces its rule.

    Raises:
        RuleFileError: no such file, an error while it is imported, no rule or several, the name of another rule, or a
            signature or record that do not fit.
    """
    path = Path(path).resolve()
    if path.suffix != ".py" or not path.is_file():
        raise RuleFileError(f"RULE must be a Python file that is there. Got {path}.")
    for name in [name for name, file in _LOADED.items() if file == path]:
        del _LOADED[name], RULES[name], rulebook.RECORDS[name]
    before = dict(RULES), dict(rulebook.RECORDS)
    try:
        _execute(path)
        rule = _registered(path, before[0])
        _check_record(path, rule)
        _check_signature(path, rule)
    except Exception as error:
        _restore(RULES, before[0])
        _restore(rulebook.RECORDS, before[1])
        if isinstance(error, RuleFileError):
            raise
        raise RuleFileError(f"{path.name} must have a record that can be read. Got {_said(error, path)}.") from error
    _LOADED[rule.record.name] = path
    return rule


def check(rule: Rule, batches: Sequence[RolloutBatch]) -> Checked:
    """Hold a rule to what every rule must keep to, on batches that are replayed and on made-up edges.

    Its weights are a (B, T) tensor, finite, without a gradient, not negative unless its record says ``signed``; the
    same for the same batch, whatever padding stands behind it. The batch is left as it was, and some gradient is not
    GRPO's.

    Raises:
        RuleFileError: one of these does not hold; says which, and on what.
    """
    weights = []
    for number, batch in enumerate(map(lambda b: _given(rule, b), [*batches, *_edges()])):
        where = f"replayed group {number + 1}" if number < len(batches) else _EDGES[number - len(batches)]
        weights.append(_checked_weights(rule, batch, where))
    changed = torch.cat([_changed(rule, b, w) for b, w in zip(batches, weights, strict=False)])
    if not changed.any():
        raise RuleFileError(
            f"rule {rule.record.name!r} must change some gradient. On {len(batches)} replayed groups it is GRPO with "
            f"denominator {rule.record.denominator!r}: a factor that all tokens of a group share cancels in 'group'."
        )
    counted = torch.cat([w[b.tokens] for b, w in zip(batches, weights, strict=False)])
    least, mean, largest = (float(f(counted)) for f in (torch.min, torch.mean, torch.max))
    return Checked(len(batches), least, mean, largest, float(changed.float().mean()))


def _restore(registry, before):
    registry.clear()
    registry.update(before)


def _execute(path):
    spec = importlib.util.spec_from_file_location(f"rule_file_{path.stem}", path)
    assert spec and spec.loader  # a file that ends in .py has both
    # Under its name, because what it defines (a dataclass, say) may look its own module up.
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise RuleFileError(f"{path.name} must be importable. Got {_said(error, path)}.") from error


def _registered(path, before):
    found = [name for name, rule in RULES.items() if before.get(name) is not rule]
    if taken := sorted(set(found) & before.keys()):
        raise RuleFileError(f"{path.name} must give its rule a name of its own. Got {taken[0]!r}, which is there.")
    if len(found) != 1:
        raise RuleFileError(f"{path.name} must register one rule, with @rule(Record(...)). Got {found or 'none'}.")
    return RULES[found[0]]


def _check_record(path, rule):
    record = rule.record
    if record.label in {entry.label for entry in board.entries()}:
        raise RuleFileError(f"{path.name} must give its rule a label of its own. Got {record.label!r}, a row's.")
    if record.takes_scope and "alpha" not in record.defaults:
        raise RuleFileError(f"a rule with a scope must have an alpha. {path.name} names {sorted(record.defaults)}.")
    if record.denominator not in DENOMINATORS:
        raise RuleFileError(f"denominator in {path.name} must be one of {DENOMINATORS}. Got {record.denominator!r}.")
    for name, value in record.defaults.items():
        if not isinstance(value, (float, str, tuple)):
            raise RuleFileError(
                f"defaults in {path.name} must be floats, strings or tuples. Got {name} = {value!r}; write 1.0 for 1."
            )
    try:
        record.resolve(record.defaults)
    except ValueError as error:
        raise RuleFileError(f"defaults in {path.name} must be in the record's own ranges: {error}") from error


def _check_signature(path, rule):
    wanted = ["batch", *rule.record.defaults]
    try:
        found = list(inspect.signature(rule.weigh).parameters)
    except TypeError as error:
        raise RuleFileError(f"@rule in {path.name} must decorate a function. Got {rule.weigh!r}.") from error
    if not found or sorted(found[1:]) != sorted(wanted[1:]):
        raise RuleFileError(
            f"rule {rule.record.name!r} must take ({', '.join(wanted)}): the batch and its record's defaults. "
            f"Got ({', '.join(found)})."
        )


def _given(rule, batch):
    """A copy of the batch without what the record does not ask for, as in training."""
    copies = {name: value.clone() for name, value in vars(batch).items() if isinstance(value, torch.Tensor)}
    return replace(batch, **{**copies, **{name: None for name in ON_REQUEST if name not in rule.record.inputs}})


def _checked_weights(rule, batch, where):
    before = {name: value.clone() for name, value in vars(batch).items() if isinstance(value, torch.Tensor)}
    state, kind = torch.get_rng_state(), torch.get_default_dtype()
    weights = _call(rule, batch, where)
    if not torch.equal(torch.get_rng_state(), state) or torch.get_default_dtype() != kind:
        torch.set_rng_state(state)
        torch.set_default_dtype(kind)
        raise RuleFileError(
            f"rule {rule.record.name!r} must leave torch's random state and default dtype as they are: rollouts are "
            f"sampled by them. It changed one on {where}; draw from torch.Generator().manual_seed(batch.seed)."
        )
    changed = [name for name, value in before.items() if not torch.equal(getattr(batch, name), value)]
    name, tokens = rule.record.name, batch.tokens
    if changed:
        raise RuleFileError(f"rule {name!r} must leave the batch as it is. It wrote into {', '.join(changed)}; clone.")
    if not torch.equal(weights, _call(rule, batch, where)):
        raise RuleFileError(
            f"rule {name!r} must give equal weights for an equal batch. On {where} a second call gave others; draw "
            "from torch.Generator().manual_seed(batch.seed)."
        )
    padded = _call(rule, _padded(batch), where)[:, : tokens.shape[1]]
    # What is drawn may depend on the shape.
    if "seed" not in rule.record.inputs and not torch.allclose(padded[tokens], weights[tokens], rtol=1e-4, atol=1e-5):
        raise RuleFileError(
            f"weights of rule {name!r} must not depend on padding. On {where} two more columns of padding changed "
            "them; multiply by batch.mask before sums and means."
        )
    return weights


def _call(rule, batch, where):
    try:
        return rule(batch)
    except (Exception, SystemExit) as error:
        raise RuleFileError(
            f"rule {rule.record.name!r} failed on {where}: {_said(error, inspect.getsourcefile(rule.weigh))}"
        ) from error


def _padded(batch):
    rows = batch.mask.shape[0]
    wider = {
        name: torch.cat([value, value.new_zeros(rows, 2)], 1)
        for name, value in vars(batch).items()
        if isinstance(value, torch.Tensor) and value.dim() == 2
    }
    return replace(batch, **wider)


def _changed(rule, batch, weights):
    """(tokens with an advantage,) bool: whether the policy term's factor is another than GRPO's."""
    factors = [
        group_normalized(w, batch.mask, batch.groups, rule.record.denominator)
        for w in (weights, torch.ones_like(weights))
    ]
    counted = batch.tokens & (batch.advantages != 0)[:, None]
    return (factors[0] - factors[1])[counted].abs() > SMALLEST


_EDGES = ("a group of failures, one of a single token", "a group without a signal (A = 0)", "rollouts without entropy")


def _edges():
    """Made-up batches of two rollouts, in the order of ``_EDGES``."""
    entropy = torch.tensor([[0.2, 0.0, 0.0], [0.5, 0.01, 0.1]])
    batch = RolloutBatch(
        entropy=entropy, mask=torch.tensor([[1, 0, 0], [1, 1, 1]]), advantages=torch.tensor([-0.7, -0.2]),
        groups=torch.zeros(2, dtype=torch.long), log_vocabulary=5.0, rewards=torch.tensor([0.0, 0.5]),
        completion_ids=torch.tensor([[3, 0, 0], [3, 4, 5]]), log_probs=-5 * entropy,
    )  # fmt: skip
    still = torch.zeros_like(entropy)
    silent = replace(batch, entropy=still, entropy_nats=still, log_probs=still, advantages=torch.tensor([0.7, -0.7]))
    return [batch, replace(batch, advantages=torch.zeros(2)), silent]


def _said(error, path):
    """An exception in one line, with the last line of ``path`` that it went through."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    lines += [error.lineno] if isinstance(error, SyntaxError) and error.lineno else []
    return f"{type(error).__name__}: {error}" + (f" (line {lines[-1]})" if lines else "")
