"""The world is a function of (seed, place, time): never of the period asked for; and it looks like weather
over Taiwan.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import yaml

from stormcast_train.base.errors import RequestError
from stormcast_train.fields.grid import NativeDomain, RegularDomain
from stormcast_train.synthetic import climate, latent, terrain
from stormcast_train.synthetic.cyclone import cyclones
from stormcast_train.synthetic.driver import Driver
from stormcast_train.synthetic.flow import Synoptic
from stormcast_train.synthetic.lattice import lattice_for
from stormcast_train.synthetic.red_noise import Colour, Noise
from stormcast_train.synthetic.surface import HourlyFields
from stormcast_train.synthetic.world import SEGMENT_H, Branch, World

TINY = RegularDomain(name="tiny", south=21.6, north=25.6, west=119.75, east=122.25, shape=(56, 32))
COARSE = RegularDomain(name="coarse", south=21.6, north=25.6, west=119.75, east=122.25, shape=(20, 12))


def hour(text: str) -> int:
    return int(np.datetime64(text, "h").astype(int))


@cache
def world(seed: int = 0) -> World:
    return World(seed, lattice_for(COARSE))


@cache
def week(start: str = "2021-06-10T00", hours: int = 96) -> dict[str, np.ndarray]:
    """Fields [T, y, x] of the coarse world."""
    names, rows, at = ("t2m", "u10m", "v10m", "rain1h"), [], hour(start)
    while at < hour(start) + hours:
        last = min((at // SEGMENT_H + 1) * SEGMENT_H, hour(start) + hours) - 1
        rows += [
            HourlyFields(world(), s, f).fields(names) for s, f in world().segment(at // SEGMENT_H, at, last)
        ]
        at = last + 1
    return {name: np.stack([row[name] for row in rows]) for name in names}


def test_a_smooth_series_is_the_same_whatever_hours_are_asked_with_it() -> None:
    long = latent.series(3, "x", 2, np.arange(1000.0, 1100.0), 8.0)
    short = latent.series(3, "x", 2, np.arange(1040.0, 1043.0), 8.0)
    np.testing.assert_allclose(long[:, 40:43], short, rtol=1e-12)
    assert latent.series(0, "x", 40, np.arange(0.0, 900.0, 30.0), 8.0).std() == pytest.approx(1.0, abs=0.08)


def test_the_truth_at_a_time_does_not_depend_on_the_period() -> None:
    start = hour("2021-06-10T00")
    index = start // SEGMENT_H
    short = {s.hour: s for s, _ in world().segment(index, start, start + 1)}
    fresh = World(0, lattice_for(COARSE))
    longer = {s.hour: s for s, _ in fresh.segment(index, start, start + 5)}
    for at, state in short.items():
        for name in ("rate", "cold", "rain_mm", "growth", "texture", "slow"):
            np.testing.assert_array_equal(getattr(state, name), getattr(longer[at], name))


def test_there_is_no_visible_jump_where_two_segments_meet() -> None:
    first = (hour("2021-06-10T00") // SEGMENT_H + 1) * SEGMENT_H
    before = world().at(first - 1)
    carried = next(world().run(before, first))
    begun = next(world().segment(first // SEGMENT_H, first, first))
    a, b = (HourlyFields(world(), *both).fields(["t2m", "u10m", "rain1h"]) for both in (carried, begun))
    earlier = week("2021-06-10T00")["t2m"]
    hourly_change = np.abs(np.diff(earlier, axis=0)).mean()
    assert np.abs(a["t2m"] - b["t2m"]).mean() < 0.05 * hourly_change
    assert np.abs(a["u10m"] - b["u10m"]).max() < 0.1
    assert np.abs(a["rain1h"] - b["rain1h"]).mean() < 0.02


def test_members_of_the_oracle_share_the_state_at_the_start_and_part_from_there() -> None:
    start = hour("2021-06-10T09")
    state = world().at(start)
    futures = [[s for s, _ in world().run(state, start + 3, Branch(m, start))] for m in (0, 1)]
    again = [s for s, _ in world().run(state, start + 3, Branch(0, start))]
    np.testing.assert_array_equal(futures[0][2].rain_mm, again[2].rain_mm)
    spread = [np.abs(a.slow - b.slow).mean() for a, b in zip(*futures, strict=True)]
    assert 0 < spread[0] < spread[1] < spread[2]
    truth = [s for s, _ in world().run(state, start + 3)]
    assert not np.array_equal(truth[0].slow, futures[0][0].slow)


def test_another_seed_is_another_world() -> None:
    hours = np.array([450000.0])
    place = np.array([[23.0]]), np.array([[121.0]])
    assert Synoptic(0, *place).at(hours).moisture[0] != Synoptic(1, *place).at(hours).moisture[0]


def test_the_driver_follows_the_truth_with_errors_of_its_own() -> None:
    hours = hour("2021-04-01T00") + np.arange(0.0, 480.0, 6.0)
    lat, lon = np.arange(26.0, 21.0, -0.5), np.arange(119.0, 123.0, 0.5)
    mesh = np.meshgrid(lat, lon, indexing="ij")
    truth = Synoptic(0, *mesh).at(hours).wind(850.0)[0]
    driver = Driver(0, lat, lon).day(hours, ["u850"])["u850"]
    error = np.sqrt(((driver - truth) ** 2).mean())
    assert 0.4 < error < 0.6 * truth.std() + 0.4
    assert np.corrcoef(driver.ravel(), truth.ravel())[0, 1] > 0.8


def test_wind_temperature_and_geopotential_are_in_balance() -> None:
    y, x = np.meshgrid(np.arange(21.0, 26.0, 0.25), np.arange(119.0, 123.0, 0.25), indexing="ij")
    flow = Synoptic(0, y, x).at(np.array([float(hour("2021-02-03T06"))]))
    north_m = 0.25 * terrain.KM_PER_DEGREE * 1e3
    geostrophic = -np.gradient(flow.geopotential(500.0)[0], north_m, axis=0) / climate.CORIOLIS
    np.testing.assert_allclose(geostrophic[1:-1], flow.wind(500.0)[0][0][1:-1], atol=0.15)
    thickness = flow.geopotential(840.0) - flow.geopotential(860.0)
    hydrostatic = thickness / (climate.R_DRY * np.log(860 / 840))
    np.testing.assert_allclose(hydrostatic, flow.temperature(850.0), atol=0.15)


def test_the_land_is_taiwan_and_its_ridge_is_steep_in_the_east() -> None:
    places = {
        "Taichung": (24.15, 120.68, 1),
        "Taipei": (25.04, 121.5, 1),
        "Kaohsiung": (22.65, 120.35, 1),
        "Penghu channel": (23.3, 119.8, 0),
    }
    places |= {"Pacific": (23.5, 122.0, 0), "Strait": (24.5, 119.9, 0), "Xiamen": (24.6, 118.0, 1)}
    for name, (lat, lon, expected) in places.items():
        assert terrain.land(np.array(lat), np.array(lon)) == expected, name
    lat, lon = np.meshgrid(np.linspace(23.0, 24.3, 30), np.linspace(120.0, 121.8, 90), indexing="ij")
    height = terrain.height_m(lat, lon)
    assert 2500 < height.max() < 4300
    across = height.mean(0)
    crest, half = across.argmax(), across.max() / 2
    west, east = crest - np.argmax(across > half), len(across) - np.argmax(across[::-1] > half) - crest
    assert west > 1.2 * east


def test_noise_has_unit_variance_and_keeps_long_waves_longer() -> None:
    noise = Noise(Colour(slope=2.5, longest_km=200.0, memory_h=2.0), 2, (64, 48), 8000.0, 1.0)
    rng = np.random.default_rng(0)
    coefficients = noise.start(rng)
    variances = []
    for _ in range(60):
        coefficients = noise.step(coefficients, rng, (1.0, 2.0))
        variances.append(noise.fields(coefficients).var())
    assert np.mean(variances) == pytest.approx(1.0, abs=0.1)
    assert noise.keep[0, 1] > noise.keep[0, 5] > noise.keep[0, -1]


def test_noise_travels_with_the_flow() -> None:
    noise = Noise(Colour(slope=3.0, longest_km=200.0, memory_h=1e6), 1, (32, 32), 8000.0, 1.0)
    rng = np.random.default_rng(1)
    before = noise.start(rng)
    after = noise.step(before, rng, (2.0, 3.0))
    np.testing.assert_allclose(
        noise.fields(after)[0], np.roll(noise.fields(before)[0], (2, 3), (0, 1)), atol=0.05
    )


def test_four_days_have_rain_and_most_cells_are_dry() -> None:
    rain = np.rint(week()["rain1h"] * 4) / 4
    wet = rain > 0.1
    assert 0.02 < wet.mean() < 0.25
    assert np.quantile(rain[wet], 0.99) > 6 * np.median(rain[wet])


def test_afternoons_over_land_are_warmer_and_summits_colder() -> None:
    t2m, ground, inner = week()["t2m"], world().ground, world().lattice.inner
    land, height = ground.land[inner] > 0, ground.height_m[inner]
    plain = land & (height < 300)
    by_hour = t2m[:, plain].mean(1).reshape(-1, 24).mean(0)
    assert by_hour.argmax() in (4, 5, 6, 7)  # 12 to 15 local time
    assert 2.0 < np.ptp(by_hour) < 10.0
    assert t2m[:, height > 1800].mean() < t2m[:, plain].mean() - 7


def test_winter_is_north_easterly_and_summer_southerly() -> None:
    point = np.array([[23.6]]), np.array([[121.0]])
    winter, summer = (
        Synoptic(0, *point).at(hour(f"{t}-01T00") + np.arange(0.0, 2400.0, 12.0))
        for t in ("2020-12", "2021-06")
    )
    assert winter.wind(1000.0)[1].mean() < -3
    assert summer.wind(1000.0)[1].mean() > 0.5
    assert winter.wind(250.0)[0].mean() > 25 > 10 > summer.wind(250.0)[0].mean()


def test_cyclones_come_in_summer_and_autumn_only() -> None:
    months = {
        m: sum(len(cyclones(seed, np.array([float(hour(f"2021-{m:02d}-15"))]))) for seed in range(60))
        for m in (1, 2, 8, 9)
    }
    assert months[1] == months[2] == 0
    assert 4 < months[8] < 30


def test_a_domain_elsewhere_is_refused() -> None:
    with pytest.raises(RequestError, match="outside the synthetic world"):
        lattice_for(RegularDomain(name="paris", south=48, north=49, west=2, east=3, shape=(10, 10)))


def test_the_lattice_covers_the_domain_and_is_turned() -> None:
    lattice, grid = lattice_for(TINY), TINY.grid()
    row, column = lattice.locate(grid.lat2d, grid.lon2d)
    rows, columns = lattice.inner
    assert row.min() >= rows.start + 1
    assert row.max() <= rows.stop - 2
    assert column.min() >= columns.start + 1
    assert column.max() <= columns.stop - 2
    assert np.ptp(lattice.lat[rows, columns][0]) > 0.1  # the southern row is no parallel


def test_a_native_domain_is_the_rwrf_grid() -> None:
    lattice = lattice_for(NativeDomain(name="taiwan_rwrf", shape=(448, 448)))
    rows, columns = lattice.inner
    assert (rows.stop - rows.start, columns.stop - columns.start) == (450, 450)
    assert lattice.spacing_m == 2000.0


def test_the_listed_events_are_the_tracks_of_the_world() -> None:
    listed = yaml.safe_load((Path(__file__).parents[2] / "conf" / "events" / "synthetic.yaml").read_text())[
        "events"
    ]
    found = []
    for year in range(2018, 2022):
        hours = np.arange(hour(f"{year}-05-01"), hour(f"{year}-09-01"), dtype=np.float64)
        for cyclone in cyclones(0, hours):
            near = hours[(np.hypot(*cyclone.centre(hours)) < 400) & (cyclone.strength(hours) > 0)]
            if near.size:
                found.append("/".join(str(np.datetime64(int(t), "h")) for t in (near[0], near[-1] + 1)))
    assert [event["period"] for event in listed] == found
