from __future__ import annotations

import numpy as np
import pytest
import tiny_stages
import tiny_world
import torch

from stormcast_train.base.errors import RequestError
from stormcast_train.forecast.emulator import Emulator
from stormcast_train.store.view import StoreView
from stormcast_train.store.writer import write_store
from stormcast_train.training.setup.build_stage import build_stage
from stormcast_train.training.setup.config import StageConfig
from stormcast_train.training.setup.resolve import resolve
from stormcast_train.training.validation.evaluation import Evaluation
from stormcast_train.training.validation.sums import metric_value

CPU = tiny_stages.CPU


@pytest.fixture(scope="module")
def regression(tiny_store):
    return build_stage(tiny_stages.request(tiny_store, "regression"), CPU)


@pytest.fixture(scope="module")
def diffusion(tiny_store, trained):
    return build_stage(
        tiny_stages.request(tiny_store, "diffusion", regression=str(trained["regression"])), CPU
    )


def gradients(stage, *batches):
    stage.network.zero_grad()
    for batch in batches:
        (stage.loss(stage.network, stage.example(batch)).total / len(batches)).backward()
    return torch.cat([p.grad.flatten() for p in stage.network.parameters() if p.grad is not None])


def test_the_untrained_losses_are_near_one(regression, diffusion):
    for stage, stream in (regression, diffusion):
        assert (
            0.5
            < float(stage.loss(stage.network, stage.example(stream.batch(range(32)))).total.detach())
            < 1.6
        )


def test_training_lowers_the_regressions_loss(tiny_store):
    losses = tiny_stages.fit(*build_stage(tiny_stages.request(tiny_store, "regression"), CPU), steps=30)
    assert np.mean(losses[-5:]) < 0.5 * losses[0]


@pytest.mark.parametrize("which", ["regression", "diffusion"])
def test_two_halves_have_the_gradient_of_the_whole(which, request):
    stage, stream = request.getfixturevalue(which)
    whole = gradients(stage, stream.batch(range(8)))
    halves = gradients(stage, stream.batch(range(4)), stream.batch(range(4, 8)))
    assert torch.allclose(whole, halves, atol=1e-5 * float(whole.abs().max()) + 1e-6)


@pytest.mark.parametrize("which", ["regression", "diffusion"])
def test_a_loss_is_a_function_of_the_stream_positions(which, request):
    stage, stream = request.getfixturevalue(which)
    size = stream.dataset_size
    parts = [range(6), range(6), range(size, size + 6)]
    first, again, later = (
        stage.loss(stage.network, stage.example(stream.batch(positions))).total for positions in parts
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, later)


def test_weights_start_from_the_seed(tiny_store):
    first, again, other = (
        build_stage(tiny_stages.request(tiny_store, "regression", seed=s), CPU)[0].network.state_dict()
        for s in (0, 0, 1)
    )
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not all(torch.equal(first[k], other[k]) for k in first)


def test_a_stage_can_start_from_another_runs_weights(tiny_store, trained):
    stage, _ = build_stage(
        tiny_stages.request(tiny_store, "regression", init=str(trained["regression"])), CPU
    )
    weights = Emulator.load(trained["regression"]).step_model.network.state_dict()
    assert all(torch.equal(v, weights[k]) for k, v in stage.network.state_dict().items())


def test_weights_of_another_network_are_refused(tiny_store, trained):
    with pytest.raises(RequestError, match="another network"):
        build_stage(tiny_stages.request(tiny_store, "regression", init=str(trained["diffusion"])), CPU)


def test_the_scaled_residual_has_the_standard_deviation_sigma_data_on_held_out_times(diffusion):
    stage, _ = diffusion
    cases = stage.cases
    batch = cases.reader.to_device(cases.reader.read(cases.starts))
    clean = stage.step.clean(batch[1], stage.step.beneath.next_state(batch[0]))
    for channel in range(2):
        present = batch[2][:, channel]
        assert float(clean[:, channel][present].square().mean().sqrt()) == pytest.approx(0.5, rel=0.02)


def test_the_regression_under_a_diffusion_is_frozen(diffusion):
    stage, stream = diffusion
    frozen = stage.step.beneath.network
    before = [p.clone() for p in frozen.parameters()]
    stage.loss(stage.network, stage.example(stream.batch(range(4)))).total.backward()
    assert all(p.grad is None for p in frozen.parameters())
    assert not frozen.training
    assert all(torch.equal(a, b) for a, b in zip(before, frozen.parameters(), strict=True))


def test_means_kept_in_memory_are_those_computed_again(diffusion):
    stage, stream = diffusion
    batch = stream.batch(range(5))
    assert torch.allclose(
        stage.setting.mean_of(batch, batch.window), stage.step.beneath.next_state(batch.window), atol=1e-5
    )


def test_a_diffusion_needs_its_regression(tiny_store, trained):
    with pytest.raises(RequestError, match="regression=RUN"):
        build_stage(tiny_stages.request(tiny_store, "diffusion"), CPU)
    with pytest.raises(RequestError, match="is a diffusion"):
        build_stage(tiny_stages.request(tiny_store, "diffusion", regression=str(trained["diffusion"])), CPU)


