"""`manifest.json` and everything else that is known only when all shards are there: borders, coverage,
fingerprint.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormcast_train.base.files import plain, read_json, write_json
from stormcast_train.base.fingerprint import digest
from stormcast_train.base.provenance import code_record
from stormcast_train.fields.reasons import DESCRIPTIONS, Reason
from stormcast_train.fields.times import Times, iso, seconds
from stormcast_train.fields.variables import Variable
from stormcast_train.store import moments as m
from stormcast_train.store import zarr_format as z
from stormcast_train.store.blocks import Blocks
from stormcast_train.store.layout import FORMAT, TIME_CHUNK, GroupLayout, describe_variable
from stormcast_train.store.rows import RowReader
from stormcast_train.store.versions import version_runs


def finish(
    store: Path,
    layouts: Sequence[tuple[GroupLayout, int]],
    facts: Callable[[dict[str, Any]], dict[str, Any]] = lambda _: {},
) -> dict[str, Any]:
    """Join the shards of each group (with its number of rows) and write the manifest, last; returns it.

    facts: what the manifest holds besides, given what it holds of the groups.
    """
    groups: dict[str, Any] = {}
    versions: dict[str, list[dict[str, Any]]] = {}
    codes: set[str] = set()
    for layout, rows in layouts:
        join_borders(layout, rows)
        records = [read_json(layout.record_path(k)) for k in range(layout.shards(rows))]
        groups[layout.role] = publish(layout, rows, records)
        codes |= {record["code"] for record in records}
        for run in version_runs(layout, records):
            entry = {"version": run.version, "first": iso(run.first), "last": iso(run.last)}
            versions.setdefault(f"{layout.role}/{run.reader}", []).append(entry)
    manifest = {
        "format": FORMAT,
        "fingerprint": digest({role: group["fingerprint"] for role, group in groups.items()}),
        "groups": groups,
        "source_versions": versions,
        "code": _code_facts() | {"fingerprints_of_shards": sorted(codes)},
        "reasons": {int(r): text for r, text in DESCRIPTIONS.items()},
        **facts(groups),
        "files": seals(store, [layout for layout, _ in layouts]),
    }
    manifest["seal"] = seal_of(manifest)
    write_json(store / "manifest.json", manifest)
    return manifest


def seals(store: Path, layouts: Sequence[GroupLayout]) -> dict[str, str]:
    """SHA-256 of what describes the data and has no checksum of its own: metadata documents, weights, and all
    records of each group.
    """
    paths = [*store.glob("**/zarr.json"), *store.glob("weights/*"), *store.glob("plan.json")]
    names = sorted(path.relative_to(store).as_posix() for path in paths if not path.name.startswith("."))
    found = {name: digest((store / name).read_bytes()) for name in names}
    for layout in layouts:
        records = sorted((store / "shards" / layout.role).glob("*.json"), key=lambda path: int(path.stem))
        found[f"shards/{layout.role}/*.json"] = digest(*(path.read_bytes() for path in records))
    return found


def seal_of(manifest: dict[str, Any]) -> str:
    """SHA-256 of a manifest without its seal."""
    content = {key: value for key, value in manifest.items() if key != "seal"}
    return digest(json.loads(json.dumps(content, default=plain)))


def _code_facts() -> dict[str, Any]:
    record = code_record()
    return {
        "version": record["version"],
        "fingerprint": record["fingerprint"],
        "commit": record["commit"],
        "dirty": bool(record["patch"]),
    }


def publish(layout: GroupLayout, rows: int, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Make a group's rows visible; returns what the manifest holds about it."""
    blocks = Blocks.of(layout)
    moments = blocks.moments.read_rows(rows)
    coverage = np.zeros(layout.plane, dtype=np.uint8)
    for shard in range(layout.shards(rows)):
        coverage |= blocks.seen.read(shard)[0]
    available = (moments[:, :, 0, 0] > 0).astype(np.uint8)
    z.write_array(layout.moments_folder / "coverage", coverage, ("channel", "y", "x"))
    z.write_array(layout.moments_folder / "available", available, ("time", "channel"), growing=TIME_CHUNK)
    for block in (blocks.checksum, blocks.mask_checksum, blocks.moments, blocks.histogram):
        block.publish(rows)
    blocks.seen.publish(layout.shards(rows))
    blocks.wet.publish(layout.shards(rows))
    layout.publish_axis(rows)
    times, grid = layout.times(rows), layout.grid
    checksums = blocks.checksum.read_rows(rows), blocks.mask_checksum.read_rows(rows)
    regridded: dict[str, str] = {}
    for record in records:
        regridded |= record.get("regridded", {})
    return {
        "fingerprint": group_fingerprint(layout, times, *checksums),
        "channels": list(layout.names),
        "variables": {
            v.name: _variable_facts(v, coverage[c], available[:, c]) for c, v in enumerate(layout.variables)
        },
        "grid": {"shape": list(grid.shape), "bounds": grid.bounds(), "fingerprint": grid.fingerprint},
        "times": _times_facts(layout, times),
        "pack": layout.pack,
        "moments": _moments_facts(layout, m.reduce(moments)),
        "gaps": _gaps(layout, times, records),
        "partly_missing_cells": _cells(records),
        "made": _made(records),
        "facts": _sums(records),
        "regridded": regridded,
    }


