"""`stage=crps`: a network that draws, what its loss is, and what it begins with."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_stages
import tiny_world
import torch

from stormcast_train.data.keyed_random import normal
from stormcast_train.objectives.crps_config import CrpsConfig
from stormcast_train.training.setup.build_stage import build_stage
from stormcast_train.training.validation.evaluation import Evaluation
from stormcast_train.training.validation.sums import metric_value

BATCH = range(4)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tiny_world.write(tmp_path_factory.mktemp("crps") / "store")


def built(store, objective=None, **more):
    asked = tiny_stages.request(store, "crps", **more)
    return build_stage(asked.model_copy(update={"objective": objective or CrpsConfig()}), tiny_stages.CPU)


@pytest.fixture(scope="module")
def fitted(store):
    stage, stream = built(store)
    losses = tiny_stages.fit(stage, stream, 60)
    assert np.mean(losses[-10:]) < 0.6 * losses[0]
    return stage, stream


def test_it_begins_as_the_regression_that_it_starts_from_whatever_the_noise(store, tmp_path):
    regression, stream = build_stage(tiny_stages.request(store, "regression"), tiny_stages.CPU)
    tiny_stages.fit(regression, stream, 20)
    Evaluation(regression).save_package(tmp_path / "regression", regression.network.state_dict(), {})
    stage, stream = built(store, init=str(tmp_path / "regression"))
    window = stream.batch(BATCH).window
    one, two = (stage.step.noise(seed, ("try",), BATCH, (2, 12, 8)) for seed in (0, 1))
    assert not torch.equal(one, two)
    mean = regression.step.next_state(window)
    assert torch.allclose(stage.step.next_state(window, one), mean, atol=1e-5)
    assert torch.allclose(stage.step.next_state(window, two), mean, atol=1e-5)


def test_its_members_differ_after_training_and_a_member_is_a_function_of_its_noise(fitted):
    stage, stream = fitted
    window, noise = stream.batch(BATCH).window, stage.step.noise(0, ("try",), BATCH, (2, 12, 8))
    stage.network.eval()
    drawn = stage.step.next_state(window, noise)
    assert noise.shape == (4, 32)
    assert torch.allclose(stage.step.next_state(window.at(slice(2, 3)), noise[2:3]), drawn[2:3], atol=1e-5)
    other = stage.step.next_state(window, noise.flip(0))
    assert (other - drawn).abs().mean() > 0.01


def test_the_loss_is_that_of_numpy_over_present_cells_and_modes(store):
    """Three members; the spectral part is half of the same score of the fields' cosine modes."""
    from scipy.fft import dctn

    stage, stream = built(store, CrpsConfig(members=3, spectral=0.5, alpha=0.9))
    for parameter in stage.network.unet.model.map_layer1.parameters():
        parameter.data.normal_(0, 0.3, generator=torch.Generator().manual_seed(0))
    batch = stream.batch(BATCH)
    example = stage.example(batch)
    noise = normal(stage.setting.seed, ("members",), BATCH, (3, 32), tiny_stages.CPU)
    assert torch.equal(example.noise, noise)
    with torch.no_grad():
        terms = stage.loss(stage.network, example)
        members = np.stack(
            [stage.network(example.condition, noise[:, m]).numpy() for m in range(3)], axis=1
        ).astype(np.float64)
    present = example.present_BCHW.numpy()
    members, truth = members * present[:, None], example.wanted_BCHW.numpy() * present

    def score(x, y):
        error = np.abs(x - y[:, None]).mean(axis=1)
        pairs = np.abs(x[:, :, None] - x[:, None]).sum(axis=(1, 2))
        return 0.9 * (error - pairs / 12) + 0.1 * (error - pairs / 18)

    cells, modes = (
        score(members, truth),
        score(*(dctn(f, axes=(-2, -1), norm="ortho") for f in (members, truth))),
    )
    counted = 4 * (96 + 92)  # rain is never covered in four cells
    assert float(terms.total) == pytest.approx((cells.sum() + 0.5 * modes.sum()) / counted, rel=1e-4)
    assert float(terms.by_variable["t2m"]) == pytest.approx(cells[:, 0].sum() / (4 * 96), rel=1e-4)


def test_it_is_validated_by_its_score_and_by_ensembles_with_spread(fitted):
    stage, _ = fitted
    sums = Evaluation(stage).sums(stage.network.state_dict(), (0, 1))
    found = {name: metric_value(name, *pair) for name, pair in sums.items()}
    assert 0.1 < found["crps/almost_fair_crps/t2m"] < 0.5
    assert 0.3 < found["crps/spread_skill/t2m"] < 2
    assert found["crps/crps_skill/t2m"] > 0.3  # over persistence: no regression lies beneath
