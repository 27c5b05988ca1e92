"""QPEPRE text (NCDR): one hour's rain as lines of index, longitude, latitude, mm; matched by the END time in
its name.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from stormcast_train.base.errors import RequestError, UnreadableError
from stormcast_train.fields.times import HOUR, Period
from stormcast_train.sources.config import QpepreReader
from stormcast_train.sources.file_search import find_files
from stormcast_train.sources.opened import reading
from stormcast_train.sources.source import Clock, Record, Refusal, Source, dataset

_NAME = re.compile(r"^qpepre_(?P<start>\d{12})-(?P<end>\d{12})_1_h\.txt$", re.IGNORECASE)
_LINE, _MM = 36, 26  # bytes of the usual line, LF included, and where its last field begins
_POINTS = (11, 21, 32)  # where the usual line has its decimal points
# From a line's end: a long index is wider.
_FIELDS = (slice(-29), slice(-29, -19), slice(-19, -9), slice(-9, None))


def read(path: Path | str, reader: QpepreReader | None = None) -> xr.Dataset:
    """One file on its own grid: `rain1h` mm [y, x]; negatives and the `missing` code are NaN.

    `valid_time` is the END in its name, absent where the name has none. Any rectangle is accepted unless
    `reader` gives a shape. Raises UnreadableError for lines out of sequence or a grid with holes.
    """
    path = Path(path)
    reader = reader or QpepreReader(shape=None)
    with reading(path):
        lat, lon, values = _parsed(path.read_bytes())
        if reader.shape and values.shape != reader.shape:
            raise ValueError(
                f"it has {values.shape} rows and columns, and the reader expects a whole file of "
                f"{reader.shape}"
            )
    values = np.where(values < 0, np.nan, values)
    if reader.missing is not None:
        values = np.where(np.isclose(values, reader.missing), np.nan, values)
    interval = _interval(path, reader)
    return dataset({"rain1h": values}, lat, lon, interval[1] if interval else None, "QPEPRE text")


def _parsed(content: bytes) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """(lat [y], lon [x], mm [y, x]); of the usual layout only the last column is parsed anew from file to
    file.
    """
    whole = content if content.endswith(b"\n") else content + b"\n"
    if len(content) > 0 and len(whole) % _LINE == 0:
        cells = np.frombuffer(whole, np.uint8).reshape(-1, _LINE)
        if (cells[:, _POINTS] == ord(".")).all() and (cells[:, -1] == ord("\n")).all():
            lat, lon = _places(cells[:, :_MM].tobytes())
            values = _numbers(cells[:, _MM:].tobytes().decode("ascii"), len(cells))
            return lat.copy(), lon.copy(), values.reshape(len(lat), len(lon))
    table = _table(content.decode("ascii"))
    lat, lon = _rectangle(table[:, :3])
    return lat, lon, table[:, 3].reshape(len(lat), len(lon))


@lru_cache(maxsize=2)
def _places(columns: bytes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(lat [y], lon [x]) of the first three columns of all lines, the same from hour to hour."""
    cells = np.frombuffer(columns, f"S{_MM}")
    return _rectangle(_numbers(b"\n".join(cells.tolist()).decode("ascii"), 3 * len(cells)).reshape(-1, 3))


def _numbers(text: str, count: int) -> NDArray[np.float64]:
    """All numbers of a text; ValueError where a word is none, or there are more or fewer than `count`."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            values = np.fromstring(text, sep=" ")
        except (DeprecationWarning, ValueError) as error:
            raise ValueError(f"a word in it is no number ({error})") from error
    if values.size != count:
        raise ValueError(f"it holds {values.size} numbers where {count} are expected")
    return values


def _table(text: str) -> NDArray[np.float64]:
    """[N, 4] numbers: parted by blanks, or by the fixed widths 6, 10, 10, 9 where a wide value leaves no
    blank.
    """
    lines = [line.rstrip() for line in text.splitlines()]
    if not lines:
        raise ValueError("it is empty")
    if all(len(line.split()) == 4 for line in lines):
        return _numbers(text, 4 * len(lines)).reshape(-1, 4)
    short = next((i for i, line in enumerate(lines) if len(line) < _LINE - 1), None)
    if short is not None:
        raise ValueError(f"line {short + 1} is '{lines[short]}', not index, longitude, latitude, mm")
    return np.array([_fields(line) for line in lines], np.float64)


def _fields(line: str) -> list[str]:
    return [line[part] for part in _FIELDS]


def _rectangle(places: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(lat [y], lon [x]) of lines (index, lon, lat) with longitude first; ValueError where a line is lost or
    doubled.
    """
    if not np.array_equal(places[:, 0], np.arange(1, len(places) + 1)):
        raise ValueError("its line numbers are not 1, 2, 3, ...: a line is lost or doubled")
    columns = int(np.argmax(places[:, 2] != places[0, 2])) or len(places)
    if len(places) % columns:
        raise ValueError(f"{len(places)} lines are no multiple of its {columns} longitudes")
    lon, lat = places[:, 1].reshape(-1, columns), places[:, 2].reshape(-1, columns)
    if np.any(lon != lon[0]) or np.any(lat != lat[:, :1]):
        raise ValueError("its points do not form a rectangle")
    return lat[:, 0], lon[0]


def _interval(path: Path, reader: QpepreReader) -> tuple[np.datetime64, np.datetime64] | None:
    """(start, end) in UTC from a file's name; None where it has no such name."""
    found = _NAME.match(path.name)
    if not found:
        return None
    offset = np.timedelta64(round(reader.utc_offset * 3600), "s")
    with reading(path):
        start, end = (_stamp(found[k]) - offset for k in ("start", "end"))
    return start, end


def _stamp(text: str) -> np.datetime64:
    return np.datetime64(f"{text[:4]}-{text[4:6]}-{text[6:8]}T{text[8:10]}:{text[10:]}", "s")


class Qpepre(Source):
    """The text files of an archive, one hour each, found by their names."""

    def __init__(
        self, name: str, archive: Path, reader: QpepreReader | None = None, no_echo_dbz: float = 0.0
    ) -> None:
        self.reader = reader or QpepreReader()
        super().__init__(name, clock=Clock(self.reader.utc_offset, "end"))
        self.archive = archive

    def scan(self, period: Period | None = None) -> tuple[list[Record], list[Refusal]]:
        records: list[Record] = []
        refusals: list[Refusal] = []
        for path in find_files(self.archive, self.reader.root, self.reader.pattern):
            try:
                interval = _interval(path, self.reader)
            except UnreadableError as error:
                refusals.append(Refusal(path, str(error)))
                continue
            if interval is None:
                refusals.append(Refusal(path, "its name is not qpepre_START-END_1_h.txt with YYYYMMDDHHMM"))
            elif interval[1] - interval[0] != HOUR:
                refusals.append(Refusal(path, "its name spans another interval than one hour"))
            elif period is None or interval[1] in period:
                records.append(Record(interval[1], path, ("rain1h",)))
        return sorted(records, key=lambda r: (r.time, str(r.path))), refusals

    def read(self, record: Record, names: Sequence[str]) -> xr.Dataset:
        if any(n != "rain1h" for n in names):
            raise RequestError(f"QPEPRE holds rain1h, not {', '.join(n for n in names if n != 'rain1h')}")
        return read(record.path, self.reader)
