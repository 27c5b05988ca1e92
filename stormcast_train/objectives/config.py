"""`objective=`: every way in which a kind of stage is trained, by `kind`. Torch-free."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from pydantic import Field, TypeAdapter

from stormcast_train.objectives.crps_config import CrpsConfig
from stormcast_train.objectives.edm_config import EdmConfig, EdmSpec

ObjectiveConfig: TypeAlias = Annotated[EdmConfig | CrpsConfig, Field(discriminator="kind")]
ObjectiveSpec: TypeAlias = Annotated[EdmSpec | CrpsConfig, Field(discriminator="kind")]  # nothing left open
_SPEC: TypeAdapter[ObjectiveSpec] = TypeAdapter(ObjectiveSpec)


def objective_spec(described: dict[str, Any]) -> ObjectiveSpec:
    """The objective that a package describes."""
    return _SPEC.validate_python(described)
