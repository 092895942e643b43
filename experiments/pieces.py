"""How long the pieces of a detection take beside what one would use instead: reading, filter, converter, network.

    taskset -c 0 python -m experiments.pieces          # one core, so that both sides have as many

A round runs each side once, one after the other; figures are medians over rounds, a ratio is the median of the rounds'
ratios. Beside other load, seconds by the clock grow and seconds of computing less: ratios are given of both.
"""

import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import mne
import numpy as np
import tyro
from jaxtyping import Float32
from scipy.signal import ShortTimeFFT, lfilter, oaconvolve

from experiments.pages import number, table, write_page
from experiments.provenance import made_by
from siamese_jax.checkpoints import Checkpoint, load
from siamese_jax.config.experiment import Config
from siamese_jax.detection.analysis import analyse, plan_analysis
from siamese_jax.detection.predict import make_predictor
from siamese_jax.recordings.edf import read_recording
from siamese_jax.recordings.edf_write import write_recording
from siamese_jax.signals.converter import convert
from siamese_jax.signals.preprocess import filter_taps, preprocess
from siamese_jax.vocabulary import LEADS_29

RESULTS = Path(__file__).parent / "results" / "speed"
SFREQ, BLOCKS = 500.0, 4
"""Of the file, as long-term monitoring writes it; minutes of signal at a time in filter and converter."""

Side = tuple[str, Callable[[], object]]
Piece = tuple[str, Side, Side, float]
"""What it is, ours, theirs, and the operations that ours needs (0 if it is bytes that count)."""


def in_turns(ours: Callable[[], object], theirs: Callable[[], object], rounds: int) -> dict[str, float]:
    """Median seconds of each by the clock and of computing, and the medians of their ratios, over rounds.

    Each runs once before, to be compiled and to find its file in memory.
    """
    seconds = np.zeros((rounds, 2, 2))
    for run in (ours, theirs):
        run()
    for i in range(rounds):
        for side, run in enumerate((ours, theirs)):
            began = time.perf_counter(), time.process_time()
            run()
            seconds[i, side] = time.perf_counter() - began[0], time.process_time() - began[1]
    clock, computing = np.moveaxis(seconds, 2, 0)
    return {
        "ours_seconds": float(np.median(clock[:, 0])),
        "theirs_seconds": float(np.median(clock[:, 1])),
        "ours_computing": float(np.median(computing[:, 0])),
        "theirs_computing": float(np.median(computing[:, 1])),
        "ratio": float(np.median(clock[:, 0] / clock[:, 1])),
        "computing_ratio": float(np.median(computing[:, 0] / computing[:, 1])),
    }


def pieces(model: Checkpoint, file: Path, out: Path) -> list[Piece]:
    """What is measured, on a recording at `file`; results of detections go to `out`."""
    dense = model.config.dense(60.0)
    assert dense is not None
    length = dense.n_times + 2 * dense.margin
    eeg = eeg_of(BLOCKS * length, len(dense.data.ch_names), seed=1).reshape(BLOCKS, length, -1)
    present = jnp.ones((BLOCKS, eeg.shape[2]), bool)

    @jax.jit
    def filtering(eeg: jax.Array) -> jax.Array:
        return preprocess(dense, eeg, present)[0]

    @jax.jit
    def converting(rows: jax.Array) -> jax.Array:
        return convert(dense, rows)

    rows = jax.block_until_ready(filtering(eeg))
    taps = filter_taps(dense, "eeg").astype(np.float32)[:, None]
    plan = plan_analysis(model, threshold=0.9)

    def read() -> object:
        recording = read_recording(file, ch_names=LEADS_29, sfreq=SFREQ)
        return recording.read(0, 0, recording.segments[0].n_times)

    def mne_read() -> mne.io.BaseRaw:
        return mne.io.read_raw_edf(file, preload=True, verbose="error")

    band = {"l_freq": 0.5, "h_freq": 55.0, "verbose": "error"}
    return [
        ("reading EDF, 29 leads", ("read_recording", read), ("mne.io.read_raw_edf", mne_read), 0.0),
        (
            "filter, montage and scale",
            ("preprocess", _run(filtering, eeg)),
            ("scipy.signal.oaconvolve, filter alone", lambda: [oaconvolve(one, taps, "same", axes=0) for one in eeg]),
            _operations(filtering, eeg),
        ),
        (
            "filter, montage and scale",
            ("preprocess", _run(filtering, eeg)),
            ("mne.filter.filter_data, filter alone", lambda: _mne_filter(eeg, dense.data.sfreq, band)),
            _operations(filtering, eeg),
        ),
        (
            "converter",
            ("convert", _run(converting, rows)),
            ("scipy.signal.ShortTimeFFT", lambda: _scipy_stft(np.asarray(rows), dense)),
            _operations(converting, rows),
        ),
        (
            "detection, everything included, 29 leads",
            ("analyse", lambda: analyse(file, out, plan, model)),
            ("mne, read and filter alone", lambda: mne_read().filter(**band)),
            0.0,
        ),
    ]


def windows_and_blocks(model: Checkpoint) -> Piece:
    """A minute of signal: by dense block, and by windows a second apart."""
    config, dense = model.config, model.config.dense(60.0)
    assert dense is not None
    predictor, n_chans = make_predictor(config, model.tasks), len(config.data.ch_names)
    lengths = dense.n_times + 2 * dense.margin, config.n_times + 2 * config.margin
    block, windows = eeg_of(lengths[0], n_chans)[None], np.stack([eeg_of(lengths[1], n_chans)] * 57)
    there = [np.ones((len(x), n_chans), bool) for x in (block, windows)]
    run = lambda x, present: jax.block_until_ready(predictor(model.variables, x, present))  # noqa: E731
    return (
        "forward, a minute",
        ("dense block", lambda: run(block, there[0])),
        ("57 windows, a second apart", lambda: run(windows, there[1])),
        _operations(predictor, model.variables, block, there[0]),
    )


