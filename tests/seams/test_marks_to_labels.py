"""From marks as people, machines and data sets write them to labels in shards and what `prepare` prints of them."""

import json
from pathlib import Path

import numpy as np
import pytest

from siamese_jax.cli.main import main
from siamese_jax.recordings.edf_write import write_recording
from siamese_jax.recordings.recording import Annotation
from siamese_jax.shards.schema import Shard, verify_shard
from tests.recordings.in_memory import noise

CH_NAMES = ("Fp1", "Fp2", "F3", "F4")
SECONDS, WINDOW = 300, 10


def edf(folder: Path, name: str, *annotations: Annotation) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    signal = noise(SECONDS * 100, seed=sum(name.encode()), n_chans=4)
    write_recording(folder / f"{name}.edf", signal, sfreq=100.0, ch_names=CH_NAMES, annotations=annotations)


def prepare(monkeypatch: pytest.MonkeyPatch, capsys, folder: Path, out: Path) -> tuple[dict[str, Shard], dict, str]:
    """The shards by recording, prepare.json, and what was printed."""
    options = f"--window {WINDOW} --sfreq 100 --channels {' '.join(CH_NAMES)}".split()
    monkeypatch.setattr("sys.argv", ["siamese-jax", "prepare", str(folder), str(out), *options])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    assert ended.value.code == 0, printed.err
    shards = {shard.recordings["name"][0]: shard for shard in map(verify_shard, sorted(out.rglob("*.h5")))}
    return shards, json.loads((out / "prepare.json").read_text()), printed.out


def ied_labels(shard: Shard) -> list[int]:
    """1, 0, or -1 where the label is missing, for each window in order of time."""
    order = np.argsort(shard.onset_seconds)
    return np.where(shard.weights["ied"] > 0, shard.labels["ied"], -1)[order].astype(int).tolist()


def csv(folder: Path, name: str, rows: list[tuple[float, float, str]], header: str = "onset,duration,label") -> None:
    text = "".join(",".join(map(str, row)) + "\n" for row in rows)
    (folder / f"{name}.csv").write_text(f"{header}\n{text}")


def test_words_of_readers_become_labels_doubts_none_and_the_rest_is_told(tmp_path, monkeypatch, capsys):
    folder, texts = (
        tmp_path / "in",
        ("F7 spike", "sharp", "spike?", "SW", "no spikes", "vertex sharp wave", "F7!?", "GPD"),
    )
    edf(folder, "a", Annotation(4.5, 0.1, "Poly spike"))
    csv(folder, "a", [(10 * k + 14.5, 0.1, text) for k, text in enumerate(texts)])
    edf(folder, "b", Annotation(4.5, 0.1, "IED p=0.93", None), Annotation(100, 0.1, "spike"))
    shards, report, printed = prepare(monkeypatch, capsys, folder, tmp_path / "out")
    assert ied_labels(shards["a.edf"])[:10] == [1, 1, 1, -1, -1, 0, 0, 0, -1, 0]
    assert ied_labels(shards["b.edf"])[:11] == [0] * 10 + [-1]  # at 100.05 s it touches the window of 100 s alone
    rows = {row["text"]: row for row in report["texts"]}
    assert set(rows) == {*texts, "Poly spike", "spike"}
    assert rows["F7 spike"]["read_as"] == {"ied": "ied"} and rows["SW"]["read_as"] == {"ied": "in doubt: no label"}
    assert rows["F7!?"]["read_as"] == {} and rows["no spikes"]["read_as"] == {"other": "other"}
    assert "1 marks of a machine that nobody has reviewed are left out" in printed
    assert "1 windows of 1 recordings hold marks that no task understood" in printed
    assert "marks that no task understood, which give no label:\n        1" in printed


def test_marks_in_another_unit_or_of_another_clock_make_no_negatives(tmp_path, monkeypatch, capsys):
    folder, onsets = tmp_path / "in", [t + 0.5 for t in range(5, SECONDS, 20)]
    for name, factor, shift in (("milliseconds", 1000, 0), ("samples", 256, 0), ("late", 1, 3600), ("right", 1, 0)):
        edf(folder, name)
        csv(folder, name, [(factor * t + shift, 0.1, "spike") for t in onsets])
    shards, report, printed = prepare(monkeypatch, capsys, folder, tmp_path / "out")
    for name in ("milliseconds", "samples", "late"):
        assert set(ied_labels(shards[f"{name}.edf"])) == {-1}
        assert f"{name}.edf: 15 of 15 annotations lie outside the recording" in printed
    assert ied_labels(shards["right.edf"]) == [1, 0] * 15
    assert report["finished"] and "3 of 4 recordings have annotations of ied that do not count" in printed


