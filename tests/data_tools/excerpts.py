"""Text files as the DREAMS spindle data set has them, byte for byte."""

from pathlib import Path

import numpy as np

CODES = [5] * 4 + [3] * 4 + [2] * 4 + [1] * 4 + [0] * 4 + [4] * 4 + [-1] * 4  # 140 s, each stage 20 s


def signal(n: int) -> np.ndarray:
    return np.random.default_rng(n).normal(0, 30, n).round(4)


def write_excerpt(
    folder: Path, number: int, *, channel: str, samples: np.ndarray, codes=CODES, spindles=None, newline: str = "\n"
) -> Path:
    """An excerpt: values right-aligned in 10 characters, onset and duration with a tab between."""

    def write(name: str, lines: list[str]) -> None:
        (folder / name).write_bytes("".join(line + newline for line in lines).encode())

    folder.mkdir(parents=True, exist_ok=True)
    name = f"excerpt{number}.txt"
    write(name, [f"[{channel}]", *(f"{x:10.4f}" for x in samples)])
    if codes:
        write(f"Hypnogram_{name}", ["[Hypnogram]", *map(str, codes)])
    for expert, rows in (spindles or {}).items():
        lines = [f"{onset:10.4f}\t{duration:10.4f}" for onset, duration in rows]
        write(f"Visual_scoring{expert}_{name}", [f"[vis{expert}_Spindles/{channel}]", *lines])
    return folder / name
