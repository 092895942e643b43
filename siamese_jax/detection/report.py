"""The review page of one detection: which events, groups, signal and marks stand in it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64

from siamese_jax.cohort.sources import annotations_of
from siamese_jax.detection.detect import Detection, Detections
from siamese_jax.detection.results import versions
from siamese_jax.recordings.recording import Annotation, Recording
from siamese_jax.recordings.texts import ied_meaning, sleep_meaning
from siamese_jax.review import clusters, field_map
from siamese_jax.review.packing import packed, steps
from siamese_jax.review.page import write_page
from siamese_jax.vocabulary import POSITIONS, standard_name

REPORT = "_report.html"
BLOCK_SECONDS = 10
LIMIT_BYTES = 40_000_000
"""Of packed signal: some two hours of 19 electrodes at 200 Hz, which browsers open in two seconds."""
PAGE_SECONDS = 10.0
MAP_SIZE, MAP_STEP = 41, 1e-4


class Report(NamedTuple):
    """A review page that was written."""

    path: Path
    size: int
    """Bytes."""
    left_out_seconds: float
    """Of the signal, which the page does not hold."""


def write_report(
    folder: Path,
    recording: Recording,
    detections: Detections,
    *,
    model: str,
    events_sha256: str,
    limit: int = LIMIT_BYTES,
) -> Report:
    """Write `<stem>_report.html`: clusters, averages, pages and the whole timeline, for a browser without a network.

    It holds the signal around each event, the most probable first, and then all of it, up to `limit` bytes of text; the
    page says what it does not hold. Of a patient's identity it holds the recording's name and the time of
    day; of marks in the recording what they mean, if that is a discharge or a stage.

    Args:
        folder: that is there.
        recording: that was analysed.
        detections: what was found.
        model: the checkpoint in words.
        events_sha256: of the table of events: verdicts name it, so that they are never merged with other events.
        limit: most bytes of packed signal.

    Raises:
        OSError: the folder cannot be written.
    """
    stem = recording.path.stem if recording.path else "array"
    present = [name for name, is_there in zip(recording.ch_names, recording.present, strict=True) if is_there]
    good = [name for name in present if name in POSITIONS and name not in detections.quality.mostly_bad]
    events = sorted((*detections.events, *detections.below), key=lambda event: event.peak_seconds)
    group, foci = _groups(recording, events, detections.threshold, good)
    data = {
        "name": stem,
        "events_sha256": events_sha256,
        "model": model,
        "versions": versions(),
        "sfreq": recording.sfreq,
        "electrodes": present,
        "positions": {name: POSITIONS[name] for name in present if name in POSITIONS},
        "scalp": good,
        "segments": [[s.onset_seconds, s.n_times] for s in recording.segments],
        "clock": _clock(recording),
        "recording_seconds": detections.recording_seconds,
        "analysed_seconds": detections.analysed_seconds,
        "end_seconds": max(s.onset_seconds + s.n_times / recording.sfreq for s in recording.segments),
        "threshold": detections.threshold,
        "threshold_origin": detections.threshold_origin,
        "notes": [*recording.report.warnings, *detections.quality.notes()],
        "missing": list(recording.report.missing),
        "columns": Detection._fields,
        "events": [_row(event) for event in events],
        "group": group,
        "clusters": [focus._asdict() for focus in foci],
        "hypnogram": [list(epoch) for epoch in detections.hypnogram],
        "bad": [list(stretch) for stretch in detections.quality.bad_stretches],
        **_marks(recording),
        "block_samples": _block_samples(recording),
        "map": {"size": MAP_SIZE, "step": MAP_STEP, "weights": _map(good)},
    }
    held: set[tuple[int, int]] = set()
    size = write_page(folder / f"{stem}{REPORT}", data, _packed_blocks(recording, events, detections, limit, held))
    n = _block_samples(recording)
    left_out = sum(
        min(n, segment.n_times - i * n) / recording.sfreq
        for s, segment in enumerate(recording.segments)
        for i in range(-(-segment.n_times // n))
        if (s, i) not in held
    )
    return Report(folder / f"{stem}{REPORT}", size, left_out)


def _row(event: Detection) -> list[Any]:
    """As in the table of events, so that a verdict names an event by the same figures."""
    return [
        *(f"{value:.3f}" for value in (event.onset_seconds, event.duration_seconds, event.peak_seconds)),
        *(round(event.probability, 4), event.channel, round(event.amplitude_uv, 1), event.stage or ""),
    ]


def _groups(
    recording: Recording, events: Sequence[Detection], threshold: float, electrodes: Sequence[str]
) -> tuple[list[int], list[clusters.Focus]]:
    """The group of each event and the focus of each group; groups are made of the events that the threshold takes."""
    if not electrodes or not events:
        return [clusters.OTHERS] * len(events), []
    fields = clusters.fields(recording, [event.peak_seconds for event in events], electrodes)
    taken = np.array([event.probability >= threshold for event in events])
    group = np.full(len(events), clusters.OTHERS)
    group[taken] = clusters.groups(fields[taken], np.array([e.probability for e in events])[taken])
    means = [fields[group == k].mean(0) for k in range(int(group.max(initial=-1)) + 1)]
    for i in np.flatnonzero(~taken):
        group[i] = clusters.nearest(fields[i], means)
    return group.tolist(), [clusters.focus(mean, electrodes) for mean in means]


def _map(electrodes: Sequence[str]) -> str:
    """Weights of the map of fields, packed; none of fewer than four electrodes, which make no map."""
    if len(electrodes) < 4:
        return ""
    weights = field_map.weights(electrodes, MAP_SIZE) / MAP_STEP
    outside = np.iinfo(np.int16).min
    return packed(np.where(np.isnan(weights), outside, np.rint(weights)).astype(np.int16))


def _clock(recording: Recording) -> float | None:
    """Seconds since midnight at the first sample: the time of day without the date."""
    start = recording.start_datetime
    return None if start is None else start.hour * 3600 + start.minute * 60 + start.second + start.microsecond / 1e6


def _marks(recording: Recording) -> dict[str, Any]:
    """A person's marks of discharges and stages by what they mean: their own texts may hold a name."""
    try:
        found = annotations_of(recording)[0]
    except (ValueError, OSError):  # damaged files beside the recording, which detection does not need
        found = recording.annotations
    people = [mark for mark in found if mark.origin != "machine"]
    rows = [(mark.onset_seconds, mark.duration_seconds, _meaning(mark), _electrode(mark)) for mark in people]
    known = [row for row in rows if row[2]]
    return {"marks": known, "marks_left_out": len(rows) - len(known)}


