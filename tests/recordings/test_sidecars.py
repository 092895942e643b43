"""Tables beside recordings: who made a mark."""

import os
from pathlib import Path

import pytest

from siamese_jax.recordings.recording import Annotation
from siamese_jax.recordings.sidecars import listed, read_annotation_table

DETECTED = "onset,duration,peak,probability,channel,amplitude_uv,stage"


def read(tmp_path: Path, text: str) -> tuple[Annotation, ...]:
    path = tmp_path / "night.csv"
    path.write_text(text)
    return read_annotation_table(path)


def test_a_column_tells_who_made_a_mark(tmp_path: Path) -> None:
    rows = "1,IED,machine\n2,IED,Reviewed\n3,IED,human\n4,IED,\n5,IED,simulated\n"
    origins = [mark.origin for mark in read(tmp_path, f"onset,label,origin\n{rows}")]
    assert origins == ["machine", "reviewed", "human", "human", "simulated"]


def test_an_origin_that_is_none_is_refused_naming_the_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"night\.csv, line 3: origin must be one of human, machine, .*given 'me'"):
        read(tmp_path, "onset,label,origin\n1,IED,machine\n2,IED,me\n")


@pytest.mark.parametrize(("column", "cell", "origin"), [("", "", "machine"), (",origin", ",reviewed", "reviewed")])
def test_what_detect_found_is_a_machine_s_until_somebody_reviewed_it(
    tmp_path: Path, column: str, cell: str, origin: str
) -> None:
    (event,) = read(tmp_path, f"{DETECTED}{column}\n1.000,0.100,1.050,0.9300,Fp1,80.0,N2{cell}\n")
    assert event == Annotation(1.0, 0.1, "IED", "Fp1", origin)
    (stage,) = read(tmp_path, f"onset,duration,stage,probability{column}\n0.000,30.000,N2,0.9{cell}\n")
    assert stage == Annotation(0.0, 30.0, "Sleep stage N2", None, origin)


def test_a_folder_is_listed_anew_when_something_changed_in_it(tmp_path: Path) -> None:
    (tmp_path / "A.csv").touch()
    assert set(listed(tmp_path)) == {"a.csv"}
    (tmp_path / "a.CSV").touch()
    stat = tmp_path.stat()
    os.utime(tmp_path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))  # clocks of file systems may be coarse
    assert [path.name for path in listed(tmp_path)["a.csv"]] == ["A.csv", "a.CSV"]
