"""The ledger: what every run below a folder is, reached and cost, rebuilt from the run directories alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stormcast_train.base.errors import RequestError
from stormcast_train.base.files import read_json
from stormcast_train.runs.account import Cost, Remark, best_validation, remarks
from stormcast_train.runs.data_use import DataUse
from stormcast_train.runs.events import Event, read_events
from stormcast_train.runs.run import RunDirectory, description, run_folders

SCORED = ("crps_fair", "rmse")  # what runs are compared by: the first that their validations have
EXECUTION = ("precision", "tf32", "compile", "parallel")  # of how a run is executed, what may move its scores
CASES = ("cases", "ensemble_cases", "members")  # of a validation
# Keys of the science that follow from others, or that the ledger names by where they come from.
DERIVED = ("store", "stores", "regression", "folds", "optim.total_samples", "optim.ema_half_life_samples")
DERIVED_IN = ("optim.ema.", "store.")


@dataclass(frozen=True)
class Score:
    """A variable's value in the validation that chose the best package, in the variable's own units (None:
    no package tells them).
    """

    variable: str
    quantity: str
    value: float
    units: str | None


@dataclass(frozen=True)
class Entry:
    """One run. described: as `describe_run` has it; keys: its dotted keys with their values, as text; data:
    as its newest attempt recorded it.
    """

    path: str
    stage: str
    described: Mapping[str, Any]
    keys: Mapping[str, str]
    scores: tuple[Score, ...]
    scored_at: int | None
    remarks: tuple[Remark, ...]
    cost: Cost
    data: DataUse | None

    @classmethod
    def of(cls, path: str | Path, with_weights: bool = False) -> Entry:
        """Of the run in this directory."""
        run = RunDirectory(Path(path))
        events = read_events(run.path)
        documents = {name: run.document(name) for name in ("science", "execution", "site")}
        described = description(run, events, documents, with_weights)
        best = best_validation(events)
        return cls(
            path=str(run.path),
            stage=str(described["stage"]),
            described=described,
            keys=keys_of(**documents),
            scores=tuple(_scores(best or {}, _units(run))),
            scored_at=int(best["samples"]) if best else None,
            remarks=tuple(remarks(events, described["state"], int(described["total_samples"]))),
            cost=Cost.of(events, documents["execution"], _threads(run)),
            data=_data(events),
        )

    def as_json(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {
            **self.described,
            "keys": dict(self.keys),
            "scores": [asdict(score) for score in self.scores],
            "scored_at": self.scored_at,
            "warnings": [asdict(remark) for remark in self.remarks],
            "cost": {**asdict(self.cost), "unit": self.cost.unit},
            "data": self.data and self.data.record(),
        }


def entries(root: str | Path) -> list[Entry]:
    """All runs at and below a folder, by path; RequestError where it is none."""
    folder = Path(root)
    if not folder.is_dir():
        raise RequestError(f"{folder} is not a folder: name one that holds runs")
    return [Entry.of(path) for path in run_folders(folder)]


def comparable(runs: Sequence[Entry]) -> list[list[Entry]]:
    """The runs in groups that can be compared: of one kind of stage on one grid with one step (where that was
    not recorded: of one store), in the order in which they appear.
    """
    places = {run.keys.get("store"): (run.data.grid, run.data.step_s) for run in runs if run.data}
    found: dict[tuple[str, object], list[Entry]] = {}
    for run in runs:
        store = run.keys.get("store")
        place = (run.data.grid, run.data.step_s) if run.data else places.get(store, store)
        found.setdefault((run.stage, place), []).append(run)
    return list(found.values())


def same_cases(runs: Sequence[Entry]) -> bool:
    """Whether the scores of these runs are of the same cases: the starts that validate (where one did not
    record them: store and mix), how many of them, and how many members.
    """
    recorded = all(run.data for run in runs)
    found = set()
    for run in runs:
        starts = run.data.held_out if recorded and run.data else _store_and_mix(run)
        found.add((starts, *(run.keys.get(f"validate.{key}") for key in CASES)))
    return len(found) < 2


def _store_and_mix(run: Entry) -> str:
    return "; ".join(f"{k}={v}" for k, v in sorted(run.keys.items()) if k == "store" or k.startswith("mix."))


def differing(runs: Sequence[Entry]) -> list[str]:
    """The keys whose values are not the same in all of these runs; a network of another name stands for all
    its keys.
    """
    names = sorted({key for run in runs for key in run.keys})
    found = [key for key in names if len({run.keys.get(key) for run in runs}) > 1]
    if "data" in found and len(found) > 1:
        found.remove("data")  # other keys tell why the runs see other data
    if "network.name" in found and _one_to_one(runs, "network.name", "network."):
        found = [key for key in found if key == "network.name" or not key.startswith("network.")]
    return found


def _one_to_one(runs: Sequence[Entry], name: str, prefix: str) -> bool:
    """Whether runs with the same value of `name` have the same values of all keys with this prefix."""
    kinds, names = set(), set()
    for run in runs:
        below = {key: value for key, value in run.keys.items() if key.startswith(prefix)}
        kinds.add(tuple(sorted(below.items())))
        names.add(run.keys.get(name))
    return len(kinds) == len(names)


def common_scores(runs: Sequence[Entry]) -> list[Score]:
    """One score of each kind (variable, quantity, units) that more than one of the runs has, or that the only
    run has, in the runs' order.
    """
    counted: dict[tuple[str, str, str | None], list[Score]] = {}
    for score in (score for run in runs for score in run.scores):
        counted.setdefault((score.variable, score.quantity, score.units), []).append(score)
    least = min(2, sum(bool(run.scores) for run in runs))
    return [found[0] for found in counted.values() if len(found) >= least]


def _scores(validated: Event, units: Mapping[str, str]) -> list[Score]:
    """Of every variable the first quantity of SCORED that this validation has."""
    found: dict[str, Score] = {}
    for quantity in SCORED:
        for name, value in validated.items():
            parts = name.split("/")
            plain = len(parts) == 3 and parts[1] == quantity and not {":", "@"} & set(parts[2])
            if plain and value is not None and parts[2] not in found:
                found[parts[2]] = Score(parts[2], quantity, float(value), units.get(parts[2]))
    return sorted(found.values(), key=lambda score: SCORED.index(score.quantity))


def _data(events: Sequence[Event]) -> DataUse | None:
    recorded = [event["data"] for event in events if event["event"] == "start" and event.get("data")]
    return DataUse.restore(recorded[-1]) if recorded else None


def _units(run: RunDirectory) -> dict[str, str]:
    """By state variable, from a package."""
    for path in run.packages().values():
        scene = read_json(path / "package.json").get("scene") or {}
        return {str(v["name"]): str(v["units"]) for v in scene.get("state", ())}
    return {}


def _threads(run: RunDirectory) -> int | None:
    """Threads of a rank, as the newest attempt's environment has them."""
    path = run.path / "environment.json"
    held = (read_json(path).get("torch") or {}).get("threads") if path.is_file() else None
    return None if held is None else int(held)


