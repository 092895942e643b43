"""Detectors on real recordings: `python -m experiments.real FOLDER --checkpoint RUN/checkpoint --out OUT`.

Writes OUT/real.md and real.json. What the sets are, and how their labels are read: `sets`.
"""

import shlex
import sys
import time
from pathlib import Path
from typing import Annotated

import tyro

from experiments.pages import write_page
from experiments.provenance import made_by
from experiments.real.figures import evaluate_scorers
from experiments.real.page import page
from experiments.real.scorers import checkpoint_scorer, ensemble_scorer, plain_scorers
from siamese_jax.checkpoints import load
from siamese_jax.cli.console import OK, progress_bar, run, use_compilation_cache


def main(
    folder: Annotated[Path, tyro.conf.Positional],
    *,
    checkpoint: tyro.conf.UseAppendAction[tuple[Path, ...]] = (),
    out: Path,
    ensemble: bool = False,
    threshold: float | None = None,
    leave_out: tuple[str, ...] = (),
) -> int:
    """Score real recordings by checkpoints, and by two plain properties of the signal beside them.

    Args:
        folder: That holds discharges/ and eegmat/; what is missing is said.
        checkpoint: From `siamese-jax train`, or a folder that `siamese-jax export` wrote; may be given several times.
        out: Folder for real.md and real.json.
        ensemble: Score the mean of all checkpoints' log-odds, too.
        threshold: Least probability of an event; default each checkpoint's own.
        leave_out: People of EEGMAT (Subject01 ...) whom a checkpoint learnt from.
    """
    began = time.process_time()
    use_compilation_cache()
    learnt = {str(path): checkpoint_scorer(load(path), threshold=threshold) for path in checkpoint}
    if ensemble:
        learnt["ensemble"] = ensemble_scorer(list(learnt.values()), threshold=threshold)
    scorers = plain_scorers() | learnt
    with progress_bar() as progress:
        found = evaluate_scorers(folder, scorers, leave_out=leave_out, on_progress=progress)
    tree = {
        "what": "Detectors on REAL recordings",
        **made_by(shlex.join(["python", "-m", "experiments.real", *sys.argv[1:]])),
        "cpu_seconds": round(time.process_time() - began),
        "scorers": {name: scorer.words for name, scorer in scorers.items()},
        "left_out": list(leave_out),
        **found,
    }
    write_page(out, "real", tree, page)
    return OK


if __name__ == "__main__":
    run(lambda: tyro.cli(main))
