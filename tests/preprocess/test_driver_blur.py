"""A driver made as smooth as the model of operation keeps its long waves and loses its short ones; the store
says so.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from stormcast_train.base.console import Console
from stormcast_train.preprocess import build_store
from stormcast_train.preprocess.background import BackgroundConfig
from stormcast_train.preprocess.driver_blur import BlurConfig
from stormcast_train.preprocess.request import PreprocessRequest
from stormcast_train.store.reader import Store, open_store

Ask = Callable[..., PreprocessRequest]


def made(request: PreprocessRequest) -> Store:
    build_store.preprocess(request, Console(quiet=True))
    return open_store(request.store)


def test_short_waves_of_the_driver_are_taken_out_and_its_gradient_stays(asked: Ask) -> None:
    import tiny_archive

    blur = BlurConfig(kind="spectral", cutoff_km={"*": 200.0})
    request = asked(
        period="2021-06-01T00/2021-06-01T06", background=BackgroundConfig(name="smooth", blur=blur)
    )
    for n in range(6):  # a wave of 2 grid lengths (about 50 km) of 40 Pa on the gradient of 10 Pa a degree
        time = np.datetime64("2021-06-01T00", "s") + n * np.timedelta64(1, "h")
        lat, lon, values = tiny_archive.field("driver", time)
        waved = values + 20.0 * (-1.0) ** np.arange(len(lon))[None, :]
        np.savez(
            tiny_archive.path_of(request.archive, "driver", time),
            lat=lat,
            lon=lon,
            values=waved.astype(np.float32),
            time=str(time),
        )
    background = made(request).group("background")
    msl = background.read([3])[0, 0]
    expected = 100003 + 10 * background.grid.lat2d
    inner = (slice(3, -3), slice(3, -3))
    assert np.abs(msl - expected)[inner].max() < 1.0  # of 20
    assert background.layout.names == ("msl",)


def test_the_lead_decides_how_smooth(asked: Ask) -> None:
    table = BackgroundConfig(
        blur=BlurConfig(kind="spectral", cutoff_km={"*": {0: 100.0, 10: 200.0}}), blur_lead="5h"
    )
    assert table.cutoff_km("msl") == 150.0
    assert BackgroundConfig().cutoff_km("msl") == 0.0


def test_the_manifest_tells_how_each_variable_came_to_its_grid_and_which_waves_arrive(asked: Ask) -> None:
    lines = made(asked(period="2021-06-01T00/2021-06-01T06")).manifest["regridding"]
    by_name = {
        name: line for role in ("state", "background") for line in lines[role] for name in line["variables"]
    }
    assert by_name["rain1h"]["method"] == "conservative"  # 2 km to 5.5 km
    assert by_name["t2m"]["method"] == "bilinear"  # 4 km to 5.5 km
    assert by_name["msl"]["method"] == "the source's own points"
    response = list(by_name["t2m"]["response"].values())
    assert len(response) == 7
    assert (np.diff(response) > 0).all()  # longer waves arrive better
    assert response[0] < 0.9 < response[-1] < 1
    assert "grid lengths" in by_name["t2m"]["said"]
