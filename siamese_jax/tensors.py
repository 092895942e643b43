"""Named arrays in a safetensors file, which holds numbers and nothing that could run. The only importer of safetensors.

A tree's arrays are named by their path: `params/head_ied/kernel`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from siamese_jax import files

DTYPES = {"F32": "float32", "F64": "float64", "F16": "float16", "BF16": "bfloat16", "BOOL": "bool"}
"""Names of types in a file and in NumPy; others go by the name in the file."""

MAX_HEADER_BYTES = 1 << 20
"""Names, shapes and notes of 700 arrays, the `paper` size, take 90 kB."""


def named(tree: PyTree) -> dict[str, Any]:
    """The leaves of a tree by the names on their path, joined by slashes."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {"/".join(str(getattr(key, "key", key)) for key in path): leaf for path, leaf in leaves}


def write_tensors(path: Path, arrays: Mapping[str, Any], *, notes: Mapping[str, str]) -> None:
    """Write arrays, and notes beside them, into one file, whole or not at all."""
    # A copy where needed: the library takes what lies in memory, in whatever order.
    content = save({name: np.ascontiguousarray(x) for name, x in arrays.items()}, metadata=dict(notes))
    with files.replacing(path) as file:
        file.write(content)


def read_tensors(path: Path, like: PyTree) -> tuple[PyTree, dict[str, str]]:
    """The arrays of a file as a tree, and its notes.

    Args:
        path: what `write_tensors` wrote, or anything else.
        like: arrays or shapes that the file must hold, no more and no less.

    Raises:
        ValueError: no safetensors file, or other names, shapes or types than `like`. Nothing is read before all of
            them fit, so what a header claims is never allocated.
    """
    wanted = named(like)
    least = sum(x.size * x.dtype.itemsize for x in wanted.values())
    if path.stat().st_size > least + MAX_HEADER_BYTES:
        raise ValueError(f"{path} has {path.stat().st_size} bytes, where the configured parameters need {least}")
    try:
        with safe_open(path, framework="numpy") as file:
            check_fits(path, like, {name: _claimed(file.get_slice(name)) for name in file.keys()})
            arrays = [file.get_tensor(name) for name in wanted]
            notes = dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is no safetensors file, or damaged: {error}") from None
    return jax.tree.unflatten(jax.tree.structure(like), arrays), notes


def check_fits(source: Path, like: PyTree, there: Mapping[str, tuple[tuple[int, ...], str]]) -> None:
    """Hold shapes and types by name against those of a tree.

    Raises:
        ValueError: naming `source` and the first five that differ.
    """
    wanted = {name: (tuple(x.shape), str(x.dtype)) for name, x in named(like).items()}
    wrong = [name for name in sorted(wanted.keys() | there.keys()) if wanted.get(name) != there.get(name)]
    if wrong:
        texts = [
            f"{name[:200]!r}: {_text(there.get(name))} saved, {_text(wanted.get(name))} configured"
            for name in wrong[:5]
        ]
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise ValueError(f"{source}: parameters do not fit config.json: " + "; ".join(texts) + more)


def _claimed(piece: Any) -> tuple[tuple[int, ...], str]:
    dtype = str(piece.get_dtype())
    return tuple(piece.get_shape()), DTYPES.get(dtype, dtype)


def _text(entry: tuple[tuple[int, ...], str] | None) -> str:
    if entry is None:
        return "absent"
    shape, dtype = entry
    return str(shape) if dtype == "float32" else f"{shape} of type {dtype[:20]!r}"
