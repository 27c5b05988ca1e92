"""The seven defects of the reference pipeline, one test each: rain stretched over the domain, hours matched
by either end, Lambert coordinates taken as separable, the nearest time whatever its distance, levels by
position, units mixed, absence turned into zero.

One archive of analytic fields in the sources' own formats: what the store holds is compared with the formula.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import netCDF4
import numpy as np
import pytest
from pyproj import Proj

from stormcast_train.cli import main
from stormcast_train.fields.reasons import Reason
from stormcast_train.sources.opened import close_all
from stormcast_train.store.group import Group
from stormcast_train.store.reader import Store, open_store
from stormcast_train.synthetic import write_era5, write_qpepre, write_rwrf

START = np.datetime64("2021-06-01T00", "s")
HOURS = START + np.arange(6) * np.timedelta64(3600, "s")
LOST = 4  # this hour's RWRF file never came
HOT = (23.4, 121.3)  # one QPEPRE cell with 40 mm more
VARIABLES = """
name: seven
step: 1h
state: [t2m, msl, z850, q850, rain1h]
background: [t2m, msl, z850, q850]
"""


def t2m(lat, lon, hour):
    return 280 + lat + 2 * (lon - 120) + hour


def msl(lat, lon, hour):
    return 100500 + 10 * lat - 20 * (lon - 120) + 50 * hour


def z850(lat, lon, hour):
    return 14500 + 30 * lat + 10 * (lon - 120) + hour


def q850(lat, lon, hour):
    return 0.010 + 1e-4 * (lat - 23) + 1e-5 * hour


FORMULAS = {"t2m": t2m, "msl": msl, "z850": z850, "q850": q850}


def lambert() -> tuple[np.ndarray, np.ndarray]:
    """120 x 120 points 6 km apart on a projection whose meridian lies far to the west: rows climb eastward by
    several cells.
    """
    projection = Proj(proj="lcc", lat_1=10, lat_2=40, lat_0=23.6, lon_0=95.0, R=6370000.0)
    x0, y0 = projection(121.0, 23.6)
    x, y = np.meshgrid((np.arange(120) - 59.5) * 6000.0, (np.arange(120) - 59.5) * 6000.0)
    lon, lat = projection(x0 + x, y0 + y, inverse=True)
    return np.asarray(lat), np.asarray(lon)


def write_archive(archive: Path) -> None:
    lat, lon = lambert()
    lines = write_qpepre.template()
    for hour, time in enumerate(HOURS):
        fields = {
            "lat": lat,
            "lon": lon,
            "orog": 0 * lat,
            "lsm": 0 * lat,
            **{n: f(lat, lon, hour) for n, f in FORMULAS.items()},
        }
        fields |= {"z500": 57000 + 0 * lat, "q500": 0.002 + 0 * lat}
        path = archive / "rwrf" / write_rwrf.file_name(time)
        if hour != LOST:
            path.parent.mkdir(parents=True)
            write_rwrf.write(path, time, fields, {})
        rain = np.full((len(write_qpepre.lat), len(write_qpepre.lon)), 1.0 + hour)
        row, column = (
            int(np.argmin(np.abs(axis - at)))
            for axis, at in zip((write_qpepre.lat, write_qpepre.lon), HOT, strict=True)
        )
        rain[row - 4 : row + 5, column - 4 : column + 5] += 40
        (archive / "qpepre").mkdir(exist_ok=True)
        (archive / "qpepre" / write_qpepre.file_name(time)).write_bytes(write_qpepre.text_file(rain, lines))
    _turn_levels_round(archive / "rwrf" / write_rwrf.file_name(HOURS[3]))
    _write_era5(archive / "era5")


def _turn_levels_round(path: Path) -> None:
    """The same file with its pressure levels in the opposite order."""
    with netCDF4.Dataset(path, "a") as file:
        for name in ("pres_levels", "z_p", "QVAPOR_p"):
            values = np.ma.filled(file[name][:], np.nan)
            file[name][:] = values[::-1] if name == "pres_levels" else values[:, ::-1]


def _write_era5(folder: Path) -> None:
    folder.mkdir()
    lat, lon = np.arange(30.0, 16.9, -0.25), np.arange(115.0, 127.1, 0.25)
    axes = (HOURS, lat, lon)
    grid = lat[:, None], lon[None, :]

    def block(names: dict[str, str]) -> dict[str, np.ndarray]:
        return {
            short: np.stack([FORMULAS[n](*grid, h) + 0 * grid[0] * grid[1] for h in range(len(HOURS))])
            for n, short in names.items()
        }

    single = block({"t2m": "t2m", "msl": "msl"})
    write_era5.write_single(
        folder / "single.zip", write_era5.Axes(*axes), ("t2m", "msl"), lambda: iter([(0, single)])
    )
    levels = {k: v[:, None] for k, v in block({"z850": "z", "q850": "q"}).items()}
    write_era5.write_levels(
        folder / "levels.nc", write_era5.Axes(*axes, levels=(850,)), ("z", "q"), lambda: iter([(0, levels)])
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    folder = tmp_path_factory.mktemp("seven")
    write_archive(folder / "archive")
    (folder / "conf" / "variables").mkdir(parents=True)
    (folder / "conf" / "variables" / "seven.yaml").write_text(VARIABLES)
    words = [
        "domain=taiwan_2km",
        "domain.shape=[81,51]",
        "variables=seven",
        "source=qpepre",
        f"archive={folder / 'archive'}",
    ]
    assert (
        main(
            [
                "preprocess",
                *words,
                f"store={folder / 'store'}",
                "workers=1",
                "report=false",
                "--config-dir",
                str(folder / "conf"),
            ]
        )
        == 0
    )
    yield open_store(folder / "store")
    close_all()


def read(group: Group, name: str, hour: int) -> np.ndarray:
    return group.read(group.rows(HOURS[hour]), [name])[0, 0]


def inside(group: Group) -> np.ndarray:
    """Cells well within QPEPRE's own extent, 120 to 122.0125 E and 21.8875 to 25.3125 N."""
    lat, lon = group.grid.lat2d, group.grid.lon2d
    return (lat > 21.9) & (lat < 25.3) & (lon > 120.01) & (lon < 122.0)


