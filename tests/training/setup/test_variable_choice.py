"""Training with other transforms, weights, ranges and channels than the store's, and with a drizzle cut-off
fitted on validation.
"""

from __future__ import annotations

from dataclasses import replace

import known_world as known
import numpy as np
import pytest
import tiny_stages
import tiny_world
import torch

from stormcast_train.base.errors import RequestError
from stormcast_train.data.keyed_random import normal
from stormcast_train.data.normalize import Normalizer
from stormcast_train.data.statistics import ChannelStatistics
from stormcast_train.fields.grid import Grid
from stormcast_train.fields.transforms import QuantileMap
from stormcast_train.fields.variables import describe
from stormcast_train.forecast import package as packages
from stormcast_train.forecast.emulator import Emulator
from stormcast_train.forecast.package import load
from stormcast_train.forecast.rollout import forecast as take_forecast
from stormcast_train.store.reader import open_store
from stormcast_train.store.view import StoreView
from stormcast_train.store.writer import write_store
from stormcast_train.training.setup.build_stage import build_stage
from stormcast_train.training.setup.resolve import resolve
from stormcast_train.training.validation import drizzle
from stormcast_train.training.validation.drizzle import cut_off_of, with_fitted_drizzle
from stormcast_train.training.validation.evaluation import Evaluation

CPU = tiny_stages.CPU
QUANTILE = StoreView(override={"rain1h": {"transform": {"kind": "quantile"}, "drizzle": "fit"}})


def built(store, kind="regression", choice=None, **more):
    return build_stage(tiny_stages.request(store, kind, variables=choice, **more), CPU)


def saved(stage, folder):
    Evaluation(stage).save_package(folder, stage.network.state_dict(), {"samples": 0})
    return folder


@pytest.fixture(scope="module")
def mapped(tiny_store, tmp_path_factory):
    """Package folders of both stages trained on quantile scores of the rain, with a fitted drizzle."""
    folder = tmp_path_factory.mktemp("mapped")
    stage, stream = built(tiny_store, choice=QUANTILE)
    tiny_stages.fit(stage, stream, 30)
    saved(stage, folder / "regression")
    stage, stream = built(tiny_store, "diffusion", QUANTILE, regression=str(folder / "regression"))
    tiny_stages.fit(stage, stream, 10)
    saved(stage, folder / "diffusion")
    return folder


def test_an_overridden_transform_trains_on_the_statistics_of_a_store_made_with_it(tiny_store, tmp_path):
    root = {"transform": {"kind": "sqrt"}}
    scene = built(tiny_store, choice=StoreView(override={"rain1h": root}))[0].template.scene
    whole = open_store(tiny_store)
    groups = {}
    for role in whole.roles:
        group = whole.group(role)
        values = group.read(np.arange(len(group.times)))
        groups[role] = (
            group.grid,
            group.times,
            {name: values[:, i] for i, name in enumerate(group.channels)},
            None,
        )
    made = write_store(tmp_path / "made", groups, variables={"rain1h": describe("rain1h", root)})
    expected = built(made)[0].template.scene
    assert scene.statistics == expected.statistics
    assert scene.state == expected.state
    assert scene.background_statistics == expected.background_statistics


def test_a_choice_is_part_of_the_science_and_its_absence_leaves_the_record_as_it_was(tiny_store):
    plain = resolve(tiny_stages.request(tiny_store, "regression")).science()
    assert "variables" not in plain
    heavier = resolve(
        tiny_stages.request(
            tiny_store, "regression", variables=StoreView(override={"rain1h": {"loss_weight": 3}})
        )
    ).science()
    assert heavier["variables"]["override"] == {"rain1h": {"loss_weight": 3}}
    assert heavier["store"] == plain["store"]
    fewer = resolve(
        tiny_stages.request(tiny_store, "regression", variables=StoreView(state=("rain1h",)))
    ).science()
    assert fewer["store"]["state"] != plain["store"]["state"]


