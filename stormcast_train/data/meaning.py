"""What the channels of a network mean, and in what two sets of channels of the same names differ. Torch-free.

A network's weights know a channel by its name; unit, kind, interval and transform say what its numbers are,
the grids how far a neighbour lies, and the driver's making how old and how smooth it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stormcast_train.data.scene import Scene
from stormcast_train.fields.grid import Grid
from stormcast_train.fields.times import seconds
from stormcast_train.fields.variables import Variable
from stormcast_train.store.reader import Store

FACTS = ("units", "kind", "interval_s")  # of stored values; a transform is the network's own
USUAL_SHARE = 0.3  # of the times: what is made so more often is how the driver is made, not a gap filled
SAME_SPACING = 0.02  # relative


def driver_facts(store: Store) -> dict[str, str]:
    """By driver variable, how the store makes it: its step, the kind of files and their age, whether most
    times are held or interpolated, how far it is low-passed. Empty without a driver.
    """
    if "background" not in store.roles:
        return {}
    group, facts = store.group("background"), store.manifest["groups"]["background"]
    config = store.manifest.get("config") or {}
    asked = config.get("background") or {}
    cutoffs = (asked.get("blur") or {}).get("cutoff_km") or {}
    found = {}
    for name in group.channels:
        made = _usually(facts.get("made", {}).get(name, {}), facts["times"]["count"])
        cutoff = cutoffs.get(name, cutoffs.get("*"))
        smooth = f"low-passed to {cutoff} km at {asked.get('blur_lead')}" if cutoff else ""
        parts = (f"every {seconds(group.step)} s", _origin(config.get("source") or {}, name), made, smooth)
        found[name] = ", ".join(filter(None, parts))
    return found


def _origin(source: Mapping[str, Any], name: str) -> str:
    """The kind of files that a driver variable comes from, and of forecasts how old they are; empty where it
    is not recorded.
    """
    chosen = source.get("background") or {}
    reader = (source.get("readers") or {}).get(chosen.get(name, chosen.get("*"))) or {}
    if "lead_from" not in reader:
        return f"from {reader['kind']}" if reader else ""
    leads = f"{reader['lead_from']} to {reader.get('lead_to') or 'the last'}"
    return f"from {reader['kind']} (leads {leads}, {str(reader.get('prefer')).replace('_', ' ')} first)"


def _usually(made: Mapping[str, int], count: int) -> str:
    """How most of the times not from a file of that very time are made; empty where those are few."""
    if not count or sum(made.values()) < USUAL_SHARE * count:
        return ""
    held = [how for how in made if how.startswith("held")]
    if sum(made[how] for how in held) >= USUAL_SHARE * count:
        return f"{max(held, key=lambda how: float(how.split()[2]))} at most"
    return max(made, key=lambda how: made[how])


def other_driver(trained: Mapping[str, str], used: Mapping[str, str], names: Sequence[str]) -> list[str]:
    """A sentence for each way in which the driver of training was made otherwise than the one used; nothing
    where either is not recorded.
    """
    alike: dict[tuple[str, str], list[str]] = {}
    for name in names:
        pair = trained.get(name), used.get(name)
        if pair[0] is not None and pair[1] is not None and pair[0] != pair[1]:
            alike.setdefault((pair[0], pair[1]), []).append(name)
    return [
        f"the driver's {', '.join(of)}: trained on {was}, and here it is {now}"
        for (was, now), of in alike.items()
    ]


def other_facts(role: str, trained: Sequence[Variable], used: Mapping[str, Variable]) -> list[str]:
    """A sentence for each variable of both whose stored values mean something else."""
    pairs = [(v, used[v.name]) for v in trained if v.name in used]
    return [
        f"{role} {v.name} has {fact} {getattr(other, fact)} here, and {getattr(v, fact)} in training"
        for v, other in pairs
        for fact in FACTS
        if getattr(v, fact) != getattr(other, fact)
    ]


def other_scene(
    trained: Scene, trained_driver: Mapping[str, str], asked: Scene, asked_driver: Mapping[str, str]
) -> list[str]:
    """A sentence for each thing that a channel of the same name means otherwise in two networks' scenes:
    units, kind, interval, transform, step, spacing, how the driver is made.
    """
    found = []
    if trained.step_s != asked.step_s:
        found.append(f"its step is {trained.step_s} s, and here it is {asked.step_s} s")
    for role in ("state", "background"):
        ours = {v.name: v for v in getattr(asked, role)}
        theirs = getattr(trained, role)
        found += other_facts(role, theirs, ours)
        for v in theirs:
            if v.name in ours and v.transform != ours[v.name].transform:
                found.append(
                    f"{role} {v.name} was seen through {_map(v)}, and here it is through {_map(ours[v.name])}"
                )
    found += _other_spacing("state", trained.grid, asked.grid)
    if trained.background_grid is not None and asked.background_grid is not None:
        found += _other_spacing("driver", trained.background_grid, asked.background_grid)
    return found + other_driver(trained_driver, asked_driver, [v.name for v in asked.background])


def _map(variable: Variable) -> str:
    facts: dict[str, Any] = variable.transform.model_dump(mode="json")
    kind = facts.pop("kind")
    shown = {key: value for key, value in facts.items() if not isinstance(value, tuple | list)}
    return f"{kind} {shown}" if shown else str(kind)


def _other_spacing(what: str, trained: Grid, asked: Grid) -> list[str]:
    was, now = _spacing_degrees(trained), _spacing_degrees(asked)
    if abs(was - now) <= SAME_SPACING * was:
        return []
    return [f"the {what}'s points were {was:.3g} degrees apart, and here they are {now:.3g}"]


def _spacing_degrees(grid: Grid) -> float:
    south, north, _, _ = grid.bounds()
    return (north - south) / max(grid.shape[0] - 1, 1)
