"""What srun tells each of its tasks. Torch-free; asks no command, reads the environment only."""

from __future__ import annotations

from collections.abc import Mapping

FIRST_PORT, PORTS = 20000, 20000


def in_srun_step(environment: Mapping[str, str]) -> bool:
    """Whether this process is one of several tasks that srun started (a batch script alone is not)."""
    return "SLURM_STEP_ID" in environment and "SLURM_PROCID" in environment and int(environment.get("SLURM_NTASKS", "1")) > 1


def rendezvous(environment: Mapping[str, str]) -> tuple[str, int]:
    """Host and port where the step's rank 0 listens: its first node, and a port that job and step decide."""
    host = first_host(environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_JOB_NODELIST") or "127.0.0.1")
    number = int(environment.get("SLURM_JOB_ID", "0")) * 31 + int(environment["SLURM_STEP_ID"])
    return host, FIRST_PORT + number % PORTS


def first_host(nodelist: str) -> str:
    """The first name of a Slurm node list: `gpu[07-09,12]-ib` -> `gpu07-ib`, `a1,b[1-2]` -> `a1`."""
    prefix, bracket, rest = nodelist.partition("[")
    if not bracket or "," in prefix:
        return nodelist.split(",")[0]
    inside, _, suffix = rest.partition("]")
    return prefix + inside.split(",")[0].split("-")[0] + suffix.split(",")[0].partition("[")[0]
