"""A run and its directory: what was asked, what happened, what came of it. Torch-free."""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from safetensors import safe_open

from stormcast_train.fields.errors import FailedError, RequestError
from stormcast_train.fields.files import read_json, write_bytes, write_json
from stormcast_train.monitor.events import latest, read_events

RECORD = "fingerprint.json"
STATES = {"done": "done", "stopped": "stopped", "failed": "failed"}


def is_run(path: Path) -> bool:
    """Whether `path` is a run directory."""
    return (path / RECORD).is_file()


def write_record(directory: Path, identity: dict[str, Any], documents: dict[str, Any], records: dict[str, Any]) -> None:
    """`fingerprint.json`, the YAML documents and the JSON records of a run, each atomically; the fingerprint last."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in documents.items():
        write_bytes(directory / f"{name}.yaml", yaml.safe_dump(content, sort_keys=False, allow_unicode=True).encode())
    for name, content in records.items():
        write_json(directory / f"{name}.json", content)
    write_json(directory / RECORD, identity)


def read_identity(directory: Path) -> dict[str, Any] | None:
    """What `fingerprint.json` holds; None for a directory that is not a run yet."""
    found: dict[str, Any] | None = read_json(directory / RECORD) if is_run(directory) else None
    return found


def next_attempt(directory: Path) -> int:
    """The number of the attempt that begins now, from 1."""
    return 1 + max((int(e["attempt"]) for e in read_events(directory)), default=0)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the run for one writer; FailedError when another process has it."""
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / ".lock", "a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise FailedError(f"another process is working on the run {directory}; wait for it or end it") from error
        yield


def state_of(directory: Path) -> str:
    """new | running | interrupted | stopped | failed | done."""
    events = [e for e in read_events(directory) if e["event"] in ("start", *STATES)]
    if not events:
        return "new"
    return STATES.get(events[-1]["event"]) or ("running" if _held(directory) else "interrupted")


def _held(directory: Path) -> bool:
    try:
        with locked(directory):
            return False
    except FailedError:
        return True
    except OSError:
        return False


def weights_sha256(package: Path) -> str:
    """SHA-256 over the package's weights, tensor by tensor in name order: name, dtype, shape, bytes."""
    hasher = hashlib.sha256()
    with safe_open(package / "weights.safetensors", framework="numpy") as tensors:
        for name in sorted(tensors.keys()):
            array = tensors.get_tensor(name)
            hasher.update(f"{name}|{array.dtype.str}|{array.shape}|".encode())
            hasher.update(array.tobytes())
    return hasher.hexdigest()


def describe_run(directory: str | Path) -> dict[str, Any]:
    """What a run is and how far it came: fingerprint, stage, samples, state, metrics, weights_sha256, store."""
    directory = Path(directory)
    identity = read_identity(directory)
    if identity is None:
        raise RequestError(f"{directory} is not a run: it has no {RECORD}. `stormcast runs list DIR` shows the runs below a folder")
    events = read_events(directory)
    last = directory / "package" / "last"
    trained = list(latest(events, "train"))
    validated = list(latest(events, "validate"))
    return {
        **identity,
        "path": str(directory),
        "state": state_of(directory),
        "samples": max((int(e["samples"]) for e in events), default=0),
        "attempts": max((int(e["attempt"]) for e in events), default=0),
        "loss": trained[-1]["loss"] if trained else None,
        "metrics": {k: v for k, v in validated[-1].items() if "/" in k} if validated else {},
        "packages": sorted(p.name for p in (directory / "package").glob("*") if (p / "package.json").is_file()),
        "weights_sha256": weights_sha256(last) if (last / "weights.safetensors").is_file() else None,
    }


def list_runs(root: str | Path) -> list[dict[str, Any]]:
    """Descriptions of all runs below `root`, by path."""
    folder = Path(root)
    if not folder.is_dir():
        raise RequestError(f"{folder} is not a folder")
    found = sorted(p.parent for p in folder.rglob(RECORD) if "package" not in p.parts)
    return [describe_run(p) for p in found]


def resolve_package(spec: str) -> Path:
    """The package directory that `RUN`, `RUN@last`, `RUN@best` or `RUN@best:METRIC` names; plain RUN is its best, else its last.

    For the directory of a `stage=both` run, RUN is its diffusion.
    """
    name, _, which = spec.partition("@")
    directory = Path(name)
    if not is_run(directory) and is_run(directory / "diffusion"):
        directory = directory / "diffusion"
    if not is_run(directory):
        raise RequestError(f"there is no run at {directory}; `stormcast runs list DIR` shows the runs below a folder", run=spec)
    have = {p.name: p for p in (directory / "package").glob("*") if (p / "package.json").is_file()}
    if not have:
        raise RequestError(f"the run {directory} has no package yet (state: {state_of(directory)}); repeat its train command to go on")
    if not which:
        return have.get("best") or have["last"]
    wanted, _, metric = which.partition(":")
    if wanted not in have:
        raise RequestError(f"the run {directory} has no package '{which}'; it has {', '.join(sorted(have))}")
    if metric:
        _check_metric(have[wanted], metric)
    return have[wanted]


def _check_metric(package: Path, metric: str) -> None:
    chosen = json.loads((package / "package.json").read_text()).get("facts", {}).get("criterion")
    if chosen != metric:
        raise RequestError(f"the best package of this run was chosen by '{chosen}', not by '{metric}'")
