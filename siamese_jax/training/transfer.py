"""Starting a run from a trained checkpoint: what is restored, what is adapted, what begins afresh, what cannot fit."""

from collections.abc import Iterable
from fractions import Fraction
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from siamese_jax.checkpoints import Checkpoint
from siamese_jax.config.experiment import Config, differences
from siamese_jax.models.build import chosen_tasks, frozen_parameters
from siamese_jax.models.inputs import Path, for_scaled_input, row_axis
from siamese_jax.pipeline import Variables
from siamese_jax.signals.converter import frequencies
from siamese_jax.signals.preprocess import row_names
from siamese_jax.vocabulary import TaskSpec

MUST_AGREE = (
    *("model.name", "model.size", "model.width", "model.dilations", "model.shared_stages", "model.pooling"),
    *("converter.kind", "converter.amplitude"),
)
"""Fields that decide what a parameter means; between other values of them, none can be handed on."""
IN_WORDS = ("data.ch_names", "model.sleep_tasks")
"""Fields whose difference the text states in other words."""
NO_NUMBER_DEPENDS = ("preprocess.implementation", "converter.implementation", "model.depthwise", "model.remat")
PARTS = {"shared": "stem", "electron": "electron", "sleep": "sleep", "fusion": "fusion"}
"""What the parts of the network are called, by the beginning of their layers' names; heads bear their task's."""


class Transfer(NamedTuple):
    """What became of the parameters of a run that starts from a checkpoint.

    Attributes:
        restored: number of parameters taken over as they were, by name (`shared_0/Conv_0/Conv_0/kernel`).
        adapted: those taken over row by row: how many were taken over, of how many.
        fresh: those that start at random, as without a checkpoint.
        frozen: names of those that training leaves as they are.
        origin: the checkpoint's step, and what it was trained on.
        notes: what is to be known: rows, heads, parts left out, settings that differ.
    """

    restored: dict[str, int]
    adapted: dict[str, tuple[int, int]]
    fresh: dict[str, int]
    frozen: frozenset[str]
    origin: str
    notes: tuple[str, ...]

    def text(self) -> str:
        """A line for each part of the network, then what is to be known."""
        lines = [f"start     {self.origin}; parameters:"]
        names = (*self.restored, *self.adapted, *self.fresh)
        for part in sorted(set(map(_part, names)), key=lambda p: ((*PARTS.values(), p).index(p), p)):
            rows = [counts for name, counts in self.adapted.items() if _part(name) == part]
            taken = _total(self.restored, part) + sum(n for n, _ in rows)
            new = _total(self.fresh, part) + sum(of - n for n, of in rows)
            said = [f"{n:,} {what}" for n, what in ((taken, "restored"), (new, "fresh")) if n]
            said += ["frozen"] if any(_part(name) == part for name in self.frozen) else []
            lines.append(f"  {part:<14}{', '.join(said)}")
        return "\n".join([*lines, *self.notes])


