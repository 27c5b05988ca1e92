"""The Python interface: open a store, load an emulator, roll a forecast."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from stormcast_train.store.reader import Store
from stormcast_train.store.reader import open_store as _open_store

if TYPE_CHECKING:
    from stormcast_train.forecast.emulator import Emulator as Emulator
    from stormcast_train.forecast.rollout import forecast as forecast


def open_store(path: str | Path) -> Store:
    """The store at `path`, with `.dataset(role)` and `.plot(variable=, time=)`; RequestError where there is
    none.
    """
    from stormcast_train.products.pictures import plot_store

    return _open_store(path, plotter=plot_store)


def __getattr__(name: str) -> Any:
    if name == "Emulator":
        from stormcast_train.forecast.emulator import Emulator

        return Emulator
    if name == "forecast":
        from stormcast_train.forecast.rollout import forecast

        return forecast
    raise AttributeError(f"module 'stormcast_train.api' has no attribute '{name}'")
