"""A domain across the date line, from the driver's file to the network's input; and a driver that does not
cover its domain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stormcast_train.base.console import Console
from stormcast_train.base.errors import RequestError
from stormcast_train.data.condition_config import ConditionSpec
from stormcast_train.data.conditions import Conditions
from stormcast_train.data.scene import build_scene
from stormcast_train.data.window import WindowReader
from stormcast_train.fields.grid import Grid, RegularDomain
from stormcast_train.fields.variable_set import VariablesConfig
from stormcast_train.preprocess.build_store import preprocess
from stormcast_train.preprocess.request import PreprocessRequest
from stormcast_train.store.reader import Store, open_store

CPU = torch.device("cpu")
START, HOURS = np.datetime64("2021-06-01T00", "s"), 3
PERIOD = "2021-06-01T00/2021-06-01T03"
ANALYSIS = Grid(np.arange(-20.5, -14.0, 0.5), np.arange(176.0, 183.5, 0.5))
DRIVERS: Mapping[str, np.ndarray] = {
    "0..357.5": np.arange(0.0, 360.0, 2.5),
    "0..360": np.arange(0.0, 362.5, 2.5),
    "-180..177.5": np.arange(-180.0, 180.0, 2.5),
    "165..195": np.arange(165.0, 197.5, 2.5),
}
PAIRS = {
    "0..357.5": (177.0, -178.0),
    "0..360": (-183.0, -178.0),
    "-180..177.5": (177.0, 182.0),
    "165..195": (-183.0, -178.0),
}


def waves(lon: np.ndarray) -> np.ndarray:
    """In Pa; its second derivative is at most 1414 Pa rad-2."""
    return 100000 + 1000 * (np.sin(np.radians(lon)) + np.cos(np.radians(lon)))


def write(archive: Path, product: str, lat: np.ndarray, lon: np.ndarray, values: np.ndarray) -> None:
    import tiny_archive

    for h in range(HOURS):
        time = START + h * np.timedelta64(1, "h")
        path = tiny_archive.path_of(archive, product, time)
        path.parent.mkdir(parents=True, exist_ok=True)
        field = np.broadcast_to(values, (len(lat), len(lon))) + h  # equal planes would be taken out as stuck
        np.savez(path, lat=lat, lon=lon, values=field.astype(np.float32), time=str(time))


@pytest.fixture
def fiji(asked: Callable[..., PreprocessRequest], tmp_path: Path) -> Callable[..., PreprocessRequest]:
    """A request for a domain around Fiji; the analysis is on -180..180, torn at the date line as its file
    counts.
    """

    def make(
        lon: np.ndarray, west: float, east: float, lat: np.ndarray | None = None, **changes: Any
    ) -> PreprocessRequest:
        archive = tmp_path / "pacific"
        torn = np.where(ANALYSIS.lon >= 180, ANALYSIS.lon - 360, ANALYSIS.lon)
        write(archive, "analysis", ANALYSIS.lat, torn, 300 + np.sin(np.radians(torn)))
        write(archive, "driver", np.arange(-30.0, -4.0, 2.5) if lat is None else lat, lon, waves(lon))
        domain = RegularDomain(
            name="fiji", south=-20, north=-15, west=west, east=east, shape=(6, 11), halo_degrees=4.0
        )
        variables = VariablesConfig(name="fiji", state=("t2m",), background=("msl",), static=())
        return asked(archive=archive, domain=domain, variables=variables, period=PERIOD, **changes)

    return make


def conditions_of(store: Store) -> tuple[Conditions, WindowReader]:
    spec = ConditionSpec(
        history=1, background=("input",), static=False, time=(), position=False, regression=False,
        mask="auto", noise=0.0,
        halo={"degrees": 4.0, "encoder": {}},
    )  # fmt: skip
    scene = build_scene(store, store.group("state").times[:2], True, False)
    return Conditions(spec, scene, CPU), WindowReader(store, scene, 1, CPU)


@pytest.mark.parametrize("driver", PAIRS)
def test_a_domain_across_the_date_line_sees_the_driver_on_both_sides(
    fiji: Callable[..., PreprocessRequest], driver: str
) -> None:
    request = fiji(DRIVERS[driver], *PAIRS[driver])
    preprocess(request, Console(quiet=True))
    store = open_store(request.store)
    state, background = store.group("state"), store.group("background")
    assert (np.diff(background.grid.lon) == 2.5).all()
    assert (
        background.grid.lon[0] <= state.grid.lon[0] - 4
    )  # the halo on both sides, counted as the domain counts
    assert background.grid.lon[-1] >= state.grid.lon[-1] + 4
    assert (
        np.abs(store.dataset("state")["t2m"].values[0] - 300 - np.sin(np.radians(state.grid.lon))).max()
        < 1e-3
    )

    conditions, reader = conditions_of(store)
    window = reader.to_device(reader.read(START + np.array([0]) * np.timedelta64(1, "h")))[0]
    field, halo = conditions.assemble(window)
    statistics = conditions._scene.background_statistics["msl"]
    seen = (
        field[0, conditions.channels.index("background_input:msl")].numpy() * statistics.std + statistics.mean
    )
    assert (
        np.abs(seen - waves(state.grid.lon)).max() < 0.4
    )  # 1414 (2.5 pi / 180)^2 / 8 = 0.34; a column off would be 44
    around = halo[0, 0].numpy() * statistics.std + statistics.mean
    assert np.abs(around - waves(conditions.halo.grid.lon)).max() < 0.05


def test_means_of_a_drivers_points_cross_the_seam(fiji: Callable[..., PreprocessRequest]) -> None:
    lon = DRIVERS["-180..177.5"]
    request = fiji(lon, 177.0, -178.0)
    source = request.source.model_copy(update={"background_coarsen": 2})
    preprocess(fiji(lon, 177.0, -178.0, source=source), Console(quiet=True))
    background = open_store(request.store).group("background")
    assert (np.diff(background.grid.lon) == 5).all()
    held = background.read(np.array([0]), ("msl",))[0, 0]
    assert (
        np.abs(held - (waves(background.grid.lon - 1.25) + waves(background.grid.lon + 1.25)) / 2).max()
        < 0.05
    )


@pytest.mark.parametrize(
    ("lat", "lon", "corners"),
    [
        (np.arange(-30.0, -4.0, 2.5), np.arange(150.0, 177.5, 2.5), "20.00 S 178.00 W, 15.00 S 178.00 W"),
        (np.arange(-17.5, -4.0, 2.5), np.arange(165.0, 197.5, 2.5), ""),
        (np.arange(-16.0, -4.0, 2.0), np.arange(165.0, 197.5, 2.5), "20.00 S 177.00 E, 20.00 S 178.00 W"),
    ],
    ids=["ends in the west", "within a cell", "ends in the north"],
)
def test_preprocess_refuses_a_driver_that_leaves_points_of_the_domain_out(
    fiji: Callable[..., PreprocessRequest], lat: np.ndarray, lon: np.ndarray, corners: str
) -> None:
    request = fiji(lon, 177.0, -178.0, lat=lat)
    if not corners:  # up to one cell beyond its edge the driver's outermost value is taken
        preprocess(request, Console(quiet=True))
        return
    with pytest.raises(RequestError, match=rf"driver.*{corners}"):
        preprocess(request, Console(quiet=True))
