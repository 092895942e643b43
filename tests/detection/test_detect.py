"""From logits to a report: crafted predictions in, events with time, place and stage out."""

import dataclasses

import numpy as np
import pytest

from siamese_jax.checkpoints import Checkpoint
from siamese_jax.config.presets import SMALL
from siamese_jax.detection import detect as room
from siamese_jax.detection.predict import Predictions
from siamese_jax.recordings.recording import Segment, recording_from_array
from siamese_jax.recordings.windows import window_grid
from siamese_jax.vocabulary import IED, SLEEP, TEN_TWENTY
from tests.identities import thresholds_of

SFREQ = 200.0
POINTS = [
    {"task": "ied", "criterion": "max_f1", "threshold": 0.3},
    {"task": "ied", "criterion": "events_max_f1", "threshold": 0.6},
]
FIGURES = dict.fromkeys(("sensitivity", "precision", "specificity", "f1", "prevalence")) | {"n_windows": 1}


def checkpoint(points=POINTS) -> Checkpoint:
    return Checkpoint(SMALL, (IED, SLEEP), {}, 1, thresholds=thresholds_of([FIGURES | point for point in points]))


def recording(spikes, seconds=120, absent=()):
    """Quiet EEG with triangles of 100 ms: {(electrode, second): uV}."""
    rng = np.random.default_rng(0)
    eeg = rng.normal(0, 3, (int(seconds * SFREQ), 19)).astype(np.float32)
    for (name, second), uv in spikes.items():
        centre, half = round(second * SFREQ), round(0.05 * SFREQ)
        eeg[centre - half : centre + half + 1, TEN_TWENTY.index(name)] += uv * (
            1 - np.abs(np.arange(-half, half + 1)) / half
        )
    there = [i for i, name in enumerate(TEN_TWENTY) if name not in absent]
    names = [TEN_TWENTY[i] for i in there]
    return recording_from_array(
        eeg[:, there], sfreq=SFREQ, ch_names=names, target_ch_names=TEN_TWENTY, target_sfreq=SFREQ
    )


@pytest.fixture
def predicted(monkeypatch):
    """Makes the model say: IED odds by frame, a stage by second of the recording."""

    def say(ied_at, stage_of_second):
        def predict_recording(predictor, config, variables, rec, *, hop_seconds, quality, on_progress):
            grid = window_grid(rec.segments, window=config.n_times, hop=round(hop_seconds * SFREQ))
            start = grid.start / SFREQ
            frames = start[:, None] + np.arange(config.n_frames) * config.frame_seconds
            logits = np.full(frames.shape, -9.0)
            for second, logit in ied_at.items():
                logits[np.abs(frames - second) < 0.01] = logit
            stage = np.array([SLEEP.classes.index(stage_of_second(t + 2)) for t in start])
            sleep = np.where(np.arange(5) == stage[:, None], 3.0, 0.0).astype(np.float32)
            window = {"ied": logits.max(1, keepdims=True).astype(np.float32), "sleep": sleep}
            return Predictions(grid, window, {"ied": logits[..., None].astype(np.float32)})

        monkeypatch.setattr(room, "predict_recording", predict_recording)

    return say


def test_an_event_has_its_time_place_and_stage(predicted):
    predicted({10.3: 2.0, 70.0: 1.0}, lambda second: "W" if second < 60 else "N2")
    found = room.detect(checkpoint(), recording({("T5", 10.3): -150.0, ("F4", 70.0): 90.0}))
    assert [round(e.peak_seconds, 3) for e in found.events] == [10.3, 70.0]
    assert [e.channel for e in found.events] == ["T5", "F4"]
    assert [e.stage for e in found.events] == ["W", "N2"]
    # Against the mean of 19 electrodes a lone one keeps 18/19 of its deflection.
    np.testing.assert_allclose([e.amplitude_uv for e in found.events], [-150 * 18 / 19, 90 * 18 / 19], atol=9)
    np.testing.assert_allclose(found.events[0].probability, 1 / (1 + np.exp(-2)), atol=1e-3)


