"""`bench train`: the run that is measured, from a store of its own to its rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stormcast_train.base.console import Console
from stormcast_train.base.errors import RequestError
from stormcast_train.base.site import SiteConfig
from stormcast_train.bench.config import TrainSizes
from stormcast_train.bench.result_rows import Measured
from stormcast_train.bench.training import BareLoop, Turns, grown_batch, resident_calls, results
from stormcast_train.bench.training_world import make_store
from stormcast_train.data.mix import FractionsMix
from stormcast_train.distributed.collectives import barrier
from stormcast_train.distributed.ranks import Ranks
from stormcast_train.distributed.signals import StopRequest
from stormcast_train.fields.grid import DomainConfig, RegularDomain
from stormcast_train.fields.variable_set import VariablesConfig
from stormcast_train.networks.config import NetworkConfig
from stormcast_train.objectives.config import ObjectiveConfig
from stormcast_train.runs.events import read_events
from stormcast_train.runs.run import RunDirectory
from stormcast_train.stages.stage import Kind, kind_of
from stormcast_train.training.loop.insight import Insight
from stormcast_train.training.loop.loop import TrainPlan
from stormcast_train.training.loop.optim_config import OptimConfig, OptimSpec
from stormcast_train.training.run.execute import run_stage
from stormcast_train.training.run.rank_device import choose_device, prepare_torch
from stormcast_train.training.run.stage_run import Execution, StageRun
from stormcast_train.training.run.subject import Subject
from stormcast_train.training.setup.build_stage import build, build_stage
from stormcast_train.training.setup.config import StageConfig, StageRequest
from stormcast_train.training.setup.resolve import Setup
from stormcast_train.training.validation.evaluation import Evaluation
from stormcast_train.training.validation.validation_plan import ValidationSpec

LEAST = ValidationSpec(cases=1, ensemble_cases=1, members=2, maps=0)  # after the last step that counts
MIX = FractionsMix(train=0.7, validation=0.3, test=0.0)


@dataclass(frozen=True)
class TrainBench:
    """The science of the run that is measured, its folder, its sizes."""

    folder: Path
    domain: DomainConfig
    variables: VariablesConfig
    stage: StageConfig
    network: NetworkConfig
    objective: ObjectiveConfig
    optim: OptimConfig
    sizes: TrainSizes
    device: str | None

    @property
    def name(self) -> str:
        """The stage that is measured: of several, the last."""
        return self.stage.kinds()[-1]

    @property
    def kind(self) -> Kind:
        """Its kind."""
        return kind_of(self.name)

    def request(self, name: str) -> StageRequest:
        """What `build_stage` takes; a stage that another corrects is an untrained one."""
        corrected = kind_of(name).beneath
        return StageRequest(
            stage=self.stage.only(name), network=self.network, objective=self.objective, mix=MIX,
            store=str(self.folder / "store"),
            regression=str(self.folder / corrected) if corrected else None,
        )  # fmt: skip

    def execution(self, every: int) -> Execution:
        """How it is run: nothing but steps before `every` samples."""
        sizes = self.sizes
        return Execution(
            precision=sizes.precision, compile=sizes.compile, tf32=sizes.tf32, device=self.device,
            validate_every=every, checkpoint_every=every,
            validation=LEAST,
        )  # fmt: skip

    def spec(self, batch: int, total: int) -> OptimSpec:
        """The optimisation of a run of this length."""
        return self.optim.resolve(self.kind.name, batch, total)


def prepare(bench: TrainBench) -> tuple[int, str | None]:
    """Make the store and the stage that the measured one corrects; gives the samples of a rank's step, and
    the accelerator's name if there is one.
    """
    if not isinstance(bench.domain, RegularDomain):
        raise RequestError(
            "bench train makes a store on a regular grid: give domain=taiwan_2km or another regular one"
        )
    make_store(bench.folder / "store", bench.domain.grid(), bench.variables, bench.sizes.hours)
    device = choose_device(bench.device, Ranks())
    prepare_torch(device, None, bench.sizes.tf32)
    if bench.kind.beneath is not None:
        stage, stream = build_stage(bench.request(bench.kind.beneath), device)
        Evaluation(stage).save_package(
            bench.folder / bench.kind.beneath, stage.network.state_dict(), {"samples": 0}
        )
        stream.close()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    if bench.sizes.batch is not None:
        return bench.sizes.batch, name
    stage, stream = build_stage(bench.request(bench.name), device)
    size = grown_batch(stage, stream, bench.spec(1, 1), _plan(bench, 1, 1), bench.sizes)
    stream.close()
    return size, name


def _plan(bench: TrainBench, batch: int, total: int) -> TrainPlan:
    lower = torch.bfloat16 if bench.sizes.precision == "bf16" else None
    return TrainPlan(batch, total, batch, batch, total, total, lower, bench.sizes.compile)


def measure(
    bench: TrainBench, batch: int, ranks: Ranks, console: Console
) -> tuple[list[Measured], dict[str, Any]]:
    """Run the steps in this rank, bare loops in between; every rank gets rows, rank 0's count."""
    whole = batch * ranks.world
    total = whole * bench.sizes.steps * (bench.sizes.blocks + 2)
    held: list[Turns] = []

    def with_bare_loops(setup: Setup, device: torch.device) -> Subject:
        stage, stream = build(setup, device)
        calls = resident_calls(stage, stream.batch(range(batch)))
        plan, spec = _plan(bench, whole, total), bench.spec(whole, total)
        loops = [BareLoop(stage, calls, spec, plan, ranks) for _ in range(2)]
        held.append(
            Turns(
                stream, [loop.steps for loop in loops], bench.sizes.steps, lambda: _settle(device), len(calls)
            )
        )
        return Subject(stage, held[0], Evaluation(stage))

    run = StageRun(
        bench.request(bench.name),
        bench.spec(whole, total),
        bench.execution(total),
        RunDirectory(bench.folder / "run"),
        SiteConfig(name="bench"),
    )
    with StopRequest().listening() as stop:
        described = run_stage(run, ranks, console, stop, with_bare_loops)
    insight = _insight(Path(described["path"]), ranks)
    return results(held[0], insight, whole, f"{bench.network.name}/{bench.kind.name}")


def _settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    barrier()


def _insight(run: Path, ranks: Ranks) -> Insight:
    """What the run itself has recorded."""
    facts = next(event for event in read_events(run) if event["event"] == "start")
    return Insight(
        facts["flops_per_sample"], facts["matrix_flops_per_second"], facts["parameters"], ranks.world
    )
