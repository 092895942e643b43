"""Events grouped by focus: those whose fields on the head look alike.

The field of an event is its potential at the electrodes at its peak, against their average. Two fields are compared by
the cosine of the angle between them, which ignores size and distinguishes negative from positive. Readers judge
groups faster and more reliably than events one by one (Kural et al. 2022, Epilepsia: 93-97 % specificity).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Float64, Int

from siamese_jax.recordings.recording import Recording
from siamese_jax.vocabulary import POSITIONS

ALIKE = 0.7
"""Least cosine of a field and its group's mean field."""
LEAST_EVENTS, LEAST_SHARE = 2, 0.01
"""A group has so many events, and this share of all."""
AROUND_SECONDS, PEAK_SECONDS = 0.5, 0.01
"""The baseline is the median of the first on either side; the peak is the mean of the second on either side."""
MOST_GROUPS = 200
"""That are looked at: events of noise alone would make one each."""
NEIGHBOUR_SHARE, FIELD_SHARE = 0.8, 0.5
"""From this share of the largest potential on, an electrode names the focus, or belongs to its field."""
MIDLINE = 0.15
"""How far from the middle of a head of radius 1 a field's centre may lie to be neither left nor right."""
OTHERS = -1
"""Events whose field is like no other's."""


class Focus(NamedTuple):
    """Where on the head a group of events is."""

    name: str
    """One or two electrodes with the largest potential: `F7-T3`."""
    side: str
    """`left`, `right` or `midline`."""
    polarity: str
    """`negative` or `positive`, at the first of the electrodes."""


def fields(
    recording: Recording, peaks_seconds: Sequence[float], electrodes: Sequence[str]
) -> Float64[np.ndarray, "event electrode"]:
    """Microvolts against the average of `electrodes` at each peak.

    Args:
        recording: that holds all peaks.
        peaks_seconds: from the recording's start, gaps included; each within a segment.
        electrodes: names of the recording's channels.
    """
    chans = [recording.ch_names.index(name) for name in electrodes]
    sfreq, out = recording.sfreq, np.zeros((len(peaks_seconds), len(chans)))
    onsets = np.array([segment.onset_seconds for segment in recording.segments])
    reach, near = round(AROUND_SECONDS * sfreq), round(PEAK_SECONDS * sfreq)
    for i, seconds in enumerate(peaks_seconds):
        index = max(int(np.searchsorted(onsets, seconds + 0.5 / sfreq)) - 1, 0)
        segment = recording.segments[index]
        peak = min(max(round((seconds - segment.onset_seconds) * sfreq), 0), segment.n_times - 1)
        first = max(peak - reach, 0)
        eeg: Float32[np.ndarray, "time chan"] = recording.read(index, first, min(peak + reach, segment.n_times))
        eeg = np.nan_to_num(eeg[:, chans])
        field = eeg[max(peak - near - first, 0) : peak + near + 1 - first].mean(0) - np.median(eeg, 0)
        out[i] = field - field.mean()
    return out


def groups(
    fields_uv: Float[np.ndarray, "event electrode"], probability: Float[np.ndarray, "event"]
) -> Int[np.ndarray, "event"]:
    """The group of each event: 0 has the most events; `OTHERS` are like no group.

    Events start groups from the most probable down, groups that are alike become one, and then each event moves to the
    mean field that it is most like.
    """
    units = fields_uv / np.maximum(np.linalg.norm(fields_uv, axis=1, keepdims=True), 1e-9)
    sums, means, n = np.zeros_like(units), np.zeros_like(units), 0
    for unit in units[np.argsort(-probability, kind="stable")]:
        likeness = means[:n] @ unit
        k = int(likeness.argmax()) if n and likeness.max() >= ALIKE else n
        n = max(n, k + 1)
        sums[k] += unit
        means[k] = sums[k] / max(float(np.linalg.norm(sums[k])), 1e-9)
    sums = sums[np.argsort(-np.linalg.norm(sums[:n], axis=1), kind="stable")[:MOST_GROUPS]]
    while len(sums) > 1:
        likeness = _means(sums) @ _means(sums).T - 2 * np.eye(len(sums))
        one, other = sorted(divmod(int(likeness.argmax()), len(sums)))
        if likeness[one, other] < ALIKE:
            break
        sums[one] += sums[other]
        sums = np.delete(sums, other, axis=0)
    if not len(sums):
        return np.zeros(0, int)
    likeness = units @ _means(sums).T
    group = np.where(likeness.max(1) >= ALIKE, likeness.argmax(1), OTHERS)
    sizes = np.bincount(group[group >= 0], minlength=len(sums))
    least = max(LEAST_EVENTS, LEAST_SHARE * len(units))
    kept = [k for k in np.argsort(-sizes, kind="stable") if sizes[k] >= least]
    number = {int(old): new for new, old in enumerate(kept)}
    return np.array([number.get(int(k), OTHERS) for k in group], int)


def _means(sums: Float[np.ndarray, "group electrode"]) -> Float[np.ndarray, "group electrode"]:
    return sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)


def nearest(field_uv: Float[np.ndarray, "electrode"], means: Sequence[Float[np.ndarray, "electrode"]]) -> int:
    """The group whose mean field an event is like, or `OTHERS`: for events that groups were not made of."""
    size = max(float(np.linalg.norm(field_uv)), 1e-9)
    likeness = [float(mean @ field_uv) / size / max(float(np.linalg.norm(mean)), 1e-9) for mean in means]
    best = int(np.argmax(likeness)) if likeness else OTHERS
    return best if likeness and likeness[best] >= ALIKE else OTHERS


def focus(field_uv: Float[np.ndarray, "electrode"], electrodes: Sequence[str]) -> Focus:
    """Where a mean field is largest."""
    order = np.argsort(-np.abs(field_uv), kind="stable")
    largest = float(field_uv[order[0]])
    share = field_uv / largest if largest else np.zeros_like(field_uv)
    named = [str(electrodes[i]) for i in order[:2] if share[i] >= NEIGHBOUR_SHARE or i == order[0]]
    within = share >= FIELD_SHARE
    xs = np.array([POSITIONS[name][0] if name in POSITIONS else 0.0 for name in electrodes])
    centre = float((share[within] * xs[within]).sum() / share[within].sum()) if within.any() else 0.0
    side = "midline" if abs(centre) < MIDLINE else "left" if centre < 0 else "right"
    return Focus("-".join(named), side, "negative" if largest < 0 else "positive")
