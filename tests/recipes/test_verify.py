"""`verify`, end to end on a tiny store and a tiny trained ensemble."""

from __future__ import annotations

import html
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny_world
import xarray as xr

from stormcast_train.base.config import compose
from stormcast_train.base.console import Console
from stormcast_train.base.errors import RequestError
from stormcast_train.base.typed import typed
from stormcast_train.fields.cell_areas import relative_areas
from stormcast_train.forecast.emulator import Emulator
from stormcast_train.forecast.package import load
from stormcast_train.recipes import verify
from stormcast_train.recipes._baseline_inputs import Asked, BaselineInputs, prepare, split_of
from stormcast_train.store.reader import open_store
from stormcast_train.verification.table import COLUMNS

QUIET = Console(quiet=True)
STARTS = ("2021-06-05T03", "2021-06-05T06", "2021-06-05T09")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A store, packages of both stages, and a forecast of 3 members from 3 starts over 3 leads."""
    import tiny_stages

    from stormcast_train.recipes import forecast

    folder = tmp_path_factory.mktemp("verify")
    store = tiny_world.write(folder / "store")
    packages = tiny_stages.train_both(store, folder / "packages")
    out = str(folder / "forecast.nc")
    rolled = forecast.Config(
        run=str(packages["diffusion"]), store=str(store), start=STARTS, out=out, steps=3, members=3
    )
    forecast.run(rolled, QUIET)
    return {
        "store": store,
        "forecast": folder / "forecast.nc",
        "run": packages["diffusion"],
        "folder": folder,
    }


def config(world: dict[str, Path], out: Path, *words: str) -> verify.Config:
    composed = compose(
        "verify", [f"forecast={world['forecast']}", f"store={world['store']}", f"out={out}", *words]
    )
    return typed(verify.Config, {k: composed[k] for k in verify.Config.model_fields})


@pytest.fixture(scope="module")
def scored(world: dict[str, Path]) -> tuple[dict, Path]:
    out = world["folder"] / "scores"
    return verify.run(config(world, out, "score.thresholds.rain=[0.5,2]"), QUIET), out


def score_of(frame: pd.DataFrame, forecast: str, variable: str, metric: str, lead: int = 3600) -> float:
    rows = frame[
        (frame.forecast == forecast)
        & (frame.variable == variable)
        & (frame.metric == metric)
        & (frame.lead_seconds == lead)
    ]
    return rows.value.item()


def test_it_leaves_scores_pictures_and_a_page(scored: tuple[dict, Path]) -> None:
    result, out = scored
    names = {p.name for p in out.iterdir()}
    assert {
        "scores.csv",
        "scores.nc",
        "report.html",
        "maps_t2m.png",
        "scores_t2m.png",
        "maps_rain1h.png",
        "scores_rain1h.png",
    } <= names
    text = (out / "report.html").read_text()
    assert text.count("data:image/png;base64,") == 4
    assert "http" not in text
    assert set(result["headline"]) == {"t2m", "rain1h"}


def test_the_table_has_the_interfaces_columns_metrics_and_forecasts(scored: tuple[dict, Path]) -> None:
    frame = pd.read_csv(scored[1] / "scores.csv")
    assert tuple(frame.columns) == COLUMNS
    wanted = "rmse mae bias crps_fair crps_skill spread_skill_ratio fss ets csi pod far frequency_bias brier rank_histogram_deviation"
    assert {*wanted.split(), "psd_ratio", "mse_skill"} <= set(frame.metric)
    baselines = {
        "persistence",
        "climatology",
        "regression",
        "dressed_regression",
        "dressed_persistence",
        "driver",
        "extrapolation",
        "stencil",
    }
    assert {"ensemble", "member", "mean", "pmm"} | baselines == set(frame.forecast)
    assert set(frame[frame.forecast == "driver"].variable) == {"t2m"}
    assert set(frame[frame.forecast == "extrapolation"].variable) == {"rain1h"}
    assert (frame.n_cases == 3).all()
    assert frame.low.isna().all()  # 3 starts are not 10 blocks
    assert (frame[frame.forecast == "dressed_regression"].members == 3).all()


def test_scores_agree_with_hand_arithmetic_on_the_files(
    world: dict[str, Path], scored: tuple[dict, Path]
) -> None:
    frame, group = pd.read_csv(scored[1] / "scores.csv"), open_store(world["store"]).group("state")
    weight = np.broadcast_to(
        np.cos(np.radians(tiny_world.GRID.lat2d)), (3, *tiny_world.GRID.shape)
    )  # of equally high rows

    def mean(values: np.ndarray) -> float:
        return np.average(values, weights=weight)

    starts = np.array(STARTS, "datetime64[s]")
    truth = group.read(group.rows(starts + np.timedelta64(7200, "s")), ["t2m"])[:, 0]
    first = group.read(group.rows(starts), ["t2m"])[:, 0]
    assert score_of(frame, "persistence", "t2m", "rmse", 7200) == pytest.approx(
        np.sqrt(mean((first - truth) ** 2)), rel=1e-5
    )
    with xr.open_dataset(world["forecast"]) as opened:
        members = opened["t2m"].isel(forecast_period=1).values  # [start, member, y, x]
    assert score_of(frame, "mean", "t2m", "rmse", 7200) == pytest.approx(
        np.sqrt(mean((members.mean(1) - truth) ** 2)), rel=1e-5
    )
    pairs = np.abs(members[:, :, None] - members[:, None]).sum((1, 2))
    crps = np.abs(members - truth[:, None]).mean(1) - pairs / (2 * 3 * 2)
    assert score_of(frame, "ensemble", "t2m", "crps_fair", 7200) == pytest.approx(mean(crps), rel=1e-5)


def test_the_files_say_that_cells_are_weighted_by_their_area(scored: tuple[dict, Path]) -> None:
    sentence = "Every sum over cells is weighted by the cell's area"
    with xr.open_dataset(scored[1] / "scores.nc") as dataset:
        assert dataset.attrs["weighting"].startswith(sentence)
        assert "pairs of frames" in dataset.attrs["how_it_was_scored"]
    page = html.unescape((scored[1] / "report.html").read_text())
    assert sentence in page[page.index("How it was scored") : page.index("Provenance")]


def test_the_page_names_the_best_baseline_and_what_it_is_made_of(scored: tuple[dict, Path]) -> None:
    page = html.unescape((scored[1] / "report.html").read_text())
    assert "Against the best baseline" in page
    how = page[page.index("How it was scored") : page.index("Provenance")]
    assert "windows of the training split" in how
    assert "extrapolation (rain1h)" in how
    for ahead in scored[0]["baselines_ahead"]:
        assert ahead["ratio"] > 1
        assert f"{ahead['variable']}: the best baseline beats the {ahead['forecast']}" in page


def test_never_covered_cells_enter_no_score(
    world: dict[str, Path], scored: tuple[dict, Path], tmp_path: Path
) -> None:
    """By hand over the 92 of 96 cells that the radar covers, weighted by their areas; and a forecast that has a
    value in the others scores the same.
    """
    frame, group = pd.read_csv(scored[1] / "scores.csv"), open_store(world["store"]).group("state")
    starts = np.array(STARTS, "datetime64[s]")
    first, truth = (group.read(group.rows(starts + np.timedelta64(h, "h")), ["rain1h"])[:, 0] for h in (0, 1))
    covered = np.isfinite(truth)
    assert covered.sum() == 3 * 92
    area = np.broadcast_to(relative_areas(group.grid), truth.shape)[covered]
    mae = np.average(np.abs(first - truth)[covered], weights=area)
    assert score_of(frame, "persistence", "rain1h", "mae") == pytest.approx(mae, rel=1e-5)
    with xr.open_dataset(world["forecast"]) as opened:
        told = opened.load()
    members = told["rain1h"].isel(forecast_period=0).values  # [start, member, y, x]
    pairs = np.abs(members[:, :, None] - members[:, None]).sum((1, 2)) / (2 * 3 * 2)
    crps = np.abs(members - truth[:, None]).mean(1) - pairs
    expected = np.average(crps[covered], weights=area)
    assert score_of(frame, "ensemble", "rain1h", "crps_fair") == pytest.approx(expected, rel=1e-5)
    told["rain1h"] = told["rain1h"].fillna(50.0)  # mm
    told.attrs.pop("request")
    told.to_netcdf(tmp_path / "full.nc", engine="netcdf4")
    again = verify.run(
        config({**world, "forecast": tmp_path / "full.nc"}, tmp_path / "o", "score.thresholds.rain=[0.5,2]"),
        QUIET,
    )
    pd.testing.assert_frame_equal(pd.read_csv(again["scores"]), frame)


def test_the_netcdf_holds_the_same_numbers(scored: tuple[dict, Path]) -> None:
    frame = pd.read_csv(scored[1] / "scores.csv")
    with xr.open_dataset(scored[1] / "scores.nc") as dataset:
        value = dataset["crps_fair"].sel(forecast="ensemble", variable="t2m", lead_seconds=3600, region="all")
        assert float(value) == pytest.approx(score_of(frame, "ensemble", "t2m", "crps_fair"), rel=1e-6)
        assert dataset["fss"].dims[-2:] == ("fss_threshold", "fss_scale_km")


def test_the_same_call_is_done_and_another_is_refused(
    world: dict[str, Path], scored: tuple[dict, Path]
) -> None:
    same = config(world, scored[1], "score.thresholds.rain=[0.5,2]")
    assert verify.plan(same)["done"]
    assert verify.run(same, QUIET)["done"]
    with pytest.raises(RequestError, match="holds other scores"):
        verify.run(config(world, scored[1], "score.seed=1"), QUIET)


def test_a_store_of_another_grid_is_refused(world: dict[str, Path], tmp_path: Path) -> None:
    from stormcast_train.fields.grid import Grid
    from stormcast_train.store.writer import write_store

    times = np.datetime64("2021-06-01T00", "s") + np.arange(120) * np.timedelta64(3600, "s")
    small = Grid(np.linspace(22, 25, 4), np.linspace(120, 122, 4))
    zero = np.zeros((120, 4, 4))
    other = write_store(tmp_path / "other", {"state": (small, times, {"t2m": zero, "rain1h": zero}, None)})
    with pytest.raises(RequestError, match=r"12 x 8 points.*4 x 4"):
        verify.plan(config({**world, "store": other}, tmp_path / "o"))
    lacking = write_store(tmp_path / "lacking", {"state": (small, times, {"t2m": zero}, None)})
    with pytest.raises(RequestError, match="rain1h"):
        verify.plan(config({**world, "store": lacking}, tmp_path / "o"))


def test_times_beyond_the_store_are_refused_by_name(world: dict[str, Path], tmp_path: Path) -> None:
    short = tiny_world.write(tmp_path / "short", hours=104)  # to 2021-06-05T07
    with pytest.raises(RequestError, match="the first 2021-06-05T08"):
        verify.plan(config({**world, "store": short}, tmp_path / "o"))


def inputs_of(asked: verify.Config, error_starts: int) -> BaselineInputs:
    """What `verify` makes its baselines of, errors of so many starts."""
    question = verify.ask(asked)
    request = Asked(
        question.run, question.analysis, question.starts, question.lead_steps, asked.score,
        asked.training_store, error_starts
    )  # fmt: skip
    return prepare(request, QUIET)


def test_errors_that_dress_a_baseline_are_of_validation_starts_alone(
    world: dict[str, Path], tmp_path: Path
) -> None:
    """Truth minus forecast of the first and the last validation start, and of no training or scored one."""
    inputs, splits = inputs_of(config(world, tmp_path / "o"), 2), load(world["run"]).splits
    group = open_store(world["store"]).group("state")

    def errors(start: np.datetime64) -> np.ndarray:
        """Truth minus the start, at leads of one to three hours."""
        fields = group.read(group.rows(start + np.arange(4) * np.timedelta64(3600, "s")), ["t2m"])[:, 0]
        return fields[1:] - fields[:1]

    ends = splits["validation"][[0, -1]]
    np.testing.assert_allclose(
        inputs.persistence_errors["t2m"], np.stack([errors(start) for start in ends]), atol=1e-4
    )
    others = [errors(start) for start in (*splits["train"], *np.array(STARTS, "datetime64[s]"))]
    assert len(others) > 70
    for found in inputs.persistence_errors["t2m"]:
        assert not any(np.allclose(found, error, atol=0.1) for error in others)
    for start, found in zip(ends, inputs.regression_errors["t2m"], strict=True):
        truth = group.read(group.rows(start + np.arange(1, 4) * np.timedelta64(3600, "s")), ["t2m"])[:, 0]
        np.testing.assert_allclose(found, truth - inputs.roll(start)["t2m"], atol=1e-4)


def test_a_member_is_dressed_with_one_validation_starts_errors_in_all_variables(
    world: dict[str, Path], tmp_path: Path
) -> None:
    inputs = inputs_of(config(world, tmp_path / "o"), 3)
    start = np.datetime64(STARTS[0], "s")
    valid = start + np.arange(1, 4) * np.timedelta64(3600, "s")
    made = inputs.baselines(start, valid, 3, np.random.default_rng(0))
    for name, errors in (
        ("regression", inputs.regression_errors),
        ("persistence", inputs.persistence_errors),
    ):
        dressed, plain = made[f"dressed_{name}"], made[name]
        drawn = [
            int(np.abs(errors["t2m"] - (member - plain["t2m"])).mean(axis=(1, 2, 3)).argmin())
            for member in dressed["t2m"]
        ]
        assert sorted(drawn) == [0, 1, 2]  # three members, three starts
        np.testing.assert_allclose(dressed["t2m"], plain["t2m"] + errors["t2m"][drawn], atol=1e-4)
        wetter = np.clip(plain["rain1h"] + np.nan_to_num(errors["rain1h"][drawn]), 0, None)
        np.testing.assert_allclose(dressed["rain1h"], np.minimum(wetter, 300), atol=1e-4)


def test_an_independent_store_is_called_so_and_takes_errors_from_the_training_store(
    world: dict[str, Path], tmp_path: Path
) -> None:
    from stormcast_train.recipes import forecast

    def warmer(t2m: np.ndarray, rain: np.ndarray) -> None:
        t2m[:] = 290 + 2 * (t2m - 290)  # persistence errs twice as much as in the training store

    other, out = tiny_world.write(tmp_path / "other", hours=140, changes=warmer), tmp_path / "f.nc"
    late = "2021-06-06T12"  # the training store ends at midnight
    forecast.run(
        forecast.Config(
            run=str(world["run"]), store=str(other), start=late, out=str(out), steps=2, members=2
        ),
        QUIET,
    )
    asked = config(
        {**world, "store": other, "forecast": out},
        tmp_path / "o",
        f"training_store={world['store']}",
        "error_starts=3",
    )
    told = verify.run(asked, QUIET)
    frame = pd.read_csv(told["scores"])
    assert told["split"] == "independent"
    assert set(frame.split) == {"independent"}
    assert "dressed_regression" in set(frame.forecast)
    assert "3 validation starts" in (tmp_path / "o" / "report.html").read_text()
    inputs, splits = inputs_of(asked, 3), load(world["run"]).splits
    assert (
        split_of(splits["train"][:2], Emulator.load(world["run"]), open_store(other)) == "train"
    )  # the same hours are no news
    group = open_store(world["store"]).group("state")
    for start, error in zip(
        splits["validation"][[0, -1]], inputs.persistence_errors["t2m"][[0, -1]], strict=True
    ):
        fields = group.read(group.rows(start + np.arange(3) * np.timedelta64(3600, "s")), ["t2m"])[:, 0]
        np.testing.assert_allclose(error, fields[1:] - fields[:1], atol=1e-4)
