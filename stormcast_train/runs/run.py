"""A run and its directory: what was asked, how far it came, what it left. Torch-free."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from stormcast_train.base.errors import FailedError, RequestError
from stormcast_train.base.files import read_json, write_bytes, write_json
from stormcast_train.base.yaml_file import read_yaml
from stormcast_train.runs.events import Event, latest, read_events
from stormcast_train.runs.run_spec import RunSpec

IDENTITY = "fingerprint.json"
STAGES = "stages.json"  # in the folder of several stages
LOCK = ".lock"
OWN_NAMES = {
    LOCK,
    IDENTITY,
    "science.yaml",
    "execution.yaml",
    "site.yaml",
    "environment.json",
    "code.json",
    "submit.sbatch",
}
RUN_FOLDERS = ("package", "checkpoints", "snapshots", "validation", "means", "profile", "hang", "wandb")
STORE_FILE, FOLDS = "zarr.json", "folds"
State = Literal["new", "running", "stopped", "done", "failed"]
ENDS: dict[str, State] = {"done": "done", "stopped": "stopped", "failed": "failed"}


@dataclass(frozen=True)
class RunDirectory:
    """The names in a run directory. A directory is a run once `fingerprint.json` is there."""

    path: Path

    @property
    def exists(self) -> bool:
        return (self.path / IDENTITY).is_file()

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def snapshots(self) -> Path:
        """Averages from which others are reconstructed."""
        return self.path / "snapshots"

    def package(self, which: str) -> Path:
        """`package/best` or `package/last`."""
        return self.path / "package" / which

    def packages(self) -> dict[str, Path]:
        """The packages that are there, by name."""
        return {
            which: self.package(which)
            for which in ("best", "last")
            if (self.package(which) / "package.json").is_file()
        }

    def foreign(self) -> list[str]:
        """Names in a directory that is not a run and that no run leaves: it holds something else."""
        if self.exists or not self.path.exists():
            return []
        if not self.path.is_dir():
            return [self.path.name]
        return sorted(
            p.name for p in self.path.iterdir() if p.name not in OWN_NAMES and not p.name.startswith(".")
        )

    def identity(self) -> dict[str, Any]:
        """What `fingerprint.json` holds; RequestError where this is no run."""
        if not self.exists:
            raise RequestError(
                f"{self.path} is not a run: it has no {IDENTITY}; `stormcast runs list FOLDER` lists the "
                "runs below a folder"
            )
        return dict(read_json(self.path / IDENTITY))

    def document(self, name: str) -> dict[str, Any]:
        """What `science.yaml`, `execution.yaml` or `site.yaml` holds; empty where it is absent."""
        path = self.path / f"{name}.yaml"
        loaded = read_yaml(path) if path.is_file() else {}
        return {str(k): v for k, v in loaded.items()} if isinstance(loaded, dict) else {}

    def record(
        self, identity: Mapping[str, Any], documents: Mapping[str, Any], records: Mapping[str, Any]
    ) -> None:
        """Write the YAML documents and JSON records, each atomically, and `fingerprint.json` last."""
        from omegaconf import OmegaConf

        self.path.mkdir(parents=True, exist_ok=True)
        for name, content in documents.items():
            write_bytes(self.path / f"{name}.yaml", OmegaConf.to_yaml(OmegaConf.create(content)).encode())
        for name, content in records.items():
            write_json(self.path / f"{name}.json", content)
        write_json(self.path / IDENTITY, dict(identity))

    def next_attempt(self) -> int:
        """The number of the attempt that begins now, from 1."""
        return 1 + max((int(e["attempt"]) for e in read_events(self.path)), default=0)

    def state(self, events: list[Event] | None = None) -> State:
        """`failed` is also a run that ended without an event (killed, node
        lost); the same command resumes it.
        """
        known = read_events(self.path) if events is None else events
        if not known:
            return "running" if self.exists and self._held() else "new"
        return ENDS.get(known[-1]["event"]) or ("running" if self._held() else "failed")

    def trained(self) -> int:
        """Samples of its newest checkpoint, from which it goes on; 0 without one."""
        return max((int(p.name) for p in self.checkpoints.glob("*") if p.name.isdigit()), default=0)

    def untouched(self) -> bool:
        """Whether nothing has come of the run: it was recorded, then refused before it began; nobody holds
        it, and it continues no other.
        """
        return (
            self.state() == "new"
            and not any(self.checkpoints.glob("*"))
            and not self.identity().get("resumed_from")
        )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for one writer; FailedError when another process has it. Without file locks nothing is
        held.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.path / LOCK, "a") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise FailedError(
                    f"another process is training the run {self.path}; wait for it or end it"
                ) from error
            except OSError as error:
                if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
                    raise
            yield

    def _held(self) -> bool:
        if not (self.path / LOCK).is_file():
            return False
        try:
            with open(self.path / LOCK) as handle:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        return False


def is_run(path: str | Path) -> bool:
    """Whether `path` is a run, or the folder of stages that are trained one on the other."""
    return RunDirectory(Path(path)).exists or bool(stages_in(Path(path)))


def stages_in(folder: Path) -> list[str]:
    """Names of the stages that one command trains below the folder, in order; empty where it is no such
    folder.

    `stages.json` has them; in a folder from before that file one run names another beside it as the
    regression that it corrects.
    """
    if (folder / STAGES).is_file():
        return [str(name) for name in read_json(folder / STAGES)]
    for run in (RunDirectory(path.parent) for path in sorted(folder.glob(f"*/{IDENTITY}"))):
        corrected = Path(str(run.document("site").get("regression") or "."))
        if corrected.parent == folder.resolve() and RunDirectory(corrected).exists:
            return [corrected.name, run.path.name]
    return []


def find_run(path: str | Path) -> RunDirectory:
    """The run at `path`; of stages that are trained one on the other the last. RequestError where there is
    none.
    """
    folder = Path(path)
    found, stages = RunDirectory(folder), stages_in(folder)
    if not found.exists and stages:
        found = RunDirectory(folder / stages[-1])
        if not found.exists:
            begun = [name for name in stages if RunDirectory(folder / name).exists]
            listed = f"; what has begun: {', '.join(str(folder / name) for name in begun)}" if begun else ""
            raise RequestError(f"the {stages[-1]} of {folder} has not begun{listed}", run=str(folder))
    if not found.exists:
        found_there = "is not a run" if folder.exists() else "does not exist"
        raise RequestError(
            f"the run {folder} {found_there}; `stormcast runs list FOLDER` shows the runs below a folder",
            run=str(folder),
        )
    return found


def resolve_package(spec: str) -> Path:
    """The package folder that `RUN`, `RUN@last`, `RUN@best`, `RUN@best:METRIC` or `RUN@SAMPLES` names, or
    `spec` itself if it is one.

    Plain RUN is its best package, else its last.
    """
    if (Path(spec) / "package.json").is_file():
        return Path(spec)
    named = RunSpec.parse(spec)
    run, which = find_run(named.path), named.which
    have = run.packages()
    if not have:
        raise RequestError(
            f"the run {run.path} has no package yet (state: {run.state()}); repeat its train command",
            run=spec,
        )
    if not which:
        return have.get("best") or have["last"]
    kind, _, metric = which.partition(":")
    if kind.isdigit():
        return _at_samples(run, have, int(kind))
    if kind not in have or (metric and kind != "best"):
        raise RequestError(
            f"the run {run.path} has no package '{which}'; it has {', '.join(have)}: name one of them",
            run=spec,
        )
    chosen = _facts(have[kind]).get("criterion")
    if metric and metric != chosen:
        raise RequestError(
            f"the best package of {run.path} was chosen by '{chosen}', not by '{metric}' "
            "(train.best_metric): write RUN@best",
            run=spec,
        )
    return have[kind]


def _facts(package: Path) -> dict[str, Any]:
    return dict(read_json(package / "package.json").get("facts") or {})


def _at_samples(run: RunDirectory, have: Mapping[str, Path], samples: int) -> Path:
    kept = {int(_facts(path).get("samples", -1)): path for path in have.values()}
    if samples not in kept:
        raise RequestError(
            f"the run {run.path} keeps no package at {samples} samples; it keeps "
            f"{', '.join(map(str, sorted(kept)))}: name one of them"
        )
    return kept[samples]


def weights_sha256(package: Path) -> str:
    """SHA-256 over the package's weights, tensor by tensor in name order: name, dtype, shape, bytes."""
    from safetensors import safe_open  # here: a list of runs hashes none

    hasher = hashlib.sha256()
    with safe_open(package / "weights.safetensors", framework="numpy") as tensors:
        for name in sorted(tensors.keys()):
            array = tensors.get_tensor(name)
            hasher.update(f"{name}|{array.dtype.str}|{array.shape}|".encode())
            hasher.update(array.tobytes())
    return hasher.hexdigest()


