"""What made a page of results: which commit, on which day, from which files."""

import hashlib
import subprocess
from collections.abc import Iterable
from datetime import date
from pathlib import Path


def commit() -> str:
    """The commit that the working directory stands at, `-dirty` if files differ from it; empty outside a repository."""
    line = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(line, capture_output=True, text=True, check=False).stdout.strip()


def made_by(command: str) -> dict[str, str]:
    """What every page says of how it was made: command, commit and date."""
    return {"command": command, "commit": commit() or "not in a repository", "date": date.today().isoformat()}


def hash_of(root: Path, files: Iterable[Path]) -> str:
    """Hash of the names below `root` and of the bytes of these files, in whatever order they come."""
    digest = hashlib.sha256()
    for path in sorted(files):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(root).as_posix()}\0{size}\0".encode() + path.read_bytes())
    return digest.hexdigest()
