"""From files to figures: marks in EDF and CSV files, through `prepare` into shards, and through scoring."""

from pathlib import Path

import numpy as np
import pytest

from siamese_jax.cohort.prepare import prepare
from siamese_jax.cohort.sources import Folder, Opened
from siamese_jax.config.experiment import Config, DataConfig
from siamese_jax.detection import score as room
from siamese_jax.detection.predict import Predictions
from siamese_jax.detection.score import fix_operating_points, report, score
from siamese_jax.recordings.edf_write import write_recording
from siamese_jax.recordings.recording import Annotation
from siamese_jax.recordings.windows import WindowGrid
from siamese_jax.shards.schema import Shard, open_shard
from siamese_jax.vocabulary import IED, SLEEP
from tests.recordings.in_memory import noise

SECONDS = 60
TASKS = (IED, SLEEP)


class WithMachine(Folder):
    """A folder in which marks of the channel `auto` are a machine's."""

    def open(self, name: str, data: DataConfig) -> Opened:
        opened = super().open(name, data)
        marks = (a._replace(origin="machine") if a.channel == "auto" else a for a in opened.annotations)
        return opened._replace(annotations=tuple(marks))


def shard_of(tmp_path: Path, config: Config, marks: list[Annotation], csv: list[str] | None = None) -> Shard:
    """The shard of one EDF file of a minute with such marks in it, and a table of more beside it."""
    folder = tmp_path / "in"
    folder.mkdir()
    options = {"sfreq": config.data.sfreq, "ch_names": config.data.ch_names, "patient_code": "P1"}
    write_recording(folder / "a.edf", noise(SECONDS * 100, n_chans=5), annotations=marks, **options)
    if csv is not None:
        (folder / "a.csv").write_text("\n".join(["onset,duration,label,channel", *csv]) + "\n")
    prepare(WithMachine(folder), tmp_path / "out", config.data, hop_seconds=1.0, seed=0)
    (path,) = (tmp_path / "out").rglob("*.h5")
    return open_shard(path)


def counts(config: Config, shard: Shard, found: list[float], monkeypatch: pytest.MonkeyPatch) -> tuple[int, int, int]:
    """Matched, false and missed events of a network that answers with certainty at some moments, and nowhere else."""

    def predicted(predictor, config, variables, shards, **_) -> list:
        windows = np.flatnonzero(shard.judged_windows("ied"))
        frames = np.full((len(windows), round(1 / config.frame_seconds) + 1, 1), -9.0, np.float32)
        for moment in found:
            at = (moment - shard.onset_seconds[windows]) / config.frame_seconds
            for window in np.flatnonzero((at > -0.5) & (at < frames.shape[1] - 0.5)):
                frames[window, round(at[window])] = 9.0
        start = shard.start - shard.segments["start"][shard.segment]
        logits = {"ied": frames.max(1), "sleep": np.zeros((len(windows), 5), np.float32)}
        return [(windows, Predictions(WindowGrid(shard.segment[windows], start[windows]), logits, {"ied": frames}))]

    monkeypatch.setattr(room, "make_predictor", lambda *_: None)
    monkeypatch.setattr(room, "predict_shards", predicted)
    scores = score(config, TASKS, {}, [shard])
    (mine,) = scores.events["ied"]
    (point,) = [p for p in fix_operating_points(config, TASKS, scores) if p.criterion == "events_max_f1"]
    figures = report(config, TASKS, scores, [point], n_resamples=10)["ied"]["events_max_f1"]
    assert figures["annotated"] == len(mine.annotated_seconds)
    if not figures["annotated"]:
        return 0, len(mine.found), 0
    matched = round(figures["sensitivity"]["value"] * figures["annotated"])
    false = round(figures["false_detections_per_hour"]["value"] * figures["hours"])
    return matched, false, figures["annotated"] - matched


@pytest.mark.parametrize("where", ["edf", "csv", "both"])
def test_marks_by_channel_are_counted_once_whoever_wrote_them(tiny, tmp_path, monkeypatch, where) -> None:
    """Two discharges, each on three channels 10 ms after one another; one of them is found, and something else."""
    rows = [(t + 0.01 * k, 0.2, "IED", c) for t in (10.2, 30.2) for k, c in enumerate(("F3", "C3", "Cz"))]
    marks = [Annotation(*row) for row in rows] if where != "csv" else []
    csv = [f"{t:.3f},{d},{text},{c}" for t, d, text, c in rows] if where != "edf" else None
    shard = shard_of(tmp_path, tiny, marks, csv)
    assert len(shard.marks["ied"].code) == (12 if where == "both" else 6)
    assert counts(tiny, shard, [10.3, 50.0], monkeypatch) == (1, 1, 1)
    assert np.flatnonzero(shard.labels["ied"]).tolist() == [10, 30]


def test_runs_count_once_by_duration_and_by_start_and_end(tiny, tmp_path, monkeypatch) -> None:
    csv = ["10,0,!start,F3", "10.01,0,!start,Cz", "13,0,!end,F3", "13.01,0,!end,Cz", "30.5,2.0,IED,", "31,0.1,IED,C3"]
    shard = shard_of(tmp_path, tiny, [], csv)
    assert sorted(shard.marks["ied"].kind.tolist()) == ["event", "run", "run", "run"]
    assert counts(tiny, shard, [10.5, 11.5, 12.5, 40.0], monkeypatch) == (1, 1, 1)
    assert np.flatnonzero(shard.labels["ied"]).tolist() == [10, 11, 12, 30, 31, 32]


def test_a_doubtful_mark_is_neither_missed_nor_false(tiny, tmp_path, monkeypatch) -> None:
    shard = shard_of(tmp_path, tiny, [Annotation(10.2, 0.2, "spike?"), Annotation(30.3, 0.0, "spike")])
    assert shard.marks["ied"].code.tolist() == [-1, 1]
    assert counts(tiny, shard, [10.3, 30.3], monkeypatch) == (1, 0, 0)
    assert shard.weights["ied"][[10, 30]].tolist() == [0, 1]


def test_what_a_machine_wrote_is_a_label_nowhere(tiny, tmp_path, monkeypatch) -> None:
    csv = ["10.3,0,IED,auto", "0,60,Sleep stage N2,auto", "30.3,0,IED,F3"]
    shard = shard_of(tmp_path, tiny, [], csv)
    assert shard.marks["ied"].onset_seconds.tolist() == [30.3] and not shard.weights["sleep"].any()
    assert counts(tiny, shard, [10.3, 30.3], monkeypatch) == (1, 1, 0)
    alone = tmp_path / "alone"
    alone.mkdir()
    only = shard_of(alone, tiny, [], csv[:2] + ["0,60,Sleep stage N2,"])
    assert not only.judged["ied"].onset_seconds.size and not only.weights["ied"].any()  # nobody looked for discharges


def test_nothing_is_scored_where_nobody_could_judge(tiny, tmp_path, monkeypatch) -> None:
    """A discharge and a detection each in a bad stretch, and elsewhere; a discharge on the border of two windows."""
    bad = Annotation(40.0, 10.0, "BAD_muscle")
    marks = [Annotation(t, 0.0, "IED") for t in (10.3, 20.0, 45.3)]
    shard = shard_of(tmp_path, tiny, [*marks, bad])
    assert shard.weights["ied"][[19, 20, 45]].tolist() == [0, 0, 0]
    assert counts(tiny, shard, [10.3, 20.0, 45.3, 48.0], monkeypatch) == (2, 0, 0)