def describe_run(path: str | Path, with_weights: bool = True) -> dict[str, Any]:
    """What a run is and how far it came; `weights_sha256` (of package/last) is null where there is none or it
    is not asked for.
    """
    run = find_run(path)
    documents = {name: run.document(name) for name in ("science", "site")}
    return description(run, read_events(run.path), documents, with_weights)


def description(
    run: RunDirectory,
    events: list[Event],
    documents: Mapping[str, Mapping[str, Any]],
    with_weights: bool = False,
) -> dict[str, Any]:
    """`describe_run` of a run whose events and documents (`science`, `site`) are read already."""
    identity, science, site = run.identity(), documents["science"], documents["site"]
    trained, validated = latest(events, "train"), latest(events, "validate")
    packages = run.packages()
    return {
        "path": str(run.path),
        "fingerprint": identity["fingerprint"],
        "stage": identity["stage"],
        "state": run.state(events),
        "samples": int(events[-1]["samples"]) if events else 0,
        "total_samples": identity["total_samples"],
        "attempts": max((int(e["attempt"]) for e in events), default=0),
        "loss": trained[-1]["loss"] if trained else None,
        "metrics": {name: value for name, value in validated[-1].items() if "/" in name} if validated else {},
        "store": site.get("store"),
        "regression": site.get("regression"),
        "seed": science.get("seed"),
        "commit": identity.get("commit"),
        "code_changes": identity.get("code_changes", []),
        "packages": {which: _facts(package) for which, package in packages.items()},
        **_sampler_facts(packages),
        "weights_sha256": weights_sha256(packages["last"]) if with_weights and "last" in packages else None,
    }


