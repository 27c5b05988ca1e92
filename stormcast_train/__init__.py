"""Train kilometre-scale emulators of a region's weather: raw files to a store, to networks, to scored
ensemble forecasts.

Importing this package is cheap; torch and PhysicsNeMo are imported when an emulator is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stormcast_train.api import Emulator, forecast, open_store

__all__ = ["Emulator", "forecast", "open_store"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'stormcast_train' has no attribute '{name}'")
    from stormcast_train import api

    return getattr(api, name)
