"""Where each role's fields go: its grid, and the weights that lead there from every source grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from stormcast_train.base.errors import RequestError, UnreadableError
from stormcast_train.base.files import read_json, write_json
from stormcast_train.base.fingerprint import digest
from stormcast_train.fields.grid import Grid, NativeDomain, RegularDomain, facing
from stormcast_train.fields.reach import check_reach
from stormcast_train.fields.regrid import Method, Regrid, build, coarse_grid, coarsening, from_order
from stormcast_train.fields.transfer import describe_transfer, transfer_table
from stormcast_train.fields.variables import Variable
from stormcast_train.preprocess.index import reason_of
from stormcast_train.sources.config import SourceConfig
from stormcast_train.sources.source import Record, Refusal, Source

AREA_FROM = 2.0  # a target this many times coarser than the source takes means over its cells


def grid_of(field: xr.Dataset) -> Grid:
    """The grid of what a reader returned."""
    return Grid(np.asarray(field["lat"].values, np.float64), np.asarray(field["lon"].values, np.float64))


def first_readable(
    source: Source, records: Sequence[Record], names: Sequence[str], refusals: Sequence[Refusal]
) -> tuple[xr.Dataset, str]:
    """The first readable field of the first of these names that any record has, and its name; RequestError
    with a reason.
    """
    why = [reason_of(r.path, r.reason) for r in refusals]
    for name in names:
        for record in (r for r in records if name in r.names):
            try:
                return source.read(record, [name]), name
            except UnreadableError as error:
                why.append(str(error))
    asked = f"no file of source '{source.name}' gives any of {', '.join(names)}, so its grid is not known."
    raise RequestError(" ".join([asked, *why[:1]]))


def state_grid(
    domain: RegularDomain | NativeDomain, first: xr.Dataset | None, name: str
) -> tuple[Grid, Regrid | None]:
    """The grid of a domain and, for a native one, the weights from its source's points (means and a box)."""
    if isinstance(domain, RegularDomain):
        return domain.grid(), None
    assert first is not None, "a native domain needs a field of its source"
    source = grid_of(first)
    coarse = coarse_grid(source, domain.coarsen)
    if domain.shape is None:
        rows, columns = slice(0, coarse.shape[0]), slice(0, coarse.shape[1])
    else:
        centre = None
        if domain.centre == "covered":
            centre = _covered_centre(source, domain.coarsen, first[name].values)
        rows, columns = _box(coarse.shape, domain.shape, centre, domain.name)
    regrid, grid = coarsening(source, domain.coarsen, rows, columns)
    return grid, regrid


def _covered_centre(source: Grid, coarsen: int, values_YX: NDArray[np.float32]) -> tuple[float, float]:
    """Row and column of the centroid of the blocks without a missing cell."""
    shape = coarse_grid(source, coarsen).shape
    means, _ = coarsening(source, coarsen, slice(0, shape[0]), slice(0, shape[1]))
    rows, columns = np.nonzero(~np.isnan(means.apply(values_YX)))
    if not rows.size:
        raise RequestError(
            "domain.centre=covered: the first readable field of the state's source has no value at all; take "
            "centre=grid, or check that file"
        )
    return float(rows.mean()), float(columns.mean())


def _box(
    have: tuple[int, int], want: tuple[int, int], centre: tuple[float, float] | None, name: str
) -> tuple[slice, slice]:
    """The slices of a box of shape `want` around the centre (by default of the grid), moved to lie inside."""
    if want[0] > have[0] or want[1] > have[1]:
        raise RequestError(
            f"domain={name} asks for {want[0]} x {want[1]} points, and the source has only {have[0]} x "
            f"{have[1]}; take a smaller domain.shape",
            domain=name,
        )
    middle = centre or ((have[0] - 1) / 2, (have[1] - 1) / 2)
    return _around(middle[0], want[0], have[0]), _around(middle[1], want[1], have[1])


def _around(middle: float, want: int, have: int) -> slice:
    """`want` of `have` indices, with their middle as near to `middle` as the ends allow."""
    start = int(np.floor(middle - (want - 1) / 2 + 0.5))
    start = min(max(start, 0), have - want)
    return slice(start, start + want)


def background_grid(first: xr.Dataset, inner: Grid, halo_degrees: float, coarsen: int) -> tuple[Grid, Regrid]:
    """The driver's own points (means over `coarsen` x `coarsen`) around the domain and its halo, and the
    weights that take them.

    The box reaches to the first point at or beyond the halo on every side, where the driver has one; its
    longitudes are counted as the domain's. RequestError where the driver does not reach every point of the
    domain itself.
    """
    source = grid_of(first)
    south, north, west, east = inner.bounds()
    south, north = south - halo_degrees, north + halo_degrees
    west, east = west - halo_degrees, east + halo_degrees
    around, order = facing(source, west, east)
    coarse = coarse_grid(around, coarsen)
    lat, lon = coarse.lat2d, coarse.lon2d
    inside_rows = np.asarray(((lat >= south) & (lat <= north)).any(axis=1))
    inside_columns = np.asarray(((lon >= west) & (lon <= east)).any(axis=0))
    rows = _reaching(inside_rows, lat.min(axis=1), lat.max(axis=1), south, north)
    columns = _reaching(inside_columns, lon.min(axis=0), lon.max(axis=0), west, east)
    if rows is None or columns is None:
        box = "{:.2f}..{:.2f} N {:.2f}..{:.2f} E".format(*source.bounds())
        raise RequestError(
            f"the driver ({box}) does not reach the domain ({south:.2f}..{north:.2f} N "
            f"{west:.2f}..{east:.2f} E with halo): give a driver over that area, or another domain"
        )
    regrid, grid = coarsening(around, coarsen, rows, columns)
    check_reach(grid, inner, "the driver")
    return grid, from_order(regrid, source, order)


