"""Which interval a file's own bounds give to the values of a time (CF conventions, section 7.1)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from stormcast_train.base.errors import UnreadableError
from stormcast_train.fields.variables import Variable, is_standard
from stormcast_train.sources.cube import Cube
from stormcast_train.sources.leads import unit_seconds

TOLERANCE_S = 1.0
OVER_TIME = ("mean", "maximum", "minimum", "sum", "range", "median", "standard_deviation", "variance")
_TIME_METHOD = re.compile(r"\b(?:time|valid_time|step): *(\w+)")


def interval_facts(dataset: xr.Dataset, time_dims: tuple[str, ...]) -> dict[str, Any]:
    """`accumulated_s`, the length of the intervals (-1 where they differ), and `stamped`, where in its
    interval a time lies: start, middle or end (absent where that differs); empty without bounds.
    """
    if len(time_dims) != 1 or time_dims[0] not in dataset.variables:
        return {}
    time = dataset.variables[time_dims[0]]
    bounds = dataset.variables.get(str(time.attrs.get("bounds", "")))
    if bounds is None or not time.size or bounds.shape != (*time.shape, 2) or time.dtype.kind not in "iuf":
        return {}
    unit_s = unit_seconds(str(bounds.attrs.get("units", time.attrs.get("units", ""))))
    if unit_s is None:
        return {}
    ends_T2 = np.sort(np.asarray(bounds.values, np.float64), axis=1) * unit_s
    stamps_T = np.asarray(time.values, np.float64) * unit_s
    lengths_T = ends_T2[:, 1] - ends_T2[:, 0]
    alike = bool((np.abs(lengths_T - lengths_T[0]) <= TOLERANCE_S).all())
    facts: dict[str, Any] = {"accumulated_s": round(float(lengths_T[0])) if alike else -1}
    places = {"end": ends_T2[:, 1], "start": ends_T2[:, 0], "middle": ends_T2.mean(axis=1)}
    for stamped, at_T in places.items():
        if (np.abs(stamps_T - at_T) <= TOLERANCE_S).all():
            return {**facts, "stamped": stamped}
    return facts


def check_method(variable: Variable, cube: Cube, path: Path, scaled: bool = False) -> None:
    """UnreadableError where the file's `cell_methods` (CF conventions, section 7.3) make its values another thing
    than the variable: a mean that is not a sum, a maximum that is no value at a time.

    scaled: whether a mapping gives a factor, which turns a mean rate into a sum. A variable of a config's own may
    be any of them.
    """
    found = _TIME_METHOD.search(str(cube.attrs.get("cell_methods", "")))
    method = found[1] if found else ""
    if variable.kind == "accumulation":
        wrong = method in ("point", "maximum", "minimum") or (method == "mean" and not scaled)
        meant = f"a sum over {variable.interval_s // 60} min"
    else:
        wrong = method in OVER_TIME and variable.kind != "static" and is_standard(variable.name)
        meant = "the value at a time"
    if wrong:
        raise UnreadableError(
            f"{path}: by its cell_methods '{cube.name}' is a {method} over time, and {variable.name} is {meant}; "
            "map it to a variable of your own (variables.define)",
            path=str(path),
        )


def check_interval(variable: Variable, cube: Cube, path: Path) -> None:
    """UnreadableError where the file itself says that its sums are not of the variable's interval."""
    wanted, found = variable.interval_s, cube.attrs.get("accumulated_s")
    if not wanted or found is None or found == wanted:
        return
    if found > 0:
        runs = f"{found / 60:g} min"
        way_out = "map them to a variable of that length (variables.define adds one)"
    else:
        runs = "other lengths from time to time (since a forecast's start, say)"
        way_out = (
            f"policy: {{{variable.name}: {{kind: difference}}}} takes the differences of sums that run on"
        )
    raise UnreadableError(
        f"{path}: the sums of '{cube.name}' run over {runs}, as the file says, and {variable.name} is of "
        f"{wanted // 60} min; {way_out}",
        path=str(path),
    )
