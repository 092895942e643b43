"""A researcher's own network, converter or loss: the configuration names it, as `my_module:MyNetwork`.

A configuration may come with somebody else's checkpoint, and must not decide which code runs. So nothing is imported
because a configuration names it: the module was imported before, by the program that uses this package, or it is among
those that the user named for this process and its workers (`siamese-jax --import my_module ...`).
"""

import importlib
import os
import re
import sys
from collections.abc import Sequence
from typing import Any

IMPORTS = "SIAMESE_JAX_IMPORT"
"""Environment variable: names of modules that may be imported, separated by commas. Workers inherit it."""
_NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def is_own(name: str) -> bool:
    """Whether a name is one of an object, `module:name`, rather than of something that this package has."""
    return _NAME.fullmatch(name) is not None


def check_name(name: str, where: str, known: Sequence[str]) -> None:
    """Refuse a name that is neither known nor that of an object.

    Raises:
        ValueError: it is neither; `where` is named.
    """
    if name not in known and not is_own(name):
        raise ValueError(f"{where} must be one of {', '.join(known)}, or module:name of your own; given {name!r}")


def own_object(name: str, where: str) -> Any:
    """The object that `module:name` names.

    Raises:
        ValueError: a module of Python's standard library, or one that was not imported and that nobody allowed, or that
            cannot be imported; a module without such an object.
    """
    module, _, attribute = name.partition(":")
    if module.partition(".")[0] in sys.stdlib_module_names:  # always imported, and nobody's own: `os:system`
        raise ValueError(f"{where} is {name!r}: a module of Python itself is not your own")
    if module not in sys.modules:
        if module not in os.environ.get(IMPORTS, "").split(","):
            raise ValueError(
                f"{where} is {name!r}, and {module} is not imported. Import it first (in Python: import {module}; on"
                f" the command line: siamese-jax --import {module} ...), if you trust it: it is code, and no part of"
                " the checkpoint"
            )
        try:
            importlib.import_module(module)
        except Exception as error:
            raise ValueError(
                f"{where} is {name!r}, and {module} cannot be imported ({type(error).__name__}: {error}). Is its folder"
                " in PYTHONPATH?"
            ) from error
    if not hasattr(sys.modules[module], attribute):
        raise ValueError(f"{where} is {name!r}, and {module} has no {attribute!r}")
    return getattr(sys.modules[module], attribute)
