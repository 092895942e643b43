"""Values of frozen dataclasses, from JSON or Python, checked against their annotations. Standard library only."""

import dataclasses
import functools
import json
import math
import types
import typing
from typing import Any, Literal

MAX_CHARACTERS = 200
"""Of a text, which is always a name, and of a value that an error quotes."""
FLOATS = (1e-30, 1e30)
"""Sizes that float32 holds, with a margin: every number is converted to it."""


def parse_json(text: str, where: str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: not JSON, or nested too deeply; `where` is named.
    """
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"{where} is not JSON: {error}") from None
    except RecursionError:
        raise ValueError(f"{where} is nested too deeply") from None


def check_fields(section: Any, where: str, **intervals: str) -> None:
    """Check each field of a frozen dataclass that is being made, and put lists as tuples, whole numbers as floats.

    Args:
        section: the dataclass; to be called in its `__post_init__`.
        where: what to call it in errors.
        intervals: by field, what its numbers must lie in, as it is written: `(0, 1]`. None lies in all.

    Raises:
        ValueError: as `typed`; or a number outside its interval.
    """
    for name, kind in _hints(type(section)).items():
        object.__setattr__(section, name, typed(kind, getattr(section, name), f"{where}.{name}"))
    for name, interval in intervals.items():
        held = getattr(section, name)
        for value in held if isinstance(held, tuple) else (held,):
            if value is not None and not _lies_in(value, interval):
                raise ValueError(f"{where}.{name} must be in {interval}, given {value}")


def _lies_in(value: float, interval: str) -> bool:
    low, high = (float(end) for end in interval[1:-1].split(","))
    above = value >= low if interval[0] == "[" else value > low
    return above and (value <= high if interval[-1] == "]" else value < high)


_hints = functools.lru_cache(typing.get_type_hints)


def typed(kind: Any, value: Any, where: str) -> Any:
    """`value` as type `kind`.

    Args:
        kind: a dataclass, a Literal, an Optional, a tuple, or a plain type; whole numbers may stand for floats,
            and text is printable and short.
        value: dictionaries for dataclasses, lists for tuples; a missing key takes its default.
        where: what to call it in errors.

    Raises:
        ValueError: an unknown or missing key, a value of another type or not among those allowed, a number that is
            not finite or that float32 does not hold; the place is named.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        if isinstance(value, kind):
            return value
        if not isinstance(value, dict):
            raise ValueError(f"{where} must be an object, given {quoted(value)}")
        hints = _hints(kind)
        unknown = sorted(set(value) - set(hints))
        if unknown:
            raise ValueError(f"{where} has unknown keys {quoted(unknown)}; allowed: {sorted(hints)}")
        missing = [f.name for f in dataclasses.fields(kind) if _is_required(f) and f.name not in value]
        if missing:
            raise ValueError(f"{where} lacks {missing}")
        return kind(**{name: typed(hints[name], item, f"{where}.{name}") for name, item in value.items()})
    if origin is Literal:
        if value not in arguments:
            raise ValueError(f"{where} must be one of {arguments}, given {quoted(value)}")
        return value
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        return typed(next(a for a in arguments if a is not type(None)), value, where)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"{where} must be a list, given {quoted(value)}")
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(typed(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
        if len(value) != len(arguments):
            raise ValueError(f"{where} must have {len(arguments)} items, given {quoted(value)}")
        return tuple(typed(a, v, f"{where}[{i}]") for i, (a, v) in enumerate(zip(arguments, value, strict=True)))
    if kind is float and type(value) is int:
        value = float(value) if abs(value) < 1 << 63 else math.inf
    if type(value) is not kind:
        raise ValueError(f"{where} must be {kind.__name__}, given {quoted(value)}")
    if kind is float and not math.isfinite(value):
        raise ValueError(f"{where} must be a finite number, given {quoted(value)}")
    if kind is float and value and not FLOATS[0] <= abs(value) <= FLOATS[1]:
        raise ValueError(f"{where} must be 0 or a number from {FLOATS[0]} to {FLOATS[1]}, given {quoted(value)}")
    if kind is int and abs(value) >= 1 << 63:
        raise ValueError(f"{where} must be a whole number of 64 bits, given {quoted(value)}")
    if kind is str and not (value.isprintable() and len(value) <= MAX_CHARACTERS):
        raise ValueError(
            f"{where} must be printable text of {MAX_CHARACTERS} characters at most, given {quoted(value)}"
        )
    return value


def _is_required(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def quoted(value: Any) -> str:
    """A value as an error quotes it: short, and without characters that a terminal obeys."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # nested deeply, or a number of more digits than Python prints
        text = f"a {type(value).__name__}"
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}..."
