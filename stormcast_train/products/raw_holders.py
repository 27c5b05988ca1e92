"""Raw files, one by one or as an archive, as holders of fields."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stormcast_train.base.errors import RequestError, UnreadableError
from stormcast_train.fields.grid import Grid
from stormcast_train.fields.times import Times
from stormcast_train.fields.variables import describe

if TYPE_CHECKING:
    from stormcast_train.sources.config import SourceConfig
    from stormcast_train.sources.file_header import HeldField

from stormcast_train.products.holder import Holder, Shown, described


class FileHolder(Holder):
    """A raw file, read by the reader that its content asks for, one time at a time."""

    def __init__(self, path: Path) -> None:
        from stormcast_train.sources.file_header import read_header

        self._header = read_header(path)
        self.kind, self.path = f"{self._header.kind} file", path
        self._read: tuple[tuple[str, np.datetime64 | None], Any] | None = None
        self._shown: tuple[tuple[str, np.datetime64 | None], Shown] | None = None

    def variables(self) -> tuple[str, ...]:
        return tuple(held.name for held in self._header.fields)

    def checked(self, variable: str | None) -> str:
        if variable is None or variable in self.variables():
            return super().checked(variable)
        try:
            describe(variable)
            found = self._dataset(variable, None if not len(self._header.times) else self._header.times[0])
        except UnreadableError:
            raise
        except (RequestError, KeyError):
            return super().checked(variable)
        return variable if variable in found.data_vars else super().checked(variable)

    def _dataset(self, variable: str, time: np.datetime64 | None) -> Any:
        """The variable at a time, the last one read kept: a file may hold more than its header lists (any
        pressure level of a raw WRF file).
        """
        from stormcast_train.sources import detect

        if self._read is None or self._read[0] != (variable, time):
            self._read = (variable, time), detect.read(self.path, [variable], time)
        return self._read[1]

    def times(self, variable: str) -> Times:
        held = next((held for held in self._header.fields if held.name == variable), None)
        return self._header.times if held is None else np.unique(held.times)

    def at(self, variable: str, time: np.datetime64 | None) -> list[Shown]:
        held = next((held for held in self._header.fields if held.name == variable), None)
        if held is not None and held.cube is not None and self._header.kind == "cf":
            if self._shown is None or self._shown[0] != (variable, time):
                self._shown = (variable, time), self._plane(held, time)
            return [self._shown[1]]
        found = self._dataset(variable, time)
        grid = Grid(np.asarray(found["lat"].values, np.float64), np.asarray(found["lon"].values, np.float64))
        field = found[variable]
        return [Shown(self.path.name, grid, field.values, described(variable, field.attrs))]

    def _plane(self, held: HeldField, time: np.datetime64 | None) -> Shown:
        """A field under its own name and unit, of an ensemble's first member."""
        from stormcast_train.fields.grid import orientation
        from stormcast_train.sources.opened import reading

        assert held.cube is not None, "a CF file is gridded"
        turn = orientation(held.cube.lat, held.cube.lon)
        with reading(self.path):
            values = turn.turn(held.plane(time))
        return Shown(self.path.name, turn.grid, values, described(held.name, {"units": held.units}))


class ArchiveHolder(Holder):
    """An archive folder, read by the sources of `source=`; a variable comes from the reader that the config
    names for it.
    """

    def __init__(self, path: Path, config: SourceConfig) -> None:
        from stormcast_train.sources.source import build_sources

        self.kind, self.path = "archive", path
        self._records: dict[str, dict[np.datetime64, tuple[Any, Any]]] = {}
        absent = []
        for source in build_sources(config, path).values():
            try:
                records, _ = source.scan(None)
            except RequestError as error:
                absent.append(str(error))
                continue
            for record in records:
                for name in record.names:
                    self._records.setdefault(name, {}).setdefault(record.time, (source, record))
        if not self._records:
            raise RequestError(
                f"{path} is not an archive that source={config.name} can read: "
                f"{absent[0] if absent else 'it has no readable file'}"
            )

    def variables(self) -> tuple[str, ...]:
        return tuple(self._records)

    def times(self, variable: str) -> Times:
        return np.array(sorted(self._records[variable]), "datetime64[s]")

    def at(self, variable: str, time: np.datetime64 | None) -> list[Shown]:
        source, record = self._records[variable][
            time if time is not None else next(iter(self._records[variable]))
        ]
        found = source.read(record, [variable])
        grid = Grid(np.asarray(found["lat"].values, np.float64), np.asarray(found["lon"].values, np.float64))
        return [
            Shown(
                f"{source.name}: {record.path.name}",
                grid,
                found[variable].values,
                described(variable, found[variable].attrs),
            )
        ]
