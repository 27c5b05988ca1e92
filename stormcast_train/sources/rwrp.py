"""RWRP/RWRF hourly files: `_interp` files and raw wrfout/wrfinput, as analyses or as forecasts.

The first of a file's `Times` must agree with its name. `sources.wrf_fields` describes what a file can supply,
`sources.wrf_archive` which of several files of one time comes first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from stormcast_train.base.errors import RequestError, UnreadableError
from stormcast_train.fields.times import HOUR, Period, parse_duration, parse_time
from stormcast_train.fields.variables import split_level
from stormcast_train.sources.config import STANDARD_LEVELS_HPA, RwrpReader
from stormcast_train.sources.file_search import find_files
from stormcast_train.sources.source import Clock, Fields, Record, Refusal, Source, stacked
from stormcast_train.sources.wrf_archive import Headers, records_of
from stormcast_train.sources.wrf_fields import RAIN, STATIC, fields, held_names, supplies
from stormcast_train.sources.wrf_file import Named, check_name, open_wrf, parse_name


def read(
    path: Path | str, names: Sequence[str] | None = None, time: np.datetime64 | str | None = None
) -> xr.Dataset:
    """A file's fields by canonical name (its surface fields, or `names`) on its own 2-D grid.

    With `time`, or where the file holds one time: [y, x] with scalar `valid_time`; otherwise [time, y, x].
    `rain1h` of a raw file needs the hour before, in the file or in one beside it. Raises UnreadableError
    where `Times` and the name disagree or that rain is not known, RequestError for a name or time that the
    file does not hold.
    """
    path = Path(path)
    named = parse_name(path)
    with open_wrf(path) as file:
        check_name(file, named)
        held = held_names(file, STANDARD_LEVELS_HPA)
        wanted = tuple(names or [n for n in held if not split_level(n) and n not in (*STATIC, RAIN)] or held)
        missing = [n for n in wanted if n not in held and not supplies(file, n)]
        if missing or not wanted:
            raise RequestError(
                f"{path} does not hold {', '.join(missing) or 'any known variable'}; it holds "
                f"{', '.join(held)}"
            )
        rows = range(len(file.times)) if time is None else [file.row(parse_time(time))]
        beside = _named(path.parent.iterdir())[0] if RAIN in wanted and named is not None else []
        return stacked(
            [fields(file, row, wanted, _earlier(named, file.times[row], beside)).dataset() for row in rows]
        )


def _named(paths: Iterable[Path]) -> tuple[list[Named], list[Refusal]]:
    """The files whose names hold a time, and the others with the reason."""
    named: list[Named] = []
    refusals: list[Refusal] = []
    for path in paths:
        try:
            one = parse_name(path)
        except UnreadableError as error:
            refusals.append(Refusal(path, str(error)))
            continue
        if one is None:
            refusals.append(Refusal(path, "its name holds no time like wrfout_d01_2021-06-01_00_interp"))
        else:
            named.append(one)
    return named, refusals


def _earlier(named: Named | None, time: np.datetime64, others: Sequence[Named]) -> list[Path]:
    """Files that may hold the hour before: named for it, or the last one named before it in the same folder;
    that folder first.
    """
    if named is None:
        return []
    before = time - HOUR
    alike = [n for n in others if n.domain == named.domain and n.kind == named.kind and n.path != named.path]
    exact = [n for n in alike if n.stamp == before]
    beside = sorted(
        (n for n in alike if n.path.parent == named.path.parent and n.stamp < before), key=lambda n: n.stamp
    )
    ordered = [*(n for n in exact if n.path.parent == named.path.parent), *beside[-1:]]
    return list(dict.fromkeys(n.path for n in (*ordered, *exact)))


def _nest(named: Named) -> str:
    return "None" if named.domain is None else f"{named.domain:02d}"


class Rwrp(Source):
    """The hourly files of an archive."""

    def __init__(
        self, name: str, archive: Path, reader: RwrpReader | None = None, no_echo_dbz: float = 0.0
    ) -> None:
        self.reader = reader or RwrpReader()
        super().__init__(name, self.reader.role, Clock(0.0, "end"))
        self.archive = archive
        self._listed: list[Named] | None = None
        key = f"source.readers.{name}"
        lead, shortest, longest = (
            parse_duration(t) for t in (self.reader.lead, self.reader.lead_from, self.reader.lead_to or "0h")
        )
        if self.reader.lead_to is not None and longest < shortest:
            raise RequestError(
                f"{key}.lead_to={self.reader.lead_to} is shorter than {key}.lead_from={self.reader.lead_from}"
            )
        if self.role == "forecast" and lead:
            raise RequestError(
                f"{key}.lead={self.reader.lead} is for analyses; with role: forecast choose the leads by "
                f"{key}.lead_from and {key}.lead_to"
            )

    def scan(self, period: Period | None = None) -> tuple[list[Record], list[Refusal]]:
        named, refusals = self._list()
        self._listed = named
        self._one_nest(n for n in named if period is None or n.stamp in period)
        records, more = records_of(
            named, self.reader, self.archive, period, Headers(self.reader.levels, self.contents)
        )
        return records, [*refusals, *more]

    def _list(self) -> tuple[list[Named], list[Refusal]]:
        named, refusals = _named(self._files())
        return [n for n in named if self.reader.domain in (None, n.domain)], refusals

    def _one_nest(self, named: Iterable[Named]) -> None:
        nests = sorted({_nest(one) for one in named})
        if len(nests) > 1:
            raise RequestError(
                f"{self.archive} holds the nests d{', d'.join(nests)}, which lie on different grids; choose "
                f"one with source.readers.{self.name}.domain=N"
            )

    def _files(self) -> list[Path]:
        return [
            p
            for p in find_files(self.archive, self.reader.root, self.reader.pattern)
            if not p.name.endswith((".tmp", ".part"))
        ]

    def read(self, record: Record, names: Sequence[str]) -> xr.Dataset:
        return self.read_fields(record, names).dataset()

    def read_fields(self, record: Record, names: Sequence[str]) -> Fields:
        named = parse_name(record.path)
        with open_wrf(record.path) as file:
            check_name(file, named)
            earlier = _earlier(named, record.time, self._others()) if RAIN in names else []
            return fields(file, file.row(record.time), names, earlier)

    def _others(self) -> list[Named]:
        """The archive's files by name, listed once by this process."""
        if self._listed is None:
            self._listed = self._list()[0]
        return self._listed

    def read_static(self, names: Sequence[str]) -> xr.Dataset:
        for path in self._files():
            try:
                with open_wrf(path) as file:
                    if all(supplies(file, name) for name in names):
                        return fields(file, 0, names).dataset()
            except UnreadableError:
                continue  # the scan, or the reading of its fields, reports it
        raise RequestError(
            f"no readable RWRP file of {self.archive} holds {', '.join(names)} (orog is HGT and lsm is "
            "LANDMASK in the file)"
        )
