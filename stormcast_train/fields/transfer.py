"""What a regridding does to waves: the part of the amplitude that arrives, by wavelength, measured from its
weights.

A plane wave is taken as exp(i k x), so that every phase is in it; it is summed by the weights and compared
with the same wave at the target's points. Shapes: N target points, M contributions, S source points.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from stormcast_train.base.errors import RequestError
from stormcast_train.fields.grid import EARTH_RADIUS_M, Grid
from stormcast_train.fields.regrid import Method, Regrid, build

LENGTHS = (2, 3, 4, 6, 8, 12, 16)  # target grid lengths
DIRECTIONS_DEGREES = (0.0, 30.0, 60.0, 90.0, 120.0, 150.0)
MOST_POINTS = 4096
GOLDEN = (np.sqrt(5) - 1) / 2
DAMPED = 0.9  # of the amplitude: a wave that keeps less is called damped

Floats = NDArray[np.float64]


def transfer_table(
    regrid: Regrid | Method | Callable[[Grid, Grid], Regrid], source: Grid, target: Grid
) -> list[dict[str, float]]:
    """One row a wavelength, shortest first: how much of a plane wave's amplitude arrives from `source` on
    `target`.

    wavelength_lengths and source_lengths (wavelength in grid lengths of either grid), wavelength_km;
    amplitude (the part that arrives in phase, mean of six directions), amplitude_low and amplitude_high (of
    the directions); error (root mean square of the difference, relative to the wave's). `regrid` is made
    weights, a method's name, or what makes them from two grids. RequestError where the weights are maxima or
    no target point is covered.
    """
    weights = _weights(regrid, source, target)
    if weights.method == "max":
        raise RequestError(
            "a maximum has no transfer function, for it is no weighted sum; ask for another method"
        )
    rows_N = _sample(weights)
    spacing_m, source_m = (float(np.sqrt(np.prod(grid.spacing_m))) for grid in (target, source))
    counts_N = np.diff(weights.indptr)[rows_N]
    place_M = (
        np.arange(counts_N.sum())
        - np.repeat(np.cumsum(counts_N) - counts_N, counts_N)
        + np.repeat(weights.indptr[rows_N], counts_N)
    )
    used_S, member_M = np.unique(weights.indices[place_M], return_inverse=True)
    middle = float(np.mean(target.lat2d)), float(target.lon2d[target.shape[0] // 2, target.shape[1] // 2])
    at_N, at_S = _plane_m(target, rows_N, middle), _plane_m(source, used_S, middle)
    starts_N = np.cumsum(counts_N) - counts_N

    def arriving(wave_S: NDArray[np.complex128]) -> NDArray[np.complex128]:
        return np.add.reduceat(wave_S[member_M] * weights.weights[place_M], starts_N)

    return [_row(lengths, spacing_m, source_m, at_S, at_N, arriving) for lengths in LENGTHS]


def _weights(regrid: Regrid | Method | Callable[[Grid, Grid], Regrid], source: Grid, target: Grid) -> Regrid:
    if isinstance(regrid, Regrid):
        return regrid
    return build(source, target, regrid) if isinstance(regrid, str) else regrid(source, target)


def describe_transfer(method: str, table: Sequence[Mapping[str, float]]) -> str:
    """One sentence: "bilinear 2.0 km to 2.0 km damps the shortest 4 grid lengths: 0.30 of the amplitude
    arrives at 2, ...".
    """
    shortest = table[0]
    target_km = shortest["wavelength_km"] / shortest["wavelength_lengths"]
    source_km = shortest["wavelength_km"] / shortest["source_lengths"]
    damped = [row for row in table if row["amplitude"] < DAMPED]
    head = f"{method} {source_km:.1f} km to {target_km:.1f} km"
    if not damped:
        return (
            f"{head} keeps {shortest['amplitude']:.0%} or more of the amplitude of every wave of "
            f"{shortest['wavelength_lengths']:g} grid lengths"
        )
    shown = ", ".join(f"{row['amplitude']:.2f} at {row['wavelength_lengths']:g}" for row in table)
    return (
        f"{head} damps the shortest {damped[-1]['wavelength_lengths']:g} grid lengths; amplitude that "
        f"arrives: {shown}"
    )


def _sample(weights: Regrid) -> NDArray[np.int64]:
    """Covered target cells, `MOST_POINTS` at most, strewn by the golden section so that no pattern of the
    grids is met in step.
    """
    covered = np.flatnonzero(~weights.outside)
    if not covered.size:
        raise RequestError(
            "the source covers no target point, so no transfer can be measured; take a target inside the "
            "source"
        )
    if covered.size <= MOST_POINTS:
        return covered
    return np.asarray(
        covered[np.unique((np.arange(MOST_POINTS) * GOLDEN % 1.0 * covered.size).astype(np.int64))]
    )


def _plane_m(grid: Grid, points: NDArray[np.int64], middle: tuple[float, float]) -> Floats:
    """Metres [point, 2] eastward and northward of the middle, the meridians taken as parallel."""
    lat, lon = grid.lat2d.ravel()[points], grid.lon2d.ravel()[points]
    east = np.radians((lon - middle[1] + 180.0) % 360.0 - 180.0) * np.cos(np.radians(middle[0]))
    return np.asarray(np.stack([east, np.radians(lat - middle[0])], axis=-1) * EARTH_RADIUS_M)


def _row(
    lengths: int,
    spacing_m: float,
    source_m: float,
    at_S: Floats,
    at_N: Floats,
    arriving: Callable[[NDArray[np.complex128]], NDArray[np.complex128]],
) -> dict[str, float]:
    gains, errors = [], []
    for degrees in DIRECTIONS_DEGREES:
        direction = np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])
        k = 2 * np.pi / (lengths * spacing_m) * direction  # rad/m, eastward and northward
        relative_N = arriving(np.exp(1j * (at_S @ k))) * np.exp(-1j * (at_N @ k))
        gains.append(float(relative_N.mean().real))
        errors.append(float(np.mean(np.abs(relative_N - 1) ** 2)))
    return {
        "wavelength_lengths": float(lengths),
        "wavelength_km": lengths * spacing_m / 1000,
        "source_lengths": lengths * spacing_m / source_m,
        "amplitude": float(np.mean(gains)),
        "amplitude_low": min(gains),
        "amplitude_high": max(gains),
        "error": float(np.sqrt(np.mean(errors))),
    }
