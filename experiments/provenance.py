"""Which code made a page of results."""

import subprocess


def commit() -> str:
    """The commit that the working directory stands at, `-dirty` if files differ from it; empty outside a repository."""
    line = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(line, capture_output=True, text=True, check=False).stdout.strip()
