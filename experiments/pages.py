"""What all pages of results share: numbers and tables in Markdown, and how a page and its figures are written."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from siamese_jax.files import finite, write_json, write_text

UNDEFINED = "-"
"""In the place of a number that is not defined, which is None in JSON."""


def number(value: float | None, digits: int = 3, *, signed: bool = False) -> str:
    """A number with so many digits after the point."""
    if value is None:
        return UNDEFINED
    return f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table."""
    return ["| " + " | ".join(head) + " |", "|---" * len(head) + "|", *("| " + " | ".join(row) + " |" for row in rows)]


def write_page(folder: Path, name: str, tree: dict[str, Any], page: Callable[[dict[str, Any]], str]) -> dict[str, Any]:
    """Write NAME.json, and NAME.md made of it; print the page. Returns the tree as it was written.

    Args:
        folder: created if it is not there.
        name: of both files.
        tree: of figures; a number that is not finite is written, and given to `page`, as None.
        page: makes the page of it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tree = finite(tree)
    text = page(tree)
    write_json(folder / f"{name}.json", tree)
    write_text(folder / f"{name}.md", text)
    print(text)
    print(f"wrote {name}.md and {name}.json to {folder}")
    return tree
