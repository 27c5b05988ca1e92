"""How many parameters a network has, by arithmetic, so that a dry run tells it without torch. Torch-free."""

from __future__ import annotations

from stormcast_train.networks.config import NETWORKS, NetworkConfig

EMBEDDING = 4  # width of a SongUNet's embedding over `model_channels`


def network_parameters(
    config: NetworkConfig,
    shape: tuple[int, int],
    inputs: int,
    outputs: int,
    level: bool = False,
    labels: int = 0,
) -> int | None:
    """Of the network that `networks.songunet` builds; None of another family, which only building tells.

    shape: rows and columns of the grid; inputs: all channels of the first layer; level: whether it takes a
    noise level; labels: numbers of noise that a generator takes.
    """
    if config.kind not in NETWORKS:
        return None
    width, embedding = config.model_channels, EMBEDDING * config.model_channels
    found = _unet(config, shape, inputs, outputs)
    if config.additive_pos_embed:
        rows, columns = (-(-side // config.multiple) * config.multiple for side in shape)
        found += width * rows * columns
    if level or labels:
        found += _linear(width, embedding) + _linear(embedding, embedding)
    return found + (_linear(labels, width) if labels else 0)


def encoder_parameters(inputs: int, outputs: int, width: int, levels: int) -> int:
    """Of `networks.halo_encoder.HaloEncoder`."""
    down = _convolution(inputs, width) + levels * _convolution(width, width)
    up = levels * _convolution(2 * width, width)
    norms = (2 * levels + 1) * _norm(width)
    return down + up + norms + _convolution(width, width, 1) + _convolution(width, outputs)


def _unet(config: NetworkConfig, shape: tuple[int, int], inputs: int, outputs: int) -> int:
    """Encoder and decoder of a SongUNet, as PhysicsNeMo's constructor walks through them."""
    width, levels = config.model_channels, len(config.channel_mult)
    rows = -(-shape[0] // config.multiple) * config.multiple
    attends = [rows >> level in config.attn_resolutions for level in range(levels)]
    found, channels, skips = _convolution(inputs, width), width, [width]
    for level, mult in enumerate(config.channel_mult):
        if level:
            found += _block(config, channels, channels, resamples=True)
            skips.append(channels)
        for _ in range(config.num_blocks):
            found += _block(config, channels, width * mult, attends[level])
            channels = width * mult
            skips.append(channels)
    found += _block(config, channels, channels, config.bottleneck_attention) + _block(
        config, channels, channels
    )
    for level, mult in reversed(list(enumerate(config.channel_mult))):
        if level < levels - 1:
            found += _block(config, channels, channels, resamples=True)
        for i in range(config.num_blocks + 1):
            attention = i == config.num_blocks and attends[level]
            found += _block(config, channels + skips.pop(), width * mult, attention)
            channels = width * mult
    return found + _norm(channels) + _convolution(channels, outputs)


def _block(
    config: NetworkConfig, inputs: int, outputs: int, attention: bool = False, resamples: bool = False
) -> int:
    embedding = EMBEDDING * config.model_channels
    found = _norm(inputs) + _convolution(inputs, outputs) + _linear(embedding, outputs)
    found += _norm(outputs) + _convolution(outputs, outputs)
    if inputs != outputs or resamples:
        found += _convolution(inputs, outputs, 1)
    if attention:
        found += _norm(outputs) + _convolution(outputs, 3 * outputs, 1) + _convolution(outputs, outputs, 1)
    return found


def _convolution(inputs: int, outputs: int, side: int = 3) -> int:
    return inputs * outputs * side * side + outputs


def _linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def _norm(channels: int) -> int:
    return 2 * channels
