"""One hour's rain of a raw WRF run: the difference of its accumulations at two times, and every reason not to
take it.

RAINNC and RAINC (and RAINSH) are millimetres since the run began; with buckets, I_RAINNC and I_RAINC count
the times that BUCKET_MM was taken off (WRF Users' Guide, "bucket_mm").
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stormcast_train.base.errors import UnreadableError
from stormcast_train.fields.times import HOUR, iso
from stormcast_train.sources.wrf_file import WrfFile, open_wrf

ACCUMULATIONS = ("RAINNC", "RAINC", "RAINSH")
BUCKETS = {"RAINNC": "I_RAINNC", "RAINC": "I_RAINC"}
ROUNDING_MM = 1e-3  # accumulations are float32: their hourly difference is negative by rounding alone


def has_rain(file: WrfFile) -> bool:
    """Whether the header has the accumulations that an hour's rain needs."""
    return file.has("RAINNC")


def hourly_rain(file: WrfFile, row: int, earlier: Sequence[Path]) -> NDArray[np.float32]:
    """[y, x] mm of the hour that ends at this time; the hour before is in the same file or in one of
    `earlier`, tried in order.

    Raises UnreadableError where no file of the same run and grid holds it, or where rain was lost in between.
    """
    before = file.times[row] - HOUR
    if before in file.times:
        return _difference(file, row, file, file.row(before))
    refusals: list[str] = []
    for path in earlier:
        try:
            with open_wrf(path) as other:
                _same_run(file, other)
                return _difference(file, row, other, other.row(before))
        except UnreadableError as error:
            refusals.append(str(error))
    why = "; ".join(refusals[:3]) or "no file of that time lies beside it"
    raise _refused(file, row, f"nothing of its run holds {iso(before)}: {why}")


def _same_run(file: WrfFile, other: WrfFile) -> None:
    if file.start is None or other.start is None:
        unknown = file if file.start is None else other
        raise UnreadableError(
            f"{unknown.path} does not hold the start of its run (SIMULATION_START_DATE): rain is never "
            "differenced across runs"
        )
    if file.start != other.start:
        raise UnreadableError(
            f"{other.path} is of the run started at {iso(other.start)}, not {iso(file.start)}: rain is never "
            "differenced across runs"
        )


def _difference(file: WrfFile, row: int, other: WrfFile, other_row: int) -> NDArray[np.float32]:
    _same_grid(file, row, other, other_row)
    _same_clock(file, row, other, other_row)
    if not all(file.has(name) == other.has(name) for name in ACCUMULATIONS):
        raise _refused(
            file, row, f"{other.path.name} and it hold different ones of {', '.join(ACCUMULATIONS)}"
        )
    rain_mm = _accumulated(file, row) - _accumulated(other, other_row)
    lost = rain_mm < -ROUNDING_MM
    if lost.any():
        largest_mm = float(-np.nanmin(rain_mm))
        raise _refused(
            file,
            row,
            f"{int(lost.sum())} cells have less rain than an hour before (by {largest_mm:.3g} mm): the "
            "accumulation was reset, or the times are of different runs",
        )
    return np.maximum(rain_mm, 0).astype(np.float32)


def _same_grid(file: WrfFile, row: int, other: WrfFile, other_row: int) -> None:
    for name in ("XLAT", "XLONG"):
        now, then = file.plane(name, row), other.plane(name, other_row)
        if now.shape != then.shape or not np.allclose(now, then, rtol=0, atol=1e-5):
            raise _refused(
                file, row, f"its {name} has changed since the hour before: the nest moves, or is another one"
            )


def _same_clock(file: WrfFile, row: int, other: WrfFile, other_row: int) -> None:
    """XTIME counts a run's minutes: it shows where cycles were put into one file."""
    now, then = _minutes(file, row), _minutes(other, other_row)
    if now is not None and then is not None and abs(now - then - 60.0) > 1.0:
        raise _refused(
            file,
            row,
            f"its XTIME is {now:g} minutes and {then:g} an hour before: the times are of different runs",
        )


def _minutes(file: WrfFile, row: int) -> float | None:
    if not file.has("XTIME") or not (file.units("XTIME") == "" or file.units("XTIME").startswith("minutes")):
        return None
    values = np.atleast_1d(np.ma.filled(file.handle["XTIME"][:], np.nan))
    return float(values[row]) if len(values) == len(file.times) and np.isfinite(values[row]) else None


def _accumulated(file: WrfFile, row: int) -> NDArray[np.float64]:
    """[y, x] mm since the run began."""
    bucket_mm = float(getattr(file.handle, "BUCKET_MM", -1.0))
    total = np.zeros(file.plane("RAINNC", row).shape)
    for name in filter(file.has, ACCUMULATIONS):
        total += file.plane(name, row)
        if bucket_mm > 0 and name in BUCKETS:
            if not file.has(BUCKETS[name]):
                raise _refused(
                    file,
                    row,
                    f"it counts rain in buckets of {bucket_mm:g} mm, and their number {BUCKETS[name]} is "
                    "missing",
                )
            total += bucket_mm * file.plane(BUCKETS[name], row).astype(np.float64)
    return total


def _refused(file: WrfFile, row: int, why: str) -> UnreadableError:
    return UnreadableError(f"{file.path}: no rain1h at {iso(file.times[row])}, {why}", path=str(file.path))
