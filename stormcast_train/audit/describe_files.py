"""What a raw file or an archive holds, as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormcast_train.audit.file_notes import notes_on
from stormcast_train.base.errors import RequestError
from stormcast_train.fields.grid import EARTH_RADIUS_M, Grid
from stormcast_train.fields.times import Times, iso
from stormcast_train.sources import detect
from stormcast_train.sources.codes import marked, suspected_codes
from stormcast_train.sources.config import SourceConfig
from stormcast_train.sources.file_header import FileHeader, HeldField, read_header, undecoded
from stormcast_train.sources.opened import reading
from stormcast_train.sources.source import Record, build_sources


def describe_file(path: Path, source: SourceConfig | None = None) -> dict[str, Any]:
    """A raw file: its kind, grid and times, and each variable's unit and range at the first of them.
    UnreadableError when it is broken. source: whose readers may move the file's times, which is said.
    """
    header = read_header(path)
    first = header.times[0] if len(header.times) else None
    variables, version = _by_plane(header, first) if header.kind == "cf" else _as_read(header, first)
    return {
        "kind": f"{header.kind} file",
        "path": str(path),
        "variables": variables,
        "times": [iso(time) for time in header.times],
        "span": time_span(header.times),
        "grid": grid_facts(header.grid) | {"moves": header.moves},
        "notes": notes_on(header, source),
        "source_version": version,
    }


def _as_read(header: FileHeader, time: np.datetime64 | None) -> tuple[dict[str, Any], str]:
    """What the reader of the file's kind gives at a time, by canonical name and unit; and what wrote it."""
    gridded = header.kind in ("era5", "global_model")
    names = [f.name for f in header.fields if time is None or not len(f.times) or time in f.times]
    field = detect.read(header.path, names if gridded else None, time)
    found = {
        str(name): {"units": array.attrs.get("units", ""), **_range(array.values)}
        for name, array in field.data_vars.items()
    }
    return found, str(field.attrs.get("source_version", ""))


def _by_plane(header: FileHeader, time: np.datetime64 | None) -> tuple[dict[str, Any], str]:
    """Each variable as the file has it, at a time (at its own first where it does not have that one), of
    several levels the first; and what wrote it.
    """
    found: dict[str, Any] = {}
    version = ""
    for held in header.fields:
        cube = held.cube
        if cube is None or held.level_row:
            continue
        elsewhen = time is not None and len(held.times) > 0 and cube.row(time) is None
        at = held.times[0] if elsewhen else time
        with reading(header.path):
            values_YX = held.plane(at)
            facts: dict[str, Any] = {
                "units": held.units,
                **_range(values_YX),
                **_codes(header, held, values_YX, at),
            }
        if elsewhen:
            facts["time"] = iso(held.times[0])
        if held.level is not None:
            facts["levels"] = cube.levels.tolist()
        found[held.name] = facts
        version = version or cube.version(0)
    return found, version


def _codes(
    header: FileHeader, held: HeldField, values_YX: NDArray[np.float32], time: np.datetime64 | None
) -> dict[str, Any]:
    """`codes`: values that stand for something else, those that the file declares missing and those that only
    look so, each with the share of the cells that carry it; nothing where there is none.
    """
    assert held.cube is not None, "only gridded files are read by plane"
    declared = tuple(held.cube.attrs.get("codes", ()))
    raw_YX = values_YX if not declared else undecoded(header.path, held, declared, time)
    found = [
        {"value": code, "share": float(marked(raw_YX, (code,)).mean()), "declared": code in declared}
        for code in dict.fromkeys((*declared, *suspected_codes(values_YX)))
    ]
    found = [code for code in found if code["share"] > 0]
    return {"codes": found} if found else {}


def grid_facts(grid: Grid) -> dict[str, Any]:
    """Shape, corners (cell centres, degrees) and mean spacing of a grid."""
    return {
        "shape": list(grid.shape),
        "bounds": grid.bounds(),
        "regular": grid.regular,
        "spacing_m": list(_spacing_m(grid)),
    }


