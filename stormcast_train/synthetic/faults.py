"""Faults of real archives, made on purpose and recorded: missing hours, truncated files, bad values, a wrong
clock.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
from netCDF4 import Dataset

import stormcast_train.base.load_order  # noqa: F401
from stormcast_train.base.seeds import generator
from stormcast_train.fields.times import iso
from stormcast_train.synthetic import write_qpepre, write_qpesums, write_rwrf

KINDS: dict[str, tuple[str, ...]] = {
    "rwrf": ("missing", "truncated", "absurd temperature", "NaN stripe", "wrong time inside"),
    "qpesums": ("missing", "truncated", "negative rain"),
    "qpepre": ("missing", "truncated", "negative rain"),
}
EVERY_H = 10  # one faulty file of each source in this many hours
ABSURD_K = 9999.0
BAD_RAIN_RAW = -40  # -10 mm, which is not the missing code


def fault_of(seed: int, folder: str, time: np.datetime64) -> str | None:
    """What is wrong with this source's file of this hour, if anything: a function of (seed, source, time),
    all kinds in turn.
    """
    block, within = divmod(int(time.astype("datetime64[h]").astype(int)), EVERY_H)
    chosen = int(generator(seed, "fault", folder, block).integers(EVERY_H))
    kinds = KINDS[folder]
    return kinds[block % len(kinds)] if within == chosen else None


def record(folder: str, time: np.datetime64, path: Path, archive: Path, kind: str) -> dict[str, str]:
    """One entry of `faults.json`."""
    return {"source": folder, "time": iso(time), "path": path.relative_to(archive).as_posix(), "fault": kind}


def spoil(path: Path, kind: str) -> None:
    """Apply a fault to a good file that is about to be put in place."""
    if kind == "truncated":
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
    elif kind == "negative rain":
        _negative_rain(path)
    else:
        _spoil_netcdf(path, kind)


def _negative_rain(path: Path) -> None:
    content = path.read_bytes()
    if content[:2] != b"\x1f\x8b":  # the text of QPEPRE
        at = (len(content) // write_qpepre.WIDTH) // 2 * write_qpepre.WIDTH + write_qpepre.VALUE.start
        path.write_bytes(content[:at] + b"   -10.00" + content[at + 9 :])
        return
    header, raw = write_qpesums.decode(gzip.decompress(content))
    spoiled = raw.copy()
    spoiled[0, header.ny // 2 - 5 : header.ny // 2 + 5, header.nx // 2 - 5 : header.nx // 2 + 5] = (
        BAD_RAIN_RAW
    )
    path.write_bytes(write_qpesums.packed(write_qpesums.encode(header, spoiled)))


def _spoil_netcdf(path: Path, kind: str) -> None:
    with Dataset(path, "a") as file:
        if kind == "wrong time inside":
            stamp = "".join(c.decode() for c in np.ma.filled(file["Times"][0]))
            later = np.datetime64(stamp.replace("_", "T"), "s") + np.timedelta64(1, "h")
            file["Times"][0] = np.frombuffer(write_rwrf.stamp_text(later).encode(), "S1")
            return
        name = next((n for n in ("T2", "umet10", "vmet10") if n in file.variables), None)
        variable: Any = file[name] if name else file[list(file.variables)[-1]]
        values = np.ma.filled(variable[:]).copy()
        middle = values.shape[-2] // 2
        if kind == "NaN stripe":
            values[..., middle - 1 : middle + 2, :] = np.nan
        else:
            values[..., middle, values.shape[-1] // 2] = ABSURD_K
        variable[:] = values
