"""What a store holds, as plain data; and whether its bytes are still those that were written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

from stormcast_train.base.errors import FailedError
from stormcast_train.base.files import read_json
from stormcast_train.base.fingerprint import digest
from stormcast_train.fields.times import iso
from stormcast_train.store import zarr_format as z
from stormcast_train.store.blocks import Blocks
from stormcast_train.store.group import Group
from stormcast_train.store.layout import MAKE_AGAIN, GroupLayout, write_again
from stormcast_train.store.manifest import seal_of, seals
from stormcast_train.store.packing import MISSING_CODE
from stormcast_train.store.reader import Store, open_store
from stormcast_train.store.rows import RowReader


def is_store(path: Path) -> bool:
    """Whether the folder is a store, finished or not."""
    return (path / "manifest.json").is_file() or (path / "plan.json").is_file()


def describe_store(path: Path) -> dict[str, Any]:
    """The manifest's facts about a store; of an unfinished one, what has been written so far."""
    if not (path / "manifest.json").is_file():
        return _unfinished(path)
    manifest = open_store(path).manifest
    size = sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
    kept = (
        "fingerprint",
        "groups",
        "refused",
        "source_versions",
        "config",
        "period",
        "archive",
        "code",
        "weights",
    )
    return {
        "kind": "store",
        "path": str(path),
        "bytes": size,
        **{key: manifest[key] for key in kept if key in manifest},
    }


def _unfinished(path: Path) -> dict[str, Any]:
    done = {folder.name: len(list(folder.glob("*.json"))) for folder in sorted((path / "shards").glob("*"))}
    return {
        "kind": "unfinished store",
        "path": str(path),
        "shards_written": done,
        "config": read_json(path / "plan.json"),
    }


def verify_store(path: Path, advance: Callable[..., None] = lambda *_, **__: None) -> dict[str, Any]:
    """Recompute every checksum of values and masks, and the fingerprint; FailedError names the first plane
    that is wrong.
    """
    store = open_store(path)
    _verify_descriptions(store)
    planes = 0
    for role in store.roles:
        group = store.group(role)
        planes += _verify_group(group, advance)
        if group.fingerprint() != store.manifest["groups"][role]["fingerprint"]:
            raise FailedError(
                f"{path}: the coordinates, units or checksums of '{role}' do not agree with the manifest's "
                "fingerprint. Repeat preprocess, which writes coordinates again",
                role=role,
            )
    computed = digest({role: store.group(role).fingerprint() for role in store.roles})
    if computed != store.fingerprint:
        raise FailedError(
            f"{path}: manifest.json names the fingerprint {store.fingerprint[:12]}, and the groups give "
            f"{computed[:12]}. Remove manifest.json and repeat preprocess, which writes it again"
        )
    return {"verified": True, "planes": planes}


def _verify_descriptions(store: Store) -> None:
    """FailedError where a document, a coordinate or a statistic is not what was written."""
    manifest, path = store.manifest, store.path
    if seal_of(manifest) != manifest.get("seal"):
        raise FailedError(
            f"{path / 'manifest.json'} was changed since it was written: its seal is not that of its "
            f"content. Remove {path / 'manifest.json'} and repeat preprocess, which writes it again",
            path=str(path),
        )
    layouts = [store.group(role).layout for role in store.roles]
    _verify_seals(path, seals(path, layouts), manifest["files"])
    for layout in layouts:
        _verify_constants(path, layout)
        _verify_small_arrays(layout, len(store.group(layout.role).times))


def _verify_seals(path: Path, now: Mapping[str, str], written: Mapping[str, str]) -> None:
    """FailedError for the first document whose seal is not the one in the manifest."""
    for name in sorted({*now, *written}):
        if now.get(name) == written.get(name):
            continue
        what = "is not what was written since the manifest was"
        if name not in now:
            what = "is gone since the manifest was written"
        elif name not in written:
            what = "is new since the manifest was written"
        raise FailedError(f"{path / name} {what}. {_advice(path, name)}", path=str(path), file=name)


def _verify_constants(path: Path, layout: GroupLayout) -> None:
    """FailedError where an array that follows from the variables is not what it should be."""
    for name, constant in layout.constants().items():
        if not np.array_equal(z.read_array(layout.folder / name), constant):
            raise FailedError(
                f"{layout.folder / name} does not agree with the variables of the group. {z.REPEAT}",
                path=str(path),
                role=layout.role,
            )


def _verify_small_arrays(layout: GroupLayout, rows: int) -> None:
    """Read the arrays that check their own checksum when they are read; FailedError where one is damaged."""
    z.read_array(layout.folder / "time")
    for name in ("coverage", "available"):
        z.read_array(layout.moments_folder / name)
    blocks = Blocks.of(layout)
    for shard in range(layout.shards(rows)):
        for block in (blocks.moments, blocks.histogram, blocks.seen, blocks.wet):
            block.read(shard)


def _advice(path: Path, name: str) -> str:
    """What repairs a document that is not what was written."""
    first, last = name.split("/")[0], name.split("/")[-1]
    if first == "shards":
        return (
            f"Remove {(path / name).parent} and repeat preprocess, which writes the shards of that role again"
        )
    if first == "weights":
        shard = write_again(path / "shards" / last.split("-")[0] / "0.json")
        return f"Remove {path / name}. {shard}, and these weights with it"
    if last == "zarr.json":
        return z.REPEAT
    return MAKE_AGAIN


def rows_of(store: Store) -> int:
    """Rows of all groups together: what `verify_store` goes through."""
    return sum(len(store.group(role).times) for role in store.roles)


def _verify_group(group: Group, advance: Callable[..., None]) -> int:
    layout, rows = group.layout, len(group.times)
    blocks, reader = Blocks.of(layout), RowReader(layout)
    stored = blocks.checksum.read_rows(rows), blocks.mask_checksum.read_rows(rows)
    blocks.moments.read_rows(rows)  # their own checksums are read with them
    for row in range(rows):
        values = reader.raw(row)
        planes = _missing(layout) if values is None else values
        for kind, arrays, expected in (
            ("values", planes, stored[0][row]),
            ("mask", reader.mask(row), stored[1][row]),
        ):
            for name, plane, checksum in zip(layout.names, arrays, expected, strict=True):
                if crc32c(np.ascontiguousarray(plane).tobytes()) != checksum:
                    raise _wrong(group, row, name, kind)
        advance(1)
    return rows * len(layout.names)


def _missing(layout: GroupLayout) -> NDArray[Any]:
    """The values [C, y, x] of a row that a shard leaves out."""
    fill = MISSING_CODE if layout.pack == "int16" else np.float32(np.nan)
    return np.full(layout.plane, fill, dtype=layout.dtype)


def _wrong(group: Group, row: int, name: str, kind: str) -> FailedError:
    layout = group.layout
    shard = row // layout.rows_per_shard
    file = layout.values_path(shard) if kind == "values" else layout.mask_path(shard)
    time = iso(group.times[row])
    message = (
        f"the {kind} of {group.role} {name} at {time} are not what was written (crc32c of the plane "
        f"differs, in {file}). {write_again(layout.record_path(shard))}"
    )
    return FailedError(message, role=group.role, variable=name, time=time, array=kind, file=str(file))
