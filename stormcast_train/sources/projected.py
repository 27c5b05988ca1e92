"""Latitude and longitude of grids that a file gives by projection coordinates and a CF `grid_mapping` (CF
conventions, section 5.6).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from pyproj.enums import TransformDirection
from pyproj.exceptions import ProjError

Degrees = NDArray[np.float64]
# To metres, to radians (a satellite's scanning angles) or to degrees (of a turned pole).
_METRES = {"m": 1.0, "metre": 1.0, "meter": 1.0, "km": 1e3, "kilometre": 1e3, "kilometer": 1e3}
_RADIANS = {"rad": 1.0, "radian": 1.0, "mrad": 1e-3, "milliradian": 1e-3, "microradian": 1e-6, "urad": 1e-6}
_DEGREE = re.compile(r"^degrees?(?:_?(?:north|east|n|e))?$", re.IGNORECASE)
_STANDARD = {
    "y": ("projection_y_coordinate", "projection_y_angular_coordinate", "grid_latitude"),
    "x": ("projection_x_coordinate", "projection_x_angular_coordinate", "grid_longitude"),
}
_USUAL = {"y": ("y", "yc", "rlat", "northing", "nj"), "x": ("x", "xc", "rlon", "easting", "ni")}
SAME_DEGREES = 1e-9


@dataclass(frozen=True, eq=False)
class ProjectionAxes:
    """The projection coordinates of a variable [y] and [x]; `mapping` names the projection, None where
    nothing does.
    """

    y: xr.Variable
    x: xr.Variable
    mapping: xr.Variable | None = None
    named: str = ""


def projection_axes(dataset: xr.Dataset, variable: xr.Variable) -> ProjectionAxes | None:
    """The projection coordinates that a variable lies on; None where it lies on none."""
    y, x = (_axis(dataset, variable, axis) for axis in ("y", "x"))
    if y is None or x is None:
        return None
    named = str(variable.attrs.get("grid_mapping", "")).split(":")[0].strip()
    mappings = [str(n) for n, v in dataset.variables.items() if _is_mapping(v)]
    if not named and len(mappings) == 1:
        named = mappings[0]  # a file of one projection, whose writer left the attribute out
    return ProjectionAxes(y, x, dataset.variables.get(named), named)


def _is_mapping(variable: xr.Variable) -> bool:
    return bool({"grid_mapping_name", "crs_wkt", "spatial_ref"} & set(variable.attrs))


def _axis(dataset: xr.Dataset, variable: xr.Variable, axis: str) -> xr.Variable | None:
    """The one-dimensional coordinate of a variable along this axis of a projection."""
    own = [dataset.variables[d] for d in variable.dims if d in dataset.variables]
    standard = [v for v in own if v.attrs.get("standard_name") in _STANDARD[axis]]
    usual = [v for v in own if str(v.dims[0]).lower() in _USUAL[axis]]
    lettered = [v for v in own if str(v.attrs.get("axis", "")).lower() == axis]
    return next((v for v in (*standard, *usual, *lettered) if v.ndim == 1), None)


def places(axes: ProjectionAxes) -> tuple[Degrees, Degrees] | str:
    """(lat, lon) in degrees, [y] and [x] where they separate (Mercator), else both [y, x], NaN beside the
    earth; a reason where the file does not say which projection it is.

    They are those of the projection's own earth, as a model or a radar network uses them: no datum is
    shifted.
    """
    at = f"it lies on projection coordinates '{axes.y.dims[0]}' and '{axes.x.dims[0]}'"
    fix = "give the file two-dimensional latitude and longitude, or a grid_mapping (CF conventions, 5.6)"
    if axes.mapping is None:
        missing = (
            f"its grid_mapping '{axes.named}' is not in the file" if axes.named else "nothing says of which"
        )
        return f"{at}, and {missing}; {fix}"
    try:
        crs = _crs(axes.mapping.attrs)
        y, x = (_in_units_of(crs, axes.mapping.attrs, given) for given in (axes.y, axes.x))
    except (ProjError, ValueError, KeyError, TypeError) as error:
        return f"{at}, and its grid_mapping '{axes.named}' cannot be used: {error}; {fix}"
    return points(crs, y, x)


def points(crs: CRS, y: NDArray[np.float64], x: NDArray[np.float64]) -> tuple[Degrees, Degrees]:
    """(lat, lon) in degrees of y [y] and x [x] in the projection's units, [y] and [x] where they separate,
    else both [y, x]; NaN beside the earth.
    """
    lon, lat = _to_earth(crs).transform(*np.meshgrid(x, y))
    lat, lon = (np.where(np.isfinite(d), d, np.nan).astype(np.float64) for d in (lat, lon))
    if np.ptp(lat, axis=1).max() < SAME_DEGREES and np.ptp(lon, axis=0).max() < SAME_DEGREES:
        return lat[:, 0].copy(), lon[0].copy()
    return lat, lon


def onto(crs: CRS, lat: float, lon: float) -> tuple[float, float]:
    """(x, y) in a projection's units of a point in degrees on its earth."""
    x, y = _to_earth(crs).transform(lon, lat, direction=TransformDirection.INVERSE)
    return float(x), float(y)


def _to_earth(crs: CRS) -> Transformer:
    crs = crs.source_crs if crs.is_bound and crs.source_crs is not None else crs
    earth = crs.source_crs or crs.geodetic_crs  # what a turned pole is derived from, or a projection's base
    assert earth is not None, "a projection has an earth"
    return Transformer.from_crs(crs, earth, always_xy=True)


def _crs(attrs: dict[Any, Any]) -> CRS:
    """The projection of a grid mapping's attributes; ValueError where they name none."""
    named = attrs.get("grid_mapping_name")
    wkt = attrs.get("crs_wkt") or attrs.get("spatial_ref")
    if named is None and wkt is None:
        raise ValueError("it has neither grid_mapping_name nor crs_wkt")
    plain = {str(k): v.item() if isinstance(v, np.ndarray) and v.size == 1 else v for k, v in attrs.items()}
    return CRS.from_cf(plain) if named is not None else CRS.from_wkt(str(wkt))


def _in_units_of(crs: CRS, attrs: dict[Any, Any], given: xr.Variable) -> NDArray[np.float64]:
    """A projection coordinate in the projection's own unit; ValueError for a unit of another kind."""
    units = str(given.attrs.get("units", "")).strip()
    values, singular = np.asarray(given.values, np.float64), units.lower().removesuffix("s") or "m"
    axis = crs.axis_info[0]
    if axis.unit_name.startswith("degree"):
        if units and not _DEGREE.match(units):
            raise ValueError(f"'{given.dims[0]}' is in '{units}' and not in degrees")
        return values
    if singular in _RADIANS:
        return values * _RADIANS[singular] * _height_m(attrs)
    if singular not in _METRES:
        raise ValueError(f"'{given.dims[0]}' is in '{units}', which is none of m, km, rad")
    return values * _METRES[singular] / axis.unit_conversion_factor


def _height_m(attrs: dict[Any, Any]) -> float:
    """How high a satellite stands: its scanning angles times this are the projection's metres."""
    height_m = float(np.asarray(attrs.get("perspective_point_height", math.nan)).item())
    if not math.isfinite(height_m):
        raise ValueError("its coordinates are angles, and it has no perspective_point_height")
    return height_m
