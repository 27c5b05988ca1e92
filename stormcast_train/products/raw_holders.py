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

from stormcast_train.products.holder import Holder, Shown, described


class FileHolder(Holder):
    """A raw file, read by the reader that its content asks for."""

    def __init__(self, path: Path) -> None:
        from stormcast_train.sources.detect import detect

        self.kind, self.path = f"{detect(path)} file", path
        self._read: dict[str, Any] = {}

    def _dataset(self, variable: str | None = None) -> Any:
        from stormcast_train.sources import detect

        if "" not in self._read:
            self._read[""] = detect.read(self.path)
        if variable is None or variable in self._read[""].data_vars:
            return self._read[""]
        if variable not in self._read:
            self._read[variable] = detect.read(self.path, [variable])
        return self._read[variable]

    def variables(self) -> tuple[str, ...]:
        return tuple(str(name) for name in self._dataset().data_vars)

    def checked(self, variable: str | None) -> str:
        known = self.variables()
        if variable is None or variable in known:
            return known[0] if variable is None else variable
        try:
            describe(variable)
            self._dataset(
                variable
            )  # a file may hold more than the fields that are read unasked (pressure levels)
        except UnreadableError:
            raise
        except (RequestError, KeyError):
            return super().checked(variable)
        return variable if variable in self._dataset(variable).data_vars else super().checked(variable)

    def times(self, variable: str) -> Times:
        found = self._dataset(variable)
        named = "time" if "time" in found.coords else "valid_time"
        return (
            np.atleast_1d(found[named].values).astype("datetime64[s]")
            if named in found.coords
            else np.array([], "datetime64[s]")
        )

    def at(self, variable: str, time: np.datetime64 | None) -> list[Shown]:
        found = self._dataset(variable)
        field = found[variable]
        if "time" in field.dims:
            field = field.isel(time=int(np.flatnonzero(self.times(variable) == time)[0]))
        grid = Grid(np.asarray(found["lat"].values, np.float64), np.asarray(found["lon"].values, np.float64))
        return [Shown(self.path.name, grid, field.values, described(variable, field.attrs))]


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
