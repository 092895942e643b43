"""The head: what a current dipole in the brain does to the electrodes.

Four concentric spheres - brain, cerebrospinal fluid, skull, scalp - for which the potential of a dipole is a Legendre
series (Rush and Driscoll, Anesth Analg 1968;47:717; Zhang, Phys Med Biol 1995;40:335). A degree's transfer through the
shells follows from two conditions at every boundary: the potential and the radial current are continuous, and no
current leaves the scalp. Lengths are in units of the head's radius unless a name says otherwise; x points to the right
ear, y to the nose, z up.

A skull defect cannot be a concentric sphere. It is a gain of the leads around it, the larger the faster the activity
(Cobb et al., Electroencephalogr Clin Neurophysiol 1979;47:251: breach rhythm; RECALL): a simple approximation.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float

HEAD_RADIUS_CM = 9.2
RADII = (8.0 / 9.2, 8.1 / 9.2, 8.6 / 9.2, 1.0)
"""Outer radii of brain, fluid, skull, scalp: 8.0, 8.1, 8.6, 9.2 cm (Nunez and Srinivasan 2006; RECALL)."""
CONDUCTIVITY_S_PER_M = (0.33, 1.65, 0.33 / 40, 0.33)
"""The same book: fluid 5 times the brain; skull 1/20 to 1/80 of it, here 1/40 (RECALL)."""
CORTEX_DEPTH_CM = 1.6
"""Where a cortical patch lies below the scalp: 4 mm below the fluid, in the crown of a gyrus (INFERENCE)."""
N_TERMS = 120
"""Degrees of the series. The deepest truncation that matters is a dipole at 0.94: 0.94^120 is 6e-4."""

_BESA_DEGREES = {
    **{"Fp1": (-92, -72), "Fp2": (92, 72), "F3": (-60, -51), "F4": (60, 51), "C3": (-46, 0), "C4": (46, 0)},
    **{"P3": (-60, 51), "P4": (60, -51), "O1": (-92, 72), "O2": (92, -72), "F7": (-92, -36), "F8": (92, 36)},
    **{"T3": (-92, 0), "T4": (92, 0), "T5": (-92, 36), "T6": (92, -36), "Fz": (46, 90), "Cz": (0, 0)},
    **{"Pz": (46, -90), "PG1": (-140, -50), "PG2": (140, 50), "A1": (-118, 12), "A2": (118, -12)},
}
"""Angle from the vertex (negative on the left) and azimuth: BESA's standard sphere for the 10-20 system (RECALL).
The ears lie below T3 and T4, the nasopharyngeal leads below the front of the brain (INFERENCE)."""


def _position(inclination: float, azimuth: float) -> tuple[float, float, float]:
    theta, phi = np.radians([inclination, azimuth])
    return (float(np.sin(theta) * np.cos(phi)), float(np.sin(theta) * np.sin(phi)), float(np.cos(theta)))


LEAD_POSITIONS: dict[str, tuple[float, float, float]] = {
    name: _position(*degrees) for name, degrees in _BESA_DEGREES.items()
}
"""Unit vector to each of the 23 EEG leads of LEADS_29."""

SCALP_LEADS = tuple(name for name in LEAD_POSITIONS if name not in ("PG1", "PG2", "A1", "A2"))


@dataclass(frozen=True)
class SkullDefect:
    """A hole in the skull, after surgery or an injury: leads near `centre` see more, above all of what is fast."""

    centre: tuple[float, float, float]  # unit vector
    gain: float  # at the centre for fast activity; at most 3 (RECALL 7.2)
    width_cm: float = 3.0  # standard deviation of the gain over the scalp (INFERENCE)

    def gains(
        self, positions: Float[np.ndarray, "chan 3"], frequency_hz: Float[np.ndarray, "freq"]
    ) -> Float[np.ndarray, "chan freq"]:
        """Factor on the potential at each position: from half of the excess at 0 Hz to all of it above 10 Hz."""
        angle = np.arccos(np.clip(positions @ np.array(self.centre), -1, 1))
        near = np.exp(-0.5 * (angle * HEAD_RADIUS_CM / self.width_cm) ** 2)
        fast = 0.5 + 0.5 * np.clip(frequency_hz / 10.0, 0.0, 1.0)
        return 1 + (self.gain - 1) * near[:, None] * fast


@dataclass(frozen=True)
class Head:
    """A spherical head, whole or with a defect of the skull."""

    radii: tuple[float, ...] = RADII
    conductivity_s_per_m: tuple[float, ...] = CONDUCTIVITY_S_PER_M
    defect: SkullDefect | None = None

    def lead_field(
        self,
        positions: Float[np.ndarray, "source 3"],
        moments_nam: Float[np.ndarray, "source 3"],
        ch_names: tuple[str, ...],
    ) -> Float[np.ndarray, "chan source"]:
        """Microvolts at each lead against infinity from a dipole each; the skull is whole (see `breach_gain`).

        Args:
            positions: Within the innermost shell, in head radii.
            moments_nam: In nA m.
            ch_names: EEG leads, of LEAD_POSITIONS.
        """
        leads = lead_positions(ch_names)
        radius = np.linalg.norm(positions, axis=1)
        outward = positions / np.maximum(radius, 1e-9)[:, None]
        cosine = np.clip(leads @ outward.T, -1, 1)
        radial = (moments_nam * outward).sum(1)
        # The tangential moment times the sine of the angle between source and lead.
        tangential = leads @ (moments_nam - radial[:, None] * outward).T
        series_radial, series_tangential = _series(
            cosine, radius, shell_transfer(self.radii, self.conductivity_s_per_m)
        )
        metres = HEAD_RADIUS_CM / 100
        microvolts_per_nam = 1e-3 / (4 * np.pi * self.conductivity_s_per_m[0] * metres**2)
        return microvolts_per_nam * (series_radial * radial + series_tangential * tangential)

    def breach_gain(
        self, ch_names: tuple[str, ...], frequency_hz: Float[np.ndarray, "freq"]
    ) -> Float[np.ndarray, "chan freq"]:
        """What the defect does to each lead at each frequency: a factor on every brain potential; 1 without one."""
        if self.defect is None:
            return np.ones((len(ch_names), len(frequency_hz)))
        return self.defect.gains(lead_positions(ch_names), frequency_hz)

    def patch_field(
        self,
        centre: tuple[float, float, float],
        extent_cm: float,
        ch_names: tuple[str, ...],
        *,
        orientation: tuple[float, float, float] | None = None,
        depth_cm: float = CORTEX_DEPTH_CM,
        frequency_hz: float = 10.0,
    ) -> Float[np.ndarray, "chan"]:
        """The field of a patch of cortex, scaled so that the largest magnitude at the 19 scalp leads is 1.

        A radial patch (the crown of gyri) is positive above itself. A patch whose current runs along the cortex (the
        wall of a sulcus) is positive on the side to which it flows and negative on the other. The scale is that of a
        whole skull: a defect makes the field larger than 1.

        Args:
            centre: Direction from the middle of the head to the middle of the patch; of any length but 0.
            extent_cm: Diameter of the patch along the cortex.
            ch_names: EEG leads, of LEAD_POSITIONS.
            orientation: Direction of the current, the same all over the patch; of any length but 0. None: outwards.
            depth_cm: Of the patch below the scalp.
            frequency_hz: Of the activity, for a skull defect.
        """
        points = _disc(np.array(centre) / np.linalg.norm(centre), extent_cm / (HEAD_RADIUS_CM - depth_cm))
        moments = points if orientation is None else np.tile(np.array(orientation, float), (len(points), 1))
        names = (*ch_names, *SCALP_LEADS)
        field = self.lead_field(points * (1 - depth_cm / HEAD_RADIUS_CM), moments, names).sum(1)
        field /= np.abs(field[len(ch_names) :]).max()
        return field[: len(ch_names)] * self.breach_gain(ch_names, np.array([frequency_hz]))[:, 0]


def lead_positions(ch_names: tuple[str, ...]) -> Float[np.ndarray, "chan 3"]:
    """Unit vectors to EEG leads; KeyError for a lead that is none."""
    return np.array([LEAD_POSITIONS[name] for name in ch_names]).reshape(-1, 3)


def direction(x: float, y: float) -> tuple[float, float, float]:
    """Unit vector to a place on the flat 10-20 map (vocabulary.POSITIONS), whose unit circle is the equator."""
    theta, phi = np.pi / 2 * np.hypot(x, y), np.arctan2(y, x)
    return (float(np.sin(theta) * np.cos(phi)), float(np.sin(theta) * np.sin(phi)), float(np.cos(theta)))


@lru_cache
def shell_transfer(radii: tuple[float, ...], conductivity: tuple[float, ...]) -> Float[np.ndarray, "degree"]:
    """The scalp potential of degree 1, 2, ... relative to that in a homogeneous sphere of the brain's conductivity.

    A shell's potential is `a r^n + b r^-(n+1)`. From the scalp, where the current across is 0, potential and current
    are carried inwards; b of the brain then says how strong a source it takes.
    """
    n = np.arange(1, N_TERMS + 1, dtype=float)
    a, b = (n + 1) / (2 * n + 1), n / (2 * n + 1)  # the potential at r = 1 is 1
    for i in range(len(radii) - 1, 0, -1):
        r = radii[i - 1]
        potential = a * r**n + b * r ** -(n + 1)
        current = conductivity[i] / conductivity[i - 1] * (n * a * r**n - (n + 1) * b * r ** -(n + 1))
        a = ((n + 1) * potential + current) / (2 * n + 1) * r**-n
        b = (n * potential - current) / (2 * n + 1) * r ** (n + 1)
    transfer = n / (2 * n + 1) / b
    transfer.flags.writeable = False
    return transfer


def _series(
    cosine: Float[np.ndarray, "chan source"],
    radius: Float[np.ndarray, "source"],
    transfer: Float[np.ndarray, "degree"],
) -> tuple[Float[np.ndarray, "chan source"], Float[np.ndarray, "chan source"]]:
    """Sums over n of (2n+1)/n transfer radius^(n-1) times n P_n, and times dP_n/dx, by recurrence."""
    radial, tangential = np.zeros_like(cosine), np.zeros_like(cosine)
    before, legendre = np.ones_like(cosine), cosine.copy()  # P_(n-1), P_n
    slope_before, slope = np.zeros_like(cosine), np.ones_like(cosine)
    power = np.ones_like(radius)
    for n, share in enumerate(transfer, start=1):
        weight = (2 * n + 1) / n * share * power
        radial += n * weight * legendre
        tangential += weight * slope
        before, legendre = legendre, ((2 * n + 1) * cosine * legendre - n * before) / (n + 1)
        slope_before, slope = slope, slope_before + (2 * n + 1) * before
        power = power * radius
    return radial, tangential


def _disc(centre: Float[np.ndarray, "3"], extent_radians: float) -> Float[np.ndarray, "point 3"]:
    """Unit vectors spread evenly over a cap around `centre`: a sunflower of 61 points."""
    k = np.arange(61)
    polar = np.arccos(1 - (1 - np.cos(min(extent_radians / 2, np.pi))) * (k + 0.5) / len(k))
    turn = k * np.pi * (3 - np.sqrt(5))
    side = np.cross(centre, np.eye(3)[np.abs(centre).argmin()])
    side /= np.linalg.norm(side)
    ring = np.cos(turn)[:, None] * side + np.sin(turn)[:, None] * np.cross(centre, side)
    return np.cos(polar)[:, None] * centre + np.sin(polar)[:, None] * ring
