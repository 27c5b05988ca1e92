"""`plot`: what it draws, and what it says when it cannot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from stormcast_train.base.config import compose
from stormcast_train.base.console import Console
from stormcast_train.base.errors import RequestError
from stormcast_train.base.typed import typed
from stormcast_train.fields.grid import Grid
from stormcast_train.recipes import plot
from stormcast_train.store.writer import write_store

START = np.datetime64("2021-06-01T00", "s")
HOUR = np.timedelta64(3600, "s")
QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    grid, coarse = (
        Grid(np.linspace(22, 25, 8), np.linspace(120, 122, 6)),
        Grid(np.linspace(21, 26, 4), np.linspace(119, 123, 4)),
    )
    times = START + np.arange(6) * HOUR
    state = {"t2m": 290 + rng.normal(size=(6, 8, 6)), "rain1h": np.maximum(rng.normal(size=(6, 8, 6)), 0)}
    groups = {
        "state": (grid, times, state, None),
        "background": (coarse, times, {"t2m": 290 + rng.normal(size=(6, 4, 4))}, None),
        "static": (grid, times[:1], {"orog": rng.random((8, 6)) * 1000}, None),
    }
    return write_store(tmp_path_factory.mktemp("plot") / "store", groups)


@pytest.fixture(scope="module")
def forecast(store: Path) -> Path:
    """One start, 3 members, 2 leads, in the archive's own dimensions."""
    rng = np.random.default_rng(1)
    dims = ("forecast_reference_time", "realization", "forecast_period", "y", "x")
    coords = {
        "forecast_reference_time": ("forecast_reference_time", [START.astype("datetime64[ns]")]),
        "realization": np.arange(3),
        "forecast_period": ("forecast_period", np.array([1, 2]) * np.timedelta64(3600 * 10**9, "ns")),
        "lat": ("y", np.linspace(22, 25, 8)),
        "lon": ("x", np.linspace(120, 122, 6)),
    }
    path = store.parent / "forecast.nc"
    xr.Dataset(
        {"t2m": (dims, 290 + rng.normal(size=(1, 3, 2, 8, 6)), {"units": "K"})}, coords=coords
    ).to_netcdf(path, engine="netcdf4")
    return path


def config(path: Path, *words: str) -> plot.Config:
    composed = compose("plot", [f"path={path}", *words])
    return typed(plot.Config, {k: composed[k] for k in plot.Config.model_fields})


def test_a_store_is_drawn_at_the_time_asked_for(store: Path, tmp_path: Path) -> None:
    result = plot.run(config(store, "variable=rain1h", "time=2021-06-01T03", f"out={tmp_path}/a.png"), QUIET)
    assert result["times"] == ["2021-06-01T03:00:00"]
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_a_static_field_has_no_time(store: Path, tmp_path: Path) -> None:
    assert plot.run(config(store, "variable=orog", f"out={tmp_path}/a.png"), QUIET)["times"] == []


def test_a_forecast_stands_beside_truth_and_driver(store: Path, forecast: Path) -> None:
    holder, variable, times, others = plot.choose(
        config(forecast, "variable=t2m", "lead=2h", f"store={store}")
    )
    assert [title for title, _ in others] == ["truth", "driver"]
    assert times.tolist() == [START + 2 * HOUR]
    from stormcast_train.products.pictures import panels_at

    titles = [p.title for p in panels_at(holder, variable, times[0], others, False)]
    assert titles == ["mean of 3 members", "member 0", "member 1", "truth", "driver"]


def test_a_comparison_shows_the_difference(store: Path, forecast: Path) -> None:
    holder, variable, times, others = plot.choose(
        config(forecast, f"against={store}", "time=2021-06-01T01", "member=1")
    )
    from stormcast_train.products.pictures import panels_at

    panels = panels_at(holder, variable, times[0], others, True)
    assert [p.difference for p in panels] == [False, False, True]
    np.testing.assert_allclose(panels[2].values, panels[0].values - panels[1].values)


def test_an_animation_is_a_gif_of_the_interval(store: Path, tmp_path: Path) -> None:
    result = plot.run(
        config(
            store, "variable=t2m", "animate=true", "time=2021-06-01T01/2021-06-01T03", f"out={tmp_path}/a.png"
        ),
        QUIET,
    )
    assert result["out"].endswith("a.gif")
    assert len(result["times"]) == 2


