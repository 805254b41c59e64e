"""Declaring a choice once: a dataclass field with its type, default, help and range, and the check that follows from it.

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Recipe(Checked):
        epochs: int = choice(20, "passes over the training split", at_least=1)

`Checked` checks every field when an instance is made. `parsed` turns the text typed after `-p` into values of the
declared types, so the command line needs no list of its own.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import numbers
import os
import typing
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from bionas.errors import ChoiceError, UnknownName

PATH_SUFFIXES = ("_dir", "_file", "_path", "weights")
"""A choice whose name ends like this is a path; a relative one is relative to the folder in which the command was typed."""

KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclasses.dataclass(frozen=True)
class Choice:
    """What is declared of a choice besides its name, type and default.

    Attributes:
        help: what it means, for the command line and the documentation.
        known: the names it may take, where it is a name; a registry is read when a value is checked.
        words: texts allowed besides a number or a name ("auto").
        at_least, above: the smallest value, included or not.
        by_mode: None stands for the mode's default (`configuration.MODES`).
        check: called with the value; raises a BionasError for a value that is not allowed.
    """

    help: str
    known: Iterable[str] | None = None
    words: tuple[str, ...] = ()
    at_least: float | None = None
    above: float | None = None
    by_mode: bool = False
    check: Callable[[Any], Any] | None = None


def choice(default: Any, help: str, **declared: Any) -> Any:
    """A dataclass field that declares a choice; `declared` are the attributes of `Choice`."""
    return dataclasses.field(default=default, metadata={"choice": Choice(help, **declared)})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checked:
    """A dataclass of choices whose values are checked against their declarations.

    Raises:
        ChoiceError: a value of another type, or out of range; the message says what is allowed.
        UnknownName: a name that does not exist; the message lists the nearest.
    """

    def __post_init__(self) -> None:
        for name, (kinds, declared) in declarations(type(self)).items():
            value = checked(name, getattr(self, name), kinds, declared)
            object.__setattr__(self, name, value)


def declarations(cls: type) -> dict[str, tuple[tuple[type, ...], Choice]]:
    """name -> (types it may have, its `Choice`) of every declared choice of a dataclass, in order."""
    return _declarations(cls)


@functools.cache
def _declarations(cls: type) -> dict[str, tuple[tuple[type, ...], Choice]]:
    hints = typing.get_type_hints(cls)
    return {
        field.name: (typing.get_args(hints[field.name]) or (hints[field.name],), field.metadata["choice"])
        for field in dataclasses.fields(cls)
        if "choice" in field.metadata
    }


def default(cls: type, name: str) -> Any:
    """The default of a declared choice."""
    return {field.name: field.default for field in dataclasses.fields(cls)}[name]


def checked(name: str, value: Any, kinds: tuple[type, ...], declared: Choice) -> Any:
    """`value` in its declared type: NumPy numbers become Python's, paths become text.

    Raises:
        ChoiceError, UnknownName: see `Checked`.
    """
    if value is None:
        if type(None) in kinds:
            return None
        raise ChoiceError(_refusal(name, value, kinds, declared))
    if isinstance(value, str) and declared.words:
        if value in declared.words:
            return value
        if declared.known is None:
            raise ChoiceError(_refusal(name, value, kinds, declared))
    value = _converted(value, kinds)
    if value is None or not _in_range(value, declared):
        raise ChoiceError(_refusal(name, value, kinds, declared))
    if declared.known is not None and value not in declared.known:
        raise UnknownName(name, value, declared.known)
    if declared.check is not None:
        declared.check(value)
    return value


def _converted(value: Any, kinds: tuple[type, ...]) -> Any:
    """`value` in one of `kinds`; a value of another type is returned in a `_Wrong` wrapper for the message."""
    if isinstance(value, bool):
        return value if bool in kinds else _Wrong(value)
    if int in kinds and isinstance(value, numbers.Integral):
        return int(value)
    if float in kinds and isinstance(value, numbers.Real):
        return float(value)
    if str in kinds and isinstance(value, str | os.PathLike):
        return str(value)
    return _Wrong(value)


@dataclasses.dataclass(frozen=True)
class _Wrong:
    """A value of a type that was not declared."""

    value: Any

    def __repr__(self) -> str:
        return repr(self.value)


def _in_range(value: Any, declared: Choice) -> bool:
    if isinstance(value, _Wrong):
        return False
    if isinstance(value, float) and not math.isfinite(value):
        return False
    above_minimum = declared.at_least is None or value >= declared.at_least
    return above_minimum and (declared.above is None or value > declared.above)


def _refusal(name: str, value: Any, kinds: tuple[type, ...], declared: Choice) -> str:
    return f"{name}={value!r}: {name} is {allowed(kinds, declared)}."


def allowed(kinds: tuple[type, ...], declared: Choice) -> str:
    """'a whole number of at least 1, "auto" or None'."""
    kind = next(k for k in (bool, int, float, str) if k in kinds)
    limit = ""
    if declared.at_least is not None:
        limit = f" of at least {declared.at_least:g}"
    elif declared.above is not None:
        limit = f" above {declared.above:g}"
    allowed = [KINDS[kind] + limit, *map(repr, declared.words)]
    if type(None) in kinds or declared.by_mode:
        allowed.append("None")
    return allowed[0] if len(allowed) == 1 else f"{', '.join(allowed[:-1])} or {allowed[-1]}"


# --- text ---------------------------------------------------------------------------------------------------------


def split(setting: str) -> tuple[str, str]:
    """ "seed=1" -> ("seed", "1").

    Raises:
        ChoiceError: no name, or no "=".
    """
    name, equals, text = setting.partition("=")
    if not (name and equals):
        raise ChoiceError(f"-p {setting}: write it as NAME=VALUE, for example -p seed=1.")
    return name, text


def parsed(settings: Sequence[str], cls: type) -> dict[str, Any]:
    """Choices of `cls` from NAME=VALUE settings, in their declared types and within their ranges.

    Raises:
        UnknownName: no such choice, or a name that it cannot take; the message lists the nearest.
        ChoiceError: a setting without "=", or a value that is not of the declared type or out of range.
    """
    known = declarations(cls)
    values = {}
    for name, text in map(split, settings):
        if name not in known:
            raise UnknownName("parameter", name, known)
        kinds, declared = known[name]
        optional = type(None) in kinds or default(cls, name) is None or declared.by_mode
        value = from_text(name, text, (*kinds, type(None)) if optional else kinds)
        values[name] = value if value is None else checked(name, value, kinds, declared)
    return values


def from_text(name: str, text: str, kinds: tuple[type, ...]) -> Any:
    """The value that `text` stands for, in the first of `kinds` it can be; the text itself where it is none of them.

    Text stays text where text is declared: `target=2024` is "2024". A relative path is made absolute here.
    """
    if text == "None" and type(None) in kinds:
        return None
    if name.endswith(PATH_SUFFIXES):
        return str(Path(text).expanduser().resolve())
    if bool in kinds:
        return TRUTH.get(text.lower(), text)
    for kind in (int, float):
        if kind in kinds:
            try:
                return kind(text)
            except ValueError:
                continue
    return text


def nearest(name: str, known: Iterable[str]) -> str:
    """' Did you mean seed?', '' where nothing is near."""
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f" Did you mean {' or '.join(near)}?" if near else ""