def _times_facts(layout: GroupLayout, times: Times) -> dict[str, Any]:
    return {
        "first": iso(times[0]),
        "last": iso(times[-1]),
        "step_seconds": seconds(layout.step),
        "count": len(times),
    }


def _rows_of(records: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The rows of all records, in order of time."""
    return chain.from_iterable(record["rows"] for record in records)


def _made(records: Sequence[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """By variable, how many times were made otherwise than from one file of exactly that time."""
    total: dict[str, dict[str, int]] = {}
    for row in _rows_of(records):
        for name, how in row.get("made", {}).items():
            mine = total.setdefault(name, {})
            mine[how] = mine.get(how, 0) + 1
    return total


def _sums(records: Sequence[dict[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """The rows' facts, added up by kind and name in the order of time."""
    total: dict[str, dict[str, list[float]]] = {}
    for row in _rows_of(records):
        for kind, by_name in row.get("facts", {}).items():
            for name, numbers in by_name.items():
                mine = total.setdefault(kind, {}).get(name, [0.0] * len(numbers))
                total[kind][name] = [a + b for a, b in zip(mine, numbers, strict=True)]
    return total


def group_fingerprint(
    layout: GroupLayout, times: Times, checksum: NDArray[np.uint32], mask_checksum: NDArray[np.uint32]
) -> str:
    """SHA-256 of a group's values and masks (by their checksums [T, C]), units, transforms, coding,
    coordinates and times [T].
    """
    facts = [(v.name, v.units, v.transform.model_dump()) for v in layout.variables]
    coding = [(c.scale, c.offset, c.kind) for c in layout.codings]
    return digest(
        layout.role, facts, coding, layout.grid.lat, layout.grid.lon, times, checksum, mask_checksum
    )


def _variable_facts(
    variable: Variable, coverage: NDArray[np.uint8], available: NDArray[np.uint8]
) -> dict[str, Any]:
    return describe_variable(variable) | {
        "covered_fraction": float(coverage.mean()),
        "times_available": int(available.sum()),
    }


def _moments_facts(layout: GroupLayout, total: m.Moments) -> dict[str, Any]:
    by_name = {}
    for c, name in enumerate(layout.names):
        kinds = enumerate(m.KINDS)
        by_name[name] = {kind: _finite_or_none(m.summary(total[c, k])) for k, kind in kinds}
    return by_name


def _finite_or_none(summary: dict[str, float]) -> dict[str, float | None]:
    """JSON has no infinity and no NaN."""
    return {quantity: value if np.isfinite(value) else None for quantity, value in summary.items()}


def _gaps(layout: GroupLayout, times: Times, records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Whole channels missing at a time with their own reason, in order of time: channels with the same reason
    and detail are one entry, and so are runs of times at which they are the same channels.
    """
    found: list[dict[str, Any]] = []
    open_runs: dict[_Gap, dict[str, Any]] = {}
    for time, row in zip(times, _rows_of(records), strict=True):
        now = _gaps_of_row(row)
        open_runs = {key: run for key, run in open_runs.items() if key in now}
        for key in now:
            if key not in open_runs:
                names, code, detail = key
                reasons, details = [DESCRIPTIONS[Reason(code)]], [detail] if detail else []
                open_runs[key] = {
                    "first": iso(time),
                    "variables": list(names),
                    "reasons": reasons,
                    "details": details,
                }
                found.append(open_runs[key])
            open_runs[key]["last"] = iso(time)
    return found


_Gap = tuple[tuple[str, ...], int, str]  # channels, reason, detail


def _gaps_of_row(row: dict[str, Any]) -> list[_Gap]:
    alike: dict[tuple[int, str], list[str]] = {}
    for name, code in row["gaps"].items():
        alike.setdefault((code, row["details"].get(name, "")), []).append(name)
    return sorted((tuple(sorted(names)), code, detail) for (code, detail), names in alike.items())


def _cells(records: Sequence[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """Cell counts by variable and reason, in planes that are not wholly missing."""
    total: dict[str, dict[str, int]] = {}
    for record in records:
        for name, reasons in record["partly_missing_cells"].items():
            for code, cells in reasons.items():
                text = DESCRIPTIONS[Reason(int(code))]
                mine = total.setdefault(name, {})
                mine[text] = mine.get(text, 0) + cells
    return total


def join_borders(layout: GroupLayout, rows: int) -> None:
    """The tendency of each shard's first row, from the last row of the shard before: read from the store, so
    no engine matters.
    """
    blocks, reader = Blocks.of(layout), RowReader(layout)
    for shard in range(1, layout.shards(rows)):
        first = shard * layout.rows_per_shard
        record = read_json(layout.record_path(shard))
        key = digest(blocks.checksum.read(shard - 1)[-1], blocks.checksum.read(shard)[0])
        if record.get("border") == key:
            continue
        before, now = (reader.transformed(row) for row in (first - 1, first))
        block = blocks.moments.read(shard)
        block[0, :, 2] = m.of_tendency(list(now), list(before))
        blocks.moments.write(shard, block)
        write_json(layout.record_path(shard), record | {"border": key})