def test_loss_weights_follow_the_choice(tiny_store):
    plain, weighted = (
        built(tiny_store),
        built(tiny_store, choice=StoreView(override={"rain1h": {"loss_weight": 3.0}})),
    )
    first, second = (
        stage.loss(stage.network, stage.example(stream.batch(range(8))))
        for stage, stream in (plain, weighted)
    )
    # rain covers 96 - 4 of 96 cells, t2m all: the total's share of rain is 92 / 188 of its own mean, and
    # grows threefold
    expected = float(first.total.detach()) + (3 - 1) * float(first.by_variable["rain1h"]) * 92 / 188
    assert float(second.total.detach()) == pytest.approx(expected, rel=1e-5)


def test_a_dropped_channel_is_not_trained_and_its_gaps_cost_no_sample(tiny_store, tmp_path):
    whole, whole_stream = built(tiny_store)
    stage, stream = built(tiny_store, choice=StoreView(state=("rain1h",)))
    assert stage.template.scene.names == ("rain1h",)
    assert (
        stream.dataset_size == whole_stream.dataset_size + 2
    )  # t2m was not received at hour 60: as an input and as a target
    emulator = Emulator.load(saved(stage, tmp_path / "package"))
    step = next(
        take_forecast(emulator, open_store(tiny_store), start="2021-06-05T00", hours=1, members=1, seed=0)
    )
    assert set(step.data_vars) == {"rain1h"}
    assert whole.template.scene.names == ("t2m", "rain1h")


def test_the_fitted_map_is_in_the_package_and_the_package_forecasts(mapped, tiny_store):
    for kind in ("regression", "diffusion"):
        emulator = Emulator.load(mapped / kind)
        transform = emulator.variables["rain1h"].transform
        assert isinstance(transform, QuantileMap)
        assert transform.fitted
        assert transform == Emulator.load(mapped / "regression").variables["rain1h"].transform
        store = open_store(tiny_store)  # whose own transform is another
        rain = np.stack(
            [
                s["rain1h"].values
                for s in take_forecast(emulator, store, start="2021-06-05T00", hours=3, members=1, seed=0)
            ]
        )
        assert rain.shape == (3, 12, 8)
        assert (np.isnan(rain) == ~emulator.coverage[1]).all()
        assert np.nanmin(rain) >= 0
        assert np.nanmax(rain) > 1


def test_the_map_tells_the_training_split_alone(mapped, tiny_store):
    scene = load(mapped / "regression").scene
    store = open_store(tiny_store)
    rows = np.flatnonzero(np.isin(store.group("state").times, _training_times(tiny_store)))
    again = store.viewed(QUANTILE).group("state").fitted(rows).variables["rain1h"].transform
    assert scene.state[1].transform == again


def _training_times(store):
    from stormcast_train.data.scene import split_store

    request = tiny_stages.request(store, "regression")
    return split_store(open_store(store), request.mix, 1, True)["train"].times


def test_a_diffusion_takes_the_regressions_map_and_refuses_another(mapped, tiny_store):
    regression = str(mapped / "regression")
    for choice in (None, QUANTILE):
        assert (
            built(tiny_store, "diffusion", choice, regression=regression)[0]
            .template.scene.state[1]
            .transform.fitted
        )
    with pytest.raises(
        RequestError, match="the regression was trained with quantile, so its diffusion cannot use sqrt"
    ):
        built(
            tiny_store,
            "diffusion",
            StoreView(override={"rain1h": {"transform": {"kind": "sqrt"}}}),
            regression=regression,
        )
    with pytest.raises(RequestError, match="lacks state t2m; it holds rain1h after variables= has chosen"):
        built(tiny_store, "diffusion", StoreView(state=("rain1h",)), regression=regression)
    with pytest.raises(
        RequestError,
        match="the regression was trained for t2m, rain1h, and its diffusion is asked for rain1h, t2m",
    ):
        built(tiny_store, "diffusion", StoreView(state=("rain1h", "t2m")), regression=regression)


