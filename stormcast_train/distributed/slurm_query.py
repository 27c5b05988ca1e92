"""What a job and its tasks know from Slurm. Torch-free; reads the environment, and asks `squeue` only for
the end of the job.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Mapping

FIRST_PORT, PORTS = 20000, 20000
SQUEUE_PATIENCE_S = 10.0
_LEFT = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)")


def in_srun_step(environment: Mapping[str, str]) -> bool:
    """Whether this process is one of several tasks that srun started (a batch script alone is not)."""
    return (
        "SLURM_STEP_ID" in environment
        and "SLURM_PROCID" in environment
        and int(environment.get("SLURM_NTASKS", "1")) > 1
    )


def rendezvous(environment: Mapping[str, str]) -> tuple[str, int]:
    """Host and port where the step's rank 0 listens: its first node, and a port that job and step decide."""
    host = first_host(
        environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_JOB_NODELIST") or "127.0.0.1"
    )
    number = int(environment.get("SLURM_JOB_ID", "0")) * 31 + int(environment["SLURM_STEP_ID"])
    return host, FIRST_PORT + number % PORTS


def first_host(nodelist: str) -> str:
    """The first name of a Slurm node list: `gpu[07-09,12]-ib` -> `gpu07-ib`, `a1,b[1-2]` -> `a1`."""
    prefix, bracket, rest = nodelist.partition("[")
    if not bracket or "," in prefix:
        return nodelist.split(",")[0]
    inside, _, suffix = rest.partition("]")
    return prefix + inside.split(",")[0].split("-")[0] + suffix.split(",")[0].partition("[")[0]


def job_seconds_left(environment: Mapping[str, str]) -> float | None:
    """Seconds until Slurm ends this job; None outside a job, and for one without an end."""
    if "SLURM_JOB_END_TIME" in environment:  # Slurm 22.05 and later, where the site hands it on
        return float(environment["SLURM_JOB_END_TIME"]) - time.time()
    if "SLURM_JOB_ID" not in environment:
        return None
    try:
        command = ["squeue", "--noheader", "--job", environment["SLURM_JOB_ID"], "--format=%L"]
        printed = subprocess.run(
            command, capture_output=True, text=True, timeout=SQUEUE_PATIENCE_S, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return seconds_of(printed.strip())


def seconds_of(left: str) -> float | None:
    """Seconds of squeue's `days-hours:minutes:seconds`, each part but the last two optional; None for
    UNLIMITED and the like.
    """
    found = _LEFT.fullmatch(left)
    if found is None:
        return None
    days, hours, minutes, rest = (int(part or 0) for part in found.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + rest)
