"""`mix.source_version`: the hours of a store that a source's chosen versions wrote. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormcast_train.base.errors import RequestError, nearest
from stormcast_train.fields.times import Times, parse_time
from stormcast_train.store.reader import Store


def of_versions(store: Store, asked: Mapping[str, str], times: Times) -> NDArray[np.bool_] | None:
    """[T]: times at which every named source's files are of a version that fits; None where nothing is asked.

    asked: by source, a glob, or a part of the version. Where several versions made one hour, all must fit.
    Hours are those that the manifest records, from the first to the last of an unbroken run of a version.
    Raises RequestError with the versions there are.
    """
    if not asked:
        return None
    recorded = _recorded(store)
    chosen = np.ones(len(times), bool)
    for source, pattern in asked.items():
        if source not in recorded:
            known = ", ".join(sorted(recorded)) or "none"
            raise RequestError(
                f"mix.source_version names '{source}', and the store {store.path} records no version of it."
                f"{nearest(source, recorded)} It records versions of: {known}",
                known=sorted(recorded),
            )
        for runs in recorded[source]:
            chosen &= _covered(runs, pattern, times)
        if not chosen.any():
            versions = sorted({run["version"] for runs in recorded[source] for run in runs})
            raise RequestError(
                f"mix.source_version.{source}={pattern} matches no hour of the store {store.path}; its "
                f"versions are: {'; '.join(versions)}",
                known=versions,
            )
    return chosen


def _recorded(store: Store) -> dict[str, list[Sequence[Mapping[str, Any]]]]:
    """By source, the version runs of each role with a clock."""
    found: dict[str, list[Sequence[Mapping[str, Any]]]] = {}
    for key, runs in store.manifest.get("source_versions", {}).items():
        role, _, source = key.partition("/")
        if role != "static":
            found.setdefault(source, []).append(runs)
    return found


def _covered(runs: Sequence[Mapping[str, Any]], pattern: str, times: Times) -> NDArray[np.bool_]:
    covered = np.zeros(len(times), bool)
    for run in runs:
        if all(fits(version, pattern) for version in run["version"].split(" + ")):
            covered |= (times >= parse_time(run["first"])) & (times <= parse_time(run["last"]))
    return covered


def fits(version: str, pattern: str) -> bool:
    """Whether the version contains the pattern or matches it as a glob."""
    return pattern in version or fnmatchcase(version, pattern)
