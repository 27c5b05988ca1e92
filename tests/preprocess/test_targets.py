"""Where a native domain's box lies, and which variable is regridded how."""

from __future__ import annotations

import numpy as np
import pytest

from stormcast_train.base.errors import RequestError
from stormcast_train.fields.grid import Grid, NativeDomain
from stormcast_train.fields.variables import describe
from stormcast_train.preprocess.targets import background_grid, method_for, state_grid
from stormcast_train.sources.config import SourceConfig
from stormcast_train.sources.source import dataset

LAT, LON = 20.0 + 0.1 * np.arange(12), 118.0 + 0.1 * np.arange(9)
TIME = np.datetime64("2021-06-01T00", "s")


def field(values: np.ndarray | None = None):
    return dataset({"t2m": np.zeros((12, 9)) if values is None else values}, LAT, LON, TIME, "V1")


def corner(
    shape: tuple[int, int], centre: str = "grid", values: np.ndarray | None = None, coarsen: int = 1
) -> tuple[int, int]:
    """The row and column of the source at which the box begins."""
    grid, _ = state_grid(
        NativeDomain(name="d", shape=shape, centre=centre, coarsen=coarsen), field(values), "t2m"
    )  # type: ignore[arg-type]
    assert grid.shape == shape
    step = 0.1 * coarsen
    first = (grid.lat[0] - LAT[:coarsen].mean()) / step, (grid.lon[0] - LON[:coarsen].mean()) / step
    return round(float(first[0])), round(float(first[1]))


def test_a_native_box_lies_in_the_middle_of_its_sources_points() -> None:
    assert corner((12, 9)) == (0, 0)
    assert corner((10, 7)) == (
        1,
        1,
    )  # one row and column less on every side: 448 of 450 points begin at the second
    assert corner((4, 3)) == (4, 3)
    assert corner((2, 2), coarsen=3) == (1, 1)  # of 4 x 3 blocks
    with pytest.raises(RequestError, match="asks for 13 x 9 points, and the source has only 12 x 9"):
        corner((13, 9))


def test_a_box_around_what_is_covered_is_moved_to_lie_inside() -> None:
    values = np.full((12, 9), np.nan)
    values[7:10, 2:5] = 290.0  # its middle is row 8, column 3
    assert corner((3, 3), "covered", values) == (7, 2)
    assert corner((5, 5), "covered", values) == (6, 1)
    assert corner((9, 7), "covered", values) == (
        3,
        0,
    )  # row 4 would end at 12, column 0 begins where the grid does
    with pytest.raises(RequestError, match="has no value at all"):
        corner((3, 3), "covered", np.full((12, 9), np.nan))


def test_a_native_grid_of_means_has_the_means_of_its_coordinates_and_values() -> None:
    values = 10.0 * np.arange(12)[:, None] + np.arange(9)
    grid, regrid = state_grid(NativeDomain(name="d", coarsen=3), field(values), "t2m")
    assert regrid is not None
    np.testing.assert_allclose(grid.lat, [20.1, 20.4, 20.7, 21.0])
    np.testing.assert_allclose(grid.lon, [118.1, 118.4, 118.7])
    np.testing.assert_allclose(
        regrid.apply(values), 10.0 * np.array([1, 4, 7, 10])[:, None] + [1, 4, 7], rtol=1e-6
    )


def test_a_driver_reaches_to_the_first_point_at_or_beyond_the_halo() -> None:
    inner = Grid(np.array([20.45, 20.65]), np.array([118.35, 118.45]))
    grid, regrid = background_grid(field(), inner, 0.2, 1)
    np.testing.assert_allclose(
        grid.bounds(), (20.2, 20.9, 118.1, 118.7), atol=1e-9
    )  # 20.25 .. 20.85 N, 118.15 .. 118.65 E
    exact = Grid(np.array([20.4, 20.6]), np.array([118.3, 118.4]))
    np.testing.assert_allclose(
        background_grid(field(), exact, 0.2, 1)[0].bounds(), (20.2, 20.8, 118.1, 118.6), atol=1e-9
    )
    values = np.add.outer(LAT, LON / 1000)
    np.testing.assert_allclose(regrid.apply(values), grid.lat2d + grid.lon2d / 1000, rtol=1e-6)
    with pytest.raises(RequestError, match="does not reach the domain"):
        background_grid(field(), Grid(np.array([40.0, 41.0]), np.array([118.0, 119.0])), 0.2, 1)


def spaced(degrees: float) -> Grid:
    return Grid(23.0 + degrees * np.arange(5), 120.0 + degrees * np.arange(5))


def test_from_twice_the_sources_spacing_all_but_reflectivity_is_conservative_unless_a_config_decides() -> (
    None
):
    def method(name: str, ratio: float, **regrid: str) -> str:
        config = SourceConfig.model_validate(
            {"name": "s", "readers": {"r": {"kind": "qpesums"}}, "state": {"*": "r"}, "regrid": regrid}
        )
        return method_for(config, describe(name), spaced(0.02), spaced(0.02 * ratio))

    assert [method(n, 1.9) for n in ("t2m", "rain1h", "refc", "orog")] == [
        "bilinear",
        "bilinear",
        "nearest",
        "bilinear",
    ]
    assert [method(n, 2.1) for n in ("t2m", "rain1h", "refc", "orog")] == [
        "conservative",
        "conservative",
        "nearest",
        "conservative",
    ]
    assert method("refc", 2.1, reflectivity="max") == "max"
    assert method("rain1h", 2.1, rain1h="area", accumulation="nearest") == "area"  # by name before kind
    assert method("rain10m", 2.1, rain1h="area", accumulation="nearest") == "nearest"
    assert method("rain1h", 1.0, rain1h="area", accumulation="nearest") == "area"
