"""Samples as short text, which a browser unpacks with what it has: deflate, and a sum along time.

Microvolts become int16 steps of `STEP_UV`, then differences along time, then all low bytes before all high bytes
(the high bytes of differences are nearly all 0 or 255), then zlib, then base64.
"""

import base64
import zlib

import numpy as np
from jaxtyping import Float, Int16

STEP_UV = 0.5
"""Of routine EEG, whose amplifiers have noise of about 1 uV."""


def steps(eeg_uv: Float[np.ndarray, "time chan"]) -> Int16[np.ndarray, "time chan"]:
    """Microvolts as whole steps; what does not fit is held at 16.4 mV, what is no number becomes 0."""
    return np.clip(np.rint(np.nan_to_num(eeg_uv) / STEP_UV), -32_768, 32_767).astype(np.int16)


def packed(values: Int16[np.ndarray, "time chan"]) -> str:
    """The text of samples, one channel after another."""
    by_channel = np.ascontiguousarray(values.T)
    differences = np.diff(by_channel, axis=1, prepend=np.int16(0)).astype("<i2")  # wraps around, as the sum does
    shuffled = differences.view(np.uint8).reshape(-1, 2).T
    return base64.b64encode(zlib.compress(shuffled.tobytes(), 6)).decode()
