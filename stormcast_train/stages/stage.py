"""What a kind of stage is, and which kinds there are: everything that is special to one stands in its own
file. Torch-free.

Training, forecast, validation, pages and configs ask a kind for what they need and know none by name. A
further kind is a class and a line of STAGES, or a class anywhere that `stage.kind=package.module:Thing`
names.
Shape suffixes: B samples, C channels, H rows, W columns.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from stormcast_train.base.named import named_instance

if TYPE_CHECKING:
    from torch import Tensor, nn

    from stormcast_train.data.batch import Batch, Window
    from stormcast_train.data.conditions import Condition, Conditions
    from stormcast_train.data.crop import Crops
    from stormcast_train.data.target import Target
    from stormcast_train.networks.config import NetworkConfig
    from stormcast_train.objectives.config import ObjectiveConfig, ObjectiveSpec
    from stormcast_train.objectives.count import FixedCount
    from stormcast_train.stages.step import Step

STAGES = {
    "regression": "stormcast_train.stages.regression:Regression",
    "diffusion": "stormcast_train.stages.residual_diffusion:ResidualDiffusion",
    "crps": "stormcast_train.stages.crps:OneStepCrps",
}
SEQUENCES = {"both": ("regression", "diffusion")}  # trained one after the other, each on the one before


class LossTerms(NamedTuple):
    """`total` is the scalar to differentiate: a mean over a fixed count (micro-batch, channels, covered cells
    or all of a crop).

    `by_noise`: where levels of noise are trained, by range of the level, the sum of its samples' losses and
    their number [2].
    """

    total: Tensor
    by_variable: dict[str, Tensor]
    by_noise: dict[str, Tensor] | None = None


@dataclass(frozen=True)
class Example:
    """All that a micro-batch's loss needs and that no trained weight changes. Its noise, where it has some,
    and the noise's level.
    """

    condition: Condition
    wanted_BCHW: Tensor
    present_BCHW: Tensor  # bool: where the loss is
    sigma_B: Tensor | None = None
    noise: Tensor | None = None


class MetricPart(NamedTuple):
    """A part of a validation metric: `stage/quantity/where` is the sum of all numerators over the sum of all
    denominators.
    """

    quantity: str
    where: str
    numerator: float
    denominator: float


@dataclass(frozen=True)
class Own:
    """A quantity of a kind's own that `Kind.measure` gives, by variable; `by_wavelength`: also by band, as
    `VARIABLE:KMkm`.
    """

    quantity: str
    by_wavelength: bool = False


@dataclass(frozen=True)
class NetworkRequest:
    """What a kind builds its network from. shape: of the grid; inputs: channels of the condition; outputs: of
    the state.
    """

    config: NetworkConfig
    shape: tuple[int, int]
    inputs: int
    outputs: int
    seed: int
    objective: ObjectiveSpec | None = None


@dataclass(frozen=True, eq=False)
class Parts:
    """What a step is made of. beneath: the frozen step that this one
    corrects; measured: see `Kind.measured`.
    """

    network: nn.Module
    conditions: Conditions
    target: Target
    names: tuple[str, ...]
    beneath: Step | None = None
    objective: ObjectiveSpec | None = None
    measured: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Setting:
    """How training shows a sample: the run's seed, the windows of the grid (None: whole fields), and what
    gives the mean beneath.

    mean: of a batch's window as it is shown [B, C, H, W]; kept_mean: the same of the store's own windows,
    looked up.
    """

    seed: int
    crops: Crops | None = None
    mean: Callable[[Window], Tensor] | None = None
    kept_mean: Callable[[Sequence[int]], Tensor] | None = None

    def mean_of(self, batch: Batch, shown: Window) -> Tensor:
        """The mean beneath of a batch whose windows are shown so [B, C, H, W]; looked up where they are the
        store's own.
        """
        assert self.mean is not None
        if self.kept_mean is not None and shown is batch.window:
            return self.kept_mean(batch.dataset_indices)
        return self.mean(shown)

    def target_example(self, step: Step, batch: Batch) -> Example:
        """The encoded target and the condition as training shows it: mirrored, perturbed, with conditioning
        noise, cropped; every draw keyed by the batch's positions.
        """
        conditions, positions = step.conditions, batch.positions
        mirror = conditions.mirror(self.seed, positions)
        batch = mirror.batch(batch) if mirror else batch
        window = conditions.perturb(batch.window, self.seed, positions)
        condition = conditions.assemble(window, offsets_BC11=conditions.offsets(self.seed, positions))
        wanted_BCHW = step.target.encode(batch.target_BCHW, window)
        return self.cropped(Example(condition, wanted_BCHW, batch.target_present_BCHW), batch)

    def cropped(self, example: Example, batch: Batch) -> Example:
        """The example's windows of the grid, drawn by the batch's positions;
        all of it where there are none.
        """
        if self.crops is None:
            return example
        assert not isinstance(example.condition, tuple)  # `check_crop` refuses a halo's encoder
        crop = self.crops.draw(self.seed, batch.positions, batch.window.times)
        condition, wanted_BCHW, present_BCHW = map(
            crop, (example.condition, example.wanted_BCHW, example.present_BCHW)
        )
        return replace(example, condition=condition, wanted_BCHW=wanted_BCHW, present_BCHW=present_BCHW)


class Kind(ABC):
    """One kind of stage; it holds nothing, so one object serves every run of it.

    name: the first part of its metrics' names. beneath: the kind of the frozen stage whose mean it corrects.
    draws: its members differ. objective_kind: the kind of `objective=` that trains it, part of its
    science; None: its loss has nothing to choose. conditions: its own
    defaults of `stage.conditions`. best: the quantity that chooses its best package. own: quantities that its
    validations measure beside those of rollouts. ignorant_loss: of a network that does not look at its
    inputs, where that is one number.
    """

    name: ClassVar[str]
    beneath: ClassVar[str | None] = None
    draws: ClassVar[bool] = False
    objective_kind: ClassVar[str | None] = None
    conditions: ClassVar[Mapping[str, Any]] = {}
    best: ClassVar[str]
    own: ClassVar[tuple[Own, ...]] = ()
    ignorant_loss: ClassVar[float | None] = None

    @property
    def may_lie_beneath(self) -> bool:
        """Whether other kinds correct it: it may be trained in folds then."""
        return not self.draws

    def objective(self, asked: ObjectiveConfig, largest_variance: float | None) -> ObjectiveSpec | None:
        """The objective with nothing left open, where the kind has one; largest_variance: of the residual
        beneath, see `resolve`.
        """
        return None

    def inputs_before_conditions(self, state: Sequence[str]) -> tuple[str, ...]:
        """Names of what the network's first layer sees before the condition's channels."""
        return ()

    @abstractmethod
    def build_network(self, request: NetworkRequest) -> nn.Module:
        """The network, float32, weights drawn from the request's seed; without an encoder of the halo."""

    @abstractmethod
    def build_step(self, parts: Parts) -> Step:
        """One step of a forecast."""

    def parameters(self, request: NetworkRequest, objective: ObjectiveConfig) -> int | None:
        """Of the network that `build_network` makes of this, without torch; None where only building it
        tells.
        """
        return None

    def needs_no_network(self, step: Step, setting: Setting) -> bool:
        """Whether an example needs no network: a thread may then make the next one while a CPU works on this
        one.
        """
        return True

    @abstractmethod
    def example(self, step: Any, batch: Batch, setting: Setting) -> Example:
        """What `loss` takes, a function of the batch and its positions alone."""

    @abstractmethod
    def loss(self, step: Any, network: nn.Module, example: Example, count: FixedCount) -> LossTerms:
        """The loss of `network` (the step's own, possibly wrapped, in train mode) on one micro-batch."""

    def measure(self, step: Any, batch: Batch, cases: Sequence[int], seed: int) -> Iterator[MetricPart]:
        """What a validation measures of these fixed cases in one step, beside rollouts; `seed` and case
        numbers key every draw.
        """
        return iter(())

    def measure_few(self, step: Any, batch: Batch, cases: Sequence[int], seed: int) -> Iterator[MetricPart]:
        """The same of a few cases, for what costs many evaluations of the network."""
        return iter(())


@lru_cache(maxsize=32)
def kind_of(name: str) -> Kind:
    """The kind of stage of that name, or that `package.module:Thing` names;
    RequestError where there is none.
    """
    kind: Kind = named_instance("stage.kind", name, STAGES, Kind, SEQUENCES)
    return kind


def kinds_of(name: str) -> tuple[str, ...]:
    """The kinds that `stage.kind` trains, in order."""
    return SEQUENCES.get(name, (name,))
