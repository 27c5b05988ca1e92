"""`driver.blur`: how smooth the model used in operation is, so that training sees no finer driver than
operation will; and how to measure it.

Spectra are isotropic, of the discrete cosine transform of fields without their linear trend (Denis et al.
2002, Mon. Wea. Rev. 130, 1812-1829). Shapes: N fields, y, x.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from stormcast_train.base.errors import RequestError
from stormcast_train.base.frozen import Frozen
from stormcast_train.fields.grid import Grid

Kilometres = Annotated[float, Field(ge=0.0)]
HALF_POWER = 0.5


class BlurConfig(Frozen):
    """Whether and how far the driver is low-passed to the effective resolution of the model used in
    operation.

    cutoff_km: by variable (`*`: all others) the wavelength that keeps half its power, or a table of it by
    lead in hours (linear between them, held beyond); 0 leaves the variable as it is. lead_growth_km_per_h:
    added to a plain number for every hour of lead.
    """

    kind: Literal["none", "spectral"] = "none"
    cutoff_km: dict[str, Kilometres | dict[float, Kilometres]] = Field(default={})
    lead_growth_km_per_h: float = Field(default=0.0, ge=0.0)

    @model_validator(mode="after")
    def _has_cutoffs(self) -> BlurConfig:
        if self.kind == "spectral" and not self.cutoff_km:
            raise ValueError("blur kind=spectral needs cutoff_km, by variable or for all: {'*': 400}")
        empty = [name for name, given in self.cutoff_km.items() if isinstance(given, dict) and not given]
        if empty:
            raise ValueError(
                f"cutoff_km of {', '.join(empty)} is an empty table; give km by lead in hours: {{0: 300, "
                f"24: 500}}"
            )
        return self

    def cutoff(self, variable: str, lead_h: float = 0.0) -> float:
        """The cut-off in km for this variable at this lead; 0 where nothing is to be blurred."""
        given = self.cutoff_km.get(variable, self.cutoff_km.get("*", 0.0)) if self.kind == "spectral" else 0.0
        if not isinstance(given, dict):
            return given + self.lead_growth_km_per_h * lead_h if given > 0 else 0.0
        leads_h = sorted(given)
        return float(np.interp(lead_h, leads_h, [given[lead] for lead in leads_h]))


def measure_cutoff_km(
    reference: Mapping[str, NDArray[np.floating]], model: Mapping[str, NDArray[np.floating]], grid: Grid
) -> dict[str, float]:
    """By variable the wavelength in km at which the model has half the reference's power; shorter ones have
    less.

    Fields [N, y, x] of the same valid times on one regular grid; times at which either has a missing value
    are left out. 0 where the model never falls to half. RequestError where the two do not match or no time is
    whole.
    """
    if set(reference) != set(model):
        raise RequestError(
            "cut-offs need the same variables of the reference and the model; they have "
            f"{', '.join(sorted(reference))} and {', '.join(sorted(model))}"
        )
    return {name: _half_power_km(name, reference[name], model[name], grid) for name in reference}


def _half_power_km(
    name: str, reference_NYX: NDArray[np.floating], model_NYX: NDArray[np.floating], grid: Grid
) -> float:
    shape = (*np.shape(reference_NYX)[:1], *grid.shape)
    if np.shape(reference_NYX) != shape or np.shape(model_NYX) != shape:
        raise RequestError(
            f"the cut-off of {name} needs fields [time, y, x] on a grid of {grid.shape}; the reference has "
            f"the shape {np.shape(reference_NYX)} and the model {np.shape(model_NYX)}"
        )
    whole = ~(np.isnan(reference_NYX).any(axis=(1, 2)) | np.isnan(model_NYX).any(axis=(1, 2)))
    if not whole.any():
        raise RequestError(
            f"the cut-off of {name} cannot be measured: at none of {len(whole)} times do both the reference "
            "and the model have every value"
        )
    wavelength_km, power = power_spectrum(reference_NYX[whole], grid)
    _, other = power_spectrum(model_NYX[whole], grid)
    ratio = other / np.maximum(power, np.finfo(np.float64).tiny)
    below = np.flatnonzero(ratio < HALF_POWER)
    if not below.size:
        return 0.0
    at = int(below[0])
    if at == 0:
        return float(wavelength_km[0])
    part = (ratio[at - 1] - HALF_POWER) / (ratio[at - 1] - ratio[at])
    return float(np.exp(np.log(wavelength_km[at - 1]) * (1 - part) + np.log(wavelength_km[at]) * part))


def power_spectrum(
    fields_NYX: NDArray[np.floating], grid: Grid
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Wavelengths in km, longest first, and the power in rings of equal width around each, summed over the
    fields.
    """
    from scipy.fft import dctn

    height, width = grid.shape
    dy_km, dx_km = (step / 1000 for step in grid.spacing_m)
    ky, kx = np.arange(height) / (2 * height * dy_km), np.arange(width) / (2 * width * dx_km)  # cycles per km
    k = np.hypot(ky[:, None], kx[None, :])
    step = max(1 / (2 * height * dy_km), 1 / (2 * width * dx_km))
    ring = np.round(k / step).astype(np.int64).ravel()
    count = int(min(ky[-1], kx[-1]) / step)  # beyond it rings are cut by the corners
    power = np.zeros(ring.max() + 1)
    for field_YX in fields_NYX:
        exact_YX = np.asarray(field_YX, np.float64)
        coefficients = dctn(exact_YX - linear_trend(exact_YX), type=2, norm="ortho")
        power += np.bincount(ring, (coefficients**2).ravel(), power.size)
    mean_k = np.bincount(ring, k.ravel(), power.size) / np.maximum(np.bincount(ring, minlength=power.size), 1)
    return 1 / mean_k[1 : count + 1], power[1 : count + 1]


def linear_trend(field_YX: NDArray[np.float64]) -> NDArray[np.float64]:
    """The plane a + b y + c x closest to the cells that are not NaN, on all cells [y, x]."""
    y, x = (np.linspace(-1.0, 1.0, n) for n in field_YX.shape)
    terms = np.stack(np.broadcast_arrays(1.0, y[:, None], x[None, :]), axis=-1).reshape(-1, 3)
    present = ~np.isnan(field_YX.ravel())
    normal = terms[present].T @ terms[present]
    plane = np.linalg.lstsq(normal, terms[present].T @ field_YX.ravel()[present], rcond=None)[0]
    return np.asarray((terms @ plane).reshape(field_YX.shape))