def eeg_of(n_times: int, n_chans: int, *, seed: int = 0) -> Float32[np.ndarray, "time chan"]:
    """Noise with the slope of an EEG, 15 uV, some of it common to neighbours."""
    white = np.random.default_rng(seed).normal(size=(n_times, n_chans)).astype(np.float32)
    eeg = lfilter([1.0], [1.0, -0.97], white, axis=0)
    eeg = eeg + np.roll(eeg, 1, 1) + np.roll(eeg, -1, 1)
    return (15 * eeg / eeg.std()).astype(np.float32)


def peak_operations() -> float:
    """Operations a second of a product of matrices of 1,024 in float32, the best of ten."""
    a = np.ones((1024, 1024), np.float32)
    product, best = jax.jit(lambda x: x @ x), 0.0
    jax.block_until_ready(product(a))
    for _ in range(10):
        began = time.perf_counter()
        jax.block_until_ready(product(a))
        best = max(best, 2 * 1024**3 / (time.perf_counter() - began))
    return best


def page(tree: dict[str, Any]) -> str:
    """The figures as a page."""
    machine = tree["machine"]
    head = ("piece", "ours", "seconds", "against", "seconds", "ours / theirs, clock", "computing", "floor, seconds")
    rows = [
        (
            row["piece"],
            f"`{row['ours']}`",
            number(row["ours_seconds"]),
            row["theirs"],
            number(row["theirs_seconds"]),
            number(row["ratio"], 2),
            number(row["computing_ratio"], 2),
            number(row["floor_seconds"], 4),
        )
        for row in tree["pieces"]
    ]
    lines = [
        "# How long the pieces take",
        "",
        f"`{tree['command']}`, {tree['date']}, commit {tree['commit']}. {machine['processor']}, {machine['cores']} of"
        f" its cores, JAX {machine['jax']}, MNE {machine['mne']}; medians of {tree['rounds']} rounds in turns.",
        "",
        f"The load of the machine was {machine['load_before']:.1f} before and {machine['load_after']:.1f} after (its"
        f" {machine['all_cores']} cores are full at {machine['all_cores']}): where that is more than the run's own 1,"
        " seconds by the clock tell little, ratios more, and ratios of computing most.",
        "",
        f"A recording of {tree['minutes']:g} minutes, 29 leads at {SFREQ:g} Hz; filter and converter: {BLOCKS} blocks"
        " of a minute, 19 electrodes at 200 Hz. The floor is the operations that XLA counts over"
        f" {machine['gflops']:.0f} GFLOP/s, what a product of matrices reached here; a file's floor is not given.",
        "",
        *table(head, rows),
        "",
        "Not here: a twin of `small` in PyTorch, training, and accelerators.",
        "",
    ]
    return "\n".join(lines)


def main(*, minutes: float = 20.0, rounds: int = 7, out: Path = RESULTS) -> None:
    """Measure the pieces; write pieces.json and pieces.md.

    Args:
        minutes: Length of the recording.
        rounds: How often each side runs.
        out: Folder of the page.
    """
    if rounds < 5:
        raise SystemExit(f"--rounds must be 5 or more, given {rounds}: a median of fewer says little")
    model, load_before = load(), os.getloadavg()[0]
    peak = peak_operations()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "night.edf")
        write_recording(file, eeg_of(round(60 * minutes * SFREQ), 29), sfreq=SFREQ, ch_names=LEADS_29)
        measured = [
            {"piece": name, "ours": ours[0], "theirs": theirs[0], "floor_seconds": operations / peak or None}
            | in_turns(ours[1], theirs[1], rounds)
            for name, ours, theirs, operations in (*pieces(model, file, Path(folder, "out")), windows_and_blocks(model))
        ]
    machine = {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "all_cores": os.cpu_count(),
        "jax": jax.__version__,
        "mne": version("mne"),
        "gflops": peak / 1e9,
        "load_before": load_before,
        "load_after": os.getloadavg()[0],
    }
    command = f"taskset -c 0 python -m experiments.pieces --minutes {minutes:g} --rounds {rounds}"
    tree = made_by(command) | {"minutes": minutes, "rounds": rounds, "machine": machine, "pieces": measured}
    write_page(out, "pieces", tree, page)


def _run(function: Callable[..., object], *arguments: object) -> Callable[[], object]:
    return lambda: jax.block_until_ready(function(*arguments))


def _operations(compiled: Any, *arguments: object) -> float:
    return float(compiled.lower(*arguments).compile().cost_analysis()["flops"])


def _mne_filter(eeg: Float32[np.ndarray, "batch time chan"], sfreq: float, band: dict[str, Any]) -> Sequence[object]:
    return [mne.filter.filter_data(one.T.astype(np.float64), sfreq, **band) for one in eeg]


def _scipy_stft(rows: Float32[np.ndarray, "batch time row"], config: Config) -> object:
    (n_fft,) = config.converter.n_fft
    window = np.hanning(n_fft + 1)[:-1].astype(np.float32)
    return np.abs(ShortTimeFFT(window, config.converter.hop, config.sfreq).stft(rows, axis=1))


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.processor())


if __name__ == "__main__":
    tyro.cli(main)