def test_1_rain_lies_where_it_fell_and_is_not_stretched_over_the_domain(store: Store) -> None:
    state = store.group("state")
    rain = read(state, "rain1h", 2)
    lat, lon = state.grid.lat2d, state.grid.lon2d
    hot = rain > 20
    assert hot.any()
    assert (
        np.hypot(lat[hot] - HOT[0], lon[hot] - HOT[1]).max() < 0.12
    )  # nine cells of 0.0125 degrees; stretching moves it by 0.1 and more
    assert np.abs(lat[hot].mean() - HOT[0]) < 0.03
    assert np.abs(lon[hot].mean() - HOT[1]) < 0.03


def test_2_an_hour_holds_the_rain_that_ended_then(store: Store) -> None:
    state = store.group("state")
    for hour in range(len(HOURS)):
        rain = read(state, "rain1h", hour)
        usual = inside(state) & (rain < 20)
        assert (rain[usual] >= 1.0 + hour - 1e-5).all()
        assert np.median(rain[usual]) == 1.0 + hour


def test_3_lambert_points_are_found_by_both_coordinates(store: Store) -> None:
    state = store.group("state")
    lat, lon = state.grid.lat2d, state.grid.lon2d
    np.testing.assert_allclose(read(state, "t2m", 1), t2m(lat, lon, 1), atol=2e-3)
    source_lat, _ = lambert()
    assert (
        np.ptp(source_lat, axis=1).min() > 1.0
    )  # degrees that a row climbs: the first column's latitudes would be that wrong


def test_4_a_lost_hour_is_a_gap_and_never_the_nearest(store: Store) -> None:
    state = store.group("state")
    assert (state.mask(state.rows(HOURS[LOST]), ["t2m", "msl"]) == Reason.NOT_RECEIVED).all()
    for hour in (LOST - 1, LOST + 1):
        np.testing.assert_allclose(
            read(state, "t2m", hour), t2m(state.grid.lat2d, state.grid.lon2d, hour), atol=2e-3
        )


def test_5_a_level_is_picked_by_its_value(store: Store) -> None:
    state = store.group("state")
    for hour in (2, 3):  # hour 3 holds its levels from the top down
        np.testing.assert_allclose(
            read(state, "z850", hour), z850(state.grid.lat2d, state.grid.lon2d, hour), atol=0.5
        )


def test_6_every_source_comes_in_the_same_unit(store: Store) -> None:
    for role in (
        "state",
        "background",
    ):  # hPa, metres and a mixing ratio in one; Pa, m2 s-2 and specific humidity in the other
        group = store.group(role)
        lat, lon = group.grid.lat2d, group.grid.lon2d
        for name, tolerance in (("msl", 1.0), ("z850", 0.5), ("q850", 1e-6)):
            np.testing.assert_allclose(
                read(group, name, 2), FORMULAS[name](lat, lon, 2), atol=tolerance, err_msg=f"{role} {name}"
            )


def test_7_where_nobody_looked_there_is_no_rain_and_no_zero(store: Store) -> None:
    state = store.group("state")
    lat, lon = state.grid.lat2d, state.grid.lon2d
    beyond = (lat > 25.35) | (lat < 21.85) | (lon < 119.95) | (lon > 122.05)
    rain, mask = read(state, "rain1h", 2), state.mask(state.rows(HOURS[2]), ["rain1h"])[0, 0]
    assert np.isnan(rain[beyond]).all()
    assert (mask[beyond] == Reason.OUTSIDE_COVERAGE).all()
    assert not state.coverage[state.index(["rain1h"])[0]][beyond].any()