def _reaching(
    inside: NDArray[np.bool_], least: NDArray[np.float64], most: NDArray[np.float64], low: float, high: float
) -> slice | None:
    """From the last line below `low` to the first above `high`, as far as there are any; None when nothing is
    near.
    """
    below, above, here = np.flatnonzero(most < low), np.flatnonzero(least > high), np.flatnonzero(inside)
    if not here.size and not (below.size and above.size):
        return None
    first = int(here[0]) if here.size else int(above[0])
    last = int(here[-1]) if here.size else int(below[-1])
    tight_low = here.size > 0 and np.isclose(least[first], low)
    tight_high = here.size > 0 and np.isclose(most[last], high)
    start = first if tight_low or not (below < first).any() else int(below[below < first][-1])
    stop = last if tight_high or not (above > last).any() else int(above[above > last][0])
    return slice(start, stop + 1)


def method_for(config: SourceConfig, variable: Variable, source: Grid, target: Grid) -> Method:
    """How a variable is regridded: as the config says by name or kind, else conservatively where the target
    is much coarser.
    """
    chosen = config.regrid.get(variable.name) or config.regrid.get(variable.kind)
    if chosen:
        return chosen
    ratio = float(np.sqrt(np.prod(target.spacing_m) / np.prod(source.spacing_m)))
    if variable.kind != "reflectivity" and ratio >= AREA_FROM:
        return "conservative"
    return config.method_of(variable)


class Weights:
    """The regrid weights of one role: kept in the store, built when a source grid is met first, the same in
    every process.
    """

    def __init__(self, folder: Path, role: str, target: Grid, base: Regrid | None) -> None:
        self.folder, self.role, self.target, self.base = folder, role, target, base
        self._kept: dict[tuple[str, Method], Regrid] = {}
        self._names: dict[str, str] = {}

    def of(self, source: Grid, method: Method) -> Regrid:
        """Weights from this source grid; the base grid of a native role has its own."""
        if self.base is not None and source.fingerprint == self.base.source_fingerprint:
            return self.base
        key = (source.fingerprint, method)
        if key not in self._kept:
            grids = digest(source.fingerprint, self.target.fingerprint)[:16]
            path = self.folder / f"{self.role}-{method}-{grids}.npz"
            if not path.is_file():
                made = build(source, self.target, method)
                self._describe(path, made, source)
                made.save(path)
            self._kept[key] = Regrid.load(path)
            self._names[self._kept[key].fingerprint] = path.stem
        return self._kept[key]

    def name_of(self, regrid: Regrid) -> str:
        """The name of the file that holds these weights."""
        if regrid is self.base:
            return base_path(self.folder, self.role).stem
        return self._names[regrid.fingerprint]

    def _describe(self, path: Path, made: Regrid, source: Grid) -> None:
        """Write beside the weights which waves they let through."""
        facts: dict[str, Any] = {
            "method": made.method,
            "source_spacing_m": source.spacing_m,
            "target_spacing_m": self.target.spacing_m,
        }
        if made.method != "max" and not made.outside.all():
            table = transfer_table(made, source, self.target)
            facts |= {"transfer": table, "said": describe_transfer(made.method, table)}
        write_json(path.with_suffix(".json"), facts)

    def save_base(self) -> None:
        """Keep the base weights."""
        if self.base is not None:
            self.base.save(base_path(self.folder, self.role))


def base_path(folder: Path, role: str) -> Path:
    """Where the base weights of a native role lie."""
    return folder / f"{role}-base.npz"


def regridding(store: Path, used: Mapping[str, str]) -> list[dict[str, Any]]:
    """By weights (`used`: their name by variable): the variables, the method, and the amplitude of waves that
    arrives.
    """
    lines = []
    for name in dict.fromkeys(used.values()):
        path = store / "weights" / f"{name}.json"
        line: dict[str, Any] = {"variables": [variable for variable, by in used.items() if by == name]}
        if path.is_file():
            facts = read_json(path)
            response = {
                f"{row['wavelength_km']:.3g} km": row["amplitude"] for row in facts.get("transfer", ())
            }
            line |= {"method": facts["method"], "response": response}
            if "said" in facts:
                line["said"] = facts["said"]
        else:
            line |= {"method": "the source's own points", "response": {}}
        lines.append(line)
    return lines
