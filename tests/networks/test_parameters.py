"""Parameters counted by arithmetic against networks that are built (the paper's: `test_sizes.py`)."""

from __future__ import annotations

import pytest
import torch

from stormcast_train.base.quiet import library_noise
from stormcast_train.networks.config import NetworkConfig
from stormcast_train.networks.halo_encoder import HaloEncoder
from stormcast_train.networks.parameters import encoder_parameters, network_parameters
from stormcast_train.networks.songunet import SongUNets

with library_noise():  # on the meta device its import would fail
    import physicsnemo.models.diffusion_unets  # noqa: F401

PLAIN = NetworkConfig(model_channels=8, channel_mult=(1, 2), num_blocks=1)
ODD = NetworkConfig(
    model_channels=8,
    channel_mult=(1, 2, 2),
    num_blocks=2,
    attn_resolutions=(12, 3),
    bottleneck_attention=True,
    additive_pos_embed=True,
)
SHAPE = (10, 7)  # completed to 12 x 8 by three levels


def count(module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("config", [PLAIN, ODD], ids=["plain", "odd"])
def test_arithmetic_counts_what_is_built(config):
    family = SongUNets()
    with torch.device("meta"):
        regression = family.regression(config, SHAPE, 5, 3, seed=0)
        denoiser = family.denoiser(config, SHAPE, 5, 3, seed=0)
        generator = family.generator(config, SHAPE, 5, 3, 6, seed=0)
    assert network_parameters(config, SHAPE, 5, 3) == count(regression)
    assert network_parameters(config, SHAPE, 3 + 5, 3, level=True) == count(denoiser)
    assert network_parameters(config, SHAPE, 5, 3, labels=6) == count(generator)


@pytest.mark.parametrize("levels", [0, 3])
def test_a_halo_encoder_is_counted(levels):
    assert encoder_parameters(5, 4, 6, levels) == count(HaloEncoder(5, 4, 6, levels, lambda field: field))


def test_another_family_is_not_guessed():
    other = ODD.model_copy(update={"kind": "some.package:Thing"})
    assert network_parameters(other, SHAPE, 5, 3) is None
