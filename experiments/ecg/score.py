"""New electrocardiograms scored by the trained network: `python -m experiments.ecg.score MODEL OUT --ludb FOLDER`.

MODEL is a folder that `python -m experiments.ecg` wrote (experiments/results/ecg/model). Of each class: AUROC and
AUPRC, and F1, sensitivity and precision at the threshold that was fixed when the model was trained, with 95 %
bootstraps over patients. Records that the model learnt from are left out.

OUT/scores.json holds these figures, null where labels are too few for one. OUT/probabilities.csv is for scripts of your
own: a row a record, labelled or not, with its name (as in OUT/shards/prepare.json) and the probability of each class,
in a column of its name; of a record that is longer than a window, the mean over its windows.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tyro
from tyro.conf import Positional

from data_tools.twelve_lead import twelve_lead
from experiments.sweep.folds import restricted
from siamese_jax import checkpoints, identity
from siamese_jax.checkpoints import Checkpoint
from siamese_jax.cli.console import OK, run, use_compilation_cache
from siamese_jax.cli.recordings import ShardOptions, make_shards
from siamese_jax.detection.results import write_csv
from siamese_jax.detection.score import Scores, report, report_text, score
from siamese_jax.files import write_json
from siamese_jax.recordings.sidecars import SPLITS
from siamese_jax.shards.schema import Shard, open_shards


def main(model: Positional[Path], out: Positional[Path], *, ludb: Path | None = None, cinc: Path | None = None) -> int:
    """Makes shards in OUT/shards and scores those of people whom the model does not know.

    Writes OUT/scores.json (figures) and OUT/probabilities.csv (a row a record, a column a class).

    Args:
        model: A trained network.
        out: Folder for shards, figures and probabilities.
        ludb: Records of LUDB.
        cinc: Records of the challenge.
    """
    use_compilation_cache()
    loaded = checkpoints.load(model)
    make_shards(twelve_lead(ludb, cinc), out / "shards", loaded.config.data, ShardOptions())
    filled = [split for split in SPLITS if any((out / "shards" / split).glob("*.h5"))]
    shards = [shard for split in filled for shard in open_shards(out / "shards" / split)]
    shards = unknown(loaded, shards)
    scores = score_all(loaded, shards)
    figures = report(loaded.config, loaded.tasks, scores, loaded.points)
    figures["data"] = sorted({shard.info.source for shard in shards})
    write_json(out / "scores.json", figures)
    classes = loaded.config.tasks
    write_csv(out / "probabilities.csv", ("record", *classes), by_record(scores, shards, classes))
    print(report_text(figures))
    print(f"wrote {out / 'scores.json'} and, of each record, {out / 'probabilities.csv'}")
    return OK


def unknown(model: Checkpoint, shards: Sequence[Shard]) -> tuple[Shard, ...]:
    """What of some shards is of patients whom the model did not learn from; says how many are left out.

    Raises:
        ValueError: nobody is left.
    """
    everybody = {patient for shard in shards for patient in shard.patients}
    learnt = set(identity.known_to(model.identity.origins, shards).patients)
    if everybody <= learnt:
        raise ValueError(f"the model learnt from all {len(everybody)} patients of these records: none is new to it")
    if learnt:
        print(f"{len(learnt)} patients are left out: the model learnt from them")
    return restricted(shards, everybody - learnt)


def score_all(loaded: Checkpoint, shards: Sequence[Shard]) -> Scores:
    """As `score`, on windows without a label too: they have probabilities, and count as patients and windows alone."""
    taken = [dataclasses.replace(s, weights={t: np.ones_like(w) for t, w in s.weights.items()}) for s in shards]
    scores = score(loaded.config, loaded.tasks, loaded.variables, taken)
    return scores._replace(weights={t: np.concatenate([s.weights[t] for s in shards]) for t in loaded.config.tasks})


def by_record(scores: Scores, shards: Sequence[Shard], classes: Sequence[str]) -> Iterator[list[str]]:
    """Each record's name and probabilities of `classes`, in the order of the names; `scores` of all windows."""
    of_window = np.concatenate([shard.recordings["name"][shard.recording] for shard in shards])
    names, record = np.unique(of_window, return_inverse=True)
    columns = [np.bincount(record, weights=scores.probabilities[name][:, 0]) / np.bincount(record) for name in classes]
    for name, *row in zip(names.tolist(), *columns, strict=True):
        yield [name, *(f"{probability:.7g}" for probability in row)]


if __name__ == "__main__":
    run(lambda: tyro.cli(main))
