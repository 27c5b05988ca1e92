"""Power-function averages and any other profile from snapshots of them: Karras et al. 2024, "Analyzing and
improving the training dynamics of diffusion models", section 3 and algorithms 2 and 3. Torch-free.

A profile of relative width sigma_rel at time t weighs the weights of time s <= t by (gamma + 1) s^gamma /
t^(gamma + 1); time is samples.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

SAMPLES_DIGITS = 12
# A profile must be narrower; the plain mean of all weights (gamma = 0) has 1 / sqrt(12) = 0.289.
WIDEST = 0.28


def exponent(sigma_rel: float) -> float:
    """gamma of a profile whose standard deviation is `sigma_rel` of the run so far.

    (gamma + 1) / ((gamma + 2)^2 (gamma + 3)) = sigma_rel^2.
    """
    inverse = sigma_rel**-2
    return float(np.roots([1.0, 7.0, 16.0 - inverse, 12.0 - inverse]).real.max())


def overlap(
    a_times: ArrayLike, a_exponents: ArrayLike, b_times: ArrayLike, b_exponents: ArrayLike
) -> NDArray[np.float64]:
    """The integral over s of the product of two profiles, times in samples; arguments [...] broadcast."""
    ta, ga, tb, gb = (np.asarray(x, dtype=np.float64) for x in (a_times, a_exponents, b_times, b_exponents))
    power = np.where(ta < tb, gb, -ga)
    return np.asarray((ga + 1) * (gb + 1) * (ta / tb) ** power / ((ga + gb + 1) * np.maximum(ta, tb)))


def coefficients(
    times: ArrayLike, sigma_rels: ArrayLike, time: float, sigma_rel: float
) -> NDArray[np.float64]:
    """Weights [N] of the profiles at `times` [N] (samples) of widths `sigma_rels` [N] whose sum is nearest to
    the wanted one in least squares, scaled to add up to 1.
    """
    t = np.asarray(times, dtype=np.float64)
    gammas = np.array([exponent(s) for s in np.atleast_1d(np.asarray(sigma_rels, np.float64))])
    products = overlap(t[:, None], gammas[:, None], t[None, :], gammas[None, :])
    wanted = overlap(t, gammas, time, exponent(sigma_rel))
    found = np.linalg.solve(products, wanted)
    return np.asarray(found / found.sum())


def snapshot_files(directory: Path) -> dict[int, Path]:
    """The snapshots below `directory` by samples, oldest first."""
    found = sorted(directory.glob("[0-9]*.safetensors")) if directory.is_dir() else []
    return {int(path.stem): path for path in found}


def snapshot_name(samples: int) -> str:
    """The file name of the snapshot at `samples`."""
    return f"{samples:0{SAMPLES_DIGITS}d}.safetensors"
