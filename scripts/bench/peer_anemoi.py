#!/usr/bin/env python3
"""anemoi-datasets on the same 48 hours: `init` and `load --parts 1/1`, in an environment of its own, against
`preprocess`.

Both store the source's own points as float32, and the values are compared bit by bit where no unit is
converted. RWRF files lack the CF coordinates that anemoi's NetCDF source needs, so it gets copies with them
(same values, chunks and compression); ERA5's single levels it gets out of their ZIP. Start-up is left out on
both sides and told: ours as in `bench preprocess`, anemoi's as what `load` takes when everything is loaded
already. A third argument names a folder in which the environment is kept. Peer: ecmwf/anemoi-datasets.
"""

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from statistics import median

import netCDF4
import numpy as np
import zarr
from peers import FIELDS, leave
from scipy.spatial import cKDTree

import stormcast_train.base.load_order  # noqa: F401
from stormcast_train.bench import bench_archive as bench
from stormcast_train.bench.config import PreprocessSizes
from stormcast_train.bench.preprocessing import Bench, together
from stormcast_train.bench.result_rows import Measured
from stormcast_train.fields.grid import NativeDomain
from stormcast_train.fields.variable_set import VariablesConfig
from stormcast_train.fields.variables import split_level
from stormcast_train.sources.config import SourceConfig
from stormcast_train.store.reader import open_store
from stormcast_train.synthetic import write_era5

START, DAYS, REPEATS = "2021-06-01", 2, 3  # the first day warms ours up; the next two are compared
DIMENSIONS = {"Time": "time", "pres_bottom_top": "pressure_level", "south_north": "y", "west_east": "x"}
SAME_UNIT = ("t2m", "u10m", "v10m", "u100m", "v100m", "sp", "tcwv", "sst", "u", "v", "t")
OWN_LEVELS = {f"{p.short}": letter for letter, p in write_era5.LEVELS.items()}


def environment(folder: Path) -> Path | None:
    """A virtual environment with anemoi-datasets; None (with the reason printed) where the registry cannot be
    reached.
    """
    python = folder / "environment" / "bin" / "python"
    if python.is_file():
        return python.parent
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    uv = shutil.which("uv") or str(Path(sys.executable).parent / "uv")
    for command in ([uv, "venv", "-q", "-p", sys.executable, str(python.parents[1])],
                    [uv, "pip", "install", "-q", "--python", str(python), "anemoi-datasets",
                    "netCDF4"]):  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, env=clean, check=False)
        if done.returncode:
            print(f"skipped: {' '.join(command[:3])} failed: {done.stderr.strip()[-300:]}", file=sys.stderr)
            return None
    return python.parent


