"""Who this process is among the processes of a run: by srun, by torchrun, by `processes=N`, or alone.
Torch-free.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from stormcast_train.base.errors import RequestError
from stormcast_train.distributed import slurm_query

Launcher = Literal["none", "local", "torchrun", "srun"]
LOCAL = "STORMCAST_LAUNCHED_BY"  # set by `launch.run_ranks`: the launching process's id


@dataclass(frozen=True)
class Ranks:
    """Place of this process: `rank` of `world`, `local_rank` on this machine; `address` and `port` are where
    rank 0 listens.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    launcher: Launcher = "none"
    address: str = "127.0.0.1"
    port: int = 29500

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and messages."""
        return self.rank == 0


def ranks_from_environment(environment: Mapping[str, str] | None = None) -> Ranks:
    """From the variables of torchrun or our own launcher, else from srun's, else a single process."""
    env = os.environ if environment is None else environment
    if "RANK" in env and "WORLD_SIZE" in env:
        rank, world = int(env["RANK"]), int(env["WORLD_SIZE"])
        launcher: Launcher = "local" if LOCAL in env else "torchrun"
        address, port = env.get("MASTER_ADDR", "127.0.0.1"), int(env.get("MASTER_PORT", "29500"))
        return Ranks(rank, world, int(env.get("LOCAL_RANK", "0")), launcher, address, port)
    if slurm_query.in_srun_step(env):
        host, port = slurm_query.rendezvous(env)
        address, port = env.get("MASTER_ADDR", host), int(env.get("MASTER_PORT", port))
        return Ranks(
            int(env["SLURM_PROCID"]),
            int(env["SLURM_NTASKS"]),
            int(env.get("SLURM_LOCALID", "0")),
            "srun",
            address,
            port,
        )
    return Ranks()


def must_launch(processes: int, ranks: Ranks) -> bool:
    """Whether this process has to start its ranks itself; RequestError where `processes` contradicts srun or
    torchrun.
    """
    if ranks.world == 1:
        return processes > 1
    if processes not in (1, ranks.world):
        started = f"{ranks.launcher} started {ranks.world} ranks"
        raise RequestError(f"processes={processes}, but {started}: leave processes= out", world=ranks.world)
    return False
