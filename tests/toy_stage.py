"""A stage of pure torch on the tiny world's store, and ranks in processes of their own: the loop's and the
run's own facts, fast.

Processes come from a fork server that has imported torch once.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stormcast_train.base.console import Console
from stormcast_train.base.errors import StormcastError
from stormcast_train.base.files import replacing, write_json
from stormcast_train.base.site import SiteConfig
from stormcast_train.data.mix import FractionsMix
from stormcast_train.distributed import watchdog
from stormcast_train.distributed.deadline import Deadline
from stormcast_train.distributed.ranks import Ranks
from stormcast_train.distributed.signals import StopRequest
from stormcast_train.networks.config import NetworkConfig
from stormcast_train.objectives.edm_config import EdmConfig
from stormcast_train.runs.run import RunDirectory
from stormcast_train.stages.stage import LossTerms
from stormcast_train.training.loop.optim_config import OptimSpec
from stormcast_train.training.run.execute import run_stage
from stormcast_train.training.run.stage_run import Execution, StageRun
from stormcast_train.training.run.subject import Subject
from stormcast_train.training.setup.config import StageConfig, StageRequest

TARGET_CHW = torch.linspace(-1, 1, 2 * 6 * 6).reshape(2, 6, 6)
CASES = 5


@dataclass(frozen=True)
class ToyBatch:
    positions: tuple[int, ...]
    dataset_indices: tuple[int, ...]
    input_BCHW: Tensor
    wanted_BCHW: Tensor


class ToyStream:
    """Sample p is a function of p. poison: a sample that is not finite; naps: seconds that reading a sample
    takes.

    spends: seconds that a sample takes by the clock of `clock_of`, which no machine slows down.
    """

    dataset_size = 1000
    starts = np.datetime64("2021-06-01T00", "s") + np.arange(1000) * 3600

    def __init__(
        self, poison: int | None = None, naps: dict[int, float] | None = None, spends: float = 0.0
    ) -> None:
        self.poison, self.naps = poison, naps or {}
        self.spends, self.spent_s = spends, 0.0

    def prefetch(self, positions):
        pass

    def batch(self, positions):
        self.spent_s += self.spends * len(positions)
        time.sleep(sum(self.naps.get(p, self.naps.get(-1, 0.0)) for p in positions))
        fields = [torch.randn(2, 6, 6, generator=torch.Generator().manual_seed(p)) for p in positions]
        inputs = torch.stack(fields)
        if self.poison in positions:
            inputs[list(positions).index(self.poison)] = float("nan")
        indices = tuple(p % self.dataset_size for p in positions)
        return ToyBatch(tuple(positions), indices, inputs, inputs.roll(1, 3) * 0.5 + TARGET_CHW)

    def close(self):
        pass


class ToyStage:
    """A small convolutional network, or a UNet of PhysicsNeMo; `at`: the signal that the process sends itself
    at a stream position.
    """

    needs_no_network = True
    started, warnings = None, ()

    def __init__(self, at: dict[int, int], unet: bool = False) -> None:
        torch.manual_seed(7)
        self.network = nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, 2, 3, padding=1))
        self._at = at
        if unet:
            from stormcast_train.networks.songunet import SongUNets

            self.network = SongUNets().regression(
                NetworkConfig(model_channels=8, channel_mult=(1, 2, 2), num_blocks=1), (6, 6), 2, 2, seed=0
            )

    def example(self, batch):
        return batch

    def loss(self, network, batch):
        for position, number in self._at.items():
            if position in batch.positions and len(batch.positions) > 1:
                os.kill(os.getpid(), number)
        error = (network(batch.input_BCHW) - batch.wanted_BCHW).square()
        return LossTerms(
            error.mean(), {"first": error[:, 0].mean().detach(), "second": error[:, 1].mean().detach()}
        )

    def most_extreme(self, batch):
        return {}

    def save_package(self, directory, weights, facts):
        from safetensors.torch import save_file

        directory.mkdir(parents=True, exist_ok=True)
        with replacing(
            directory / "weights.safetensors"
        ) as aside:  # whole, as the real stages' are, whenever the process is killed
            save_file(weights, aside)
        write_json(directory / "package.json", {"facts": facts})

    def sums(self, weights, share, how=None):
        from stormcast_train.training.validation.evaluation import evaluating

        network = evaluating(self.network, weights, torch.device("cpu"))
        sums = {}
        for case in range(share[0], CASES, share[1]):
            batch = ToyStream().batch([10_000 + case])
            with torch.no_grad():
                before = sums.get("regression/rmse/first", (0.0, 0.0))
                error = (network(batch.input_BCHW) - batch.wanted_BCHW)[:, 0].double().square()
                sums["regression/rmse/first"] = (before[0] + float(error.sum()), before[1] + error.numel())
        return sums

    def ratios(self, weights):
        return {}


def stage_run(store: Path, folder: Path, **keys: Any) -> StageRun:
    request = StageRequest(
        stage=StageConfig(kind="regression"), network=NetworkConfig(model_channels=8, channel_mult=(1,),
        num_blocks=1),
        objective=EdmConfig(), mix=FractionsMix(train=0.7, validation=0.15, test=0.15),
        seed=keys.pop("seed", 0), store=str(store),
    )  # fmt: skip
    optim = OptimSpec(
        kind="adamw", lr=keys.pop("lr", 3e-3), betas=(0.9, 0.99), weight_decay=1e-4, warmup_samples=16,
        schedule="cosine",
        final_factor=0.02, max_grad_norm=1.0, ema_half_life_samples=16.0, batch_size=keys.pop("batch_size",
        8),
        total_samples=keys.pop("total_samples", 160),
    )  # fmt: skip
    allow = keys.pop("allow_code_change", False)
    execution = Execution(
        **{
            "checkpoint_every": 16,
            "validate_every": 40,
            "best_metric": "regression/rmse",
            "device": "cpu",
            **keys,
        }
    )
    return StageRun(
        request, optim, execution, RunDirectory(folder), SiteConfig(name="test"), allow_code_change=allow
    )


@contextmanager
def clock_of(stream: ToyStream, stop: StopRequest) -> Iterator[None]:
    """Deadline and watchdog look at the time that the stream has spent, and the watchdog all the time."""

    def now() -> float:
        return stop.began + stream.spent_s

    before = Deadline.__init__.__defaults__, watchdog.time, watchdog.TICK_S
    Deadline.__init__.__defaults__ = (now,)
    watchdog.time, watchdog.TICK_S = SimpleNamespace(monotonic=now, sleep=time.sleep), 0.01
    try:
        yield
    finally:
        Deadline.__init__.__defaults__, watchdog.time, watchdog.TICK_S = before


def work(
    run: StageRun, ranks: Ranks, signals: dict[int, int] | None = None, poison: int | None = None,
    naps: dict[int, float] | None = None,
    unet: bool = False, spends: float = 0.0,
) -> dict[str, Any]:  # fmt: skip
    """One rank, in this process. signals: stream position -> signal; poison, naps, spends: see `ToyStream`
    (position -1: every sample).
    """
    torch.set_num_threads(1)
    stream = ToyStream(poison, naps, spends)
    with StopRequest().listening() as stop, clock_of(stream, stop) if spends else nullcontext():
        toy = ToyStage(signals or {}, unet)
        return run_stage(
            run, ranks, Console(quiet=True), stop, lambda setup, device: Subject(toy, stream, toy)
        )


def _process(run: StageRun, ranks: Ranks, *trouble: Any) -> None:
    try:
        work(run, ranks, *trouble)
    except StormcastError as error:
        print(f"rank {ranks.rank}: {error}")
        raise SystemExit(error.exit_code) from None


def in_processes(
    run: StageRun, world: int = 1, signals: dict[int, int] | None = None, poison: int | None = None,
    naps: dict[int, float] | None = None,
    unet: bool = False, spends: float = 0.0,
) -> list[int | None]:  # fmt: skip
    """The run on `world` ranks, with the trouble that `work` takes. Gives the exit codes."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(
        [
            "torch",
            "torch.distributed",
            "stormcast_train.training.setup.build_stage",
            "stormcast_train.training.run.attempt",
        ]
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    places = [
        Ranks(rank, world, rank, "torchrun" if world > 1 else "none", "127.0.0.1", port)
        for rank in range(world)
    ]
    children = [
        server.Process(target=_process, args=(run, place, signals, poison, naps, unet, spends))
        for place in places
    ]
    try:
        for child in children:
            child.start()
        for child in children:
            child.join(140)
    finally:
        for child in children:  # none outlives a test that fails
            if child.is_alive():
                child.kill()
                child.join()
    return [child.exitcode for child in children]


STOP, KILL = signal.SIGTERM, signal.SIGKILL
