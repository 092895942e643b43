"""A BIDS data set written file by file."""

import json
import zlib
from pathlib import Path

import numpy as np

from siamese_jax.recordings.edf_write import write_recording
from siamese_jax.recordings.recording import Annotation
from tests.recordings.in_memory import noise

CH_NAMES = ("Fp1", "Cz", "O2")


def data_set(root: Path, **description: object) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    held = {"Name": "Sleep in a suitcase", "BIDSVersion": "1.10.0"} | description
    (root / "dataset_description.json").write_text(json.dumps(held))
    return root


def edf(root: Path, name: str, *marks: Annotation, seconds: int = 20) -> Path:
    """`sub-01/eeg/sub-01_task-rest_eeg.edf`, say: noise that no other name gives."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    signal = noise(seconds * 100, seed=zlib.crc32(name.encode()), n_chans=len(CH_NAMES))
    write_recording(path, signal, sfreq=100.0, ch_names=CH_NAMES, annotations=marks, patient_code="Somebody")
    return path


def table(root: Path, name: str, *rows: tuple[object, ...]) -> Path:
    """Rows of a TSV file, its header among them."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join("\t".join(map(str, row)) + "\n" for row in rows), encoding="utf-8")
    return path


def brainvision(root: Path, stem: str, eeg_uv: np.ndarray, *markers: str, ch_names=CH_NAMES) -> Path:
    """The three files of BrainVision's core format 1.0, 16 bit, 0.1 uV a step, 250 Hz."""
    path = root / f"{stem}.vhdr"
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = "".join(f"Ch{i}={name},,0.1,µV\n" for i, name in enumerate(ch_names, start=1))
    path.write_text(
        "Brain Vision Data Exchange Header File Version 1.0\n\n[Common Infos]\nCodepage=UTF-8\n"
        f"DataFile={path.stem}.eeg\nMarkerFile={path.stem}.vmrk\nDataFormat=BINARY\nDataOrientation=MULTIPLEXED\n"
        f"NumberOfChannels={len(ch_names)}\nSamplingInterval=4000\n\n[Binary Infos]\nBinaryFormat=INT_16\n\n"
        f"[Channel Infos]\n{channels}",
        encoding="utf-8",
    )
    lines = "".join(f"Mk{i}={marker}\n" for i, marker in enumerate(markers, start=1))
    path.with_suffix(".vmrk").write_text(
        "Brain Vision Data Exchange Marker File, Version 1.0\n\n[Common Infos]\nCodepage=UTF-8\n"
        f"DataFile={path.stem}.eeg\n\n[Marker Infos]\n{lines}",
        encoding="utf-8",
    )
    path.with_suffix(".eeg").write_bytes(np.rint(eeg_uv / 0.1).astype("<i2").tobytes())
    return path
