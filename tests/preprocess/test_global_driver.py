"""A global model's forecasts as the driver of a store: every value at its place and valid time, from the
shortest lead there is.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

from stormcast_train.base.console import Console
from stormcast_train.preprocess.build_store import preprocess
from stormcast_train.preprocess.request import PreprocessRequest
from stormcast_train.sources.config import GlobalModelReader, SourceConfig
from stormcast_train.sources.opened import close_all

LAT, LON = np.linspace(90.0, -90.0, 361), np.arange(0.0, 360.0, 0.5)
START = np.datetime64("2021-06-01T00", "h")
LEADS = np.array([0, 6, 12])


@pytest.fixture(autouse=True)
def _closed():
    yield
    close_all()


def write_run(archive: Path, hour: int) -> None:
    """A forecast from `hour` as Earth2Studio writes it: msl = 95000 + 100 lat + 10 lon + valid hour + lead /
    8.
    """
    root = zarr.group(zarr.storage.LocalStore(archive / "global_model" / f"run{hour:02d}.zarr"))
    values = np.stack(
        [95000 + 100 * LAT[:, None] + 10 * LON[None] + hour + lead + lead / 8 for lead in LEADS]
    )[None].astype("f4")
    leads = LEADS.astype("timedelta64[h]").astype("timedelta64[ns]")
    arrays: dict[str, tuple[Any, list[str]]] = {
        "time": (np.array([START + hour], "datetime64[ns]"), ["time"]),
        "lead_time": (leads, ["lead_time"]),
        "lat": (LAT, ["lat"]),
        "lon": (LON, ["lon"]),
        "msl": (values, ["time", "lead_time", "lat", "lon"]),
    }
    for name, (found, dims) in arrays.items():
        array = root.create_array(
            name,
            shape=found.shape,
            chunks=found.shape,
            dtype=found.dtype,
            dimension_names=dims,
            fill_value=None,
        )
        array[:] = found


def with_forecasts(asked: Callable[..., PreprocessRequest]) -> PreprocessRequest:
    tiny = asked().source
    readers = dict(tiny.readers) | {"driver": GlobalModelReader()}
    period = "2021-06-01T00/2021-06-02T01"
    return asked(
        period=period,
        source=SourceConfig(
            name="ai", readers=readers, state=tiny.state, background=tiny.background, static=tiny.static
        ),
    )


def driver(store: Path) -> xr.Dataset:
    return xr.open_zarr(store, group="background", consolidated=False).load()


def check(store: Path, leads: list[int]) -> None:
    """The driver's own points around the domain, six-hourly, each from the forecast of this lead."""
    found = driver(store)
    hours = (found.time.values - START.astype("datetime64[ns]")) / np.timedelta64(1, "h")
    assert hours.tolist() == [6.0 * i for i in range(len(leads))]
    lat, lon = found.lat.values[:, None], found.lon.values[None]
    assert (float(found.lat.min()), float(found.lat.max())) == (
        22.0,
        25.0,
    )  # 23.3 - 1 and 23.9 + 1, to the next half degree
    for row, (hour, lead) in enumerate(zip(hours, leads, strict=True)):
        expected = 95000 + 100 * lat + 10 * lon + hour + lead / 8
        np.testing.assert_allclose(found["values"][row, 0], expected, rtol=1e-7)


def test_a_store_is_driven_by_the_shortest_lead_and_a_later_run_replaces_an_older_one(
    asked: Callable[..., PreprocessRequest],
) -> None:
    request = with_forecasts(asked)
    write_run(request.archive, 0)
    write_run(request.archive, 12)
    preprocess(request, Console(quiet=True))
    check(request.store, [0, 6, 0, 6, 12])  # runs from 00 and 12: 06 is 6 h old, 12 fresh, 24 is 12 h old
    write_run(request.archive, 6)
    preprocess(request, Console(quiet=True))
    check(request.store, [0, 0, 0, 6, 12])
