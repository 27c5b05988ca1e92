"""`network=`: which network, how wide. Torch-free."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from stormcast_train.base.frozen import Frozen
from stormcast_train.base.named import place_of

NETWORKS = {"songunet": "stormcast_train.networks.songunet:SongUNets"}  # see `networks.family`


class NetworkConfig(Frozen):
    """kind: a name of NETWORKS, or `package.module:Thing`. The other keys are those of a UNet of
    PhysicsNeMo's diffusion family; the same body serves regression and diffusion.

    Dropout stays 0 (a draw would belong to a rank, not to a sample). `pad` completes a grid to the multiple
    that the levels need.
    """

    kind: str = "songunet"
    name: str = "custom"
    model_channels: int = Field(ge=4)
    channel_mult: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=1)
    num_blocks: int = Field(ge=1)
    attn_resolutions: tuple[Annotated[int, Field(ge=1)], ...] = ()
    bottleneck_attention: bool = False
    additive_pos_embed: bool = False
    checkpoint_level: int = Field(default=0, ge=0)
    dropout: float = Field(default=0.0, ge=0.0, le=0.0)
    pad: Literal["replicate", "zero"] = "replicate"

    @field_validator("kind")
    @classmethod
    def _is_known(cls, kind: str) -> str:
        place_of("network.kind", kind, NETWORKS)
        return kind

    @property
    def multiple(self) -> int:
        """Both sides of the padded grid are multiples of this."""
        return int(2 ** (len(self.channel_mult) - 1))
