"""Small raw wrfout files with analytic columns: pressure falls by a tenth in ln p per level, heights are
hydrostatic.

Interface i lies at 1e5 exp(-i / 10) Pa, mass level k at 1e5 exp(-(k + 1/2) / 10): 20 levels from 951 to 142
hPa, the lower interface at height 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np

LEVELS, ROWS, COLUMNS = 20, 3, 4
SHAPE = (ROWS, COLUMNS)
FACE_PA = 1e5 * np.exp(-np.arange(LEVELS + 1) / 10)
MASS_PA = 1e5 * np.exp(-(np.arange(LEVELS) + 0.5) / 10)
GAS_CONSTANT = 287.0
LAT = np.add.outer(23.0 + 0.02 * np.arange(ROWS), 0.001 * np.arange(COLUMNS))
LON = np.add.outer(-0.001 * np.arange(ROWS), 120.0 + 0.02 * np.arange(COLUMNS))
DIMS = {
    "z": "bottom_top",
    "Z": "bottom_top_stag",
    "y": "south_north",
    "Y": "south_north_stag",
    "x": "west_east",
    "X": "west_east_stag",
}


def level(values: np.ndarray, rows: int = ROWS, columns: int = COLUMNS) -> np.ndarray:
    """The same column at every point."""
    return np.broadcast_to(np.asarray(values)[:, None, None], (len(values), rows, columns))


def theta_perturbation(temperature_k: np.ndarray, pressure_pa: np.ndarray) -> np.ndarray:
    return temperature_k * (1e5 / pressure_pa) ** (2 / 7) - 300


def isothermal(kelvin: float = 250.0) -> dict[str, tuple[str, np.ndarray]]:
    """A dry column of one temperature: geopotential = R T ln(1e5 / p)."""
    return column(level(np.full(LEVELS, kelvin)), level(GAS_CONSTANT * kelvin * np.log(1e5 / FACE_PA)))


def column(
    temperature_k: np.ndarray, geopotential: np.ndarray, pressure_pa: np.ndarray | None = None
) -> dict[str, tuple[str, np.ndarray]]:
    """Dry and still; base state and perturbation share pressure and geopotential 3 to 1."""
    pressure = level(MASS_PA) if pressure_pa is None else pressure_pa
    return {
        "P": ("zyx", pressure * 0.25),
        "PB": ("zyx", pressure * 0.75),
        "PH": ("Zyx", geopotential * 0.25),
        "PHB": ("Zyx", geopotential * 0.75),
        "T": ("zyx", theta_perturbation(temperature_k, pressure)),
        "QVAPOR": ("zyx", np.zeros((LEVELS, *SHAPE))),
        "U": ("zyX", np.zeros((LEVELS, ROWS, COLUMNS + 1))),
        "V": ("zYx", np.zeros((LEVELS, ROWS + 1, COLUMNS))),
        "W": ("Zyx", np.zeros((LEVELS + 1, *SHAPE))),
        "PSFC": ("yx", np.full(SHAPE, 1e5)),
        "T2": ("yx", np.full(SHAPE, 290.0)),
        "Q2": ("yx", np.full(SHAPE, 0.01)),
        "COSALPHA": ("yx", np.full(SHAPE, 0.8)),
        "SINALPHA": ("yx", np.full(SHAPE, 0.6)),
    }


def write(
    path: Path,
    fields: Mapping[str, tuple[str, np.ndarray]],
    times: Sequence[str],
    start: str | None = None,
    fixed: Sequence[str] = ("COSALPHA", "SINALPHA"),
    **attributes: Any,
) -> Path:
    """A file of these times; an array may have a leading axis of times. `fixed` ones and coordinates of [y,
    x] have no `Time`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    everything = {"XLAT": ("yx", LAT), "XLONG": ("yx", LON), **fields}
    with netCDF4.Dataset(path, "w") as nc:
        nc.setncatts(
            {
                "TITLE": " OUTPUT FROM WRF V4.1 MODEL",
                **({"SIMULATION_START_DATE": start} if start else {}),
                **attributes,
            }
        )
        sizes = {"z": LEVELS, "Z": LEVELS + 1, "y": ROWS, "Y": ROWS + 1, "x": COLUMNS, "X": COLUMNS + 1}
        nc.createDimension("Time", None)
        nc.createDimension("DateStrLen", 19)
        for letter, size in sizes.items():
            nc.createDimension(DIMS[letter], size)
        nc.createVariable("Times", "S1", ("Time", "DateStrLen"))[:] = np.array([list(t) for t in times], "S1")
        for name, (letters, values) in everything.items():
            timed = np.ndim(values) > len(letters) or (name not in fixed and name not in ("XLAT", "XLONG"))
            dims = (*(("Time",) if timed else ()), *(DIMS[d] for d in letters))
            whole = (
                np.broadcast_to(values, (len(times), *np.shape(values)))
                if timed and np.ndim(values) == len(letters)
                else values
            )
            nc.createVariable(name, "f4", dims)[:] = whole
    return path


def rain(*millimetres: float, name: str = "RAINNC") -> dict[str, tuple[str, np.ndarray]]:
    """An accumulation of these depths, by time."""
    return {name: ("yx", np.stack([np.full(SHAPE, mm) for mm in millimetres]))}