def test_an_event_is_timed_by_its_wave_wherever_near_it_the_network_found_it(predicted):
    """A triangle of 100 ms lies above a fifth of its peak for 80 ms; noise of 3 uV moves that by a sample or two."""
    predicted({10.25: 2.0, 60.05: 1.0}, lambda second: "W" if second < 60 else "N2")
    found = room.detect(checkpoint(), recording({("T5", 10.317): -150.0, ("F4", 59.985): 90.0})).events
    np.testing.assert_allclose([e.peak_seconds for e in found], [10.317, 59.985], atol=0.006)
    np.testing.assert_allclose([e.onset_seconds for e in found], [10.277, 59.945], atol=0.011)
    np.testing.assert_allclose([e.duration_seconds for e in found], 0.08, atol=0.016)
    assert [e.stage for e in found] == ["W", "W"]  # of the peak


def test_neither_what_all_electrodes_share_nor_an_absent_one_is_called_the_place(predicted):
    """A deflection of the reference, three times as large as F4's own; Cz was not recorded and reads 0."""
    predicted({10.3: 2.0}, lambda second: "W")
    everywhere = {(name, 10.3): 270.0 - 90.0 * (name == "F4") for name in TEN_TWENTY}
    (event,) = room.detect(checkpoint(), recording(everywhere, absent=("Cz",))).events
    assert event.channel == "F4"
    np.testing.assert_allclose(event.amplitude_uv, -90 * 17 / 18, atol=9)


def test_an_event_is_looked_up_in_its_own_stretch(predicted):
    """Stretches may overlap by a tenth of a second: the peak at 59.96 s is in the first, which ends at 60 s."""
    predicted({59.96: 2.0}, lambda second: "W")
    whole = recording({("T5", 59.96): -150.0, ("F4", 60.06): 150.0})
    pieces = (Segment(0.0, round(60 * SFREQ)), Segment(59.9, round(60 * SFREQ)))
    starts = (0, round(60 * SFREQ))
    apart = dataclasses.replace(
        whole, segments=pieces, source=lambda k, a, b: whole.source(0, starts[k] + a, starts[k] + b)
    )
    found = room.detect(checkpoint(), apart)
    assert [e.channel for e in found.events if abs(e.peak_seconds - 59.96) < 0.02][0] == "T5"


def test_the_threshold_is_that_of_events_else_of_windows_else_one_half(predicted):
    predicted({10.0: 0.5, 20.0: -0.5}, lambda second: "W")
    rec = recording({})
    by_events = room.detect(checkpoint(), rec)
    assert (by_events.threshold, len(by_events.events)) == (0.6, 1)
    fixed = "fixed on 1 patient of validation recordings, 2026-01-02, by siamese-jax 0.1.0"
    assert by_events.threshold_origin == f"operating point events_max_f1, {fixed}"
    other_task = {"task": "state", "criterion": "events_max_f1", "threshold": 0.9}
    assert room.detect(checkpoint([*POINTS, other_task]), rec).threshold == 0.6
    assert len(room.detect(checkpoint(POINTS[:1]), rec).events) == 2
    none, without = room.detect(checkpoint([]), rec), checkpoint()._replace(thresholds=None)
    assert none.threshold == 0.5 and "siamese-jax fix-thresholds" in room.detect(without, rec).threshold_origin
    undefined = room.detect(checkpoint([POINTS[0], POINTS[1] | {"threshold": None}]), rec)
    assert undefined.threshold == 0.3
    assert room.detect(checkpoint(), rec, threshold=0.9).events == ()
    with pytest.raises(ValueError, match="threshold must be a probability"):
        room.detect(checkpoint(), rec, threshold=1.5)


