"""A BIDS data set of EEG as a source: `siamese-jax prepare FOLDER OUT`, where FOLDER/dataset_description.json is.

    sub-<label>/[ses-<label>/]eeg/sub-<label>_[...]_eeg.edf|.bdf|.vhdr|.set      a recording; sub-<label> is the patient
    ..._events.tsv, ..._events.json         marks and what their codes mean, by the inheritance principle
    ..._channels.tsv                        unit, type and status of each channel, likewise
    ..._hypnogram.tsv, _stages.tsv, _annotations.tsv      marks too, beside a recording
    derivatives/<pipeline>/sub-<label>/**   all these tables of marks, whatever their desc-<label>

Sources: BIDS 1.10, electroencephalography, events, common principles; `_hypnogram.tsv` is proposed (pull request 2208).

The file's own unit counts, if it is one of voltage: MNE-BIDS long wrote V into channels.tsv for files in microvolts
(its issue 81, pull request 1477). BrainVision and EEGLAB files are read through MNE, whole, if it is installed.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from siamese_jax.cohort.bids_files import (
    DESCRIPTION,
    OF_A_TABLE,
    OURS,
    SUFFIXES,
    applies,
    ending_of,
    entities_of,
    inherited,
    is_recording,
    participants,
    pipelines,
    read_json,
    seconds_before,
)
from siamese_jax.cohort.sources import Folder, Opened, few, reading_notes, refuse_link_to_nothing, with_origin
from siamese_jax.config.experiment import DataConfig
from siamese_jax.recordings.channels import FileChannel
from siamese_jax.recordings.edf import read_recording
from siamese_jax.recordings.read import files_of, is_edf
from siamese_jax.recordings.recording import Annotation, Recording
from siamese_jax.recordings.sidecars import NO_VALUE, ManifestRow, as_seconds, origin_of, table_rows
from siamese_jax.recordings.through_mne import read_through_mne
from siamese_jax.shards.labels import EventRule, StateRule
from siamese_jax.vocabulary import IED, channel_kind, standard_name, unit_factor

TABLES: tuple[str, ...] = ("hypnogram", "stages", "annotations", "events")
"""Endings of tables of marks; states are taken from the first of them that has some."""
STAGES: tuple[str, ...] = ("sleep_stage", "stage", "stage_hum", "majority")
"""Columns of stages, in small letters; the last two are those of the Bitbrain nights (OpenNeuro ds005555; RECALL)."""
TEXTS: tuple[str, ...] = (
    *("trial_type", *STAGES, "eventtype", "event_type", "annotation", "label", "text", "description"),
    *("annotation_type", "value"),
)
"""Columns that may say what a mark is, in small letters (`eventType` is SzCORE's); the first that a rule knows does."""
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
_BARE_STAGE = re.compile(r"[WRSN]\d?", re.IGNORECASE)
_STAGE_SECONDS = 1.0
"""`S1` is a stage if it lasts so long; else it is a trigger."""
_BOUNDARY = re.compile(r"boundary|new segment/.*", re.IGNORECASE)
_BOUNDARY_SECONDS = 1e-3
_KINDS = {"EEG": "eeg", "ECG": "ecg", "EMG": "emg", "EOG": "eog", "VEOG": "eog", "HEOG": "eog"}


class _Marks(NamedTuple):
    """What a table says."""

    path: Path
    marks: tuple[Annotation, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Bids(Folder):
    """The raw EEG of a BIDS data set, with the marks beside it and in its derivatives."""

    @property
    def title(self) -> str:
        """The data set's name."""
        return str(read_json(self.root / DESCRIPTION).get("Name") or super().title)

    def names(self) -> Sequence[str]:
        """Every `*_eeg` file where BIDS has it, fetched or not."""
        every = [p for pattern in ("sub-*/eeg/*", "sub-*/ses-*/eeg/*") for p in self.root.glob(pattern)]
        found = sorted(p.relative_to(self.root).as_posix() for p in every if is_recording(p))
        if not found:
            raise ValueError(f"{self.root} is a BIDS data set without EEG (sub-*/[ses-*/]eeg/*_eeg.edf, .bdf, ...)")
        return found

    def files(self, name: str) -> Sequence[Path]:
        """The recording, and all tables that say something about it."""
        path = self.root / name
        beside = inherited(self.root, path)
        tables = [*_of_ending("channels", beside)[:1], *self._tables(path, beside), *_dictionaries(beside)]
        return [*files_of(path), *tables]

    def open(self, name: str, data: DataConfig) -> Opened:
        """A recording and its marks."""
        path, entities = self.root / name, entities_of(self.root / name)
        refuse_link_to_nothing(path, advice=": fetch it first (datalad get)")
        if name.split("/")[0] != f"sub-{entities.get('sub')}":
            raise ValueError(f"its name is of sub-{entities.get('sub')}, its folder of {name.split('/')[0]}")
        beside, said_of_units = inherited(self.root, path), set[str]()
        table = _channel_table(_of_ending("channels", beside))
        if not is_edf(path):
            recording = read_through_mne(
                path,
                ch_names=data.ch_names,
                sfreq=data.sfreq,
                skips=lambda label: _why_not(label, table) is not None,
            )
            said_of_units |= {"its units are MNE's, not those of --units"} if self.units else set()
        else:
            recording = read_recording(
                path,
                ch_names=data.ch_names,
                sfreq=data.sfreq,
                units=self.units or None,
                amend=lambda channel: _amend(channel, table, said_of_units),
            )
        meanings = _meanings(_dictionaries(beside))
        late = seconds_before(path)
        tables = [self._marks(table_path, meanings, late) for table_path in self._tables(path, beside)]
        tables.append(_Marks(path, tuple(with_origin(recording.annotations)), ()))
        machine = [mark for table in tables for mark in table.marks if mark.origin == "machine"]
        marks, said = self._agreed(
            [t._replace(marks=tuple(m for m in t.marks if m.origin != "machine")) for t in tables]
        )
        row = self.manifest.get(name, ManifestRow())
        patient, patient_from = (row.patient, "manifest") if row.patient else (name.split("/")[0], "BIDS participant")
        searched = self._searched(
            marks, meanings, has_table=any(_of_ending(e, beside) for e in ("events", "annotations"))
        )
        searched |= {} if row.ied_labelled is None else {IED.name: row.ied_labelled}
        notes = dict.fromkeys(note for t in tables for note in t.notes)
        notes |= dict.fromkeys([*said, *sorted(said_of_units), *_channel_notes(recording, table)])
        notes = (*notes, *reading_notes(recording))
        return Opened(recording, (*marks, *machine), patient, patient_from, row.split, searched, notes)

    def notes(self) -> Sequence[str]:
        """What of the data set is not used, and which pipelines are."""
        recordings = self.names()
        subjects = {name.split("/")[0] for name in recordings}
        notes = [*participants(self.root / "participants.tsv", subjects)]
        read, own = pipelines(self.root)
        if read:
            notes.append(f"marks are taken from derivatives, too: {', '.join(folder.name for folder in read)}")
        notes += [f"derivatives/{folder.name} holds what {OURS} found: not learnt from" for folder in own]
        used = {path for name in recordings for path in self.files(name)}
        others = (path for path in sorted(self.root.glob("sub-*/**/eeg/*")) if path not in used)
        unused = [p for p in others if p.suffix.lower() in SUFFIXES or (p.suffix == ".tsv" and ending_of(p) in TABLES)]
        if unused:
            names = [path.relative_to(self.root).as_posix() for path in unused]
            notes.append(f"of no recording by their names: {few(names)}")
        return notes

    def _tables(self, path: Path, beside: Sequence[Path]) -> list[Path]:
        """Tables of marks: those beside the recording first, then those of derivatives."""
        own = [table for ending in TABLES for table in _of_ending(ending, beside)[:1]]
        entities, found = entities_of(path), []
        for folder in pipelines(self.root)[0]:
            every = sorted((folder / f"sub-{entities.get('sub')}").rglob("*.tsv"))
            found += [
                table
                for ending in TABLES
                for table in every
                if ending_of(table) == ending and applies(entities_of(table), entities, ignoring=OF_A_TABLE)
            ]
        return [*own, *found]

    def _marks(self, table: Path, meanings: Mapping[str, Mapping[str, str]], late: float) -> _Marks:
        """The marks of a table, in seconds from the first sample of the recording's file, gaps included (as in BIDS).

        A table of all parts of a recording counts from the first part, `late` seconds before this one.
        """
        if not table.stat().st_size:
            return _Marks(table, (), (f"its {ending_of(table)} table is empty",))
        late = 0.0 if "split" in entities_of(table) else late
        marks, notes = [], set()
        for line, row in table_rows(table, "\t", ("onset",)):
            if row["onset"].lower() in NO_VALUE:
                notes.add("marks without an onset are left out")
                continue
            onset = as_seconds(table, line, "onset", row["onset"])
            given = row.get("duration", "")
            duration = 0.0 if given.lower() in NO_VALUE else as_seconds(table, line, "duration", given)
            texts = [meanings.get(name, {}).get(row[name], row[name]) for name in TEXTS if name in row]
            texts = [text for text in texts if text.lower() not in NO_VALUE]
            if any(_NUMBER.fullmatch(row.get(name, "")) and row[name] not in meanings.get(name, {}) for name in STAGES):
                notes.add("stages are numbers that no events.json explains: not read")
            if not texts:
                notes.add("marks without a text are left out")
                continue
            known = (text for text in texts if any(rule.class_of(text) is not None for rule in self.rules))
            channel = row.get("channel", row.get("channels", ""))
            one = channel.lower() not in NO_VALUE and not re.search("[|,;]", channel)
            named = (standard_name(channel) or channel) if one else None
            origin = origin_of(table, line, row)
            marks.append(Annotation(onset - late, max(duration, 0.0), next(known, texts[0]), named, origin))
        return _Marks(table, tuple(with_origin(marks)), tuple(sorted(notes)))

    def _agreed(self, tables: Sequence[_Marks]) -> tuple[tuple[Annotation, ...], list[str]]:
        """One set of marks, with notes: of each state those of the first table with some; of events all."""
        kept = [[_plain(mark) for mark in table.marks if not _is_trigger(mark, table)] for table in tables]
        notes = set()
        if any(len(marks) < len(table.marks) for marks, table in zip(kept, tables, strict=True)):
            notes.add("short marks such as S1 or R are taken for triggers, not for stages")
        for rule in (rule for rule in self.rules if isinstance(rule, StateRule)):
            scored = [i for i, marks in enumerate(kept) if any(rule.class_of(mark.text) is not None for mark in marks)]
            for i in scored[:1]:
                kept[i], doubled = _one_at_a_time(rule, kept[i])
                notes |= {"some states are scored twice: the first that is listed counts"} if doubled else set()
            for i in scored[1:]:
                others = _states(rule, kept[i]) - _states(rule, kept[scored[0]])
                notes |= {f"other states than in {_short(tables[scored[0]].path)} are not used"} if others else set()
                kept[i] = [mark for mark in kept[i] if rule.class_of(mark.text) is None]
        # The same mark may stand in the file and in a table: the table's, which comes first, is kept.
        every = {(round(m.onset_seconds, 3), m.text, m.channel): m for marks in kept[::-1] for m in marks}
        return tuple(sorted(every.values(), key=lambda mark: mark.onset_seconds)), sorted(notes)

    def _searched(
        self, marks: Sequence[Annotation], meanings: Mapping[str, Mapping[str, str]], *, has_table: bool
    ) -> dict[str, bool]:
        """Events were looked for where some are marked or their dictionary knows them; not where states alone are."""
        states = [rule for rule in self.rules if isinstance(rule, StateRule)]
        others = {mark.text for mark in marks if all(rule.class_of(mark.text) is None for rule in states)}
        texts = others | {text for column in meanings.values() for text in column.values()}
        searched = {}
        for rule in (rule for rule in self.rules if isinstance(rule, EventRule)):
            if any(rule.class_of(text) is not None for text in texts):
                searched[rule.task.name] = True
            elif not (others or has_table):
                searched[rule.task.name] = False
        return searched


# --- marks ------------------------------------------------------------------------------------------------------


def _of_ending(ending: str, beside: Sequence[Path]) -> list[Path]:
    """The tables of one kind."""
    return [path for path in beside if path.suffix == ".tsv" and ending_of(path) == ending]


def _dictionaries(beside: Sequence[Path]) -> list[Path]:
    """What explains the events' columns, from the top down: the lower one counts."""
    return [path for path in beside[::-1] if path.suffix == ".json" and ending_of(path) == "events"]


def _meanings(dictionaries: Sequence[Path]) -> dict[str, dict[str, str]]:
    """By column and cell, what a cell means: a number's description, a word itself."""
    held: dict[str, Any] = {}
    for path in dictionaries:
        held |= read_json(path)
    meanings = {}
    for column, said in held.items():
        levels = said.get("Levels") if isinstance(said, dict) else None
        if column.lower() in TEXTS and isinstance(levels, dict):
            texts = {
                cell: text.get("Description", cell) if isinstance(text, dict) else text for cell, text in levels.items()
            }
            meanings[column.lower()] = {
                cell: text.strip() if _NUMBER.fullmatch(cell) and isinstance(text, str) else cell
                for cell, text in texts.items()
            }
    return meanings


def _plain(mark: Annotation) -> Annotation:
    """EEGLAB and BrainVision write a boundary where the recording was interrupted: no window may lie across it."""
    if mark.onset_seconds > 0 and _BOUNDARY.fullmatch(mark.text.strip()):
        return mark._replace(text="BAD boundary", duration_seconds=max(mark.duration_seconds, _BOUNDARY_SECONDS))
    return mark


def _is_trigger(mark: Annotation, table: _Marks) -> bool:
    """Whether a mark only looks like a stage: `S1` is a trigger of BrainVision's, and it has no duration."""
    is_hypnogram = ending_of(table.path) in ("hypnogram", "stages")
    bare = _BARE_STAGE.fullmatch(mark.text.strip()) is not None
    return bare and not is_hypnogram and mark.duration_seconds < _STAGE_SECONDS


def _short(path: Path) -> str:
    """A file's name without its subject: `desc-expert_events.tsv`."""
    described = entities_of(path).get("desc")
    return f"desc-{described}_{ending_of(path)}{path.suffix}" if described else f"{ending_of(path)}{path.suffix}"


def _states(rule: StateRule, marks: Sequence[Annotation]) -> set[tuple[float, str]]:
    """Where which state begins."""
    named = ((mark.onset_seconds, rule.class_of(mark.text)) for mark in marks)
    return {(round(onset, 2), state) for onset, state in named if state is not None}


def _one_at_a_time(rule: StateRule, marks: Sequence[Annotation]) -> tuple[list[Annotation], bool]:
    """The marks with one state of each onset, and whether another class was left out."""
    kept, first, doubled = [], {}, False
    for mark in marks:
        state = rule.class_of(mark.text)
        onset = round(mark.onset_seconds, 3)
        if state is None or first.setdefault(onset, mark) is mark:
            kept.append(mark)
        else:
            doubled |= state != rule.class_of(first[onset].text)
    return kept, doubled


# --- channels ---------------------------------------------------------------------------------------------------


def _channel_table(tables: Sequence[Path]) -> dict[str, Mapping[str, str]]:
    """Rows of the lowest channels.tsv by the channel's name as it stands there."""
    return {row["name"]: row for path in tables[:1] for _, row in table_rows(path, "\t", ("name",))}


def _said_of(label: str, table: Mapping[str, Mapping[str, str]]) -> Mapping[str, str]:
    """A channel's row: that of its label, or of the same electrode."""
    if label in table:
        return table[label]
    name = standard_name(label)
    return next((row for other, row in table.items() if name is not None and standard_name(other) == name), {})


def _why_not(label: str, table: Mapping[str, Mapping[str, str]]) -> str | None:
    """Why a channel must not be used, if so."""
    row = _said_of(label, table)
    if row.get("status", "").lower() == "bad":
        return "bad by channels.tsv"
    kind, name = row.get("type", "n/a").upper(), standard_name(label)
    # An EOG or ECG may well be called EEG there; what is no EEG there is none.
    wrong = kind not in _KINDS or (name is not None and channel_kind(name) == "eeg" and _KINDS[kind] != "eeg")
    if kind not in ("", "N/A") and wrong:
        return f"of type {kind} by channels.tsv"
    return None


def _amend(channel: FileChannel, table: Mapping[str, Mapping[str, str]], said: set[str]) -> FileChannel:
    """A channel with what the table says: its unit counts only where the file gives none of voltage."""
    unit, name = _said_of(channel.label, table).get("units", ""), standard_name(channel.label)
    own, other = unit_factor(channel.unit), unit_factor(unit)
    if name is not None and other is not None and own != other:
        differs = f"channels.tsv says {unit} where the file says {channel.unit or 'nothing'}"
        said.add(f"{differs}: {unit if own is None else channel.unit} is taken")
    unit = unit if own is None and other is not None else channel.unit
    return channel._replace(unit=unit, problem=channel.problem or _why_not(channel.label, table))


def _channel_notes(recording: Recording, table: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Which of the electrodes wanted must not be used by the table."""
    absent: dict[str, list[str]] = {}
    for name in recording.report.missing:
        reason = _why_not(name, table)
        if reason is not None:
            absent.setdefault(reason, []).append(name)
    return [f"{reason}, taken as absent: {', '.join(names)}" for reason, names in absent.items()]
