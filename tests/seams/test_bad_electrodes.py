"""From a broken electrode to results: what it does is what taking it out by hand does, and what is lost is said."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from siamese_jax.checkpoints import Checkpoint
from siamese_jax.detection.analysis import analyse, plan_analysis
from siamese_jax.detection.archive import Job, standing
from siamese_jax.detection.detect import detect
from siamese_jax.detection.predict import make_predictor, predict_recording, timelines
from siamese_jax.pipeline import initialise
from siamese_jax.recordings.edf_write import write_recording
from siamese_jax.recordings.quality import judge
from siamese_jax.recordings.recording import Recording, recording_from_array
from siamese_jax.vocabulary import IED, SLEEP
from tests.conftest import CH_NAMES
from tests.detection.test_predict import noise
from tests.identities import learnt_from

TASKS, SECONDS, C3 = (IED, SLEEP), 120, CH_NAMES.index("C3")


@pytest.fixture
def model(tiny) -> Checkpoint:
    return Checkpoint(tiny, TASKS, initialise(tiny, TASKS, jax.random.key(0)), 1, learnt_from("nothing"))


def recorded(eeg: np.ndarray) -> Recording:
    return recording_from_array(eeg, sfreq=100.0, ch_names=CH_NAMES, target_ch_names=CH_NAMES, target_sfreq=100.0)


def with_noise(eeg: np.ndarray, first: int, last: int) -> np.ndarray:
    """C3 as 400-uV noise from one second to another."""
    eeg = eeg.copy()
    eeg[100 * first : 100 * last, C3] = np.random.default_rng(5).normal(0, 400, 100 * (last - first))
    return eeg


def test_an_electrode_of_noise_gives_what_the_recording_without_it_gives(model):
    """Events with their times, places and sizes, and stages."""
    eeg = noise(SECONDS)
    clean, without, found = (
        detect(model, recorded(x), threshold=0.2, exclude=exclude)
        for x, exclude in ((eeg, ()), (eeg, ["EEG C3-Ref"]), (with_noise(eeg, 0, SECONDS), ()))
    )
    assert len(found.events) > 10 and found.events == without.events != clean.events
    assert found.hypnogram == without.hypnogram and found.counts() == without.counts()
    assert not any(event.channel == "C3" for event in found.events)
    assert found.quality.mostly_bad == ("C3",) and found.quality.channel_seconds == {"C3": {"broad noise": SECONDS}}
    assert clean.quality == without.quality and clean.quality.notes() == ()


def test_an_electrode_is_absent_where_it_is_bad_and_there_elsewhere(model, tiny):
    eeg = noise(SECONDS)
    predictor = make_predictor(tiny, TASKS)

    def logits(x: np.ndarray, *absent: int) -> tuple[np.ndarray, np.ndarray]:
        """By frame and by window."""
        recording = dataclasses.replace(recorded(x), present=~np.isin(np.arange(5), absent))
        quality = judge(recording)
        found = predict_recording(predictor, tiny, model.variables, recording, hop_seconds=0.5, quality=quality)
        assert len(found.grid.start) == 2 * SECONDS - 1
        ((line, _),) = timelines(tiny, "ied", found, recording.segments, hop=50)
        return line.frame_logits, found.window["ied"][:, 0]

    (whole, _), (without, _) = logits(eeg), logits(eeg, C3)
    found, by_window = logits(with_noise(eeg, 40, 50))
    seconds = np.arange(len(found)) * tiny.frame_seconds
    # A frame counts what lies within a second of it; of noise, half a second more is looked at.
    inside, outside = (seconds >= 39) & (seconds < 51), (seconds < 38) | (seconds >= 52)
    assert inside.sum() == 240 and outside.sum() > 2000
    np.testing.assert_allclose(found[inside], without[inside], atol=1e-5)
    np.testing.assert_allclose(found[outside], whole[outside], atol=1e-5)
    assert (np.abs(whole[inside] - without[inside]) > 1e-3).mean() > 0.9
    # A window that both kinds of frames lie in adds up the odds of all.
    odds = np.exp(found[round(37.5 / tiny.frame_seconds) :][: tiny.n_frames]).sum()
    np.testing.assert_allclose(by_window[75], np.log(odds), atol=1e-5)


def test_networks_that_pool_over_a_window_take_the_electrodes_that_are_good_in_all_of_it(tiny):
    eeg = noise(SECONDS)
    config = dataclasses.replace(tiny, model=dataclasses.replace(tiny.model, pooling="average"))
    predictor, variables = make_predictor(config, TASKS), initialise(config, TASKS, jax.random.key(0))

    def logits(x: np.ndarray, *absent: int) -> np.ndarray:
        recording = dataclasses.replace(recorded(x), present=~np.isin(np.arange(5), absent))
        found = predict_recording(
            predictor, config, variables, recording, hop_seconds=0.5, quality=judge(recording), batch_size=7
        )
        return found.window["ied"]

    whole, without, found = logits(eeg), logits(eeg, C3), logits(with_noise(eeg, 40, 50))
    begin = np.arange(2 * SECONDS - 1) / 2 - 1
    inside, outside = (begin + 3 > 40.5) & (begin < 49.5), (begin + 3 <= 39) | (begin >= 51)
    assert inside.sum() > 15 and outside.sum() > 200
    np.testing.assert_array_equal(found[inside], without[inside])
    np.testing.assert_array_equal(found[outside], whole[outside])
    assert (whole[inside] != without[inside]).all()


def test_what_lies_in_a_bad_stretch_is_not_analysed(model):
    """Three electrodes of five lose contact for ten seconds: neither events nor minutes are counted there."""
    eeg = noise(SECONDS)
    clean = detect(model, recorded(eeg), threshold=0.2)
    eeg[4000:5000, :3] += 5000 * np.sin(np.arange(1000) / 15)[:, None] * np.array([1.0, -0.8, 0.9], np.float32)
    found = detect(model, recorded(eeg), threshold=0.2)
    ((onset, duration),) = found.quality.bad_stretches
    assert 38 <= onset <= 40 and 50 <= onset + duration <= 52
    lost = clean.analysed_seconds - found.analysed_seconds
    assert duration <= lost <= duration + 4 and found.recording_seconds == SECONDS
    assert any(onset <= event.peak_seconds <= onset + duration for event in clean.events)
    assert not any(onset <= event.peak_seconds <= onset + duration for event in found.events)
    assert found.counts()[-1].minutes == pytest.approx(found.analysed_seconds / 60)
    assert found.hypnogram[1].analysed_seconds < 30 == found.hypnogram[0].analysed_seconds


def test_the_files_say_what_was_bad_and_what_was_excluded(model, tmp_path):
    file = tmp_path / "night.edf"
    write_recording(file, with_noise(noise(SECONDS), 40, 50), sfreq=100.0, ch_names=CH_NAMES)
    plan = {"threshold": 0.2, "hop_seconds": 1.0, "units": {}}
    analysis = plan_analysis(model, **plan)
    result, written = analyse(file, tmp_path / "out", analysis, model)
    record = json.loads(written.run.read_text())
    (note,) = result.detections.quality.notes()
    assert note in written.notes and note in record["warnings"] and "C3 10 s, 8.3% (broad noise)" in note
    assert record["quality"]["channel_seconds"] == {"C3": {"broad noise": 10}} and record["settings"]["exclude"] == []

    job = Job(file, tmp_path / "out", file.name)
    assert standing(job, analysis).record == record
    without = plan_analysis(model, **plan, exclude=("c3", "Cz"))
    assert standing(job, without).why == "exclude was [], is ['C3', 'Cz']"
    with pytest.raises(ValueError, match="cannot exclude Pz, X9: the model's electrodes are F3, F4, C3, C4, Cz"):
        plan_analysis(model, **plan, exclude=("Pz", "C3", "X9"))


def test_a_recording_that_is_bad_throughout_is_refused_with_what_to_do(model):
    eeg = noise(20)
    eeg[:, :3] = np.random.default_rng(0).normal(0, 2000, (2000, 3))
    with pytest.raises(ValueError, match=r"in every window of 1.0 s half of the electrodes or more are bad.*--exclude"):
        detect(model, recorded(eeg))
    assert detect(model, recorded(eeg), exclude=CH_NAMES[:3]).analysed_seconds == 20
