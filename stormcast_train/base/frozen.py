"""The base of all typed configs."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Base of all typed configs: immutable, an unknown key is an error, and so is a number that is not finite
    (a field that means something without an end says `allow_inf_nan`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
