"""The bare decode: the same bytes as `preprocess` reads, by the same libraries, thrown away. What its cost is
measured against.

Every hour: the variables and levels of the RWRF file with its coordinates, the QPESUMS files, and of ERA5 a
day at a time (the whole chunks that hold it). Nothing is masked, scaled, converted or kept.
"""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np

import stormcast_train.base.load_order  # noqa: F401
from stormcast_train.fields.times import HOUR, Times
from stormcast_train.fields.variable_set import VariablesConfig
from stormcast_train.fields.variables import split_level
from stormcast_train.synthetic import write_era5, write_qpesums, write_rwrf
from stormcast_train.synthetic.contents import RADAR


def decode(archive: Path, variables: VariablesConfig, role: str, first: np.datetime64) -> int:
    """Decode what one role needs of one day; the bytes that came out."""
    times = first + np.arange(24) * HOUR
    if role == "background":
        return _era5(archive, variables.background, times)
    radar = [n for n in variables.state if n in RADAR]
    model = [n for n in variables.state if n not in RADAR]
    return sum(_rwrf(archive, model, t) + sum(_qpesums(archive, n, t) for n in radar) for t in times)


def _rwrf(archive: Path, names: Sequence[str], time: np.datetime64) -> int:
    done = 0
    with netCDF4.Dataset(archive / "rwrf" / write_rwrf.file_name(time)) as file:
        file.set_auto_maskandscale(False)
        rows = (
            {round(float(p)): i for i, p in enumerate(file["pres_levels"][:])}
            if "pres_levels" in file.variables
            else {}
        )
        done += file["Times"][:].nbytes + file["XLAT"][0].nbytes + file["XLONG"][0].nbytes
        for name in names:
            level = split_level(name)
            own = write_rwrf.LEVELS[level[0]][0] if level else write_rwrf.SURFACE[name][0]
            done += (file[own][0, rows[level[1]]] if level else file[own][0]).nbytes
    return done


def _qpesums(archive: Path, name: str, time: np.datetime64) -> int:
    day = str(time.astype("datetime64[D]")).replace("-", "")
    content = gzip.decompress(
        (archive / "qpesums" / day / write_qpesums.file_name(RADAR[name], time)).read_bytes()
    )
    return np.frombuffer(content, "<i2", count=len(content) // 2).nbytes


def _era5(archive: Path, names: Sequence[str], times: Times) -> int:
    done = 0
    single, levels = _era5_files(archive, times[0].astype("datetime64[M]"))
    stamps = times.astype("datetime64[s]").astype(np.int64)
    for name in names:
        level = split_level(name)
        file = levels if level else single
        axis = file["valid_time"][:]
        rows = slice(int(np.searchsorted(axis, stamps[0])), int(np.searchsorted(axis, stamps[-1])) + 1)
        if level:
            row = list(np.round(file["pressure_level"][:]).astype(int)).index(level[1])
            done += file[write_era5.LEVELS[level[0]].short][rows, row].nbytes
        else:
            done += file[write_era5.SURFACE[name].short][rows].nbytes
    return done


@cache
def _era5_files(archive: Path, month: np.datetime64) -> tuple[Any, Any]:
    """The opened month: single levels (out of the ZIP, in memory) and pressure levels."""
    text = str(month).replace("-", "")
    with zipfile.ZipFile(next((archive / "era5").glob(f"*{text}*.zip"))) as packed:
        single = netCDF4.Dataset(write_era5.INSTANT, memory=packed.read(write_era5.INSTANT))
    levels = netCDF4.Dataset(next((archive / "era5").glob(f"*{text}*levels.nc")))
    for file in (single, levels):
        file.set_auto_maskandscale(False)
    return single, levels