def test_stages_in_the_words_of_others_and_unscored_stretches(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "in"
    sets = {"wk": "WK N1 N2 N3 RE", "nsrr": "Wake|Stage 1 sleep|Stage 2 sleep|Stage 3 sleep|REM sleep"}
    for name, words in sets.items():
        edf(folder, name)
        stages = words.split("|") if "|" in words else words.split()
        csv(folder, name, [(60 * k, 60, stage) for k, stage in enumerate(stages)])
    edf(folder, "open", *(Annotation(t, 0, text) for t, text in ((0, "Stage - N2"), (90, "Stage - X"), (210, "REM"))))
    shards, _, printed = prepare(monkeypatch, capsys, folder, tmp_path / "out")
    for name in sets:
        assert shards[f"{name}.edf"].labels["sleep"].tolist() == [k for k in range(5) for _ in range(6)]
        assert shards[f"{name}.edf"].weights["sleep"].all()
    shard = shards["open.edf"]
    assert shard.weights["sleep"].tolist() == [1] * 9 + [0] * 12 + [1] * 9
    assert set(shard.labels["sleep"][:9]) == {2} and set(shard.labels["sleep"][21:]) == {4}
    assert "1 stages without duration end at a text that is not understood, or at Lights on" in printed


@pytest.mark.parametrize("reviewed", [False, True])
def test_a_copied_table_of_detect_is_read_once_somebody_reviewed_it(tmp_path, monkeypatch, capsys, reviewed):
    folder = tmp_path / "in"
    edf(folder, "night")
    edf(folder, "other", Annotation(4.5, 0.1, "spike"))
    header = "onset,duration,peak,probability,channel,amplitude_uv,stage,origin"
    csv(folder, "night", [(4.5, 0.1, 4.55, 0.93, "Fp1", 80, "N2", "reviewed" if reviewed else "machine")], header)
    shards, _, printed = prepare(monkeypatch, capsys, folder, tmp_path / "out")
    assert ied_labels(shards["night.edf"])[0] == int(reviewed)
    assert ("1 marks of a machine" in printed) != reviewed


def test_marks_of_a_bids_data_set_are_told_and_machines_left_out(tmp_path, monkeypatch, capsys):
    root = tmp_path / "in"
    edf(root / "sub-01/eeg", "sub-01_task-rest_eeg")
    (root / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.10.0"}')
    rows = [(4.5, 0.1, "L temporal spike", "human"), (14.5, 0.1, "spike", "machine"), (24.5, 0.1, "F7?", "human")]
    rows += [(34.5, 0.1, "spike?", "n/a"), (99999, 0.1, "spike", "human"), (44.5, 0.1, "IED", "reviewed")]
    text = "".join("\t".join(map(str, row)) + "\n" for row in rows)
    (root / "sub-01/eeg/sub-01_task-rest_events.tsv").write_text(f"onset\tduration\ttrial_type\torigin\n{text}")
    shards, report, printed = prepare(monkeypatch, capsys, root, tmp_path / "out")
    (shard,) = shards.values()
    assert ied_labels(shard)[:6] == [1, 0, 0, -1, 1, 0]
    assert {row["text"]: row["marks"] for row in report["texts"]} == {
        **{"L temporal spike": 1, "F7?": 1, "spike?": 1, "spike": 1, "IED": 1}
    }
    assert "1 of 5 annotations lie outside the recording (0 to 300 s), from 99999 to 99999 s" in printed
    assert "1 marks of a machine" in printed


def test_info_tells_of_a_file_what_prepare_would_read(tmp_path, monkeypatch, capsys):
    edf(tmp_path, "night", Annotation(4.5, 0.1, "IED p=0.93"), Annotation(14.5, 0.1, "F7?"))
    csv(tmp_path, "night", [(24.5, 0.1, "sharp"), (9000, 0.1, "Mrs Doe asleep")])
    monkeypatch.setattr("sys.argv", ["siamese-jax", "info", str(tmp_path / "night.edf")])
    with pytest.raises(SystemExit) as ended:
        main()
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert ended.value.code == 0
    assert "marks 4 annotations, 1 of them by a machine and never labels until they are reviewed" in lines
    assert "note 1 of 3 annotations lie outside the recording (0 to 300 s), from 9000 to 9000 s" in lines
    assert lines[-5:] == [
        *("marks, and how their texts were read:", "1 sharp ied"),
        *("marks that no task understood, which give no label:", "1 F7?", "1 Mrs Doe asleep"),
    ]
