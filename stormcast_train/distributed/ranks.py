"""Who I am among the processes of a run: from srun, torchrun, or `processes=N` on this machine. Torch-free."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import FrameType

from stormcast_train.fields.errors import RequestError

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
PATIENCE_S = 60.0  # between the first rank's end and the end of the others


@dataclass(frozen=True)
class Ranks:
    """Place of this process: `rank` of `world`, `local_rank` on this machine; `address` is where rank 0 listens."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    address: str | None = None

    @property
    def is_first(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0


def ranks_from_environment(environment: Mapping[str, str] | None = None) -> Ranks:
    """From torchrun's variables, else from srun's, else a single process."""
    env = os.environ if environment is None else environment
    if "RANK" in env and "WORLD_SIZE" in env:
        address = f"{env.get('MASTER_ADDR', '127.0.0.1')}:{env.get('MASTER_PORT', '29500')}"
        return Ranks(int(env["RANK"]), int(env["WORLD_SIZE"]), int(env.get("LOCAL_RANK", "0")), address)
    if "SLURM_STEP_ID" in env and int(env.get("SLURM_NTASKS", "1")) > 1:
        port = 20000 + int(env["SLURM_JOB_ID"]) % 20000
        host = first_host(env.get("SLURM_STEP_NODELIST", env.get("SLURM_NODELIST", "127.0.0.1")))
        return Ranks(int(env["SLURM_PROCID"]), int(env["SLURM_NTASKS"]), int(env.get("SLURM_LOCALID", "0")), f"{host}:{port}")
    return Ranks()


def first_host(nodelist: str) -> str:
    """The first name of a Slurm node list: `gpu[07-09,12]` -> `gpu07`."""
    prefix, bracket, rest = nodelist.partition("[")
    if not bracket or "," in prefix:
        return nodelist.split(",")[0]
    return prefix + rest.split("]")[0].split(",")[0].split("-")[0]


def launch_local(processes: int, words: Sequence[str]) -> int:
    """Run `stormcast <words>` as `processes` ranks on this machine and give the exit code: the first that is not 0.

    Signals that ask this process to stop are passed on. When a rank fails the others are ended, so nobody waits for the dead.
    """
    port = _free_port()
    children = [_child(rank, processes, port, words) for rank in range(processes)]

    def forward(number: int, _: FrameType | None) -> None:
        for child in children:
            if child.poll() is None:
                child.send_signal(number)

    previous = {number: signal.signal(number, forward) for number in FORWARDED}
    try:
        return _await(children)
    finally:
        for child in children:
            if child.poll() is None:
                child.kill()
        for number, handler in previous.items():
            signal.signal(number, handler)


def _child(rank: int, world: int, port: int, words: Sequence[str]) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    environment.setdefault("OMP_NUM_THREADS", "1")
    return subprocess.Popen([sys.executable, "-m", "stormcast_train.cli", *words], env=environment)


def _await(children: Sequence[subprocess.Popen[bytes]]) -> int:
    """The exit code of the group; a rank that outlives a failed one is told to stop, then killed."""
    told_at: float | None = None
    code = 0
    while any(child.poll() is None for child in children):
        failed = [child.returncode for child in children if child.returncode]
        if failed and told_at is None:
            code, told_at = failed[0], time.monotonic()
            for child in children:
                if child.poll() is None and code != 75:
                    child.terminate()
        if told_at is not None and time.monotonic() - told_at > PATIENCE_S:
            for child in children:
                if child.poll() is None:
                    child.kill()
        time.sleep(0.05)
    return code or next((child.returncode for child in children if child.returncode), 0)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def check_processes(processes: int) -> None:
    """RequestError unless there is at least one."""
    if processes < 1:
        raise RequestError(f"processes={processes}: there must be at least one")