def test_a_diffusion_may_weigh_what_its_regression_did_not(trained, tiny_store):
    choice = StoreView(override={"rain1h": {"loss_weight": 2.0, "clamp": False}})
    scene = built(tiny_store, "diffusion", choice, regression=str(trained["regression"]))[0].template.scene
    assert (scene.state[1].loss_weight, scene.state[1].clamp) == (2.0, False)
    assert scene.statistics == load(trained["regression"]).scene.statistics


def test_the_cut_off_makes_rain_as_frequent_as_observed():
    truth = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 2.0, 0.3], np.float32)  # 2 wet of 10
    drizzling = np.array([0.15, 0.2, 0.12, 0.4, 0.05, 0.3, 0.2, 0.1, 1.5, 0.6], np.float32)
    # 9 of 10 reach 0.1; the second largest is 0.6, and from 0.6 on there are 2
    assert cut_off_of(drizzling, truth) == (pytest.approx(0.6), 4.5, 1.0)
    # too dry: only 1 reaches 0.1, and no cut-off makes rain more frequent
    assert cut_off_of(np.array([0.0, 0.05, 3.0], np.float32), np.array([0.2, 0.2, 0.0], np.float32)) == (
        0.1,
        0.5,
        0.5,
    )
    assert cut_off_of(drizzling, np.zeros(10, np.float32)) == (0.1, None, None)  # no rain to compare with


def test_a_package_keeps_its_fitted_drizzle_and_how_it_was_found(mapped):
    for kind in ("regression", "diffusion"):
        package = load(mapped / kind)
        fact = package.facts["drizzle"]["rain1h"]
        # hardly trained, both are too dry, and no cut-off makes rain more frequent
        assert package.scene.state[1].drizzle == fact["cut_off_mm"] == 0.1
        assert 0.5 < fact["frequency_bias"] == fact["frequency_bias_without"] < 1
        assert fact["cases"] == len(package.splits["validation"]) == 9


@pytest.mark.parametrize("kind", ["regression", "diffusion"])
def test_a_package_that_drizzles_takes_the_cut_off_that_makes_rain_as_frequent_as_observed(
    kind, tiny_store, trained, tmp_path
):
    """A network that makes every hour wetter by half of a usual change, by hand: with k observed wet cells,
    the k-th largest value.
    """
    more = {"regression": str(trained["regression"])} if kind == "diffusion" else {}
    stage, _ = built(tiny_store, kind, StoreView(override={"rain1h": {"drizzle": "fit"}}), **more)
    made = known.steady(replace(load(trained[kind]), scene=stage.template.scene), (0.0, 0.5))
    package = with_fitted_drizzle(made, stage.cases)
    fact, statistics = package.facts["drizzle"]["rain1h"], package.scene.statistics["rain1h"]
    rain = open_store(tiny_store).dataset("state")["rain1h"]
    now, then = (
        rain.sel(time=stage.cases.starts + hours * tiny_world.HOUR).values.astype(np.float64)
        for hours in (0, 1)
    )
    later = np.log1p(now) + 0.5 * statistics.tendency_std
    if kind == "diffusion":
        noise = normal(drizzle.SEED, ("drizzle",), range(len(now)), (2, 12, 8), CPU).double().numpy()
        later += (
            known.heun(noise, known.silent)[:, 1]
            * package.measured["residual_std"]["rain1h"]
            * statistics.std
            / 0.5
        )
    both = np.isfinite(now) & np.isfinite(then)
    forecast, observed = np.clip(np.expm1(later[both]), 0, None), then[both]
    wet = int((observed >= 0.1).sum())
    assert fact["frequency_bias_without"] == pytest.approx(
        (forecast >= 0.1).sum() / wet, abs=1.5 / wet
    )  # a cell at 0.1 mm may fall either way
    assert fact["frequency_bias_without"] > 1.2
    assert (
        package.scene.state[1].drizzle
        == fact["cut_off_mm"]
        == pytest.approx(np.sort(forecast)[-wet], rel=2e-4)
    )  # four digits
    assert fact["cut_off_mm"] > 0.12
    assert fact["frequency_bias"] == pytest.approx(1.0, abs=1.5 / wet)
    packages.save(package, tmp_path / "package")
    (lead,) = take_forecast(
        Emulator.load(tmp_path / "package"), open_store(tiny_store), start=stage.cases.starts[0], steps=1
    )
    written = lead["rain1h"].values[np.isfinite(lead["rain1h"].values)]
    assert (written == 0).any()
    assert written[written > 0].min() >= fact["cut_off_mm"] - 1e-5