def transfer(
    source: Checkpoint, config: Config, tasks: tuple[TaskSpec, ...], fresh: Variables
) -> tuple[Variables, Transfer]:
    """Variables for a run of `config` that begin as a trained checkpoint's, and what became of each of them.

    A parameter or batch statistic is restored where the checkpoint has one of the same name. A head is restored if its
    task is the same and it reads the same features. Weights that count montage rows are carried over row by row, by the
    rows' names, so that a recording of which only the common rows are there gets the checkpoint's output. At another
    rate whose bins and frames are the same in Hz and seconds, the first layer follows the magnitude, which is a plain
    sum over samples.

    Args:
        source: from `checkpoints.load`.
        config: of the new run.
        tasks: definitions of its tasks.
        fresh: its initial variables, random.

    Raises:
        ValueError: a checkpoint that cannot fit (another network, other bins or frames), or one that lacks what
            `config.freeze` names; what differs is named, and the setting that would fit where there is one.
    """
    differing = differences(source.config, config)
    rows, theirs = row_names(config), row_names(source.config)
    _check_network(differing)
    if config.model.has_branches:
        _check_rate(source.config, config)
    else:
        _check_same_input(source.config, config, same_rows=rows == theirs)
    learnt = _by_path(for_scaled_input(source.config, source.variables, config.sfreq / source.config.sfreq))
    heads, head_notes = _kept_heads(source, config, tasks, differing)
    common = sum(row in theirs for row in rows)
    values, restored, adapted, begun = {}, {}, {}, {}
    for path, start in _by_path(fresh).items():
        axis, name, counts = row_axis(config, path), "/".join(path[1:]), path[0] == "params"
        by_rows = axis is not None and rows != theirs
        if path not in learnt or (path[1].startswith("head_") and path[1] not in heads) or (by_rows and not common):
            values[path] = start
            begun |= {name: start.size} if counts else {}
        elif by_rows:
            values[path] = _by_rows(start, learnt[path], axis, rows, theirs)
            adapted[name] = (start.size // len(rows) * common, start.size)
        elif start.shape == learnt[path].shape:
            values[path] = learnt[path]
            restored |= {name: start.size} if counts else {}
        else:
            raise ValueError(f"the checkpoint does not fit: {name} is {learnt[path].shape} there, {start.shape} here")
    frozen = frozenset("/".join(p) for p, yes in _by_path(frozen_parameters(config, fresh["params"])).items() if yes)
    _check_frozen(config, frozen, begun, adapted)
    notes = (*_row_notes(rows, theirs), *head_notes, *_left_out(learnt, values), *_differences(differing))
    origin = f"step {source.step} of a model trained on: {'; '.join(source.trained_on)}"
    done = Transfer(restored, adapted, begun, frozen, origin, notes)
    return jax.tree.unflatten(jax.tree.structure(fresh), values.values()), done


# --- what cannot fit -------------------------------------------------------------------------------------------


def _check_network(differing: dict[str, str]) -> None:
    wrong = [f"{path}: {differing[path]}" for path in MUST_AGREE if path in differing]
    if wrong:
        raise ValueError(f"the checkpoint's parameters do not fit this network: {'; '.join(wrong)}")


def _check_same_input(there: Config, here: Config, *, same_rows: bool) -> None:
    """Which parameters hang on rows and rate is known of `siamese_es` alone."""
    if not same_rows or (there.sfreq, there.converter) != (here.sfreq, here.converter):
        raise ValueError(
            "this network can start from a checkpoint only with the same rows, rate and converter:"
            f" {there.preprocess.montage} of {', '.join(there.data.ch_names)} at {there.sfreq:g} Hz, {there.converter}"
        )


def _check_rate(there: Config, here: Config) -> None:
    """Refuse bins that differ in Hz, or frames that differ in seconds; name settings that would do."""
    bins, ours = frequencies(there), frequencies(here)
    ratio = Fraction(str(here.sfreq)) / Fraction(str(there.sfreq))
    wanted = [ratio * n for n in (*there.converter.n_fft, there.converter.stride)]
    given = [*here.converter.n_fft, here.converter.stride]
    same_bins = len(bins) == len(ours) and all(abs(a - b) < 1e-6 for a, b in zip(bins, ours, strict=True))
    if same_bins and there.frame_seconds == here.frame_seconds and (there.converter.half == 0 or wanted == given):
        if ratio != 1 and there.converter.amplitude == "log":
            raise ValueError(
                f"the checkpoint learnt from log magnitudes at {there.sfreq:g} Hz, which differ at {here.sfreq:g} Hz:"
                f" only converter.amplitude='magnitude' can change its rate; use {_rate_setting(here, there.sfreq)}"
            )
        return
    learnt = f"{_hz(bins)} every {there.frame_seconds * 1e3:g} ms (n_fft and hop at {there.sfreq:g} Hz:"
    learnt += f" {' '.join(map(str, there.converter.n_fft))} and {there.converter.hop})"
    found = f"{_hz(ours)} every {here.frame_seconds * 1e3:g} ms"
    whole = all(n.denominator == 1 for n in wanted) and all(n % 2 == 0 for n in wanted[:-1])
    if there.converter.half == 0 or not whole or max(bins) > here.sfreq / 2:
        advice = f"nothing at {here.sfreq:g} Hz fits: use {_rate_setting(here, there.sfreq)}"
    else:
        settings = {"n_fft": tuple(map(int, wanted[:-1])), "hop": int(wanted[-1])}
        if here.converter.band_hz != there.converter.band_hz:
            settings["band_hz"] = (min(bins), max(bins))
        changed = {name: value for name, value in settings.items() if value != getattr(here.converter, name)}
        advice = f"at {here.sfreq:g} Hz use {', '.join(f'converter.{k}={_spaced(v)}' for k, v in changed.items())}"
    raise ValueError(f"the checkpoint's first layer reads {learnt}; given are {found}: {advice}")


def _spaced(value: int | tuple[float, ...]) -> str:
    """A value as the command line takes it."""
    return " ".join(f"{x:g}" for x in value) if isinstance(value, tuple) else str(value)


def _rate_setting(config: Config, sfreq: float) -> str:
    if config.data.sfreq >= sfreq:
        return f"preprocess.sfreq={sfreq:g}"
    return f"data.sfreq={sfreq:g} (and `siamese-jax prepare` with --sfreq {sfreq:g})"


def _hz(bins: tuple[float, ...]) -> str:
    return f"{len(bins)} bins from {min(bins):g} to {max(bins):g} Hz"


def _check_frozen(
    config: Config, frozen: frozenset[str], fresh: dict[str, int], adapted: dict[str, tuple[int, int]]
) -> None:
    unknown = [name for name in fresh if name in frozen]
    unknown += [name for name, (taken, of) in adapted.items() if name in frozen and taken < of]
    if unknown:
        parts = ", ".join(dict.fromkeys(map(_part, unknown)))
        raise ValueError(
            f"freeze={config.freeze} would keep random weights: the checkpoint has not all of {parts}"
            f" (it lacks {unknown[0]} or some of its rows); leave that part out of freeze"
        )


# --- what is taken over ----------------------------------------------------------------------------------------


def _kept_heads(
    source: Checkpoint, config: Config, tasks: tuple[TaskSpec, ...], differing: dict[str, str]
) -> tuple[set[str], list[str]]:
    """Names of the heads that are restored, and why the others are not."""
    there = {task.name: task for task in chosen_tasks(source.config, source.tasks)}
    kept, notes = set(), []
    for task in chosen_tasks(config, tasks):
        of_state = task.name in config.model.sleep_tasks
        if task.name not in there:
            reason = "the checkpoint has no such task"
        elif there[task.name] != task:
            old = there[task.name]
            reason = f"{old.kind} {' '.join(old.classes)} there, {task.kind} {' '.join(task.classes)} here"
        elif of_state != (task.name in source.config.model.sleep_tasks):
            reason = "it reads another branch"
        elif not of_state and "model.fusion" in differing:
            reason = f"it reads other features: model.fusion {differing['model.fusion']}"
        else:
            kept.add(f"head_{task.name}")
            continue
        notes.append(f"fresh     head_{task.name}: {reason}")
    return kept, notes


def _by_rows(start: Array, learnt: Array, axis: int | None, rows: tuple[str, ...], theirs: tuple[str, ...]) -> Array:
    """`start` with the learnt values of the rows that both have, which stand in for as many rows as there are now."""
    assert axis is not None
    shape = (*start.shape[:axis], len(rows), -1, *start.shape[axis + 1 :])
    result = start.reshape(shape)
    old = learnt.reshape((*shape[:axis], len(theirs), *result.shape[axis + 1 :]))
    both = [(here, theirs.index(row)) for here, row in enumerate(rows) if row in theirs]
    here, there = map(jnp.array, zip(*both, strict=True))
    at = (slice(None),) * axis
    return result.at[(*at, here)].set(old[(*at, there)] * (len(theirs) / len(rows))).reshape(start.shape)


def _row_notes(rows: tuple[str, ...], theirs: tuple[str, ...]) -> list[str]:
    if rows == theirs:
        return []
    common, new = [r for r in rows if r in theirs], [r for r in rows if r not in theirs]
    if not common:
        return [f"rows      none of {' '.join(rows)} among the checkpoint's: all weights by place are fresh"]
    return [f"rows      {' '.join(common)} restored" + (f"; {' '.join(new)} fresh" if new else "")]


def _differences(differing: dict[str, str]) -> list[str]:
    shown = (path for path in differing if path.startswith(("data.", "preprocess.", "converter.", "model.")))
    return [f"differs   {path}: {differing[path]}" for path in shown if path not in (*IN_WORDS, *NO_NUMBER_DEPENDS)]


def _left_out(learnt: Iterable[Path], used: Iterable[Path]) -> list[str]:
    left = dict.fromkeys(_part("/".join(path[1:])) for path in set(learnt) - set(used))
    return [f"left out  {', '.join(sorted(left))}"] if left else []


def _by_path(tree: PyTree) -> dict[Path, Any]:
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {tuple(key.key for key in path): leaf for path, leaf in leaves}


def _part(name: str) -> str:
    layer = name.split("/")[0]
    return PARTS.get(layer.split("_")[0], layer)


def _total(parameters: dict[str, int], part: str) -> int:
    return sum(n for name, n in parameters.items() if _part(name) == part)