def test_the_same_picture_is_done_and_another_is_not_overwritten(store: Path, tmp_path: Path) -> None:
    for words in (["variable=t2m"], ["variable=t2m", "animate=true", "time=2021-06-01T01/2021-06-01T03"]):
        assert not plot.run(config(store, *words, f"out={tmp_path}/a.png"), QUIET)["done"]
        assert plot.run(config(store, *words, f"out={tmp_path}/a.png"), QUIET)["done"]
        with pytest.raises(RequestError, match="another picture"):
            plot.run(config(store, *words[1:], "variable=rain1h", f"out={tmp_path}/a.png"), QUIET)


def test_an_unknown_variable_lists_the_known_ones(store: Path) -> None:
    with pytest.raises(RequestError, match=r"rain2h.*Did you mean 'rain1h'.*t2m, rain1h, orog"):
        plot.plan(config(store, "variable=rain2h"))


def test_an_unknown_time_tells_the_span_and_the_nearest(store: Path) -> None:
    with pytest.raises(
        RequestError,
        match=r"6 times from 2021-06-01T00:00:00 to 2021-06-01T05:00:00.*nearest is 2021-06-01T05",
    ):
        plot.plan(config(store, "variable=t2m", "time=2021-06-02T00"))


def test_nothing_there_and_a_run_are_refused(tmp_path: Path, store: Path) -> None:
    with pytest.raises(RequestError, match="nothing at"):
        plot.plan(config(tmp_path / "no"))
    (tmp_path / "run" / "package").mkdir(parents=True)
    with pytest.raises(RequestError, match="roll a forecast"):
        plot.plan(config(tmp_path / "run"))
    with pytest.raises(RequestError, match=r"not a \.png"):
        plot.plan(config(store, "out=a.jpg"))


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("qpesums/CB_GC_PCP_1H_RAD.20150808.0850", ["variable=rain1h"]),
        ("qpesums/COMPREF.20210110.1810.gz", ["variable=refc"]),
        ("knmi/knmi_rain_5min_20100826.nc", ["variable=rain", "time=2010-08-26T05:00"]),
        ("wrf/wrf_d01_allvars_cropped.nc", ["variable=t2m"]),
        ("era5_cds/india_20230901-07_cds_download.zip", ["variable=d2m", "time=2023-09-03T12"]),
    ],
)
def test_real_files_are_drawn(real_data: Path, tmp_path: Path, name: str, words: list[str]) -> None:
    plot.run(config(real_data / name, *words, f"out={tmp_path}/a.png"), QUIET)
    assert (tmp_path / "a.png").stat().st_size > 10000


@pytest.fixture(scope="module")
def with_radar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a role that its config named: ten-minute reflectivity; t2m is in two roles."""
    grid, step = Grid(np.linspace(22, 25, 8), np.linspace(120, 122, 6)), np.timedelta64(600, "s")
    echo, warm = np.full((4, 8, 6), 20.0), np.full((4, 8, 6), 290.0)
    groups = {
        "state": (grid, START + np.arange(4) * HOUR, {"t2m": warm}, None),
        "background": (grid, START + np.arange(4) * HOUR, {"t2m": warm + 1}, None),
        "radar": (grid, START + np.arange(4) * step, {"refc": echo}, None),
    }
    return write_store(tmp_path_factory.mktemp("radar") / "store", groups)


def test_a_variable_is_found_in_any_role_of_a_store(with_radar: Path, tmp_path: Path) -> None:
    result = plot.run(
        config(with_radar, "variable=refc", "time=2021-06-01T00:20", f"out={tmp_path}/a.png"), QUIET
    )
    assert (result["variable"], result["times"]) == ("refc", ["2021-06-01T00:20:00"])


def test_role_picks_where_several_have_a_variable(with_radar: Path) -> None:
    for words, value in (([], 290), (["role=background"], 291)):
        holder, variable, times, _ = plot.choose(config(with_radar, "variable=t2m", *words))
        assert holder.at(variable, times[0])[0].values.mean() == value


def test_a_variable_of_no_role_or_of_another_says_where_was_looked(with_radar: Path) -> None:
    with pytest.raises(RequestError, match="Looked in state, background, radar"):
        plot.plan(config(with_radar, "variable=orog"))
    with pytest.raises(RequestError, match="has 'refc' in radar, not in state: give role=radar"):
        plot.plan(config(with_radar, "variable=refc", "role=state"))
