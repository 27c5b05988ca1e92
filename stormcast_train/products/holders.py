"""What lies at a path, as a holder of fields: raw file, archive, store, run or forecast."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stormcast_train.base.errors import RequestError
from stormcast_train.fields.times import Times

if TYPE_CHECKING:
    from stormcast_train.sources.config import SourceConfig
    from stormcast_train.store.group import Group
    from stormcast_train.store.reader import Store

from stormcast_train.products.forecast_holders import ForecastHolder, RunHolder
from stormcast_train.products.holder import Holder, Shown
from stormcast_train.products.raw_holders import ArchiveHolder, FileHolder


class StoreHolder(Holder):
    """A store: a variable of the first of its roles that has it (state, background, static, the config's
    own). `role` keeps to one of them.
    """

    def __init__(self, store: Store, role: str | None = None) -> None:
        self.kind, self.path, self._store = "store", store.path, store
        self._groups = {r: store.group(r) for r in ((role,) if role else store.roles)}

    def checked(self, variable: str | None) -> str:
        if variable is None or variable in self.variables():
            return super().checked(variable)
        others = [r for r in self._store.roles if variable in self._store.group(r).channels]
        if others:
            raise RequestError(
                f"{self.path} has '{variable}' in {', '.join(others)}, not in {', '.join(self._groups)}: "
                f"give role={others[0]}"
            )
        try:
            return super().checked(variable)
        except RequestError as error:
            raise RequestError(f"{error}. Looked in {', '.join(self._groups)}", **error.facts) from None

    def variables(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for group in self._groups.values() for name in group.channels))

    def _group(self, variable: str) -> Group:
        return next(group for group in self._groups.values() if variable in group.channels)

    def times(self, variable: str) -> Times:
        group = self._group(variable)
        return np.array([], "datetime64[s]") if group.role == "static" else group.times

    def at(self, variable: str, time: np.datetime64 | None) -> list[Shown]:
        group = self._group(variable)
        row = np.array([0]) if time is None else group.rows(np.array([time]))
        title = {"state": "store", "background": "driver", "static": "static"}.get(group.role, group.role)
        return [Shown(title, group.grid, group.read(row, [variable])[0, 0], group.variables[variable])]


def open_holder(
    path: Path,
    source: SourceConfig,
    role: str | None = None,
    start: np.datetime64 | None = None,
    member: int | None = None,
) -> Holder:
    """The holder for what `path` is; a RequestError where it holds no fields."""
    import stormcast_train.base.load_order  # noqa: F401
    from stormcast_train.runs.run import is_run

    if not path.exists():
        raise RequestError(f"there is nothing at {path}: check the path", path=str(path))
    if (path / "manifest.json").is_file() or (path / "plan.json").is_file():
        from stormcast_train.store.reader import open_store

        return StoreHolder(open_store(path), role)
    if is_run(path):
        return RunHolder(path, start, member)
    if (path / "events.jsonl").is_file() or (path / "package.json").is_file() or (path / "package").is_dir():
        raise RequestError(
            f"{path} is a run or package, which holds no fields: roll a forecast from it and plot that",
            path=str(path),
        )
    if path.is_file() or path.suffix == ".zarr" or (path / "zarr.json").is_file():
        return ForecastHolder(path, start, member) if _is_forecast(path) else FileHolder(path)
    return ArchiveHolder(path, source)


def _is_forecast(path: Path) -> bool:
    import xarray as xr

    if path.is_file():
        with open(path, "rb") as handle:
            if not handle.read(8).startswith((b"\x89HDF", b"CDF")):
                return False
    engine: dict[str, Any] = (
        {"engine": "zarr", "consolidated": False} if path.is_dir() else {"engine": "netcdf4"}
    )
    try:
        with xr.open_dataset(path, decode_times=False, chunks=None, **engine) as opened:
            return {"forecast_reference_time", "forecast_period"} <= set(opened.dims)
    except (OSError, ValueError, KeyError):
        return False