def test_a_threshold_by_its_false_events_an_hour_and_what_is_said_where_there_is_none(predicted):
    predicted({10.0: 1.5, 20.0: 1.0}, lambda second: "W")
    rated = {"task": "ied", "threshold": 0.8, "false_per_hour": 2 / 3, "false_per_hour_limit": 2.1, "hours": 3.0}
    known = checkpoint([*POINTS, rated | {"criterion": "events_1_per_hour"}])
    found = room.detect(known, recording({}), false_per_hour=1.0)
    assert (found.threshold, len(found.events)) == (0.8, 1)
    rate = "operating point events_1_per_hour: 0.67 false events an hour in 3.00 h, 95 % upper limit 2.10"
    assert found.threshold_origin.startswith(f"{rate}, fixed on 1 patient of validation recordings")
    assert room.detect(known, recording({})).threshold == 0.6  # as ever where no rate is asked for
    for model, options, message in (
        (known, {"false_per_hour": 2.0}, "no threshold for 2 false events an hour, but for 1$"),
        (known, {"false_per_hour": 1.0, "threshold": 0.5}, "a threshold .0.5. or false events an hour .1., not both"),
        (
            checkpoint(),
            {"false_per_hour": 1.0},
            "for 1 false events an hour or any other number: run `siamese-jax fix-thr",
        ),
        (checkpoint()._replace(thresholds=None), {"false_per_hour": 1.0}, "run `siamese-jax fix-thresholds`"),
    ):
        with pytest.raises(ValueError, match=message):
            room.detect(model, recording({}), **options)


def test_a_network_that_gives_no_times_takes_no_threshold_of_events(predicted):
    """Older versions fixed one for it; that of windows is taken, and the report says so."""
    predicted({}, lambda second: "W")
    pooled = dataclasses.replace(SMALL, model=dataclasses.replace(SMALL.model, pooling="average"))
    found = room.detect(checkpoint()._replace(config=pooled), recording({}))
    assert found.threshold == 0.3
    assert found.threshold_origin.startswith("operating point max_f1, fixed on 1 patient")
    assert found.threshold_origin.endswith("events_max_f1 is not used, since this network gives no times")
    rated = checkpoint([*POINTS, POINTS[1] | {"criterion": "events_1_per_hour"}])._replace(config=pooled)
    with pytest.raises(ValueError, match="no threshold for 1 false events an hour or any other"):
        room.detect(rated, recording({}), false_per_hour=1.0)
    windows_alone = room.detect(checkpoint(POINTS[:1])._replace(config=pooled), recording({}))
    assert "not used" not in windows_alone.threshold_origin


def test_the_epoch_that_holds_the_peak_gives_the_stage(predicted):
    """AASM: epochs of 30 s from the recording's start; a peak at 30.0 s belongs to the second."""
    predicted({29.9: 3.0, 30.0 + 0.4: 3.0}, lambda second: "N1" if second < 30 else "N3")
    found = room.detect(checkpoint(), recording({}))
    assert [e.stage for e in found.events] == ["N1", "N3"]
    assert [e.stage for e in found.hypnogram] == ["N1", "N3", "N3", "N3"]


def test_rates_are_events_by_minutes_analysed_in_each_stage(predicted):
    predicted({40.0: 3.0, 45.0: 3.0, 100.0: 3.0}, lambda second: "N2" if 30 <= second < 60 else "R")
    found = room.detect(checkpoint(), recording({}))
    rows = {row.stage: row for row in found.counts()}
    assert [rows[s].events for s in ("W", "N2", "R", "all")] == [0, 2, 1, 3]
    assert rows["N2"].minutes == 0.5 and rows["N2"].per_hour == 240
    assert np.isnan(rows["W"].per_hour)
    # Windows of 4 s: centres reach from 2 s to 118 s.
    assert [e.analysed_seconds for e in found.hypnogram] == [28, 30, 30, 29]
    assert rows["R"].minutes == pytest.approx((28 + 30 + 29) / 60)
    assert rows["all"].minutes == 2 and found.analysed_seconds == found.recording_seconds == 120
    # Two windows a second still analyse each second once; one in 7 s stands for 7 s, and no epoch for more than 30.
    dense, sparse = (room.detect(checkpoint(), recording({}), hop_seconds=hop).hypnogram for hop in (0.5, 7.0))
    assert [e.analysed_seconds for e in dense] == [28, 30, 30, 28.5]
    assert [e.analysed_seconds for e in sparse] == [28, 30, 28, 28]


