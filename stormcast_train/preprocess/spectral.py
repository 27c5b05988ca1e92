"""The driver low-passed to the effective resolution of the model used in operation; the only module of this
floor that uses torch.

The response in amplitude is a Gaussian of the total wavenumber k, exp(-t k^2), t set so that the wavelength
`cutoff_km` keeps half its power: a positive kernel on the plane and on the sphere (the heat equation's), so
nothing overshoots at a mountain or a front. A global field is filtered by spherical harmonics, k^2 = l (l +
1) / radius^2; a regional one without its linear trend and mirrored at its edges, by cosine transforms along
each direction with the local spacing, k^2 = kx^2 + ky^2.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormcast_train.base.errors import RequestError
from stormcast_train.fields.grid import EARTH_RADIUS_M, Grid
from stormcast_train.preprocess.driver_blur import linear_trend

Array = NDArray[np.float64]
CROP_UP_TO_LATITUDE = 75.0  # nearer to a pole the columns of a regular grid crowd: no plane describes it
NOTHING = 1e-6  # of the amplitude: harmonics that keep less are left out
SHORTEST_GLOBAL = 5.5  # rows: from here on the overshoot of a step on the grid is below 0.5 %
ALIASES = 3  # further images of the response across the grid's shortest wave are below 1e-16


def blur(values_YX: NDArray[np.float32], grid: Grid, cutoff_km: float) -> NDArray[np.float32]:
    """The field [y, x] on this grid with only half the power at wavelength `cutoff_km`, less below and more
    above; float32.

    NaN stays NaN: the mean is then taken over the present cells. 0 km changes nothing.
    """
    if values_YX.shape != grid.shape:
        raise RequestError(
            f"a field of shape {values_YX.shape} cannot be blurred on a grid of {grid.shape}; they must agree"
        )
    if not np.isfinite(cutoff_km) or cutoff_km < 0:
        raise RequestError(f"a blur's cutoff_km must be a wavelength of 0 km or more; it is {cutoff_km}")
    missing = np.isnan(values_YX)
    if cutoff_km == 0 or missing.all():
        return np.array(values_YX, dtype=np.float32)
    low_pass = _global(grid, cutoff_km) if is_global(grid) else _regional(grid, cutoff_km)
    exact = values_YX.astype(np.float64)
    if not missing.any():
        return low_pass(exact).astype(np.float32)
    trend = linear_trend(exact)  # what is left is near zero, so that the cells filled with zero pull little
    weight = np.maximum(low_pass((~missing).astype(np.float64)), np.finfo(np.float32).tiny)
    out = low_pass(np.where(missing, 0.0, exact - trend)) / weight + trend
    return np.where(missing, np.nan, out).astype(np.float32)


def is_global(grid: Grid) -> bool:
    """Whether a regular grid goes round the earth and from pole to pole, poles included."""
    if not grid.regular or min(grid.shape) < 3:
        return False
    poles = np.allclose(grid.lat[[0, -1]], [-90.0, 90.0], atol=1e-4)
    step = float(np.diff(grid.lon).mean())
    return bool(poles and abs(step * grid.shape[1] - 360.0) < step / 2)


def response(k_per_m: Array, cutoff_km: float) -> Array:
    """The part of the amplitude at wavenumber k (radians per metre, of any shape) that passes."""
    return np.exp(-smoothing_m2(cutoff_km) * k_per_m**2)


def smoothing_m2(cutoff_km: float) -> float:
    """t of exp(-t k^2) with half the power, exp(-2 t k^2) = 1/2, at the wavelength 2 pi / k = cutoff_km."""
    return float(np.log(2) / 2 * (cutoff_km * 1000 / (2 * np.pi)) ** 2)


def _regional(grid: Grid, cutoff_km: float) -> Callable[[Array], Array]:
    farthest = float(np.abs(grid.lat).max())
    if grid.regular and farthest > CROP_UP_TO_LATITUDE:
        raise RequestError(
            f"a regional blur ends at {CROP_UP_TO_LATITUDE:g} degrees of latitude, this grid reaches "
            f"{farthest:.1f}; give the whole globe with both poles, or a smaller halo"
        )
    dy_m, dx_m = _steps_m(grid)

    def low_pass(field_YX: Array) -> Array:
        trend = linear_trend(field_YX)
        along_rows = _along(field_YX - trend, dx_m, cutoff_km)
        return _along(along_rows.T, dy_m, cutoff_km).T + trend

    return low_pass


def _steps_m(grid: Grid) -> tuple[Array, Array]:
    """The mean step northward of each column [x] and eastward of each row [y], in metres."""
    lat, lon = np.radians(grid.lat2d), np.radians(grid.lon2d)

    def length(axis: int) -> Array:
        middle = (
            np.take(lat, range(1, lat.shape[axis]), axis) + np.take(lat, range(lat.shape[axis] - 1), axis)
        ) / 2
        return np.asarray(
            np.hypot(np.diff(lat, axis=axis), np.diff(lon, axis=axis) * np.cos(middle)) * EARTH_RADIUS_M
        )

    return length(0).mean(axis=0), length(1).mean(axis=1)


def _along(lines_LN: Array, step_m_L: Array, cutoff_km: float) -> Array:
    """Each line [L, N] filtered by its own step, mirrored at both ends (DCT-II).

    The response is that of the Gaussian sampled at the grid's points, its images across the shortest wave
    added: a positive kernel however short the cut-off is.
    """
    from scipy.fft import dct, idct

    count = lines_LN.shape[1]
    k_LN = np.pi * np.arange(count) / (count * step_m_L[:, None])
    period_L = 2 * np.pi / step_m_L[:, None]
    kept_LN = sum(
        (response(k_LN + image * period_L, cutoff_km) for image in range(-ALIASES, ALIASES + 1)),
        np.zeros_like(k_LN),
    )
    kept_LN /= kept_LN[:, :1]
    return np.asarray(idct(dct(lines_LN, type=2, axis=1) * kept_LN, type=2, axis=1))


def _global(grid: Grid, cutoff_km: float) -> Callable[[Array], Array]:
    row_km = np.pi * EARTH_RADIUS_M / 1000 / (grid.shape[0] - 1)
    if cutoff_km < SHORTEST_GLOBAL * row_km:
        raise RequestError(
            f"a blur at {cutoff_km:g} km of a global field with rows {row_km:.0f} km apart would ring: its "
            f"harmonics end where the response does not. Ask for {SHORTEST_GLOBAL * row_km:.0f} km or more, "
            "or blur the crop around the domain"
        )

    def low_pass(field_YX: Array) -> Array:
        import torch

        forward, inverse = _harmonics(*grid.shape, _degrees(grid.shape[0], cutoff_km))
        degree = np.arange(forward.lmax)
        kept_L = response(np.sqrt(degree * (degree + 1)) / EARTH_RADIUS_M, cutoff_km)
        mean = field_YX.mean()  # passes whole; without it the rest keeps more digits
        with torch.no_grad():
            north_first = torch.from_numpy(np.ascontiguousarray(field_YX[::-1] - mean))
            smooth = inverse(forward(north_first) * torch.from_numpy(kept_L)[:, None])
        return np.asarray(smooth.numpy()[::-1] + mean)

    return low_pass


def _degrees(rows: int, cutoff_km: float) -> int:
    """How many degrees pass with more than `NOTHING` of their amplitude; as many as the grid has rows at
    most.
    """
    last = EARTH_RADIUS_M * np.sqrt(-np.log(NOTHING) / smoothing_m2(cutoff_km))
    return int(min(rows, 2 + np.ceil(last)))


@lru_cache(maxsize=2)
def _harmonics(rows: int, columns: int, degrees: int) -> tuple[Any, Any]:
    """The transforms of one global grid in float64; they hold 2 x 8 x rows x degrees^2 bytes (0.25 degrees at
    1000 km: 0.6 GB).
    """
    import torch_harmonics

    orders = min(degrees, columns // 2 + 1)
    kind: dict[str, Any] = {"lmax": degrees, "mmax": orders, "grid": "equiangular"}
    forward = torch_harmonics.RealSHT(rows, columns, **kind).double()
    inverse = torch_harmonics.InverseRealSHT(rows, columns, **kind).double()
    return forward, inverse