def test_the_cut_off_is_a_function_of_the_weights_and_the_cases(mapped, tiny_store):
    stage, _ = built(tiny_store, "diffusion", QUANTILE, regression=str(mapped / "regression"))
    package = load(mapped / "diffusion")
    again = with_fitted_drizzle(replace(stage.template, weights=package.weights), stage.cases)
    assert again.scene.state[1].drizzle == package.scene.state[1].drizzle
    none = with_fitted_drizzle(
        replace(stage.template, weights=package.weights), replace(stage.cases, starts=stage.cases.starts[:0])
    )
    assert none.scene.state[1].drizzle == 0.1
    assert none.facts["drizzle"]["rain1h"]["frequency_bias"] is None


def test_without_the_request_the_drizzle_stays(trained):
    package = load(trained["diffusion"])
    assert package.scene.state[1].drizzle == 0.1
    assert "drizzle" not in package.facts


def test_a_variable_that_is_not_clamped_may_leave_its_range_but_not_drizzle():
    rain = describe("rain1h", {"clamp": False, "high": 5.0})
    normalizer = Normalizer([rain], {"rain1h": ChannelStatistics(0.0, 1.0, 1.0)}, CPU)
    limited = normalizer.limit(normalizer.forward(torch.tensor([7.0, 0.05]).view(1, 1, 2)))[1]
    assert limited.flatten().tolist() == pytest.approx([7.0, 0.0])
    clamped = Normalizer([describe("rain1h", {"high": 5.0})], normalizer.statistics, CPU)
    assert float(clamped.limit(clamped.forward(torch.tensor([7.0]).view(1, 1, 1)))[1]) == pytest.approx(5.0)


def test_the_papers_channels_build_a_store_and_take_two_steps(tmp_path):
    from stormcast_train.base.config import compose

    chosen = compose("preprocess", ["archive=a", "store=s", "domain=taiwan_tiny", "variables=hrrr"])[
        "variables"
    ]
    rng, hours = np.random.default_rng(0), 24
    times = tiny_world.START + np.arange(hours) * tiny_world.HOUR
    grid, driver = (
        Grid(np.linspace(30.0, 31.0, 8), np.linspace(-100.0, -99.0, 8)),
        Grid(np.arange(28.0, 34.0), np.arange(-103.0, -97.0)),
    )

    def fields(names, shape):
        return {name: middle(name) + rng.normal(0, 1e-3, (hours, *shape)) * width(name) for name in names}

    def width(name):
        return describe(name).high - describe(name).low

    def middle(name):
        return (describe(name).high + describe(name).low) / 2

    groups = {
        "state": (grid, times, fields(chosen["state"], (8, 8)), None),
        "background": (driver, times, fields(chosen["background"], (6, 6)), None),
        "static": (grid, times[:1], {"lsm": np.ones((8, 8)), "orog": grid.lat2d * 10}, None),
    }
    stage, stream = built(write_store(tmp_path / "store", groups))
    assert len(stage.template.scene.names) == 99
    losses = tiny_stages.fit(stage, stream, 2)
    assert np.isfinite(losses).all()
