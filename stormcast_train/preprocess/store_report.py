"""What a finished `preprocess` reports of its store: sizes, gaps, and what may have gone wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stormcast_train.base.console import Console
from stormcast_train.store.writer import LOST


def report_done(console: Console, store: Path, manifest: dict[str, Any]) -> None:
    """Print a line for each role, a warning for each variable that needs one, and the fingerprint."""
    for role, group in manifest["groups"].items():
        times, shape = group["times"], " x ".join(map(str, group["grid"]["shape"]))
        console.say(
            f"{role}: {len(group['variables'])} variables, {_filled(group)} from {times['first']}, {shape} "
            f"points, {len(group['gaps'])} gaps"
        )
        for text in _warnings(role, group):
            console.say(f"warning: {role} {text}")
        for line in manifest["regridding"].get(role, ()):
            if role != "background" and "said" in line:
                console.say(f"  {', '.join(line['variables'])}: {line['said']}")
        for text in _cadence_errors(group):
            console.say(f"  {text}")
    console.say(f"{store} is ready; fingerprint {manifest['fingerprint'][:12]}")


def _filled(group: dict[str, Any]) -> str:
    """`888 times`, or `132 of 95689 times filled` where the best supplied variable has no more."""
    count = group["times"]["count"]
    filled = max(facts["times_available"] for facts in group["variables"].values())
    return f"{count} times" if filled == count else f"{filled} of {count} times filled"


def _warnings(role: str, group: dict[str, Any]) -> Iterator[str]:
    """The variables of a role without any value, and those with values beyond their packed range."""
    for name, facts in group["variables"].items():
        if not facts["times_available"]:
            reasons: set[str] = set()
            for gap in group["gaps"]:
                reasons |= set(gap["reasons"]) if name in gap["variables"] else set()
            count = group["times"]["count"]
            yield f"{name} has no value at any of its {count} times: {', '.join(sorted(reasons))}"
    for name, (lost,) in group["facts"].get(LOST, {}).items():
        yield (
            f"{name}: {lost:.0f} values lie beyond the range that pack=int16 can hold and were set to its "
            f"end; widen variables.override.{name}.low and .high, or take pack=none"
        )


def _cadence_errors(group: dict[str, Any]) -> Iterator[str]:
    """How far values interpolated between a cadence's times are from the archive's own."""
    for name, (count, squares) in group["facts"].get("cadence_error", {}).items():
        spread = group["moments"][name]["value"]["std"] or float("nan")
        rms = (squares / max(count, 1)) ** 0.5
        yield (
            f"{name}: interpolated between the cadence's times it is off by {rms:.4g} "
            f"{group['variables'][name]['units']} (root mean square, {rms / spread:.1%} of its standard "
            "deviation)"
        )
