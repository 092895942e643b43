"""Reading files that somebody else may have made, and writing files whole or not at all. Standard library only."""

import io
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

MAX_TEXT_BYTES = 1 << 20
"""A configuration has some 3 kB, operating points 1 kB."""


def member(folder: Path, name: str) -> Path | None:
    """The path of `folder/name`, or None if there is nothing of that name.

    Raises:
        ValueError: it is no plain file, or a link that leads out of the folder.
    """
    path = folder / name
    if not os.path.lexists(path):
        return None
    if _leads_out(path, folder):
        raise ValueError(f"{path} is a link that leads out of its folder: not followed")
    # A pipe would be waited for, a device read for ever.
    if not path.is_file():
        raise ValueError(f"{path} is not a file")
    return path


def read_text(folder: Path, name: str, *, limit: int = MAX_TEXT_BYTES) -> str | None:
    """The text of `folder/name`, or None if there is nothing of that name.

    Raises:
        ValueError: as `member`; or it is not UTF-8, or larger than `limit` bytes, which no file of its kind is.
    """
    path = member(folder, name)
    if path is None:
        return None
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"{path} is larger than {limit} bytes, the most that is read")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error}") from None


def plain(text: str) -> str:
    """`text` with a space for each character that does not print: a terminal obeys some of those."""
    return "".join(c if c.isprintable() else " " for c in text)


PARTIAL = ".partial"
"""Ends the name of a file that is being written."""


@contextmanager
def replacing(path: str | Path) -> Iterator[io.BufferedWriter]:
    """A binary file to write that gets the name `path` once it is whole and on the disk, and is removed otherwise.

    Until then its name is `.<name>.<random>.partial`, in the same folder: process numbers recur on other machines.

    Raises:
        OSError: the folder is not writable, or the disk is full; what stood at `path` before is still there.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{uuid4().hex}{PARTIAL}")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        publish(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: str | Path) -> Iterator[Path]:
    """A folder to fill that gets the name `path` once all in it is written, and is removed otherwise.

    Until then its name is `.<name>.<random>.partial`, in the same folder. `path` is not there, or an empty folder.

    Raises:
        OSError: the folder around it is not writable, the disk is full, or `path` holds something.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{uuid4().hex}{PARTIAL}")
    partial.mkdir(parents=True)
    try:
        yield partial
        if path.is_dir():
            path.rmdir()  # not every system replaces a folder
        publish(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def publish(partial: Path, path: Path) -> None:
    """Give a file that is whole, and on the disk, its final name, and wait until the name is on the disk too."""
    partial.replace(path)
    with suppress(OSError, AttributeError):  # not every system can open a folder
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 text file, whole or not at all; errors as for `replacing`."""
    with replacing(path) as file:
        file.write(text.encode())


def write_json(path: str | Path, tree: Any) -> None:
    """Write a tree as JSON, whole or not at all. A number that is not finite becomes null: JSON has no other way."""
    write_text(path, json.dumps(finite(tree), indent=2, allow_nan=False) + "\n")


def finite(tree: Any) -> Any:
    """A tree of dicts, lists, tuples and values with None in place of every number that is not finite."""
    if isinstance(tree, Mapping):
        return {key: finite(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [finite(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def _leads_out(path: Path, folder: Path) -> bool:
    try:
        return not path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # links in a circle
        return True