def _sampler_facts(packages: Mapping[str, Path]) -> dict[str, Any]:
    """`sampler_variance_ratio` by variable of the package that plain RUN names; nothing where it has no
    sampler or no validation.
    """
    chosen = packages.get("best") or packages.get("last")
    known = (_facts(chosen).get("sampler") or {}) if chosen else {}
    return {"sampler_variance_ratio": known["variance_ratio"]} if known else {}


def run_folders(root: Path, deepest: int | None = None) -> list[Path]:
    """All runs at and below `root`, by path, looking into no store and into nothing that a run leaves but its
    folds; deepest: folders below `root` at most, the folds of a run not counted.
    """
    found, above = [], str(root).rstrip(os.sep).count(os.sep)
    for folder, inside, files in os.walk(root):  # names, not paths: an archive has many thousand folders
        if IDENTITY in files:
            found.append(Path(folder))
        deep_enough = deepest is not None and folder.count(os.sep) - above >= deepest
        within_run = IDENTITY in files or folder.endswith(os.sep + FOLDS)
        ends = STORE_FILE in files or (deep_enough and not within_run)
        inside[:] = [] if ends else [n for n in inside if n not in RUN_FOLDERS and not n.startswith(".")]
    return sorted(found)


def list_runs(root: str | Path) -> list[dict[str, Any]]:
    """Descriptions (without weights) of all runs at and below `root`, by path."""
    folder = Path(root)
    if not folder.is_dir():
        raise RequestError(f"{folder} is not a folder: name one that holds runs")
    return [describe_run(found, with_weights=False) for found in run_folders(folder)]
