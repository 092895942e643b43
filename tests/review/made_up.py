"""Made-up recordings and detections with known waves, and their review pages."""

import datetime

import numpy as np

from siamese_jax.detection.detect import Detection, Detections, Epoch
from siamese_jax.detection.report import write_report
from siamese_jax.recordings.edf import read_recording
from siamese_jax.recordings.edf_write import write_recording
from siamese_jax.vocabulary import POSITIONS, TEN_TWENTY

SFREQ = 200.0
RISE_SECONDS, FALL_SECONDS = 0.03, 0.05
START = datetime.datetime(2020, 1, 2, 22, 30)


def field(name):
    """How much of a focus reaches each electrode: all of it at its own, little far away."""
    places = np.array([POSITIONS[e] for e in TEN_TWENTY])
    return np.exp(-((places - POSITIONS[name]) ** 2).sum(1) / 0.3)


def eeg_of(spikes, seconds, *, sfreq=SFREQ, noise_uv=3.0, seed=0):
    """Noise with a triangle at each (second, electrode, microvolts), and a slow wave of a third of it 200 ms after."""
    eeg = np.random.default_rng(seed).normal(0, noise_uv, (round(seconds * sfreq), 19))
    for second, name, uv in spikes:
        since = np.arange(len(eeg)) / sfreq - second
        near = np.abs(since) < 1
        up, down = 1 + since[near] / RISE_SECONDS, 1 - since[near] / FALL_SECONDS
        slow = np.where(np.abs(since[near] - 0.2) < 0.1, np.cos((since[near] - 0.2) * np.pi / 0.2) / 3, 0)
        eeg[near] += uv * (np.clip(np.minimum(up, down), 0, None) + slow)[:, None] * field(name)
    return eeg.astype(np.float32)


def recorded(folder, spikes, seconds, *, stem="night", annotations=(), **kwargs):
    """The same as an EDF file, read."""
    folder.mkdir(parents=True, exist_ok=True)
    eeg = eeg_of(spikes, seconds, **kwargs)
    write_recording(
        folder / f"{stem}.edf",
        eeg,
        sfreq=SFREQ,
        ch_names=TEN_TWENTY,
        annotations=annotations,
        start=START,
        patient_code="SECRET-CODE",
    )
    return read_recording(folder / f"{stem}.edf", ch_names=TEN_TWENTY, sfreq=SFREQ)


def found_of(spikes, seconds, *, probabilities=None, threshold=0.5, **more):
    """The detections that a perfect detector makes of them, in N2 in the first half and W after."""
    probabilities = [0.9] * len(spikes) if probabilities is None else probabilities
    rows = [
        Detection(second - 0.03, 0.08, second, p, name, uv * 0.9, "N2" if second < seconds / 2 else "W")
        for (second, name, uv), p in zip(spikes, probabilities, strict=True)
    ]
    epochs = [
        Epoch(t, "N2" if t < seconds / 2 else "W", 0.9, 30.0) for t in np.arange(0.0, seconds - 29, 30.0).tolist()
    ]
    return Detections(
        events=tuple(row for row in rows if row.probability >= threshold),
        hypnogram=tuple(epochs),
        recording_seconds=float(seconds),
        analysed_seconds=float(seconds),
        threshold=threshold,
        threshold_origin="given",
        below=tuple(row for row in rows if row.probability < threshold),
        **more,
    )


def report_of(folder, recording, found, **kwargs):
    """The page's path."""
    return write_report(folder, recording, found, **{"model": "test", "events_sha256": "0" * 64} | kwargs).path
