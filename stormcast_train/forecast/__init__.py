"""Packages, emulators, rollouts and archives. The package itself is callable: `st.forecast(emulator, store,
...)`.

Python sets `stormcast_train.forecast` to this package as soon as any module of it is imported, so the public
function of that name would be shadowed by it; called, the package passes on to `forecast.rollout.forecast`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import xarray as xr


class _Callable(ModuleType):
    def __call__(self, *arguments: Any, **options: Any) -> Iterator[xr.Dataset]:
        from stormcast_train.forecast.rollout import forecast

        return forecast(*arguments, **options)


sys.modules[__name__].__class__ = _Callable
