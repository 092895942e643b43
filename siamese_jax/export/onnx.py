"""`forward` as an ONNX file, through jax2onnx: the extra `onnx`."""

import contextlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from siamese_jax.config.experiment import Config

LIBRARIES = ("jax2onnx", "onnx", "onnxruntime")
TOO_NEW = (0, 12)
"""From this JAX on, jax2onnx (0.17.1, the newest there is) fails on names that JAX has moved."""


def check_onnx() -> None:
    """Raise a ValueError that says what to install, if a library is missing or does not fit JAX."""
    if jax.__version_info__ >= TOO_NEW:
        raise ValueError(f"ONNX needs a JAX before 0.12, here is {jax.__version__}: pip install 'jax<0.12'")
    missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"ONNX needs {', '.join(missing)}: pip install {' '.join(missing)}")


def onnx_config(config: Config) -> Config:
    """The same mathematics in terms that ONNX has: no Fourier transform, one depthwise convolution, float32."""
    return replace(
        config,
        preprocess=replace(config.preprocess, implementation="convolution"),
        converter=replace(config.converter, implementation="dft"),
        model=replace(config.model, depthwise="lax", dtype="float32"),
    )


def to_onnx(function: Callable[..., dict[str, Any]], config: Config, output_names: list[str]) -> bytes:
    """An ONNX file of a function of `eeg` and `present`, for batches of any size.

    Args:
        function: made for `onnx_config(config)`; gives arrays by name.
        config: of the model: the shape of a window.
        output_names: of the function, sorted.
    """
    n_times, n_chans = config.n_times + 2 * config.margin, len(config.data.ch_names)
    # Names for sizes are jax2onnx's way to say that they may be any.
    batch: Any = "batch"
    with _silence():
        import jax2onnx

        model: Any = jax2onnx.to_onnx(
            function,
            [
                jax.ShapeDtypeStruct((batch, n_times, n_chans), jnp.float32),
                jax.ShapeDtypeStruct((batch, n_chans), jnp.bool_),
            ],
            model_name="siamese_jax",
            input_names=["eeg", "present"],
            output_names=output_names,
        )
    # The converter's notes on shapes in between mix up axes; ONNX Runtime finds the right ones, and warns of these.
    del model.graph.value_info[:]
    return model.SerializeToString()


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """The converter prints thousands of lines of debugging, and logs what it skips of libraries that are not used."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
