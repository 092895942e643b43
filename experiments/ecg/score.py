"""New electrocardiograms by the trained network: `python -m experiments.ecg.score MODEL OUT --ludb FOLDER`.

MODEL is a folder that `python -m experiments.ecg` wrote (experiments/results/ecg/model). Of each class: AUROC and
AUPRC, and F1, sensitivity and precision at the threshold that was fixed when the model was trained, with 95 %
bootstraps over patients. No record should be among those that the model was trained on.
"""

import json
from pathlib import Path

import tyro
from tyro.conf import Positional

from data_tools.twelve_lead import twelve_lead
from siamese_jax import checkpoints
from siamese_jax.cli.console import OK, run, use_compilation_cache
from siamese_jax.cli.recordings import ShardOptions, make_shards
from siamese_jax.evaluation.metrics import points_from_json
from siamese_jax.recordings.shards import open_shards
from siamese_jax.recordings.sidecars import SPLITS
from siamese_jax.training.evaluate import report, report_text, score


def main(model: Positional[Path], out: Positional[Path], *, ludb: Path | None = None, cinc: Path | None = None) -> int:
    """Makes shards in OUT/shards, scores all of them and writes OUT/scores.json.

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
    scores = score(loaded.config, loaded.tasks, loaded.variables, shards)
    figures = report(loaded.config, loaded.tasks, scores, points_from_json(loaded.operating_points))
    figures["data"] = sorted({shard.info.source for shard in shards})
    (out / "scores.json").write_text(json.dumps(figures, indent=2) + "\n")
    print(report_text(figures))
    print(f"wrote {out / 'scores.json'}")
    return OK


if __name__ == "__main__":
    run(lambda: tyro.cli(main))