def test_gaps_are_not_counted_as_analysed(predicted):
    """A window every 10 s of a recording with pauses: each stands for its hop of 1 s, not for the time to the next."""
    predicted({}, lambda second: "N2")
    whole = recording({})
    pieces = tuple(Segment(10.0 * i, round(4 * SFREQ)) for i in range(12))
    found = room.detect(checkpoint(), dataclasses.replace(whole, segments=pieces))
    assert found.hypnogram == () and found.analysed_seconds == 48


def test_an_impossible_threshold_is_refused_before_anything_is_predicted(monkeypatch):
    def predict(*arguments, **options):
        raise AssertionError("predicted")

    monkeypatch.setattr(room, "predict_recording", predict)
    for threshold in (-0.1, 0.0, 1.0, float("nan")):
        with pytest.raises(ValueError, match=f"threshold must be a probability between 0 and 1, given {threshold}"):
            room.detect(checkpoint(), recording({}), threshold=threshold)


def test_an_epoch_that_was_hardly_seen_has_no_stage(predicted):
    predicted({95.0: 3.0}, lambda second: "N2")
    found = room.detect(checkpoint(), recording({}, seconds=100))  # centres reach 98 s: 9 s of the fourth epoch
    assert [e.onset_seconds for e in found.hypnogram] == [0, 30, 60]
    assert [e.stage for e in found.events] == [None]


def test_what_no_window_covers_is_not_called_analysed(predicted):
    predicted({}, lambda second: "W")
    found = room.detect(checkpoint(), recording({}, seconds=10.5))
    assert (found.recording_seconds, found.analysed_seconds) == (10.5, 10.0)
    apart = room.detect(checkpoint(), recording({}, seconds=18), hop_seconds=6.0)
    assert apart.analysed_seconds == 12.0  # windows at 0, 6 and 12 s, 4 s each


def test_the_place_is_where_the_peak_is_not_where_something_larger_lies_near(predicted):
    """T5 stands out within 0.1 s of the peak; 0.16 s before it F4 does so, more than twice as much."""
    predicted({10.3: 2.0}, lambda second: "W")
    (event,) = room.detect(checkpoint(), recording({("T5", 10.3): -150.0, ("F4", 10.14): 400.0})).events
    assert event.channel == "T5"
    np.testing.assert_allclose(event.amplitude_uv, -150 * 18 / 19, atol=9)
    (event,) = room.detect(checkpoint(), recording({("T5", 10.3): -150.0, ("F4", 10.22): 400.0})).events
    assert event.channel == "F4"  # 0.08 s before: within


def test_an_event_is_placed_in_the_stretch_in_which_it_was_found(predicted):
    """Two stretches that begin at one time, as after a clock was set back: the second one's event is in the second."""
    rec = recording({("T5", 10.3): -150.0, ("F4", 70.3): 150.0})
    half = rec.segments[0].n_times // 2
    stretches = dataclasses.replace(
        rec,
        segments=(Segment(0.0, half), Segment(0.0, half)),
        source=lambda segment, start, stop: rec.source(0, segment * half + start, segment * half + stop),
    )
    predicted({10.3: 2.0, 20.0: 1.0}, lambda second: "W")
    found = room.detect(checkpoint(), stretches).events
    np.testing.assert_allclose([e.peak_seconds for e in found], [10.3, 10.3, 20.0, 20.0], atol=0.1)
    assert {e.channel for e in found[:2]} == {"T5", "F4"}