def keys_of(
    science: Mapping[str, Any], execution: Mapping[str, Any], site: Mapping[str, Any]
) -> dict[str, str]:
    """What a run was asked, by dotted key: its science, with places for fingerprints, and what of its
    execution may move its scores.
    """
    flat = flattened(science)
    found = {
        key: value for key, value in flat.items() if key not in DERIVED and not key.startswith(DERIVED_IN)
    }
    found |= {key: _text(execution[key]) for key in EXECUTION if key in execution}
    found |= {f"validate.{k}": v for k, v in flattened(execution.get("validation") or {}).items()}
    for place in ("store", "regression", "init"):
        if site.get(place):
            found[place] = str(site[place])
    length = (science.get("optim") or {}).get("total_samples")
    averaged = (science.get("optim") or {}).get("ema_half_life_samples")
    if length and averaged:
        found["optim.ema_half_life"] = f"{averaged / length:.4g}"
    found["data"] = _short(science.get("store"))
    return {key: value for key, value in found.items() if value != "null"}  # null is: not given


def flattened(tree: Any, key: str = "") -> dict[str, str]:
    """Leaves by dotted key, as text; a list is a leaf."""
    if not isinstance(tree, Mapping):
        return {key: _text(tree)}
    found: dict[str, str] = {}
    for name, value in tree.items():
        found |= flattened(value, f"{key}.{name}" if key else str(name))
    return found


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _short(store: Any) -> str:
    """The first characters of the fingerprints of the data that a run uses, by role."""
    return " ".join(f"{part[:6]}" for part in (store or {}).values())
