"""Which package, and which of its run's averages of the weights: what `RUN`, `RUN@last`, `RUN@SAMPLES` and
`ema=` name. Torch-free.

A package holds one average. Others come from the run's kept checkpoints (`average/NAME`, `average.K/NAME`)
and, for power-function averages, from its snapshots.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from stormcast_train.base.errors import RequestError, UnreadableError
from stormcast_train.base.files import read_json
from stormcast_train.base.fingerprint import digest
from stormcast_train.forecast import package as packages
from stormcast_train.forecast.package import Package, PackageHeader
from stormcast_train.forecast.profiles import WIDEST, coefficients, snapshot_files
from stormcast_train.runs.run import RunDirectory, find_run, resolve_package
from stormcast_train.runs.run_spec import RunSpec

OPTIM, FACTS = "optim.safetensors", "checkpoint.json"  # of a checkpoint
SAME = 1e-3  # half-lives and widths that differ by less, relative, are the same


@dataclass(frozen=True)
class AverageTerm:
    """One term of a sum of averages: the tensors of `path` below `slot`, times `factor`; `sha256` of what it
    holds.
    """

    path: Path
    slot: str
    factor: float
    sha256: str


@dataclass(frozen=True)
class Chosen:
    """A package's folder, and the parts that its parameters are summed from;
    without parts they are its own.
    """

    directory: Path
    parts: tuple[AverageTerm, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def fingerprint(self) -> str:
        """Of the package with these parameters."""
        described = read_json(self.directory / "package.json")
        if not self.parts:
            return str(described["fingerprint"])
        rest = {key: value for key, value in described.items() if key not in ("facts", "fingerprint")}
        return digest(rest, *([part.slot, part.factor, part.sha256] for part in self.parts))


def open_package(spec: str | Path, ema: float | None = None) -> Package:
    """The package that `spec` and `ema` name, with its weights; RequestError where there is none,
    UnreadableError where it is damaged.
    """
    chosen = choose(spec, ema)
    package = packages.load(chosen.directory)
    if not chosen.parts:
        return package
    weights = {**package.weights, **_summed(chosen.parts, package.weights)}
    return replace(
        package, weights=weights, facts={**package.facts, **chosen.facts}, fingerprint=chosen.fingerprint()
    )


def open_header(spec: str | Path, ema: float | None = None) -> PackageHeader:
    """The header of the same package."""
    chosen = choose(spec, ema)
    return replace(packages.load_header(chosen.directory), fingerprint=chosen.fingerprint())


def choose(spec: str | Path, ema: float | None = None) -> Chosen:
    """What `spec` and `ema` name. RUN@SAMPLES may be a kept package or a kept checkpoint; `ema` a half-life
    (fraction of the run, or samples), or a relative width sigma_rel.
    """
    if (Path(spec) / "package.json").is_file():
        if ema is not None:
            raise RequestError(
                f"ema={ema:g} chooses among a run's averages, and {spec} is a package, which holds one: "
                "give its run"
            )
        return Chosen(Path(spec))
    named = RunSpec.parse(spec)
    if named.which.isdigit():
        return _at_samples(find_run(named.path), spec, int(named.which), ema)
    directory = resolve_package(str(spec))
    if ema is None:
        return Chosen(directory)
    return _averaged(find_run(named.path), directory, _facts(directory), ema)


def _at_samples(run: RunDirectory, spec: str | Path, samples: int, ema: float | None) -> Chosen:
    """The kept package of these samples, else the kept checkpoint."""
    kept = {int(_facts(path)["samples"]): path for path in run.packages().values()}
    if samples in kept:
        directory = kept[samples]
        return Chosen(directory) if ema is None else _averaged(run, directory, _facts(directory), ema)
    if not kept or samples not in _checkpoints(run):
        if not kept:
            resolve_package(str(spec))  # whose error names what is missing from the run
        raise RequestError(
            f"the run {run.path} keeps nothing at {samples} samples; it keeps "
            f"{_listed(sorted({*kept, *_checkpoints(run)}))}"
        )
    directory = kept[max(kept)]
    if ema is not None:
        return _averaged(run, directory, {**_facts(directory), "samples": samples}, ema)
    return Chosen(directory, (_checkpointed(run, samples, 0),), {"samples": samples, "criterion": None})


def _averaged(run: RunDirectory, directory: Path, facts: Mapping[str, Any], ema: float) -> Chosen:
    """The average `ema` at the samples of `facts`."""
    tracked, samples = facts.get("ema"), int(facts["samples"])
    if tracked is None:
        raise RequestError(
            f"ema={ema:g}: the run {run.path} was trained before runs recorded which averages they track; it "
            "has its default only, so leave ema= out"
        )
    recorded = {"samples": samples, "ema": {**tracked, "chosen": ema}}
    widths = tracked.get("sigma_rel")
    known = list(widths or tracked["half_life_samples"])
    wanted = ema if widths or ema > 1 else ema * tracked["total_samples"]
    index = next((k for k, value in enumerate(known) if math.isclose(value, wanted, rel_tol=SAME)), None)
    if index == 0 and _facts(directory)["samples"] == samples:
        return Chosen(directory)
    if index is not None and samples in _checkpoints(run):
        return Chosen(directory, (_checkpointed(run, samples, index),), recorded)
    if widths:
        return _reconstructed(run, directory, recorded, ema, widths)
    if index is None:
        raise RequestError(
            f"ema={ema:g}: the run {run.path} tracks half-lives of {_listed(known)} samples: give one of "
            "these, or train with more (optim.ema.also)"
        )
    raise RequestError(
        f"ema={ema:g} at {samples} samples is in no kept checkpoint of {run.path}: give RUN@SAMPLES; "
        f"checkpoints are kept at {_listed(_checkpoints(run))}"
    )


def _reconstructed(
    run: RunDirectory, directory: Path, recorded: Mapping[str, Any], ema: float, widths: Sequence[float]
) -> Chosen:
    """Least squares over all snapshots up to those samples, at the newest of them."""
    last = recorded["samples"]
    files = {samples: path for samples, path in snapshot_files(run.snapshots).items() if samples <= last}
    if not files:
        raise RequestError(
            f"ema={ema:g}: the run {run.path} has no snapshot up to {last} samples to reconstruct this "
            f"average from; it tracks the widths {_listed(widths)}"
        )
    if not 0 < ema < WIDEST:
        raise RequestError(
            f"ema={ema:g} is not a relative width: give one between 0 and {WIDEST}, which is nearly the "
            "plain mean of the whole run"
        )
    newest = max(files)
    entries = [(samples, k, path) for samples, path in files.items() for k in range(len(widths))]
    factors = coefficients([s for s, _, _ in entries], [widths[k] for _, k, _ in entries], newest, ema)
    hashes = {path: _snapshot_hash(path) for path in files.values()}
    parts = tuple(
        AverageTerm(path, _slot(k), float(f), hashes[path])
        for (_, k, path), f in zip(entries, factors, strict=True)
    )
    return Chosen(directory, parts, {**recorded, "samples": newest})


def _checkpointed(run: RunDirectory, samples: int, index: int) -> AverageTerm:
    folder = _checkpoints(run)[samples]
    return AverageTerm(folder / OPTIM, _slot(index), 1.0, str(read_json(folder / FACTS)["sha256"][OPTIM]))


def _checkpoints(run: RunDirectory) -> dict[int, Path]:
    folders = sorted(run.checkpoints.iterdir()) if run.checkpoints.is_dir() else []
    return {int(path.name): path for path in folders if path.name.isdigit()}


def _slot(k: int) -> str:
    return f"average.{k}" if k else "average"


def _facts(directory: Path) -> dict[str, Any]:
    return dict(read_json(directory / "package.json").get("facts") or {})


def _listed(values: Any) -> str:
    texts = [f"{value:g}" if isinstance(value, float) else str(value) for value in sorted(values)]
    return ", ".join(texts) or "nothing"


def _snapshot_hash(path: Path) -> str:
    try:
        with safe_open(path, framework="numpy") as tensors:
            return str(tensors.metadata()["sha256"])
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise UnreadableError(
            f"the snapshot {path} is damaged: {error!r}; it may be removed", path=str(path)
        ) from error


def _summed(parts: Sequence[AverageTerm], like: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The parameters as the sum of the parts, added in float64."""
    sums: dict[str, NDArray[np.float64]] = {}
    for part in parts:
        try:
            with safe_open(part.path, framework="numpy") as tensors:
                for key in tensors.keys():  # noqa: SIM118
                    slot, _, name = key.partition("/")
                    if slot == part.slot:
                        value = tensors.get_tensor(key).astype(np.float64)
                        sums[name] = sums.get(name, np.float64(0)) + part.factor * value
        except (OSError, SafetensorError) as error:
            raise UnreadableError(
                f"{part.path} is damaged: {error!r}; it may be removed", path=str(part.path)
            ) from error
    if not sums or not set(sums) <= set(like):
        raise UnreadableError(
            f"{parts[0].path} holds no average '{parts[0].slot}' of this network", path=str(parts[0].path)
        )
    return {name: value.astype(like[name].dtype) for name, value in sums.items()}
