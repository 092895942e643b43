"""Readers' verdicts in the results: what follows, what stays, what is refused."""

import csv
import json

import pytest

from siamese_jax.cli.main import command
from siamese_jax.cohort.sources import annotations_of, recording_files
from siamese_jax.detection.archive import Job, Result, update_summary, write_summary
from siamese_jax.detection.results import read_record, sha256, write_detections
from siamese_jax.detection.verdicts import COLUMNS, merge, read_verdicts
from siamese_jax.recordings.edf import read_annotations, read_recording
from siamese_jax.shards.labels import IED_RULE
from siamese_jax.vocabulary import TEN_TWENTY
from tests.review.made_up import SFREQ, found_of, recorded

SPIKES = [(10.0, "F7", -100.0), (20.0, "O2", -80.0), (70.0, "F7", -90.0), (80.0, "F7", -90.0)]
FOUND = found_of(SPIKES, 120)
BELOW = ("99.970", "0.080", "100.000", "0.4", "T3", "-40.0", "W")
SETTINGS = {"threshold": 0.5, "model_sha256": "0"}


def results(folder, stem="night"):
    """Results of one recording, as detect writes them."""
    recording = recorded(folder / "recordings", SPIKES, 120, stem=stem)
    write_detections(folder / "out", recording, FOUND, provenance={"model": "test", "settings": SETTINGS})
    return folder / "out"


def table(out, rows, *, stem="night", name="saved.tsv", digest=None):
    """A table of verdicts as the page saves it: (number of an event or its cells, verdict, reader, when)."""
    with (out / f"{stem}_events.csv").open(newline="") as file:
        events = list(csv.DictReader(file))
    cells = [
        (e["onset"], e["duration"], e["peak"], e["probability"], e["channel"], e["amplitude_uv"], e["stage"])
        for e in events
    ]
    lines = [COLUMNS]
    for event, verdict, reader, at in rows:
        held = cells[event] if isinstance(event, int) else event
        lines.append((stem, digest or sha256(out / f"{stem}_events.csv"), *held, verdict, reader, f"2026-12-01T{at}Z"))
    path = out.parent / name
    path.write_text("".join("\t".join(line) + "\n" for line in lines))
    return path


def reviewed(out, stem="night"):
    with (out / f"{stem}_reviewed.csv").open(newline="") as file:
        return [(r["peak"], r["label"], r["origin"], r["verdict"], r["reader"]) for r in csv.DictReader(file)]


def test_events_marks_and_counts_follow_the_verdicts(tmp_path):
    out = results(tmp_path)
    rows = [
        (0, "accept", "A", "10:00"),
        (1, "reject", "A", "10:01"),
        (2, "unsure", "A", "10:02"),
        (BELOW, "accept", "A", "10:03"),
    ]
    (merged,) = merge(out, [table(out, rows)])
    assert reviewed(out) == [
        ("10.000", "IED", "reviewed", "accept", "A"),
        ("20.000", "no IED", "reviewed", "reject", "A"),
        ("70.000", "IED?", "reviewed", "unsure", "A"),
        ("80.000", "IED", "machine", "", ""),
        ("100.000", "IED", "reviewed", "accept", "A"),
    ]
    marks = read_annotations(out / "night_reviewed.edf")
    assert [(m.onset_seconds, m.text, m.channel, m.origin) for m in marks] == [
        (9.97, "IED", "F7", "reviewed"),
        (69.97, "IED?", "F7", "reviewed"),
        (99.97, "IED", "T3", "reviewed"),
    ]
    record = read_record(out, "night")
    assert [row["events"] for row in record["review"]["events_by_stage"]] == [3, 0, 1, 0, 0, 4]
    assert record["review"]["events_by_stage"][0]["per_hour"] == 180  # of one minute of W
    assert [row["events"] for row in record["events_by_stage"]] == [2, 0, 2, 0, 0, 4]  # what detect found stays
    assert (merged.name, merged.counts, merged.n_events, merged.n_added) == (
        "night",
        {"accept": 2, "reject": 1, "unsure": 1},
        5,
        4,
    )


def test_what_detect_wrote_stays_byte_for_byte_and_a_second_merge_changes_nothing(tmp_path):
    out = results(tmp_path)
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.name != "night_run.json"}
    saved = table(out, [(0, "accept", "A", "10:00")])
    merge(out, [saved])
    after = {path.name: path.read_bytes() for path in out.iterdir()}
    assert before.items() <= after.items()
    assert [one.n_added for one in merge(out, [saved, saved])] == [0]
    assert {path.name: path.read_bytes() for path in out.iterdir()} == after


