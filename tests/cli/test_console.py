"""What every command shows: its mistakes, and progress as a bar in a terminal or a line now and then in a log file."""

import io
import os
import re
import signal
import subprocess
import sys

import pytest

from siamese_jax.cli import console


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("siamese_jax.cli.console.time.monotonic", clock)
    return clock


@pytest.mark.parametrize(
    ("error", "said", "code"),
    [
        (KeyboardInterrupt(), "interrupted; the same command resumes", 130),
        (ValueError("a.edf is no EDF"), "error: a.edf is no EDF", 3),
        (PermissionError(13, "Permission denied", "a.edf"), "error: a.edf cannot be opened: permission denied", 3),
        (OSError("no answer"), "error: no answer", 3),
    ],
)
def test_a_command_that_does_not_end_well_says_one_sentence(capsys, error, said, code):
    def command() -> int:
        raise error

    with pytest.raises(SystemExit) as caught:
        console.run(command)
    assert (capsys.readouterr().err, caught.value.code) == (said + "\n", code)


def steps(clock, progress, numbers, *, seconds_each, total=1000, what="step {}"):
    for number in numbers:
        clock.now += seconds_each
        progress(what.format(number), number, total)


def test_what_is_said_is_in_the_log_file_at_once(tmp_path):
    """Where Python was not told to (PYTHONUNBUFFERED): a run of days would be silent, and a killed one for ever."""
    told = "import os, signal; from siamese_jax.cli.console import run"
    work = "print('goes on from step 8') or os.kill(os.getpid(), signal.SIGKILL)"
    with (tmp_path / "log").open("w") as log:
        command = [sys.executable, "-c", f"{told}; run(lambda: {work})"]
        done = subprocess.run(command, stdout=log, env=os.environ | {"PYTHONUNBUFFERED": ""}, check=False)
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "log").read_text() == "goes on from step 8\n"


def test_a_log_file_gets_a_line_now_and_then_and_the_last_one(clock, capsys):
    with console.progress_bar() as progress:
        steps(clock, progress, range(1, 201), seconds_each=1)
        assert capsys.readouterr().err.splitlines() == [
            f"step {k} {k / 10:.0f} %, 0:{(1000 - k) // 60:02d}:{(1000 - k) % 60:02d} left" for k in range(30, 201, 30)
        ]
    assert capsys.readouterr().err == "step 200 20 %, 0:13:20 left\n"


def test_time_left_in_a_log_file_is_right_after_a_resume_and_where_steps_are_slow(clock, capsys):
    with console.progress_bar() as progress:
        steps(clock, progress, range(601, 604), seconds_each=100)  # the first one compiles, and does not count
        found = capsys.readouterr().err.splitlines()
    assert found == ["step 601 60 %", "step 602 60 %, 11:03:20 left", "step 603 60 %, 11:01:40 left"]


def test_what_begins_anew_is_timed_anew(clock, capsys):
    with console.progress_bar() as progress:
        steps(clock, progress, range(0, 101), seconds_each=10, total=100, what="evaluating validation")
        steps(clock, progress, [10, 20], seconds_each=40, total=100, what="evaluating test")
    assert capsys.readouterr().err.splitlines()[-2:] == ["evaluating test 10 %", "evaluating test 20 %, 0:05:20 left"]


def test_what_takes_no_time_leaves_one_line_and_what_does_nothing_none(clock, capsys):
    with console.progress_bar() as progress:
        steps(clock, progress, [5, 10], seconds_each=1, total=10)
    assert capsys.readouterr().err == "step 10 100 %\n"
    with console.progress_bar() as progress:
        pass
    assert capsys.readouterr().err == ""


def test_the_last_line_is_there_when_a_command_fails(clock, capsys):
    with pytest.raises(KeyError), console.progress_bar() as progress:
        steps(clock, progress, [5], seconds_each=1)
        raise KeyError
    assert capsys.readouterr().err == "step 5 0 %\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_time_left_in_a_terminal_is_right_after_a_resume_and_where_steps_are_slow(monkeypatch):
    clock, terminal = Clock(), Terminal()
    monkeypatch.setattr("rich.console.monotonic", clock)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    with console.progress_bar() as progress:
        steps(clock, progress, range(601, 604), seconds_each=100)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    last = text.replace("\n", "\r").rstrip("\r").split("\r")[-1]
    assert re.fullmatch(r"step 603 .* 60 % 11:01:40\s*", last), last
