"""What a raw file or an archive holds, as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormcast_train.base.errors import RequestError
from stormcast_train.fields.times import iso
from stormcast_train.preprocess.targets import grid_of
from stormcast_train.sources import detect
from stormcast_train.sources.config import SourceConfig
from stormcast_train.sources.source import Record, build_sources


def describe_file(path: Path) -> dict[str, Any]:
    """A raw file, read whole: its kind, grid, times, and each variable's unit and range. UnreadableError when
    it is broken.
    """
    kind, field = detect.detect(path), detect.read(path)
    grid = grid_of(field)
    dy, dx = grid.spacing_m
    stamped: Any = next((field[c].values for c in ("time", "valid_time") if c in field.coords), [])
    variables = {}
    for name, array in field.data_vars.items():
        variables[str(name)] = {"units": array.attrs.get("units", ""), **_range(array.values)}
    return {
        "kind": f"{kind} file",
        "path": str(path),
        "variables": variables,
        "times": [iso(t.astype("datetime64[s]")) for t in np.atleast_1d(stamped)],
        "grid": {
            "shape": list(grid.shape),
            "bounds": grid.bounds(),
            "regular": grid.regular,
            "spacing_m": [dy, dx],
        },
        "source_version": field.attrs.get("source_version", ""),
    }


def _range(values: NDArray[Any]) -> dict[str, float]:
    present = values[np.isfinite(values)]
    facts = {"missing_fraction": 1.0 - present.size / max(values.size, 1)}
    if present.size:
        facts |= {
            "minimum": float(present.min()),
            "mean": float(present.mean(dtype=np.float64)),
            "maximum": float(present.max()),
        }
    return facts


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
            f"({'; '.join(absent)})"
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