def _spacing_m(grid: Grid) -> tuple[float, float]:
    """`Grid.spacing_m`; of a regular grid from its axes alone: over millions of points it takes seconds."""
    if not grid.regular or min(grid.shape) < 2:
        return grid.spacing_m
    north = np.radians(np.abs(np.diff(grid.lat)).mean())
    east = np.radians(np.abs(np.diff(grid.lon)).mean()) * np.cos(np.radians(grid.lat.mean()))
    return float(north) * EARTH_RADIUS_M, float(east) * EARTH_RADIUS_M


def _range(values: NDArray[Any]) -> dict[str, float]:
    present = np.isfinite(values)
    facts: dict[str, float] = {"missing_fraction": 1.0 - np.count_nonzero(present) / max(values.size, 1)}
    if present.any():
        there = values if present.all() else values[present]
        facts |= {
            "minimum": float(there.min()),
            "mean": float(there.mean(dtype=np.float64)),
            "maximum": float(there.max()),
        }
    return facts


def time_span(times: Times) -> dict[str, Any]:
    """First, last, count and commonest step of sorted times [T]; `others`: how many steps differ from it."""
    if not len(times):
        return {"count": 0, "first": None, "last": None, "step_seconds": None, "others": 0}
    facts = {"count": len(times), "first": iso(times[0]), "last": iso(times[-1])}
    steps, counts = np.unique(np.diff(times.astype("datetime64[s]").astype(np.int64)), return_counts=True)
    if not len(steps):
        return {**facts, "step_seconds": None, "others": 0}
    commonest = int(np.argmax(counts))
    return {
        **facts,
        "step_seconds": int(steps[commonest]),
        "others": int(counts.sum() - counts[commonest]),
    }


def describe_archive(path: Path, source: SourceConfig) -> dict[str, Any]:
    """A folder of raw files by the readers of `source`: what each finds, from when to when, what is missing,
    what is refused.
    """
    readers: dict[str, Any] = {}
    absent = []
    for name, reader in build_sources(source, path).items():
        try:
            records, refusals = reader.scan(None)
        except RequestError as error:
            absent.append(f"{name}: {error}")
            continue
        if records or refusals:
            refused = {r.path.name: r.reason for r in refusals}
            readers[name] = {
                "files": len({r.path for r in records}),
                "variables": _by_variable(records),
                "refused": refused,
            }
    if not readers:
        raise RequestError(
            f"{path} is no store, run, package or forecast, nor an archive of source={source.name} "
            f"({'; '.join(absent)})",
            absent=absent,
        )
    return {"kind": "archive", "path": str(path), "source": source.name, "readers": readers}


def _by_variable(records: Sequence[Record]) -> dict[str, Any]:
    times: dict[str, set[np.datetime64]] = {}
    for record in records:
        for name in record.names:
            times.setdefault(name, set()).add(record.time)
    return {name: _span(sorted(found)) for name, found in sorted(times.items())}


def _span(times: Sequence[np.datetime64]) -> dict[str, Any]:
    """First, last, count, the commonest step, and the times that a regular
    axis with it would have besides.
    """
    stamps = np.array(times, dtype="datetime64[s]").astype(np.int64)
    facts: dict[str, Any] = {
        "first": iso(times[0]),
        "last": iso(times[-1]),
        "count": len(times),
        "step_seconds": None,
        "missing": [],
    }
    if len(stamps) > 1:
        steps, counts = np.unique(np.diff(stamps), return_counts=True)
        step = int(steps[np.argmax(counts)])
        missing = np.setdiff1d(np.arange(stamps[0], stamps[-1], step), stamps)
        facts |= {"step_seconds": step, "missing": [iso(np.datetime64(int(t), "s")) for t in missing]}
    return facts
