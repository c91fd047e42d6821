"""A user's rule file: imported, and its record and signature looked at, before anything is trained."""

import importlib.util
import inspect
import sys
import traceback
from pathlib import Path

from sa_ah_lib import rulebook
from sa_ah_lib.analysis import board
from sa_ah_lib.rules import RULES, Rule

_LOADED: dict[str, Path] = {}


class RuleFileError(ValueError):
    """A rule file that cannot be entered; the message says what was expected and what came."""


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
        raise RuleFileError(f"{path.name} must have a record that can be read. Got {said(error, path)}.") from error
    _LOADED[rule.record.name] = path
    return rule


def said(error: BaseException, path: str | Path | None) -> str:
    """An exception in one line, with the last line of ``path`` that it went through."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    lines += [error.lineno] if isinstance(error, SyntaxError) and error.lineno else []
    return f"{type(error).__name__}: {error}" + (f" (line {lines[-1]})" if lines else "")


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
        raise RuleFileError(f"{path.name} must be importable. Got {said(error, path)}.") from error


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
    if record.denominator not in rulebook.DENOMINATORS:
        raise RuleFileError(
            f"denominator in {path.name} must be one of {rulebook.DENOMINATORS}. Got {record.denominator!r}."
        )
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