def test_every_verdict_is_kept_and_the_latest_counts_whatever_the_order_of_merging(tmp_path):
    early = [(0, "accept", "A", "10:00"), (1, "reject", "A", "10:01")]
    late = [(0, "reject", "B", "11:00"), (2, "accept", "B", "11:01")]
    states = []
    for name, order in (("one", (early, late)), ("other", (late, early))):
        out = results(tmp_path / name)
        for i, rows in enumerate(order):
            (merged,) = merge(out, [table(out, rows, name=f"{i}.tsv")])
        assert merged.n_disputed == 1
        states.append(reviewed(out))
        assert {(v.peak, v.verdict, v.reader) for v in read_verdicts(out / "night_verdicts.tsv")} == {
            ("10.000", "accept", "A"),
            ("20.000", "reject", "A"),
            ("10.000", "reject", "B"),
            ("70.000", "accept", "B"),
        }
    assert states[0] == states[1] and states[0][0][3:] == ("reject", "B")


def test_detect_never_overwrites_what_a_reader_judged(tmp_path):
    out = results(tmp_path)
    merge(out, [table(out, [(0, "accept", "A", "10:00")])])
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    recording = read_recording(tmp_path / "recordings" / "night.edf", ch_names=TEN_TWENTY, sfreq=SFREQ)
    with pytest.raises(ValueError, match=r"night_verdicts.tsv holds readers' verdicts .* another --out"):
        write_detections(out, recording, FOUND, provenance={"model": "second", "settings": SETTINGS})
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            lambda text: text.replace("accept", "maybe"),
            r"line 2: verdict must be one of .*, is 'maybe'",
        ),
        (lambda text: text.replace("\t10.000\t", "\tnan\t"), r"line 2: peak must be a number of seconds"),
        (lambda text: text.replace("\tF7\t", "\t../x\t"), r"line 2: no event of a page: '\.\./x'"),
        (lambda text: text.replace("verdict\t", "said\t", 1), r"line 1: the header needs a column verdict"),
        (
            lambda text: text.replace("night\t", "../../night\t"),
            r"holds no results .* of \.\./\.\./night",
        ),
        (lambda text: text[: text.index("\n") + 1], r"no verdict in it"),
    ],
)
def test_tables_that_no_page_saved_are_refused_and_nothing_is_written(tmp_path, wrong, message):
    out = results(tmp_path)
    saved = table(out, [(0, "accept", "A", "10:00")])
    saved.write_text(wrong(saved.read_text()))
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(ValueError, match=message):
        merge(out, [saved])
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_verdicts_on_other_events_are_refused(tmp_path):
    out = results(tmp_path)
    with pytest.raises(ValueError, match="detected anew since"):
        merge(out, [table(out, [(0, "accept", "A", "10:00")], digest="f" * 64)])
    saved = table(out, [(0, "accept", "A", "10:00")])
    events = out / "night_events.csv"
    events.write_text(events.read_text() + "\n")
    with pytest.raises(ValueError, match="night_events.csv was changed since detect wrote it"):
        merge(out, [saved])


def test_the_index_of_an_archive_follows(tmp_path):
    out = results(tmp_path)
    results(tmp_path, stem="other")
    jobs = [Job(tmp_path / f"{stem}.edf", out, f"{stem}.edf") for stem in ("night", "other")]
    failed = Result(Job(tmp_path / "bad.edf", out, "bad.edf"), None, "no EEG")
    write_summary(out, [failed, *(Result(job, read_record(out, job.file.stem), "") for job in jobs)])
    before = (out / "summary.csv").read_text().splitlines()
    assert (
        command(["review", str(out), str(table(out, [(0, "reject", "A", "10:00"), (1, "reject", "A", "10:01")]))]) == 0
    )
    after = (out / "summary.csv").read_text().splitlines()
    assert (after[0], after[1], after[3]) == (before[0], before[1], before[3])
    assert after[2].startswith('night.edf,ok,"2 of 4 events judged, 2 rejected and not counted",2,')
    assert update_summary(tmp_path) is None


def test_reviewed_events_are_labels_and_those_not_judged_are_in_doubt(tmp_path):
    out = results(tmp_path)
    merge(out, [table(out, [(0, "accept", "A", "10:00"), (1, "reject", "A", "10:01"), (2, "unsure", "A", "10:02")])])
    beside = tmp_path / "recordings"
    (beside / "night_reviewed.csv").write_bytes((out / "night_reviewed.csv").read_bytes())
    recording = read_recording(beside / "night.edf", ch_names=TEN_TWENTY, sfreq=SFREQ)
    marks, _ = annotations_of(recording)
    found = IED_RULE.task_marks(marks, [(0.0, 120.0)])
    assert [(m.onset_seconds, m.code, m.origin) for m in found.marks] == [
        (9.97, 1, "reviewed"),
        (69.97, -1, "reviewed"),
        (79.97, -1, "reviewed"),
    ]
    judged = [(round(start, 3), round(start + length, 3)) for start, length in found.judged]
    assert judged == [(0.0, 69.97), (70.05, 79.97), (80.05, 120.0)]  # the rejected one at 20 s is free of discharges


def test_what_review_writes_is_no_recording(tmp_path):
    out = results(tmp_path)
    merge(out, [table(out, [(0, "accept", "A", "10:00")])])
    assert recording_files(out) == []
    assert json.loads((out / "night_run.json").read_text())["review"]["readers"] == ["A"]
