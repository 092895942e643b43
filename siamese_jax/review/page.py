"""One HTML file that holds the review page, its data and the signal, and asks no network for anything.

The browser is told to fetch nothing and to run and apply only what has the hashes of our script and our style. Texts
stand in it as JSON, and the script puts them on the page as text alone: no text of a recording can become code.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

from siamese_jax.files import finite, replacing

POLICY = "default-src 'none'; script-src '{script}'; style-src '{style}'; base-uri 'none'; form-action 'none'"


def write_page(path: Path, data: Mapping[str, Any], blocks: Iterable[tuple[str, str]]) -> int:
    """Write the page, whole or not at all; returns its size in bytes.

    Args:
        path: file to write; an existing one is replaced.
        data: what stands in the page's JSON; numbers that are not finite become null.
        blocks: names and texts of packed signal, as they are made: they are never all in memory.

    Raises:
        OSError: the folder is not writable, or the disk is full.
    """
    frame, style, script = (_static(f"page.{kind}") for kind in ("html", "css", "js"))
    policy = POLICY.format(script=_hash(script), style=_hash(style))
    head, tail = frame.replace("{policy}", policy).replace("{style}", style).split("{data}")
    with replacing(path) as file:
        file.write(head.encode())
        for name, text in blocks:
            file.write(f'<script type="text/plain" id="block-{name}">{text}</script>\n'.encode())
        file.write(f'<script type="application/json" id="data">{json_text(data)}</script>\n'.encode())
        file.write(tail.replace("{script}", script).encode())
        return file.tell()


def json_text(data: Mapping[str, Any]) -> str:
    """JSON that no browser takes for markup, whatever texts stand in it."""
    text = json.dumps(finite(data), allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _static(name: str) -> str:
    return package_files("siamese_jax.review").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
