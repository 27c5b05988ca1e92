"""Where everything of a store lies, and what a group is: names, grid, clock, shards.

    <store>/zarr.json  manifest.json  plan.json
    <store>/index.json                  what the archive's headers hold: a cache, in no fingerprint
    <store>/<role>/                     the data, for any reader: values, mask, checksum, time, channel, lat,
                                        lon and, where packed, scale, offset, transform
    <store>/moments/<role>/             statistics by row, for this package: moments, histogram, seen, wet,
                                        mask_checksum, available, coverage
    <store>/shards/<role>/<k>.json      what shard k was made from
    <store>/weights/<id>.npz            regrid weights

A shard holds as many rows as a UTC day has, counted from the first time of the axis (Zarr's chunks begin at
index 0): with a period that begins at 00 UTC, a shard is a UTC day. A chunk is one time and all channels.
Shapes: T times, C channels, y, x.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormcast_train.base.errors import RequestError
from stormcast_train.base.files import read_json, write_json
from stormcast_train.fields.grid import Grid
from stormcast_train.fields.times import DAY_S, Times, axis, iso, parse_time, seconds
from stormcast_train.fields.variables import Variable
from stormcast_train.store import zarr_format as z
from stormcast_train.store.packing import MISSING_CODE, Coding, Pack

MAKE_AGAIN = "Bring it back, or make the store again in another folder"
FORMAT = "stormcast-store-1"
EPOCH = np.datetime64(0, "s")
TIME_CHUNK = 4096
ROLE_ORDER = ("state", "background", "static")
TIME_ATTRIBUTES = {
    "units": "seconds since 1970-01-01",
    "calendar": "proleptic_gregorian",
    "standard_name": "time",
    "axis": "T",
}


@dataclass(frozen=True, eq=False)
class GroupLayout:
    """One role's group: fixed when the store is made; only the number of times grows."""

    store: Path
    role: str
    variables: tuple[Variable, ...]
    grid: Grid
    start: np.datetime64
    step: np.timedelta64
    pack: Pack = "none"

    @property
    def folder(self) -> Path:
        return self.store / self.role

    @property
    def moments_folder(self) -> Path:
        return self.store / "moments" / self.role

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(v.name for v in self.variables)

    @property
    def plane(self) -> tuple[int, int, int]:
        """(C, y, x): the shape of one time."""
        return (len(self.variables), *self.grid.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype("<i2" if self.pack == "int16" else "<f4")

    @cached_property
    def codings(self) -> tuple[Coding, ...]:
        return tuple(Coding.of(v) for v in self.variables) if self.pack == "int16" else ()

    @property
    def rows_per_shard(self) -> int:
        """Rows of a day (one for the static group)."""
        return max(1, DAY_S // seconds(self.step)) if self.role != "static" else 1

    def shards(self, rows: int) -> int:
        """How many shards hold that many rows."""
        return -(-rows // self.rows_per_shard)

    def shard_rows(self, shard: int, rows: int) -> range:
        """The rows of a shard on an axis of `rows`."""
        return range(shard * self.rows_per_shard, min((shard + 1) * self.rows_per_shard, rows))

    def times(self, rows: int) -> Times:
        """The first `rows` times of the axis."""
        return axis(self.start, self.start + (rows - 1) * self.step, self.step)

    def values_path(self, shard: int) -> Path:
        return z.chunk_path(self.folder / "values", shard, 0, 0, 0)

    def mask_path(self, shard: int) -> Path:
        return z.chunk_path(self.folder / "mask", shard, 0, 0, 0)

    def record_path(self, shard: int) -> Path:
        return self.store / "shards" / self.role / f"{shard}.json"

    def describe(self) -> dict[str, Any]:
        """The attributes of the group, from which `load` makes it again."""
        return {
            "format": FORMAT,
            "role": self.role,
            "start": iso(self.start),
            "step_seconds": seconds(self.step),
            "pack": self.pack,
            "rows_per_shard": self.rows_per_shard,
            "variables": [describe_variable(v) for v in self.variables],
        }

    @classmethod
    def load(cls, store: Path, role: str) -> GroupLayout:
        """The group of that role; RequestError where there is none."""
        folder, facts = store / role, attributes_of(store, role)
        return cls(
            store=store,
            role=role,
            variables=tuple(Variable.model_validate(v) for v in facts["variables"]),
            grid=Grid(z.read_array(folder / "lat"), z.read_array(folder / "lon")),
            start=parse_time(facts["start"]),
            step=np.timedelta64(facts["step_seconds"], "s"),
            pack=facts["pack"],
        )

    def constants(self) -> dict[str, NDArray[Any]]:
        """Arrays [C] that follow from the variables: the channels' names and the coding of packed values."""
        named = {"channel": np.array(self.names, dtype=np.str_)}
        if self.pack == "none":
            return named
        scale, offset, kind = zip(*((c.scale, c.offset, c.kind) for c in self.codings), strict=True)
        return named | {
            "scale": np.array(scale),
            "offset": np.array(offset),
            "transform": np.array(kind, dtype=np.str_),
        }

    def create(self) -> None:
        """Write what never changes: the group's attributes, its grid, its channels."""
        lat_dims, lon_dims = (("y",), ("x",)) if self.grid.regular else (("y", "x"), ("y", "x"))
        z.write_array(
            self.folder / "lat",
            self.grid.lat,
            lat_dims,
            {"units": "degrees_north", "standard_name": "latitude"},
        )
        z.write_array(
            self.folder / "lon",
            self.grid.lon,
            lon_dims,
            {"units": "degrees_east", "standard_name": "longitude"},
        )
        for name, values_C in self.constants().items():
            z.write_array(self.folder / name, values_C, ("channel",))
        write_json(self.folder / "zarr.json", z.group_document(self.describe()))
        for folder in (self.store, self.store / "moments", self.moments_folder):
            write_json(folder / "zarr.json", z.group_document())

    def publish_axis(self, rows: int) -> None:
        """Make the first `rows` rows visible: the time axis, then the shapes of the arrays."""
        times = self.times(rows).astype("<i8")
        z.write_array(self.folder / "time", times, ("time",), TIME_ATTRIBUTES, growing=TIME_CHUNK)
        dimensions = ("time", "channel", "y", "x")
        shape, shard, chunk = (rows, *self.plane), (self.rows_per_shard, *self.plane), (1, *self.plane)
        fill: Any = MISSING_CODE if self.pack == "int16" else "NaN"
        attributes = {"coordinates": "lat lon", "units": [v.units for v in self.variables]}
        code = self.dtype.kind + str(self.dtype.itemsize)
        write_json(
            self.folder / "values" / "zarr.json",
            z.array_document(code, shape, shard, dimensions, z.sharding(chunk, [z.LITTLE]), fill, attributes),
        )
        coded = z.sharding(chunk, [{"name": "bytes"}, z.ZSTD, z.CRC])
        mask = z.array_document("u1", shape, shard, dimensions, coded, 2, {"coordinates": "lat lon"})
        write_json(self.folder / "mask" / "zarr.json", mask)


def attributes_of(store: Path, role: str) -> dict[str, Any]:
    """The attributes of a group (`GroupLayout.describe`); RequestError where there is no such group, or one
    of
    another format.
    """
    folder = store / role
    if not (folder / "zarr.json").is_file():
        raise RequestError(
            f"{store} has no group '{role}'; `inspect {store}` lists the groups it has",
            store=str(store),
            role=role,
        )
    facts: dict[str, Any] = read_json(folder / "zarr.json", MAKE_AGAIN)["attributes"]
    if facts.get("format") != FORMAT:
        raise RequestError(
            f"{folder} is of format {facts.get('format')}, and this version reads {FORMAT}: make the store "
            "again",
            store=str(store),
        )
    return facts


def clock_of(store: Path, role: str) -> tuple[np.datetime64, np.timedelta64]:
    """The first time of a group and its step, whatever has become of its coordinates."""
    facts = attributes_of(store, role)
    return parse_time(facts["start"]), np.timedelta64(facts["step_seconds"], "s")


def write_again(record: Path) -> str:
    """What to do about a damaged file of the shard with this record."""
    return f"Remove {record} and repeat preprocess, which writes that shard again"


def describe_variable(variable: Variable) -> dict[str, Any]:
    """All facts of a variable as JSON; an infinite bound, for which JSON has no number, is left out (it is
    the
    default).
    """
    facts = {**variable.model_dump(), "low": variable.low, "high": variable.high}
    return {key: value for key, value in facts.items() if key not in ("low", "high") or np.isfinite(value)}


def in_order(roles: Iterable[str]) -> tuple[str, ...]:
    """State first, then background and static, then the others by name."""
    found = set(roles)
    return tuple(r for r in ROLE_ORDER if r in found) + tuple(sorted(found - set(ROLE_ORDER)))