def version(binaries: Path) -> dict[str, str]:
    """What was installed."""
    names = ("anemoi-datasets", "zarr", "xarray", "earthkit-data")
    code = f"from importlib.metadata import version; print(*map(version, {names}))"
    printed = subprocess.run(
        [str(binaries / "python"), "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    return dict(zip(names, printed, strict=True))


def cpu_of(command: list[str], log: Path) -> float:
    """User and system seconds of a command and all its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")} | {
        "OMP_NUM_THREADS": "1",
        "BLOSC_NTHREADS": "1",
    }
    with open(log, "ab") as said:
        if subprocess.run(command, stdout=said, stderr=said, env=clean, check=False).returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{log.read_text()[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def recipe(path: Path, sources: list[str]) -> Path:
    """A recipe that joins these sources over the compared hours."""
    joined = "\n".join(f"    - netcdf: {s}" for s in sources)
    dates = "{start: 2021-06-02T00:00:00, end: 2021-06-03T23:00:00, frequency: 1h}"
    path.write_text(f"dates: {dates}\ninput:\n  join:\n{joined}\nbuild: {{group_by: daily}}\n")
    return path


def anemoi(binaries: Path, plan: Path, made: Path) -> dict[str, float]:
    """CPU seconds of `init`, of `load --parts 1/1`, and of a `load` with nothing left to do."""
    tool, log = str(binaries / "anemoi-datasets"), plan.with_suffix(".log")
    shutil.rmtree(made, ignore_errors=True)
    init = cpu_of([tool, "init", str(plan), str(made)], log)
    load = [tool, "load", str(made), "--parts", "1/1"]
    return {"init": init, "load": cpu_of(load, log), "start_up": cpu_of(load, log)}


def with_cf(archive: Path, folder: Path) -> Path:
    """Copies of the RWRF files with CF coordinates."""
    folder.mkdir()
    for path in sorted((archive / "rwrf").glob("2021-06-0[23]_*/*")):
        with netCDF4.Dataset(path) as old, netCDF4.Dataset(folder / f"{path.name}.nc", "w") as new:
            old.set_auto_maskandscale(False)
            for own, named in DIMENSIONS.items():
                new.createDimension(named, len(old.dimensions[own]))
            stamp = b"".join(old["Times"][0]).decode().replace("_", "T")
            axes = {"time": ("i8", "seconds since 1970-01-01", "time", np.datetime64(stamp,
            "s").astype(np.int64)),
                    "pressure_level": ("f8", "hPa", "air_pressure", old["pres_levels"][:])}  # fmt: skip
            for name, (kind, units, standard, values) in axes.items():
                _put(
                    new,
                    name,
                    kind,
                    (name,),
                    values,
                    None,
                    units=units,
                    standard_name=standard,
                    long_name=name.split("_")[0],
                )
            for own, name, units in (
                ("XLAT", "latitude", "degrees_north"),
                ("XLONG", "longitude", "degrees_east"),
            ):
                _put(new, name, "f4", ("y", "x"), old[own][0], None, units=units, standard_name=name)
            for own in dict.fromkeys(FIELDS.values()):
                dims = tuple(DIMENSIONS[d] for d in old[own].dimensions)
                _put(
                    new,
                    own,
                    "f4",
                    dims,
                    old[own][:],
                    old[own].chunking(),
                    units=old[own].units,
                    coordinates="latitude longitude",
                )
    return folder


def _put(file, name, kind, dims, values, chunks, **attributes) -> None:
    variable = file.createVariable(
        name, kind, dims, compression="zlib", complevel=1, shuffle=True, chunksizes=chunks
    )
    variable.setncatts(attributes)
    variable[:] = values


def ours(archive: Path, scratch: Path, reader: str, state: tuple[str, ...]) -> tuple[dict[str, float], Path]:
    """CPU seconds of `preprocess` of the same fields on the source's own points, and the last store."""
    kind = {"rwrf": "rwrp", "era5": "era5"}[reader]
    source = SourceConfig.model_validate(
        {"name": reader, "readers": {reader: {"kind": kind}}, "state": {"*": reader}}
    )
    domain, variables = NativeDomain(name="own points"), VariablesConfig(name=reader, state=state, static=())
    whole = Bench(archive, scratch, domain, source, PreprocessSizes(start=START))
    answers, store = [], scratch / f"{reader}_store"
    for _ in range(REPEATS):
        shutil.rmtree(store, ignore_errors=True)
        task = whole.task("preprocess", store=store, workers=1, days=DAYS, warm_up=1) | {
            "variables": variables.model_dump(mode="json")
        }
        answers += together([task])
    cpu = median(a["cpu"] for a in answers)
    return {"cpu": cpu, "start_up": median(a["start_up_cpu"] for a in answers) - cpu / DAYS}, store


def equal(made: Path, store: Path, names: dict[str, str]) -> int:
    """How many variables are compared; SystemExit where a value differs. names: ours -> anemoi's."""
    theirs, state = zarr.open(str(made), mode="r"), open_store(store).group("state")
    order = list(theirs.attrs["variables"])
    rows = state.rows(np.array(theirs["dates"][:]).astype("datetime64[s]"))
    points = np.stack([np.asarray(theirs[n][:], np.float64) for n in ("latitudes", "longitudes")], axis=1)
    apart, place = cKDTree(points).query(
        np.stack([state.grid.lat2d.ravel(), state.grid.lon2d.ravel()], axis=1)
    )
    if apart.max() > 1e-4 or len(set(place)) != len(place):
        raise SystemExit(f"the points are not the same: {apart.max():.2g} degrees apart")
    for name, their in names.items():
        for n, row in enumerate(rows):
            a = np.asarray(theirs["data"][n, order.index(their), 0], np.float32)[place]
            if not np.array_equal(a, state.read([row], [name])[0, 0].ravel(), equal_nan=True):
                raise SystemExit(f"{name} differs from anemoi's {their} at {state.times[row]}")
    return len(names)


def compare(
    case: str, limit: float, theirs: dict[str, float], mine: dict[str, float], more: dict
) -> Measured:
    net = theirs["init"] + theirs["load"] - 2 * theirs["start_up"]
    whole = (theirs["init"] + theirs["load"]) / (mine["cpu"] + mine["start_up"])
    details = {"anemoi_cpu_s": theirs, "ours_cpu_s": mine, "with_start_up": whole, "hours": 24 * DAYS, **more}
    return Measured(
        f"peers/anemoi-datasets on {case}: CPU over ours", net / mine["cpu"], "x", limit, ">=", details
    )


def main() -> None:
    archive, out = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
    with tempfile.TemporaryDirectory(prefix="stormcast_peer_") as name:
        folder = Path(name)
        binaries = environment(Path(sys.argv[3]).resolve() if len(sys.argv) > 3 else folder)
        if binaries is None:
            return
        more = {"versions_of_peer": version(binaries)}
        measured = [of_rwrf(archive, folder, binaries, more), of_era5(archive, folder, binaries, more)]
        leave(out, measured)


def of_rwrf(archive: Path, folder: Path, binaries: Path, more: dict) -> Measured:
    """Thirty fields at 450 x 450 points."""
    files = with_cf(archive, folder / "rwrf")
    surface = [FIELDS[n] for n in bench.SURFACE]
    upper = sorted({FIELDS[n] for n in bench.UPPER})
    plan = recipe(
        folder / "rwrf.yaml",
        [f"{{path: {files}/*.nc, param: [{', '.join(names)}]}}" for names in (surface, upper)],
    )
    theirs = anemoi(binaries, plan, folder / "rwrf.zarr")
    mine, store = ours(archive, folder, "rwrf", (*bench.SURFACE, *bench.UPPER))
    names = {n: f"{FIELDS[n]}_{split_level(n)[1]}" if split_level(n) else FIELDS[n] for n in FIELDS}
    unchanged = {
        n: own for n, own in names.items() if (n if not split_level(n) else split_level(n)[0]) in SAME_UNIT
    }
    return compare(
        "RWRF",
        2.5,
        theirs,
        mine,
        more | {"variables_compared": equal(folder / "rwrf.zarr", store, unchanged)},
    )


def of_era5(archive: Path, folder: Path, binaries: Path, more: dict) -> Measured:
    """Twenty-five fields at the driver's own points."""
    single = folder / "single.nc"
    with zipfile.ZipFile(next((archive / "era5").glob("*.zip"))) as packed:
        single.write_bytes(packed.read(write_era5.INSTANT))
    levels = next((archive / "era5").glob("*levels.nc"))
    surface = {n: write_era5.SURFACE[n].short for n in bench.DRIVER if not split_level(n)}
    upper = {n: f"{split_level(n)[0]}_{split_level(n)[1]}" for n in bench.DRIVER if split_level(n)}
    sources = [
        f"{{path: {single}, param: [{', '.join(surface.values())}]}}",
        f"{{path: {levels}, param: [{', '.join(OWN_LEVELS)}]}}",
    ]
    theirs = anemoi(binaries, recipe(folder / "era5.yaml", sources), folder / "era5.zarr")
    mine, store = ours(archive, folder, "era5", bench.DRIVER)
    return compare(
        "ERA5",
        20.0,
        theirs,
        mine,
        more | {"variables_compared": equal(folder / "era5.zarr", store, surface | upper)},
    )


if __name__ == "__main__":
    main()
