"""Values that stand for something else: missing, or covered by a radar that saw nothing.

Files declare both as missing values, or neither. What a value of -99 dBZ means is convention: MRMS and CWA mark
with it cells in which nothing was seen, and with -999 those that no radar covers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from stormcast_train.fields.variables import Variable

DECLARED = ("_FillValue", "missing_value")
NO_ECHO_DBZ = (-99.0,)  # where a mapping of reflectivity names no code
NEAR = 1e-3  # packed codes come back rounded
MOST_CODES, LEAST_SHARED = 3, 0.005  # codes that a field is suspected of; of its cells, that carry one


def no_echo_codes(variable: Variable, given: tuple[float, ...] | None) -> tuple[float, ...]:
    """The codes of cells that were covered and showed nothing, in the file's unit: those given, else the
    convention for reflectivity.
    """
    if given is not None:
        return given
    return NO_ECHO_DBZ if variable.kind == "reflectivity" else ()


def marked(values_YX: NDArray[np.float32], codes: Sequence[float]) -> NDArray[np.bool_]:
    """Which cells [y, x] carry one of these codes."""
    found_YX = np.zeros(values_YX.shape, bool)
    for code in codes:
        found_YX |= np.abs(values_YX - np.float32(code)) <= NEAR
    return found_YX


@dataclass(frozen=True)
class KeptCode:
    """A value of a file's variable that is read as it is, although the file may declare it missing; `certain`:
    also where it is the only one that is declared, for then it may be all that says so.
    """

    variable: str
    value: float
    certain: bool = True


def keep_codes(dataset: xr.Dataset, codes: Sequence[KeptCode]) -> xr.Dataset:
    """A dataset that was opened without decoding, decoded but for its times; `codes` are no longer missing
    values.
    """
    for code in codes:
        if code.variable in dataset.variables:
            variable = dataset.variables[code.variable]
            if code.certain or len(declared_codes(variable.attrs)) > 1:
                _undeclare(variable, code.value)
    return xr.decode_cf(dataset, decode_times=False)


def _undeclare(variable: xr.Variable, code: float) -> None:
    """Take a code (in the decoded unit) out of what a variable declares to be missing (in the stored one)."""
    scale = float(variable.attrs.get("scale_factor", 1.0))
    offset = float(variable.attrs.get("add_offset", 0.0))
    for key in DECLARED:
        declared = np.atleast_1d(np.asarray(variable.attrs.get(key, ())))
        if not declared.size or declared.dtype.kind not in "iuf":
            continue
        kept = declared[np.abs(declared.astype(np.float64) * scale + offset - code) > NEAR]
        if not kept.size:
            del variable.attrs[key]
        elif kept.size < declared.size:
            variable.attrs[key] = kept if kept.size > 1 else kept[0]


def declared_codes(attributes: Mapping[str, Any]) -> tuple[float, ...]:
    """The values, in the decoded unit, that a variable's attributes as stored declare missing."""
    scale, offset = float(attributes.get("scale_factor", 1.0)), float(attributes.get("add_offset", 0.0))
    found: list[float] = []
    for key in DECLARED:
        values = np.atleast_1d(np.asarray(attributes.get(key, ())))
        if values.dtype.kind in "iuf":
            found += (values.astype(np.float64) * scale + offset).tolist()
    return tuple(dict.fromkeys(value for value in found if np.isfinite(value)))


def suspected_codes(values_YX: NDArray[np.float32]) -> tuple[float, ...]:
    """Values that look like codes and are not declared: a negative whole number that is the least of all and
    that many cells [y, x] share, and the next one likewise.
    """
    left = values_YX[np.isfinite(values_YX)]
    found: list[float] = []
    while len(found) < MOST_CODES and left.size:
        least = float(left.min())
        shared = left == np.float32(least)
        if least >= 0 or least != round(least) or shared.sum() < max(2, LEAST_SHARED * values_YX.size):
            break
        found.append(least)
        left = left[~shared]
    return tuple(found)
