"""From a package to an emulator that steps. Shape suffixes: C channels, H rows, W columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stormcast_train.base.errors import RequestError, nearest
from stormcast_train.data.condition_config import WindowNeeds
from stormcast_train.data.conditions import Conditions
from stormcast_train.data.normalize import Normalizer
from stormcast_train.data.scene import Scene
from stormcast_train.data.target import Target
from stormcast_train.data.window import WindowReader
from stormcast_train.fields.grid import Grid
from stormcast_train.fields.times import Times
from stormcast_train.fields.variables import Variable
from stormcast_train.forecast.chosen import open_package
from stormcast_train.forecast.package import Package
from stormcast_train.forecast.starts import check_store
from stormcast_train.stages.encoder import with_encoder
from stormcast_train.stages.stage import Kind, NetworkRequest, Parts, kind_of
from stormcast_train.stages.step import Step
from stormcast_train.store.reader import Store


class Emulator:
    """A trained stage, ready to step in eval mode. `Emulator.load` takes a run (`RUN`, `RUN@last`, ...) or a
    package folder.

    step_model: the package's step where it exists already (training rolls out what it trains); None builds
    it. beneath: the emulator of the frozen stage that this one corrects, None without one.
    """

    def __init__(
        self, package: Package, device: str | torch.device = "cpu", step_model: Step | None = None
    ) -> None:
        self.package = package
        self.device = torch.device(device)
        self.kind = kind_of(package.stage)
        below = step_model.beneath if step_model is not None else None
        self.beneath = Emulator(package.beneath, device, below) if package.beneath else None
        self.normalizer = Normalizer(self.scene.state, self.scene.statistics, self.device)
        self.step_model = step_model or self._build()

    @classmethod
    def load(cls, spec: str | Path, device: str | torch.device = "cpu", ema: float | None = None) -> Emulator:
        """Load a run's or a folder's package; `ema`: another average of the run's weights. RequestError where
        there is none.
        """
        return cls(open_package(spec, ema), device)

    @property
    def stage(self) -> str:
        """The kind of its stage, by name."""
        return self.kind.name

    @property
    def draws(self) -> bool:
        """Whether its members differ."""
        return self.kind.draws

    @property
    def deterministic(self) -> Emulator | None:
        """What gives one field a lead: itself where nothing is drawn, else the stage beneath, else None."""
        return self.beneath if self.draws else self

    @property
    def scene(self) -> Scene:
        return self.package.scene

    @property
    def state(self) -> tuple[str, ...]:
        """Names of the state's variables in order."""
        return self.scene.names

    @property
    def variables(self) -> dict[str, Variable]:
        """The state's variables by name."""
        return {v.name: v for v in self.scene.state}

    @property
    def grid(self) -> Grid:
        return self.scene.grid

    @property
    def step(self) -> np.timedelta64:
        return self.scene.step

    @property
    def coverage(self) -> NDArray[np.bool_]:
        """[C, y, x]: where a forecast has values."""
        return self.scene.coverage_CHW

    @property
    def fingerprint(self) -> str:
        return self.package.fingerprint

    @property
    def store_fingerprint(self) -> str:
        """Of the store it was trained on."""
        return self.package.store_fingerprint

    @property
    def history(self) -> int:
        """Past states that a step needs, the newest included: the longer of the stage's and of the one
        beneath.
        """
        return self.needs.history

    @property
    def needs(self) -> WindowNeeds:
        """What a step needs, the stage and the one beneath together."""
        below = [self.beneath.package.conditions] if self.beneath else []
        return WindowNeeds.of(self.package.conditions, *below)

    def split(self, name: str) -> Times:
        """Start times of the mix's split (`train`, `validation`, `test`) of the store it was trained on."""
        if name not in self.package.splits:
            raise RequestError(f"the package has no split '{name}'.{nearest(name, self.package.splits)}")
        return self.package.splits[name]

    @property
    def trained_on(self) -> Times:
        """Start times of all training samples, of whichever store."""
        splits = self.package.splits
        training = [times for name, times in splits.items() if name.split("@")[0] == "train"]
        return np.unique(np.concatenate(training))

    def reader(self, store: Store) -> WindowReader:
        """A reader of this emulator's windows; a store of another grid, step or variable set is a
        RequestError.
        """
        needs = self.needs
        check_store(self.scene, store, needs.droppable)
        return WindowReader(store, self.scene, needs.states, self.device, needs.past, needs.droppable)

    def _build(self) -> Step:
        package = self.package
        conditions = Conditions(package.conditions, self.scene, self.device)
        coverage_CHW = torch.from_numpy(np.ascontiguousarray(self.scene.coverage_CHW)).to(self.device)
        return self.kind.build_step(
            Parts(
                network=build_network(self.kind, package, conditions, self.device),
                conditions=conditions,
                target=Target(package.target, self.normalizer, coverage_CHW),
                names=self.scene.names,
                beneath=self.beneath.step_model if self.beneath else None,
                objective=package.objective,
                measured=package.measured,
            )
        )


def build_network(kind: Kind, package: Package, conditions: Conditions, device: torch.device) -> nn.Module:
    """The package's network with its weights, in eval mode."""
    asked = NetworkRequest(
        package.network,
        package.scene.grid.shape,
        conditions.inputs,
        len(package.scene.names),
        seed=0,
        objective=package.objective,
    )
    network = with_encoder(kind.build_network(asked), conditions, seed=0)
    load_weights(network, package.weights)
    return network.to(device).eval()


def load_weights(network: nn.Module, weights: Any) -> None:
    """Load weights by name (numpy or torch); names or shapes that do not fit are a RequestError."""
    tensors = {k: v if isinstance(v, Tensor) else torch.from_numpy(np.array(v)) for k, v in weights.items()}
    try:
        network.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        raise RequestError(
            f"these weights belong to another network: {str(error).splitlines()[-1].strip()}"
        ) from error
