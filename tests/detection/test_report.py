"""What stands in a review page: events as in the table, groups, the signal that fits, and nothing of a patient."""

import json
import re

import numpy as np

from siamese_jax.detection.detect import Detection
from siamese_jax.recordings.quality import QualityReport
from siamese_jax.recordings.recording import Annotation, recording_from_array
from siamese_jax.review.packing import STEP_UV
from siamese_jax.vocabulary import TEN_TWENTY
from tests.review.made_up import SFREQ, eeg_of, found_of, recorded, report_of
from tests.review.test_packing import unpacked

SPIKES = [(15.0, "F7", -100.0), (45.0, "F7", -90.0), (75.0, "O2", -80.0), (105.0, "O2", -80.0)]


def data_of(path):
    return json.loads(re.search(r'id="data">(.*?)</script>', path.read_text())[1])


def blocks_of(path):
    return dict(re.findall(r'id="block-(\d+-\d+)">([^<]*)<', path.read_text()))


def test_the_signal_is_that_of_the_recording_but_for_steady_offsets(tmp_path):
    recording = recorded(tmp_path, SPIKES, 125)
    path = report_of(tmp_path, recording, found_of(SPIKES, 125))
    eeg, blocks = recording.read(0, 0, 25_000), blocks_of(path)
    assert sorted(blocks, key=lambda name: int(name[2:])) == [f"0-{i}" for i in range(13)]
    found = np.concatenate([unpacked(blocks[f"0-{i}"], 19) for i in range(13)]) * STEP_UV
    np.testing.assert_allclose(found, eeg - np.median(eeg[:12_000], 0), atol=STEP_UV / 2 + 1e-3)


def test_events_stand_as_in_the_table_and_in_groups_those_below_the_threshold_too(tmp_path):
    recording = recorded(tmp_path, [*SPIKES, (110.0, "F7", -90.0)], 125)
    found = found_of([*SPIKES, (110.0, "F7", -90.0)], 125, probabilities=[0.9, 0.9, 0.8, 0.8, 0.3])
    data = data_of(report_of(tmp_path, recording, found))
    assert data["columns"] == list(Detection._fields)
    assert data["events"][0] == ["14.970", "0.080", "15.000", 0.9, "F7", -90.0, "N2"]
    assert [row[2] for row in data["events"]] == ["15.000", "45.000", "75.000", "105.000", "110.000"]
    assert data["group"] == [0, 0, 1, 1, 0]
    assert [(c["name"].split("-")[0], c["side"], c["polarity"]) for c in data["clusters"]] == [
        ("F7", "left", "negative"),
        ("O2", "right", "negative"),
    ]


def test_where_not_all_fits_the_signal_around_likely_events_comes_first(tmp_path):
    recording = recorded(tmp_path, SPIKES, 600)
    found = found_of(SPIKES, 600, probabilities=[0.6, 0.7, 0.9, 0.8])
    whole = blocks_of(report_of(tmp_path, recording, found))
    size = len(whole["0-0"])
    few = blocks_of(report_of(tmp_path, recording, found, limit=round(4.5 * size)))
    assert set(few) == {"0-7", "0-10", "0-4", "0-1"}  # the blocks that hold the peaks
    assert list(few) == ["0-7", "0-10", "0-4", "0-1"]  # the most probable first
    assert len(whole) == 60


def test_nothing_of_a_patient_stands_in_it_but_the_time_of_day(tmp_path):
    marks = [
        Annotation(3.0, 0.0, "John Smith, born 1950"),
        Annotation(4.0, 0.0, "left spike", "F7"),
        Annotation(4.5, 0.5, "spike?", "<b>"),
        Annotation(5.0, 30.0, "Sleep stage N2"),
    ]
    recording = recorded(tmp_path, SPIKES, 120, annotations=marks)
    path = report_of(tmp_path, recording, found_of(SPIKES, 120))
    data = data_of(path)
    assert data["marks"] == [
        [4.0, 0.0, "IED", "F7"],
        [4.5, 0.5, "IED?", ""],
        [5.0, 30.0, "stage N2", ""],
    ]
    assert (data["marks_left_out"], data["clock"]) == (1, 22.5 * 3600)
    outside = re.sub(r'id="block-[^<]*<', "", path.read_text()).replace("Kural et al. 2020", "")
    assert not re.search(r"Smith|SECRET|2020", outside) and str(tmp_path) not in outside


def test_electrodes_that_are_absent_or_mostly_bad_are_in_no_average(tmp_path):
    eeg = eeg_of(SPIKES, 120)
    names = [name for name in TEN_TWENTY if name != "Fp1"]
    there = [TEN_TWENTY.index(name) for name in names]
    recording = recording_from_array(
        eeg[:, there], sfreq=SFREQ, ch_names=names, target_ch_names=TEN_TWENTY, target_sfreq=SFREQ
    )
    quality = QualityReport({"T3": {"flat": 120}}, ("T3",), ((30.0, 5.0),), 120)
    path = report_of(tmp_path, recording, found_of(SPIKES, 120, quality=quality))
    data = data_of(path)
    assert path.name == "array_report.html" and data["clock"] is None and data["missing"] == ["Fp1"]
    assert "Fp1" not in data["electrodes"] and "T3" in data["electrodes"] and "T3" not in data["scalp"]
    assert data["bad"] == [[30.0, 5.0]]


def test_a_recording_without_events_has_a_page_too(tmp_path):
    recording = recorded(tmp_path, [], 40)
    data = data_of(report_of(tmp_path, recording, found_of([], 40)))
    assert (data["events"], data["group"], data["clusters"]) == ([], [], [])