def _meaning(mark: Annotation) -> str:
    """`IED`, `IED?`, `stage N2`, or nothing."""
    stage = sleep_meaning(mark.text)
    return f"stage {stage}" if stage else {"ied": "IED", "doubt": "IED?"}.get(ied_meaning(mark.text) or "", "")


def _electrode(mark: Annotation) -> str:
    return standard_name(mark.channel or "") or ""


# --- signal ---------------------------------------------------------------------------------------------------


def _block_samples(recording: Recording) -> int:
    return round(BLOCK_SECONDS * recording.sfreq)


def _packed_blocks(
    recording: Recording, events: Sequence[Detection], detections: Detections, limit: int, held: set[tuple[int, int]]
) -> Iterator[tuple[str, str]]:
    """Blocks of the signal by name, until `limit` is reached; `held` gets those that are given."""
    n, size = _block_samples(recording), 0
    present = np.flatnonzero(recording.present)
    offsets = _offsets(recording)[present]
    for segment, index in _in_order_of_use(recording, events, detections.threshold):
        if (segment, index) in held:
            continue
        stop = min((index + 1) * n, recording.segments[segment].n_times)
        text = packed(steps(recording.read(segment, index * n, stop)[:, present] - offsets))
        size += len(text)
        if size > limit:
            return
        held.add((segment, index))
        yield f"{segment}-{index}", text


def _in_order_of_use(recording: Recording, events: Sequence[Detection], threshold: float) -> Iterator[tuple[int, int]]:
    """Segment and number of blocks: what averages need, then pages around events, then all; some come twice."""
    n = _block_samples(recording)
    onsets = np.array([segment.onset_seconds for segment in recording.segments])
    likely = sorted(events, key=lambda event: -event.probability)
    taken = [event for event in likely if event.probability >= threshold]
    for some, around in ((taken, 1.5), (taken, PAGE_SECONDS / 2), (likely, 1.5), (likely, PAGE_SECONDS / 2)):
        for event in some:
            segment = max(int(np.searchsorted(onsets, event.peak_seconds, side="right")) - 1, 0)
            n_times = recording.segments[segment].n_times
            edges = ((event.peak_seconds - onsets[segment] + side) * recording.sfreq for side in (-around, around))
            first, last = (min(max(int(edge), 0), n_times - 1) // n for edge in edges)
            yield from ((segment, index) for index in range(first, last + 1))
    for number, segment in enumerate(recording.segments):
        yield from ((number, index) for index in range(-(-segment.n_times // n)))


def _offsets(recording: Recording) -> Float64[np.ndarray, "chan"]:
    """The median of each channel in the first minute: steady offsets of an amplifier do not fit int16."""
    segment = max(range(len(recording.segments)), key=lambda i: recording.segments[i].n_times)
    stop = min(round(60 * recording.sfreq), recording.segments[segment].n_times)
    return np.median(np.nan_to_num(recording.read(segment, 0, stop)), 0).astype(np.float64)
