from __future__ import annotations

import pytest
import torch
from torch import nn

from stormcast_train.networks.config import NetworkConfig
from stormcast_train.networks.halo_encoder import HaloEncoder, complete, with_halo
from stormcast_train.networks.songunet import SongUNets


def corner(x):
    return x[..., 2:6, 2:6]


@pytest.mark.parametrize("levels", [0, 1, 4])
def test_every_point_sees_every_cell_whatever_the_levels(levels):
    torch.manual_seed(0)
    encoder = HaloEncoder(3, 2, 8, levels, corner).double()
    halo = torch.randn(1, 3, 21, 17, dtype=torch.float64, requires_grad=True)
    out = encoder(halo)
    assert out.shape == (1, 2, 4, 4)
    (gradient,) = torch.autograd.grad(out[0, 0, 0, 0], halo)
    assert (gradient.abs().sum(dim=1) > 0).all()


def test_encoder_weights_are_a_function_of_the_seed_and_belong_to_the_network():
    first, again, other = (with_halo(nn.Conv2d(5, 1, 1), 3, 2, 8, 2, corner, seed=s) for s in (0, 0, 1))
    named = dict(first.named_parameters())
    assert any(name.startswith("encoder.") for name in named)
    assert torch.equal(first.encoder.out.weight, again.encoder.out.weight)
    assert not torch.equal(first.encoder.out.weight, other.encoder.out.weight)


def test_a_complete_condition_is_not_encoded_again():
    network = with_halo(nn.Conv2d(5, 1, 1), 3, 2, 8, 2, corner, seed=0)
    pair = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 9, 9)
    whole = complete(network, pair)
    assert whole.shape == (2, 5, 4, 4)
    assert complete(network, whole) is whole
    assert torch.equal(network(pair), network(whole))


def test_a_network_built_for_one_grid_does_the_same_on_another():
    config = NetworkConfig(model_channels=8, channel_mult=(1, 2), num_blocks=1)
    small, large = (SongUNets().regression(config, shape, 3, 2, seed=0) for shape in ((9, 7), (21, 12)))
    assert all(
        torch.equal(a, b) for a, b in zip(small.parameters(), large.parameters(), strict=True)
    )  # names tell the grid
    field = torch.rand(1, 3, 21, 12)
    assert torch.equal(small(field), large(field))