def test_a_mix_that_validates_on_what_the_regression_saw_is_refused(tiny_store, trained):
    request = tiny_stages.request(tiny_store, "diffusion", regression=str(trained["regression"]))
    shifted = request.model_copy(
        update={"mix": request.mix.model_copy(update={"train": 0.3, "validation": 0.35, "test": 0.35})}
    )
    with pytest.raises(RequestError, match="trained the regression"):
        build_stage(shifted, CPU)


@pytest.mark.parametrize("which", ["regression", "diffusion"])
def test_validation_sums_do_not_depend_on_the_number_of_ranks(which, request):
    stage, _ = request.getfixturevalue(which)
    weights = stage.network.state_dict()
    alone, pair = (
        Evaluation(stage).sums(weights, (0, 1)),
        [Evaluation(stage).sums(weights, (r, 2)) for r in range(2)],
    )
    quantities = {
        "regression": {"rmse", "mae", "mse_skill"},
        "diffusion": {"rmse", "crps_fair", "spread_skill", "denoising_loss", "sampler_variance_ratio"},
    }
    assert {
        f"{which}/{quantity}/{name}" for quantity in quantities[which] for name in ("t2m", "rain1h")
    } <= set(alone)
    assert set(alone) == set(pair[0]) | set(pair[1])
    assert all(pair)  # each has had a share
    for name, (numerator, denominator) in alone.items():
        shared = [sum(part.get(name, (0, 0))[i] for part in pair) for i in range(2)]
        assert shared == [numerator, denominator]  # exact: not a bit depends on who adds
        if ":" not in name:  # without a threshold, a band or a ring, which may find no cell
            assert np.isfinite(metric_value(name, numerator, denominator))


def test_validation_uses_the_weights_it_is_given_in_eval_mode(regression, trained):
    stage, _ = regression
    stage.network.train()
    good = Emulator.load(trained["regression"]).step_model.network.state_dict()
    skill = {k: metric_value(k, *v) for k, v in Evaluation(stage).sums(good, (0, 1)).items()}
    assert skill["regression/mse_skill/t2m"] > 0.5
    assert stage.network.training


def test_roots_are_taken_of_squared_quantities_only():
    assert metric_value("regression/rmse/t2m", 8.0, 2.0) == 2.0
    assert metric_value("diffusion/crps_fair/t2m", 8.0, 2.0) == 4.0
    assert np.isnan(metric_value("regression/rmse/t2m", 0.0, 0.0))


def test_a_stage_without_driver_or_static_fields_builds_from_defaults(tmp_path):
    store = tiny_world.write(tmp_path / "bare", background=False, static=False)
    stage, stream = build_stage(tiny_stages.request(store, "regression"), CPU)
    assert not [c for c in stage.step.conditions.channels if c.startswith(("background", "static"))]
    assert float(stage.loss(stage.network, stage.example(stream.batch(range(4)))).total.detach()) > 0
    with pytest.raises(RequestError, match="no background"):
        build_stage(tiny_stages.request(store, "regression", conditions={"background": ["input"]}), CPU)


def test_a_store_too_short_to_validate_still_trains(tmp_path):
    store = tiny_world.write(tmp_path / "short", hours=30)
    stage, stream = build_stage(tiny_stages.request(store, "regression"), CPU)
    assert stream.dataset_size > 0
    assert Evaluation(stage).sums(stage.network.state_dict(), (0, 1)) == {}
    Evaluation(stage).save_package(tmp_path / "package", stage.network.state_dict(), {})
    residual, _ = build_stage(
        tiny_stages.request(store, "diffusion", regression=str(tmp_path / "package")), CPU
    )
    assert residual.template.mix["residual_std_from"] == "train"


def test_mirrored_samples_are_refused_where_something_knows_its_place(tiny_store):
    with pytest.raises(RequestError, match="does not go with background, static, time"):
        build_stage(tiny_stages.request(tiny_store, "regression", conditions={"mirror": True}), CPU)


@pytest.mark.parametrize("wind", ["u10m", "v10m", "u850", "v100m"])
def test_mirrored_samples_are_refused_where_wind_components_are_in_them(tmp_path, wind):
    """A component changes its sign in a mirror, and nothing here changes it."""
    times, grid = tiny_world.START + np.arange(40) * tiny_world.HOUR, tiny_world.GRID
    fields = {name: np.full((40, *grid.shape), value) for name, value in (("t2m", 290.0), (wind, 3.0))}
    store = write_store(tmp_path / "store", {"state": (grid, times, fields, None)})
    bare = {"mirror": True, "background": [], "static": False, "time": False}
    with pytest.raises(
        RequestError, match=f"mirror=true does not go with {wind}: wind components change sign in a mirror"
    ):
        build_stage(tiny_stages.request(store, "regression", conditions=bare), CPU)
    build_stage(
        tiny_stages.request(store, "regression", conditions=bare, variables=StoreView(state=("t2m",))), CPU
    )


