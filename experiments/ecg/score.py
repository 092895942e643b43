"""New electrocardiograms by the trained network: `python -m experiments.ecg.score MODEL OUT --ludb FOLDER`.

MODEL is a folder that `python -m experiments.ecg` wrote (experiments/results/ecg/model). Of each class: AUROC and
AUPRC, and F1, sensitivity and precision at the threshold that was fixed when the model was trained, with 95 %
bootstraps over patients. Records that the model learnt from are left out.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import tyro
from tyro.conf import Positional

from data_tools.twelve_lead import twelve_lead
from experiments.folds import restricted
from siamese_jax import checkpoints
from siamese_jax.cli.console import OK, run, use_compilation_cache
from siamese_jax.cli.recordings import ShardOptions, make_shards
from siamese_jax.evaluation.metrics import points_from_json
from siamese_jax.recordings.shards import Shard, open_shards
from siamese_jax.recordings.sidecars import SPLITS
from siamese_jax.training.evaluate import report, report_text, score

LEARNT_FROM = "learnt_from.json"
"""In the model's folder: names of the patients whose records it was trained on."""


def main(model: Positional[Path], out: Positional[Path], *, ludb: Path | None = None, cinc: Path | None = None) -> int:
    """Makes shards in OUT/shards, scores those of people whom the model does not know and writes OUT/scores.json.

    Args:
        model: A trained network.
        out: Folder for shards and figures.
        ludb: Records of LUDB.
        cinc: Records of the challenge.
    """
    use_compilation_cache()
    loaded = checkpoints.load(model)
    make_shards(twelve_lead(ludb, cinc), out / "shards", loaded.config.data, ShardOptions())
    filled = [split for split in SPLITS if any((out / "shards" / split).glob("*.h5"))]
    shards = [shard for split in filled for shard in open_shards(out / "shards" / split)]
    shards = unknown(model, shards)
    scores = score(loaded.config, loaded.tasks, loaded.variables, shards)
    figures = report(loaded.config, loaded.tasks, scores, points_from_json(loaded.operating_points))
    figures["data"] = sorted({shard.info.source for shard in shards})
    (out / "scores.json").write_text(json.dumps(figures, indent=2) + "\n")
    print(report_text(figures))
    print(f"wrote {out / 'scores.json'}")
    return OK


def unknown(model: Path, shards: Sequence[Shard]) -> tuple[Shard, ...]:
    """What of some shards is of patients whom the model did not learn from; says how many are left out.

    Raises:
        ValueError: nobody is left.
    """
    learnt = set(json.loads((model / LEARNT_FROM).read_text()))
    everybody = {patient for shard in shards for patient in shard.patients}
    if everybody <= learnt:
        raise ValueError(f"{model} learnt from all {len(everybody)} patients of these records: none is new to it")
    if known := everybody & learnt:
        print(f"{len(known)} patients are left out: {model} learnt from them")
    return restricted(shards, everybody - learnt)


if __name__ == "__main__":
    run(lambda: tyro.cli(main))
