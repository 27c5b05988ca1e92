"""Training on windows of the grid: the loss that they carry, what it is keyed by, what is refused, and
forecasts of whole fields.
"""

from __future__ import annotations

import numpy as np
import pytest
import tiny_stages
import torch

from stormcast_train.base.errors import RequestError
from stormcast_train.data.event_config import Event, EventsConfig
from stormcast_train.data.keyed_random import normal
from stormcast_train.data.mix import CropRule
from stormcast_train.forecast.emulator import Emulator
from stormcast_train.forecast.rollout import forecast
from stormcast_train.objectives.edm import training_sigma
from stormcast_train.store.reader import open_store
from stormcast_train.training.setup.build_stage import build_stage
from stormcast_train.training.setup.resolve import resolve
from stormcast_train.training.validation.evaluation import Evaluation

CPU = tiny_stages.CPU
RULE = CropRule(rows=6, columns=4)  # of 12 x 8 points


def asked(store, kind="regression", crop=None, **more):
    request = tiny_stages.request(store, kind, **more)
    return request.model_copy(update={"mix": request.mix.model_copy(update={"crop": crop})})


@pytest.fixture(scope="module")
def regression(tiny_store):
    return build_stage(asked(tiny_store, crop=RULE), CPU)


@pytest.fixture(scope="module")
def diffusion(tiny_store, trained):
    return build_stage(asked(tiny_store, "diffusion", RULE, regression=str(trained["regression"])), CPU)


@pytest.mark.parametrize("kind", ["regression", "diffusion"])
def test_a_window_of_the_grids_size_gives_the_losses_of_whole_fields_bit_for_bit(kind, tiny_store, trained):
    more = {"regression": str(trained["regression"])} if kind == "diffusion" else {}
    whole, cropped = (
        build_stage(asked(tiny_store, kind, crop, **more), CPU)
        for crop in (None, CropRule(rows=12, columns=8))
    )
    one, other = (
        stage.loss(stage.network, stage.example(stream.batch(range(6)))) for stage, stream in (whole, cropped)
    )
    assert torch.equal(one.total, other.total)
    assert all(torch.equal(value, other.by_variable[name]) for name, value in one.by_variable.items())


def test_a_regressions_loss_is_the_squared_error_in_the_window_over_all_of_its_cells(regression):
    stage, stream = regression
    batch = stream.batch(range(5))
    found = stage.loss(lambda x: torch.zeros(len(x), 2, *x.shape[-2:]), stage.example(batch))
    wanted = stage.step.target.encode(batch.target_BCHW, batch.window)
    present = batch.target_present_BCHW
    offsets = stage.setting.crops.draw(stage.setting.seed, batch.positions, batch.window.times).offsets
    expected = [0.0, 0.0]
    for b, (row, column) in enumerate(offsets):
        for channel in range(2):
            for y in range(row, row + 6):
                for x in range(column, column + 4):
                    expected[channel] += (
                        float(wanted[b, channel, y, x]) ** 2 if present[b, channel, y, x] else 0.0
                    )
    # 5 samples of 6 x 4 cells in 2 channels of weight 1; rain has no loss in its hole, which counts all the
    # same
    assert len(set(offsets)) > 1
    assert float(found.total) == pytest.approx(sum(expected) / (5 * 24 * 2), rel=1e-5)
    assert float(found.by_variable["rain1h"]) == pytest.approx(expected[1] / (5 * 24), rel=1e-5)


def test_a_network_is_told_the_window_of_what_it_is_told_of_whole_fields(regression, diffusion):
    stage, stream = regression
    batch, seen = stream.batch(range(4)), []
    stage.loss(lambda x: seen.append(x) or torch.zeros(len(x), 2, 6, 4), stage.example(batch))
    crop = stage.setting.crops.draw(0, batch.positions, batch.window.times)
    noise = stage.step.conditions.offsets(0, batch.positions)
    assert torch.equal(seen[0], crop(stage.step.conditions.assemble(batch.window, offsets_BC11=noise)))
    stage, stream = diffusion
    batch = stream.batch(range(4))
    stage.loss(lambda x, t, condition: seen.append(condition) or torch.zeros_like(x), stage.example(batch))
    crop = stage.setting.crops.draw(0, batch.positions, batch.window.times)
    assert torch.equal(
        seen[1], crop(stage.step.condition(batch.window, stage.setting.mean_of(batch, batch.window)))
    )  # the mean of the whole field, cropped


def test_a_diffusions_loss_is_that_of_the_window_alone(diffusion):
    stage, stream = diffusion
    batch = stream.batch(range(4))
    found = stage.loss(lambda x, t, condition: torch.zeros_like(x), stage.example(batch)).total
    crop = stage.setting.crops.draw(0, batch.positions, batch.window.times)
    present = batch.target_present_BCHW
    clean = crop(stage.step.clean(batch.target_BCHW, stage.setting.mean_of(batch, batch.window)) * present)
    noise = stage.step.spec
    sigma = training_sigma(noise, normal(0, ("sigma",), batch.positions, (2,), CPU))[:, None, None, None]
    # a network that says 0 errs by the clean residual; Karras et al. 2022: weight (sigma^2 + 0.25) / (sigma
    # 0.5)^2
    expected = ((sigma**2 + 0.25) / (0.5 * sigma) ** 2 * clean**2 * crop(present)).sum() / (4 * 2 * 24)
    assert float(found) == pytest.approx(float(expected), rel=1e-4)


