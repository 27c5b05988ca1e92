"""`objective=crps`: an ensemble of one step and the score that trains it. Torch-free."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from stormcast_train.base.frozen import Frozen


class CrpsConfig(Frozen):
    """Almost-fair CRPS (Lang et al. 2024, AIFS-CRPS): `alpha` times the fair CRPS and the rest of the
    CRPS of a finite ensemble, whose own spread term keeps members apart that the fair one does not see.

    members: drawn of every sample in training. spectral: weight of the same score of the orthonormal cosine
    modes of the fields. noise_size: normal numbers that a member is drawn from.
    """

    kind: Literal["crps"] = "crps"
    members: int = Field(default=2, ge=2)
    alpha: float = Field(default=0.95, gt=0, le=1)
    spectral: float = Field(default=0.1, ge=0)
    noise_size: int = Field(default=32, ge=1)
