#!/usr/bin/env python3
"""The plain script: xarray opens, scipy.griddata regrids, a Zarr is written. One hour or a few, told per
hour.

What people write first, for the same job as `stormcast bench preprocess`: the same fields of the same files
onto the same grid. Every call of griddata triangulates the source's points again, which is where its time
goes.
"""

import gzip
import os
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
import xarray as xr
from peers import FIELDS, best_ours, leave, resources
from scipy.interpolate import griddata

import stormcast_train.base.load_order  # noqa: F401
from stormcast_train.bench.bench_archive import DRIVER
from stormcast_train.bench.result_rows import Measured
from stormcast_train.fields.variables import split_level
from stormcast_train.sources.qpesums import parse_header

LAT, LON = np.linspace(21.6, 25.6, 224), np.linspace(119.75, 122.25, 128)  # taiwan_2km
LON2D, LAT2D = np.meshgrid(LON, LAT)


def onto(lat: np.ndarray, lon: np.ndarray, values: np.ndarray) -> np.ndarray:
    return griddata((lat.ravel(), lon.ravel()), values.ravel(), (LAT2D, LON2D), method="linear").astype(
        np.float32
    )


def rwrf(archive: Path, hour: str) -> dict[str, np.ndarray]:
    with xr.open_dataset(archive / "rwrf" / hour / f"wrfout_d01_{hour}_interp", engine="netcdf4") as file:
        lat, lon, levels = file["XLAT"].values[0], file["XLONG"].values[0], file["pres_levels"].values
        found = {}
        for name, own in FIELDS.items():
            level = split_level(name)
            values = (
                file[own].values[0, int(np.argmin(abs(levels - level[1])))] if level else file[own].values[0]
            )
            found[name] = onto(lat, lon, values)
        return found


def qpesums(archive: Path, hour: str) -> dict[str, np.ndarray]:
    found, day = {}, hour[:10].replace("-", "")
    for name, product in (("rain1h", "CB_GC_PCP_1H_RAD"), ("refc", "COMPREF")):
        content = gzip.decompress(
            (archive / "qpesums" / day / f"{product}.{day}.{hour[11:]}00.gz").read_bytes()
        )
        header = parse_header(content)
        raw = np.frombuffer(content, "<i2", offset=header.data_at).reshape(header.shape)[0] / header.scale
        lon, lat = np.meshgrid(header.lon, header.lat)
        found[name] = onto(lat, lon, np.where(raw == header.missing, np.nan, raw))
    return found


def era5(archive: Path, hour: str) -> dict[str, np.ndarray]:
    """The driver as the script has it: interpolated to the fine grid once and for all."""
    time_ = np.datetime64(f"{hour[:10]}T{hour[11:]}")
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        packed = next((archive / "era5").glob("*.zip"))
        with zipfile.ZipFile(packed) as members:
            single = Path(members.extract("data_stream-oper_stepType-instant.nc", folder))
        levels = next((archive / "era5").glob("*levels.nc"))
        with (
            xr.open_dataset(single, engine="netcdf4") as surface,
            xr.open_dataset(levels, engine="netcdf4") as upper,
        ):
            for name in DRIVER:
                level = split_level(name)
                own = level[0] if level else {"u10m": "u10", "v10m": "v10"}.get(name, name)
                field = (upper if level else surface)[own].sel(
                    valid_time=time_, **({"pressure_level": level[1]} if level else {})
                )
                found[name] = field.interp(latitude=LAT, longitude=LON).values.astype(np.float32)
    return found


def main() -> None:
    archive, out = Path(sys.argv[1]), Path(sys.argv[2])
    count = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    hours = [f"2021-06-02_{h:02d}" for h in range(count)]
    cpu, wall = sum(os.times()[:4]), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for hour in hours:
            fields = {**rwrf(archive, hour), **qpesums(archive, hour)}
            made = {"state": (("channel", "y", "x"), np.stack(list(fields.values())))}
            made["background"] = (("level", "y", "x"), np.stack(list(era5(archive, hour).values())))
            xr.Dataset(made).to_zarr(Path(folder) / hour, consolidated=False)
    cpu, wall = (sum(os.times()[:4]) - cpu) / count, (time.perf_counter() - wall) / count
    ours = best_ours(out, "taiwan_2km")
    details = {"griddata_cpu_s_an_hour": cpu, "griddata_wall_s_an_hour": wall, "ours_cpu_s_an_hour": ours,
    "hours_run": count,
               "scaled": f"from {count} hour(s)", **resources()}  # fmt: skip
    leave(
        out, [Measured("peers/xarray + scipy.griddata: CPU over ours", cpu / ours, "x", 20.0, ">=", details)]
    )


if __name__ == "__main__":
    main()