def test_losses_of_single_samples_average_to_that_of_their_batch(regression):
    stage, stream = regression
    stage.network.eval()
    together = stage.loss(stage.network, stage.example(stream.batch(range(4)))).total
    apart = torch.stack(
        [stage.loss(stage.network, stage.example(stream.batch([p]))).total for p in range(4)]
    ).mean()
    assert float(together.detach()) == pytest.approx(float(apart.detach()), rel=1e-5)


def test_packages_trained_on_windows_say_so_and_forecast_whole_fields(regression, tiny_store, tmp_path):
    stage, stream = regression
    losses = tiny_stages.fit(stage, stream, 4)
    assert np.isfinite(losses).all()
    sums = Evaluation(stage).sums(stage.network.state_dict(), (0, 1))
    _, cells = sums["regression/rmse/t2m"]
    assert cells
    Evaluation(stage).save_package(tmp_path / "r", stage.network.state_dict(), {})
    more = {"regression": str(tmp_path / "r")}
    residual, stream = build_stage(asked(tiny_store, "diffusion", RULE, **more), CPU)
    assert np.isfinite(tiny_stages.fit(residual, stream, 2)).all()
    Evaluation(residual).save_package(tmp_path / "d", residual.network.state_dict(), {})
    for name in ("r", "d"):
        emulator = Emulator.load(tmp_path / name)
        assert emulator.package.mix["config"]["crop"] == {
            "rows": 6,
            "columns": 4,
            "towards": None,
            "share": 0.5,
        }
        (lead,) = forecast(emulator, open_store(tiny_store), "2021-06-05T00", steps=1)
        assert lead["t2m"].shape[-2:] == (12, 8)
        assert np.isfinite(lead["t2m"].values).all()


def test_the_window_is_part_of_the_science_and_without_one_the_record_is_as_ever(tiny_store):
    bare, cropped = (resolve(asked(tiny_store, crop=crop)).science()["mix"] for crop in (None, RULE))
    assert "crop" not in bare
    assert cropped == bare | {"crop": RULE.model_dump(mode="json")}


EVENTS = EventsConfig(
    name="two",
    events=(
        Event(name="a", kind="typhoon", period="2021-06-01/2021-06-02", source="for this test"),
        Event(
            name="b", kind="meiyu", period="2021-06-02/2021-06-03", source="for this test",
            box={"south": 22, "north": 23, "west": 120, "east": 121},
        ),
    ),
)  # fmt: skip


@pytest.mark.parametrize(
    ("crop", "more", "message"),
    [
        ({"rows": 13, "columns": 8}, {}, "asks for 13 x 8 points .* the grid has 12 x 8"),
        ({"rows": 6, "columns": 9}, {}, "asks for 6 x 9"),
        ({"rows": 6, "columns": 4}, {"attn_resolutions": (6,)}, "network.attn_resolutions"),
        ({"rows": 6, "columns": 4}, {"additive_pos_embed": True}, "network.additive_pos_embed"),
        ({"rows": 6, "columns": 4}, {"halo": {"encoder": {"channels": 4}, "degrees": 1}}, "halo.encoder"),
        (
            {"rows": 6, "columns": 4, "towards": ("meiyu",)},
            {"mirror": True},
            "a mirrored event lies elsewhere: leave one of them out",
        ),
        (
            {"rows": 6, "columns": 4, "towards": ("typhoon",)},
            {},
            "asks for typhoon, .* events=two with a box in this domain are: meiyu",
        ),
    ],
)
def test_a_window_that_does_not_fit_is_refused_before_training(crop, more, message, tiny_store):
    conditions = {key: value for key, value in more.items() if key in ("halo", "mirror")}
    request = asked(tiny_store, crop=CropRule.model_validate(crop), conditions=conditions, events=EVENTS)
    network = request.network.model_copy(
        update={key: value for key, value in more.items() if key not in conditions}
    )
    request = request.model_copy(update={"network": network})
    with pytest.raises(RequestError, match=message):
        resolve(request).science()


def test_windows_are_drawn_towards_the_boxes_of_listed_events(tiny_store):
    rule = CropRule(rows=6, columns=4, towards=("meiyu",), share=1.0)
    stage, stream = build_stage(asked(tiny_store, crop=rule, events=EVENTS), CPU)
    batch = stream.batch(range(24))
    targets = batch.window.times + np.timedelta64(3600, "s")
    inside = (targets >= np.datetime64("2021-06-02")) & (targets < np.datetime64("2021-06-03"))
    offsets = stage.setting.crops.draw(0, batch.positions, batch.window.times).offsets
    # 22..23 N are rows 2 and 3 (21.6 + 4/11 n), so a window of six begins at row 0: 2 - 3 and 3 - 3 are not
    # above it
    assert inside.any()
    assert {row for (row, _), meant in zip(offsets, inside, strict=True) if meant} == {0}
    assert {row for (row, _), meant in zip(offsets, inside, strict=True) if not meant} != {0}
