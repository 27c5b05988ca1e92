"""Keys of `stormcast train`, as the command line and the configs give them. Torch-free."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, field_validator

from stormcast_train.base.device_key import Device
from stormcast_train.base.errors import RequestError
from stormcast_train.base.frozen import Frozen
from stormcast_train.base.quiet import library_noise
from stormcast_train.base.site import SiteConfig
from stormcast_train.data.event_config import EventsConfig
from stormcast_train.data.mix import MixConfig
from stormcast_train.fields.grid import DomainConfig
from stormcast_train.fields.times import parse_duration, seconds
from stormcast_train.fields.variable_set import VariablesConfig
from stormcast_train.networks.config import NetworkConfig
from stormcast_train.objectives.config import ObjectiveConfig
from stormcast_train.training.loop.optim_config import Lengths, OptimConfig
from stormcast_train.training.setup.config import StageConfig
from stormcast_train.training.validation.validation_plan import ValidationSpec
from stormcast_train.verification.config import ScoreConfig


def duration_s(text: str | None) -> float | None:
    """Seconds of a duration that may be left out (None); zero is a RequestError."""
    if text is None:
        return None
    found = float(seconds(parse_duration(text)))
    if not found:
        raise RequestError(
            f"'{text}' is a duration of zero: give a longer one, or null for none", duration=text
        )
    return found


Limit = Annotated[float, Field(allow_inf_nan=True)]  # a range may have no end


class TrainKeys(Frozen):
    """`train.*`; null takes the value of `optim=`.

    batch_size: over all ranks; micro_batch: of one backward pass on one rank. total_samples: of each stage,
    or by kind. wall_clock: the command stops cleanly before so much time has passed; watchdog: a run without
    a finished step for so long is ended.
    """

    batch_size: int | None = Field(default=None, ge=1)
    total_samples: Annotated[int, Field(ge=1)] | Lengths | None = None
    micro_batch: int | None = Field(default=None, ge=1)
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = False
    parallel: Literal["ddp", "fsdp2", "domain"] = "ddp"
    tf32: bool = False
    best_metric: str | None = None
    veto: dict[str, tuple[Limit, Limit]] | None = None
    wall_clock: str | None = None
    watchdog: str | None = "30m"

    @field_validator("veto", mode="before")
    @classmethod
    def _parsed_text(cls, veto: Any) -> Any:
        """On the command line, a mapping whose names are in quotes arrives as one text."""
        try:
            return yaml.safe_load(veto) if isinstance(veto, str) else veto
        except yaml.YAMLError as error:
            raise ValueError(
                f'a veto is written {{"diffusion/spread_skill/*": [0.7, 1.4]}}, not {veto}'
            ) from error

    @field_validator("veto")
    @classmethod
    def _not_reversed(
        cls, veto: dict[str, tuple[float, float]] | None
    ) -> dict[str, tuple[float, float]] | None:
        for name, (low, high) in (veto or {}).items():
            if not low <= high:
                raise ValueError(
                    f"{name}: [{low:g}, {high:g}] is an empty range; the lower limit comes first"
                )
        return veto

    @field_validator("wall_clock", "watchdog", mode="before")
    @classmethod
    def _is_duration(cls, text: Any) -> str | None:
        duration = None if text is None else str(text)
        duration_s(duration)
        return duration

    def length(self, kind: str) -> int | None:
        """The samples asked for a stage of this kind."""
        return self.total_samples.get(kind) if isinstance(self.total_samples, dict) else self.total_samples


class LogKeys(Frozen):
    """`log.*`."""

    every_samples: int | None = Field(default=None, ge=1)
    wandb: Literal["online", "offline"] | None = None
    report: bool = True


class CheckpointKeys(Frozen):
    """`checkpoint.*`."""

    every_samples: int | None = Field(default=None, ge=1)
    keep: int = Field(default=2, ge=1)
    keep_every_samples: int | None = Field(default=None, ge=1)
    best: str | None = None


class EnsembleKeys(Frozen):
    """`validate.ensemble.*`: how many cases are rolled out, by how many members, how far."""

    cases: int = Field(default=12, ge=1)
    members: int = Field(default=4, ge=2)
    steps: int = Field(default=1, ge=1)


class FssKeys(Frozen):
    """`validate.fss.*`; null: the rain rates and windows of `score=`."""

    thresholds: tuple[Annotated[float, Field(gt=0)], ...] | None = None
    windows_km: tuple[Annotated[float, Field(gt=0)], ...] | None = None


class ValidateKeys(Frozen):
    """`validate=`: how much is validated, and how often; never part of what a run is."""

    every_samples: int | None = Field(default=None, ge=1)
    cases: int = Field(default=64, ge=1)
    ensemble: EnsembleKeys = EnsembleKeys()
    fss: FssKeys = FssKeys()
    maps: int = Field(default=2, ge=0)

    def spec(self, score: ScoreConfig) -> ValidationSpec:
        """What is validated, with the thresholds and windows of `score=` where none are given."""
        own: dict[str, Any] = {}
        if self.fss.thresholds is not None:
            own["thresholds"] = {**score.thresholds, "rain": self.fss.thresholds}
        if self.fss.windows_km is not None:
            own["fss_windows_km"] = self.fss.windows_km
        ensemble = self.ensemble
        return ValidationSpec(
            cases=self.cases,
            ensemble_cases=ensemble.cases,
            members=ensemble.members,
            steps=ensemble.steps,
            maps=self.maps,
            score=score.model_copy(update=own),
        )


with library_noise():  # pydantic warns that the key `validate` hides a method of its own that is deprecated

    class Config(Frozen):
        """Keys of `train`."""

        site: SiteConfig
        domain: DomainConfig | None = None
        variables: VariablesConfig
        mix: MixConfig
        events: EventsConfig = EventsConfig()
        stage: StageConfig
        network: NetworkConfig
        objective: ObjectiveConfig
        optim: OptimConfig
        score: ScoreConfig = ScoreConfig(name="none")
        store: str
        run: str
        regression: str | None = None
        init: str | None = None
        resume_from: str | None = None
        seed: int = 0
        processes: int = Field(default=1, ge=1)
        deterministic: bool | None = None
        device: Device | None = None
        allow_code_change: bool = False
        profile: bool = False
        train: TrainKeys = TrainKeys()
        log: LogKeys = LogKeys()
        checkpoint: CheckpointKeys = CheckpointKeys()
        validate: ValidateKeys = ValidateKeys()  # type: ignore[assignment]
        overrides: tuple[str, ...] = ()
        config_dir: str | None = None
