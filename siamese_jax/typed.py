"""JSON values to frozen dataclasses, every value checked against its annotation. Imports the standard library only."""

import dataclasses
import types
import typing
from typing import Any, Literal


def typed(kind: Any, value: Any, where: str) -> Any:
    """`value`, from JSON, as type `kind`.

    Args:
        kind: a dataclass, a Literal, an Optional, a tuple, or a plain type; whole numbers may stand for floats.
        value: dictionaries for dataclasses, lists for tuples; a missing key takes its default.
        where: what to call it in errors.

    Raises:
        ValueError: an unknown key, a value of another type or not among those allowed; the place is named.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise ValueError(f"{where} must be an object, given {value!r}")
        hints = typing.get_type_hints(kind)
        unknown = sorted(set(value) - set(hints))
        if unknown:
            raise ValueError(f"{where} has unknown keys {unknown}; allowed: {sorted(hints)}")
        return kind(**{name: typed(hints[name], item, f"{where}.{name}") for name, item in value.items()})
    if origin is Literal:
        if value not in arguments:
            raise ValueError(f"{where} must be one of {arguments}, given {value!r}")
        return value
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        return typed(next(a for a in arguments if a is not type(None)), value, where)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"{where} must be a list, given {value!r}")
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(typed(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
        if len(value) != len(arguments):
            raise ValueError(f"{where} must have {len(arguments)} items, given {value!r}")
        return tuple(typed(a, v, f"{where}[{i}]") for i, (a, v) in enumerate(zip(arguments, value, strict=True)))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        raise ValueError(f"{where} must be {kind.__name__}, given {value!r}")
    return value
