"""How a field of ``RunConfig`` is declared, and the check of a value against its declaration."""

import dataclasses
import difflib
import math
import typing
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sa_ah_lib import rulebook


@dataclass(frozen=True)
class Setting:
    """What a field of ``RunConfig`` says of itself, beside its type and its default.

    Attributes:
        meaning: one sentence. unit: of a number that has one.
        choices: the strings that it may be; None where any will do.
        least, above, below: the smallest number, or one that it must exceed or stay under. Numbers are always finite.
    """

    meaning: str
    unit: str = ""
    choices: Collection[str] | None = None
    least: float | None = None
    above: float | None = None
    below: float | None = None

    @property
    def range(self) -> str:
        """The range in words, such as "in [0, 1)" or "at least 1"; empty where every finite number will do."""
        if self.below is not None:
            return f"in [{self.least}, {self.below})"
        if self.above is not None:
            return f"above {self.above}"
        return "" if self.least is None else f"at least {self.least}"

    def holds(self, number: float) -> bool:
        """Whether a number is finite and in the range."""
        return (
            math.isfinite(number)
            and (self.least is None or number >= self.least)
            and (self.above is None or number > self.above)
            and (self.below is None or number < self.below)
        )


def setting(default: Any, meaning: str, unit: str = "", **limits: Any) -> Any:
    """A dataclass field with its default and its ``Setting``, whose arguments follow."""
    return dataclasses.field(default=default, metadata={"setting": Setting(meaning, unit, **limits)})


def checked(field: dataclasses.Field, value: Any) -> Any:
    """A value as its field keeps it: numbers of a float field as floats.

    Raises:
        ValueError: another type, or a value out of range or none of the choices. A bool is no number.
    """
    kinds: tuple[Any, ...] = typing.get_args(field.type) or (field.type,)
    declared: Setting = field.metadata["setting"]
    if field.type is tuple:  # the rule itself knows its parameters, see own_parameters
        return value
    numbers = (*kinds, int) if float in kinds else kinds
    if not isinstance(value, numbers) or (isinstance(value, bool) and bool not in kinds):
        raise ValueError(f"{field.name} must be {getattr(field.type, '__name__', field.type)}. Got {value!r}.")
    if declared.choices is not None:
        check_choice(field.name, value, declared.choices)
    if isinstance(value, (int, float)) and not declared.holds(value):
        expected = " and ".join(filter(None, ["finite" if float in kinds else "", declared.range]))
        none = ", or None" if type(None) in kinds else ""
        raise ValueError(f"{field.name} must be {expected}{none}. Got {value}. {declared.meaning}")
    # 1 and 1.0, 0.0 and -0.0 are one run, so they must give one id.
    return float(value) + 0.0 if float in kinds else value


KINDS: dict[Any, str] = {
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "a mapping",
}
"""How a kind of parameter is called in an error."""


def check_kind(name: str, value: Any, kind: type[list] | type[dict], example: str) -> None:
    """Raise ValueError where a notebook's parameter is not of its ``kind``; it shows papermill's way to give one.

    Args:
        example: a value as YAML has it, such as "[1, 2]".
    """
    if not isinstance(value, (list, tuple, range) if kind is list else kind):
        given = f"papermill takes one as -y '{{{name}: {example}}}'"
        raise ValueError(f"{name} must be {KINDS[kind]}, such as {example}; {given}. Got {value!r}.")


def own_parameters(rule: str, given: Any) -> tuple[tuple[str, Any], ...]:
    """The parameters of a rule that differ from its defaults, as sorted pairs."""
    try:
        given = dict(given)
    except (TypeError, ValueError):
        raise ValueError(f"rule_parameters must be a dictionary of numbers by name. Got {given!r}.") from None
    record = rulebook.get(rule)
    resolved = record.resolve(record.apart(given))
    return tuple(sorted((name, value) for name, value in resolved.items() if value != record.defaults[name]))


def check_choice(name: str, value: Any, choices: Collection[str]) -> None:
    """Raise ValueError with the choices where ``value`` is none of them; it names the nearest one."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {sorted(choices)}. Got {value!r}.{nearest(value, choices)}")


def nearest(name: Any, choices: Collection[str]) -> str:
    """The question that a mistyped name deserves, or nothing where no name is near."""
    near = difflib.get_close_matches(str(name).lower(), choices, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""
