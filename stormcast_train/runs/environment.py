"""`environment.json`: the machine and software of an attempt. What torch knows is handed in as plain data."""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stormcast_train.base.provenance import environment_record

SHOWN = (
    "OMP_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES",
    "SLURM_JOB_ID",
    "SLURM_JOB_NODELIST",
    "SLURM_CLUSTER_NAME",
)


def attempt_environment(torch_facts: Mapping[str, Any]) -> dict[str, Any]:
    """Interpreter, packages, host, processors, memory, the variables that matter, and `torch_facts` as they
    are.
    """
    return {
        **environment_record(),
        "host": socket.gethostname(),
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": memory_gib(),
        "variables": {name: os.environ[name] for name in SHOWN if name in os.environ},
        "torch": dict(torch_facts),
    }


def processor() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def memory_gib() -> float:
    """Physical memory."""
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
