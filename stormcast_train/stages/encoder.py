"""A network with the halo encoder that its conditions ask for: one place for training and forecast."""

from __future__ import annotations

from torch import nn

from stormcast_train.data.conditions import Conditions
from stormcast_train.data.interpolate import Interpolator
from stormcast_train.networks.halo_encoder import with_halo


def with_encoder(network: nn.Module, conditions: Conditions, seed: int) -> nn.Module:
    """The network as it is, or with an encoder in front (weights drawn from `seed`), on the conditions'
    device.
    """
    spec = conditions.spec.halo
    if conditions.halo is None or spec is None or spec.encoder is None:
        return network
    encoder, to_points = spec.encoder, Interpolator(conditions.halo.grid, conditions.grid, conditions.device)
    inputs = len(conditions.halo_channels)
    return with_halo(network, inputs, encoder.channels, encoder.width, encoder.levels, to_points, seed)
