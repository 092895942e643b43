"""Where events come from: patches of cortex below named electrodes, and the fields that they make."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from data_tools.simulator.head import CORTEX_DEPTH_CM, HEAD_RADIUS_CM, LEAD_POSITIONS, SCALP_LEADS, Head, lead_positions


class Patch(NamedTuple):
    """A patch of cortex; together with others it makes a field."""

    leads: tuple[str, ...]  # it lies below the middle of these
    extent_cm: float  # diameter along the cortex
    gain: float = 1.0
    tilt: float = 0.0  # weight of a tangential dipole besides the radial one
    towards: str = ""  # the lead to which the tangential dipole points: it is positive there
    depth_cm: float = CORTEX_DEPTH_CM
    muscle: bool = False  # on the skull and not below it: see `_muscle_field`

    @property
    def centre(self) -> Float[np.ndarray, "3"]:
        """Direction of its middle from the middle of the head, not of unit length."""
        return np.mean([LEAD_POSITIONS[name] for name in self.leads], axis=0)


def field(
    patches: Sequence[Patch],
    head: Head,
    ch_names: tuple[str, ...],
    *,
    shift: Float[np.ndarray, "3"],
    frequency_hz: float = 10.0,
) -> Float[np.ndarray, "chan"]:
    """The sum of the patches' fields, all of them shifted by `shift` head radii.

    Scaled so that the largest magnitude at the 19 scalp leads would be 1 below a whole skull; a defect of the skull
    then magnifies what comes from below, the more the faster (`frequency_hz`).
    """
    whole = Head(head.radii, head.conductivity_s_per_m)
    names = (*ch_names, *SCALP_LEADS)
    total = np.zeros(len(names))
    for patch in patches:
        centre = patch.centre + shift
        if patch.muscle:
            total += patch.gain * _muscle_field(centre, patch.extent_cm, names)
            continue
        orientation = None
        if patch.tilt:
            radial = centre / np.linalg.norm(centre)
            there = np.array(LEAD_POSITIONS[patch.towards])
            along = there - (there @ radial) * radial
            orientation = _vector(radial + patch.tilt * along / np.linalg.norm(along))
        total += patch.gain * whole.patch_field(
            _vector(centre), patch.extent_cm, names, orientation=orientation, depth_cm=patch.depth_cm
        )
    gain = 1.0
    if not any(patch.muscle for patch in patches):
        gain = head.breach_gain(ch_names, np.array([frequency_hz]))[:, 0]
    return gain * total[: len(ch_names)] / np.abs(total[len(ch_names) :]).max()


def _muscle_field(
    centre: Float[np.ndarray, "3"], extent_cm: float, ch_names: tuple[str, ...]
) -> Float[np.ndarray, "chan"]:
    """Muscle fibres close their current locally: a bell of standard deviation `extent_cm` on the scalp (INFERENCE)."""
    cosine = lead_positions(ch_names) @ (centre / np.linalg.norm(centre))
    return np.exp(-0.5 * (HEAD_RADIUS_CM * np.arccos(np.clip(cosine, -1, 1)) / extent_cm) ** 2)


def _vector(xyz: Float[np.ndarray, "3"]) -> tuple[float, float, float]:
    return (float(xyz[0]), float(xyz[1]), float(xyz[2]))