def flipped(field: torch.Tensor, flips: list[list[bool]]) -> torch.Tensor:
    """Each sample with its rows (first of its pair) and columns turned round or not."""
    axes = [[axis for axis, flip in zip((-2, -1), pair, strict=True) if flip] for pair in flips]
    return torch.stack(
        [sample.flip(turned) if turned else sample for sample, turned in zip(field, axes, strict=True)]
    )


def test_a_mirrored_sample_is_flipped_with_its_target_its_mask_and_its_mean(tiny_store, tmp_path):
    bare = {"mirror": True, "background": [], "static": False, "time": False}
    stage, stream = build_stage(tiny_stages.request(tiny_store, "regression", conditions=bare), CPU)
    batch, plain = (
        stream.batch(range(24)),
        [c for c in stage.step.conditions.channels if c.startswith("state")],
    )
    corner = torch.zeros(24, 2, 3)
    corner[:, 0, 0] = 1  # south-west
    turned = stage.step.conditions.mirror(0, batch.positions)(corner)
    flips = [
        [bool(sample[1].any()), bool(sample[:, 2].any())] for sample in turned
    ]  # where each sample's corner has gone
    assert {tuple(pair) for pair in flips} == {(a, b) for a in (False, True) for b in (False, True)}
    example = stage.example(batch)
    assert torch.equal(example.condition[:, : len(plain)], flipped(batch.window.newest_BCHW, flips))
    hole = ~batch.window.present_BKCHW[:, -1, 1]
    assert torch.equal(
        example.condition[:, stage.step.conditions.channels.index("mask:rain1h")],
        flipped(hole, flips).float(),
    )
    wanted = stage.step.target.encode(batch.target_BCHW, batch.window)
    assert torch.equal(example.wanted_BCHW[:, 0], flipped(wanted[:, 0], flips))
    both = batch.target_present_BCHW & batch.window.present_BKCHW[:, -1]
    assert torch.equal(example.present_BCHW, flipped(both, flips))
    Evaluation(stage).save_package(tmp_path / "r", stage.network.state_dict(), {})
    residual, stream = build_stage(
        tiny_stages.request(tiny_store, "diffusion", conditions=bare, regression=str(tmp_path / "r")), CPU
    )
    mean = residual.setting.mean_of(batch, batch.window)
    channels = [residual.step.conditions.channels.index(f"regression:{name}") for name in ("t2m", "rain1h")]
    told = residual.example(batch).condition[:, channels]
    assert torch.equal(told, flipped(residual.step.target.encode(mean, batch.window), flips))
    residue = residual.step.clean(batch.target_BCHW, mean) * both
    assert torch.equal(residual.example(batch).wanted_BCHW, flipped(residue, flips))


def test_null_means_the_stages_default_and_both_is_one_after_the_other():
    both = StageConfig(kind="both")
    assert both.kinds() == ("regression", "diffusion")
    first, second = (both.only(kind).resolve(True, True) for kind in both.kinds())
    assert (first.conditions.regression, second.conditions.regression) == (False, True)
    assert first.conditions.background == ("target", "increment")
    assert first.target == "tendency"
    assert first.conditions.time == ("hour", "zenith")
    assert (
        StageConfig(kind="regression", conditions={"time": False}).resolve(True, True).conditions.time == ()
    )


def test_the_science_record_changes_with_the_seed_and_the_used_part_of_the_store(tiny_store, tmp_path):
    record = resolve(tiny_stages.request(tiny_store, "regression")).science()
    again = resolve(tiny_stages.request(tiny_store, "regression")).science()
    assert record == again
    assert record != resolve(tiny_stages.request(tiny_store, "regression", seed=1)).science()

    def warm(t2m, rain):
        t2m[3, 3, 3] += 1

    other = tiny_world.write(tmp_path / "other", changes=warm)
    assert resolve(tiny_stages.request(other, "regression")).science()["store"] != record["store"]


def test_noise_on_the_states_reaches_both_networks_and_the_mean_beneath_the_residual(tiny_store, trained):
    noisy = {"state_noise": 0.2}
    regression, stream = build_stage(tiny_stages.request(tiny_store, "regression", conditions=noisy), CPU)
    clean, _ = build_stage(tiny_stages.request(tiny_store, "regression"), CPU)
    batch = stream.batch(range(6))
    assert not torch.equal(
        regression.loss(regression.network, regression.example(batch)).total,
        clean.loss(clean.network, clean.example(batch)).total,
    )
    asked = {"conditions": noisy, "regression": str(trained["regression"])}
    residual, stream = build_stage(tiny_stages.request(tiny_store, "diffusion", **asked), CPU)
    batch, seen = stream.batch(range(6)), []

    def network(x, t, condition):
        seen.append(condition)
        return torch.zeros_like(x)

    residual.loss(network, residual.example(batch))
    window = residual.step.conditions.perturb(batch.window, residual.setting.seed, batch.positions)
    assert not torch.equal(window.states_BKCHW, batch.window.states_BKCHW)
    assert torch.equal(seen[0], residual.step.condition(window, residual.step.beneath.next_state(window)))
