"""The shipped networks at the sizes they are meant for, on the meta device."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from stormcast_train.networks.config import NetworkConfig
from stormcast_train.networks.parameters import network_parameters
from stormcast_train.networks.size import Size, size_of
from stormcast_train.networks.songunet import SongUNets

CONF = Path(__file__).parents[2] / "conf" / "network"


def shipped(name: str) -> NetworkConfig:
    return NetworkConfig.model_validate(yaml.safe_load((CONF / f"{name}.yaml").read_text()))


def regression(config: NetworkConfig, shape: tuple[int, int], inputs: int, outputs: int) -> Size:
    return size_of(
        lambda: SongUNets().regression(config, shape, inputs, outputs, seed=0), (1, inputs, *shape)
    )


def denoiser(config: NetworkConfig, shape: tuple[int, int], inputs: int, outputs: int) -> Size:
    return size_of(
        lambda: SongUNets().denoiser(config, shape, inputs, outputs, seed=0),
        (1, inputs + outputs, *shape),
        (1,),
    )


def test_the_papers_regression_has_its_78_6_million_parameters_and_6_8_teraflop():
    # 99 state + 26 background + 2 static channels on 512 x 640 points
    size = regression(shipped("paper"), (512, 640), 99 + 26 + 2, 99)
    assert size.parameters / 1e6 == pytest.approx(78.6, abs=0.05)
    assert size.forward_flops / 1e12 == pytest.approx(6.82, abs=0.01)
    assert size.parameters == network_parameters(shipped("paper"), (512, 640), 127, 99)


def test_the_papers_denoiser_sees_state_regression_and_static_fields():
    # the noisy residual (99) beside 99 + 99 + 2; the reference's 121.1 M contain 42 M of an embedding tied to
    # its grid
    size = denoiser(shipped("paper"), (512, 640), 99 + 99 + 2, 99)
    assert size.parameters / 1e6 == pytest.approx(79.1, abs=0.3)
    assert size.forward_flops / 1e12 == pytest.approx(6.94, abs=0.03)
    assert size.parameters == network_parameters(shipped("paper"), (512, 640), 299, 99, level=True)


def test_the_users_grid_costs_a_twelfth():
    # 224 x 128 of 512 x 640 points is 0.0875; 4 state, 24 driver channels at the target and their increment,
    # 2 static, 3 of time
    paper = regression(shipped("paper"), (512, 640), 127, 99)
    users = regression(shipped("paper"), (224, 128), 4 + 48 + 2 + 3, 4)
    assert users.forward_flops / paper.forward_flops == pytest.approx(0.0875, rel=0.05)
    assert users.parameters / 1e6 == pytest.approx(78.4, abs=0.2)


def test_arithmetic_by_hand():
    # one level, no block: a 3 x 3 convolution from 3 to 4 channels on 8 x 8 points would be 2 * 9 * 3 * 4 *
    # 64 = 13,824; four times the points are four times the arithmetic, but for the embedding's few hundred
    # operations
    tiny = NetworkConfig(model_channels=4, channel_mult=(1,), num_blocks=1)
    small, large = (regression(tiny, (n, n), 3, 2) for n in (8, 16))
    assert small.forward_flops > 13_824
    assert large.parameters == small.parameters
    assert large.forward_flops == pytest.approx(4 * small.forward_flops, rel=0.01)
