"""`report.html` of a store: what it is, which hours are there, from what, how the values look, and what was
refused and why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from stormcast_train.audit.change_points import Monthly, Scan, monthly, scan
from stormcast_train.fields.times import seconds
from stormcast_train.products import store_gap_tables, store_maps, store_pictures, store_tables
from stormcast_train.products.maps import save
from stormcast_train.products.palettes import as_stored
from stormcast_train.products.report import Section, write_report
from stormcast_train.products.store_facts import (
    NEARLY_ALL,
    SAMPLE_ROWS,
    Sampled,
    calendar,
    readers_of,
    sample,
    sample_rows,
)
from stormcast_train.store import moments as m
from stormcast_train.store.group import Group
from stormcast_train.store.reader import Store
from stormcast_train.store.versions import Record, VersionRun, records_of, version_changes, version_runs

Image = tuple[Path, str]
VARIABLES_PER_PICTURE = 6
TIPS = (
    "Colours span all but the outer 1 % of values on each side; a tip at the end of a colour bar marks "
    "values beyond it."
)


@dataclass(frozen=True, eq=False)
class Role:
    """One group of the store with what the page needs of it, each read once and when asked for."""

    group: Group
    manifest: dict[str, Any]

    @property
    def name(self) -> str:
        return self.group.role

    @cached_property
    def records(self) -> list[Record]:
        return records_of(self.group.layout, len(self.group.times))

    @cached_property
    def runs(self) -> list[VersionRun]:
        return version_runs(self.group.layout, self.records)

    @cached_property
    def rows(self) -> Any:
        return sample_rows(len(self.group.times))

    @cached_property
    def sampled(self) -> dict[str, Sampled]:
        return sample(self.group, self.rows)

    @cached_property
    def raster(self) -> store_maps.Raster:
        return store_maps.Raster.of(self.group.grid)

    @cached_property
    def monthly(self) -> Monthly:
        return monthly(self.group)

    @cached_property
    def changes(self) -> Scan:
        return scan(self.monthly, version_changes(self.runs))


def write_store_report(store: Store, out: Path) -> Path:
    """Write the page of a finished store to `out` (a folder gets `report.html`), atomically; everything is
    inside the one file.
    """
    path = out if out.suffix == ".html" else out / "report.html"
    roles = [Role(store.group(name), store.manifest) for name in store.roles]
    with TemporaryDirectory() as scratch:
        draw = _drawer(Path(scratch))
        sections = [
            store_tables.identity(store),
            *_over_time(roles, draw),
            store_gap_tables.gaps(store.manifest),
            store_gap_tables.refused(store.manifest),
            store_gap_tables.quality({role.name: role.records for role in roles}, store.manifest),
            *_changes(roles, draw),
            *(section for role in roles for section in _values(role, draw)),
            store_tables.regridding(store.manifest),
            store_tables.provenance(store.manifest),
        ]
        return write_report(path, "What is in this store?", store_tables.lead(store), sections)


Drawer = Callable[[Any, str], Image]


def _drawer(folder: Path) -> Drawer:
    def draw(drawing: Any, caption: str) -> Image:
        return save(drawing, folder / f"{len(list(folder.iterdir()))}.png"), caption

    return draw


def _over_time(roles: list[Role], draw: Drawer) -> Iterator[Section]:
    """Coverage calendars and source versions of the roles that have a clock."""
    moving = [role for role in roles if role.name != "static"]
    images = []
    for role in moving:
        by_reader = readers_of(role.manifest, role.group)
        states = {
            _titled(role, reader, names): calendar(role.group, role.records, names)
            for reader, names in by_reader.items()
        }
        caption = (
            f"{role.name}: one cell {_cell_of(role.group)}. Partly there: a variable is missing, or has less "
            f"than {NEARLY_ALL:.0%} of the cells it has at best."
        )
        images.append(draw(store_pictures.calendars(states, role.group.times, role.group.step), caption))
    yield Section("Which times are there", images=tuple(images))
    runs = sorted(
        {run for role in roles for run in role.runs if role.name != "static"},
        key=lambda run: (run.reader, run.first),
    )
    changed = len({run.reader for run in runs}) < len(runs)
    drawn = (
        (draw(store_pictures.versions(runs, moving[0].group.step), "What wrote the files, by time."),)
        if changed and moving
        else ()
    )
    yield store_tables.versions(runs, drawn)


def _titled(role: Role, reader: str, names: tuple[str, ...]) -> str:
    listed = ", ".join(names) if len(names) <= 6 else f"{', '.join(names[:5])} and {len(names) - 5} more"
    return f"{role.name}, {reader}: {listed}"


def _cell_of(group: Group) -> str:
    if (group.times[-1] - group.times[0]) / np.timedelta64(1, "D") > store_pictures.BY_DAYS:
        return "a day, divided by what its times are (whatever occurs has a quarter at least)"
    step = seconds(group.step)
    if step < 3600:
        return f"every {step // 60} min"
    return "an hour" if step == 3600 else f"every {step / 3600:g} h"


def _changes(roles: list[Role], draw: Drawer) -> Iterator[Section]:
    moving = [role for role in roles if role.name != "static"]
    images = []
    for role in moving:
        if len(role.monthly.months) >= 3:
            units = {name: variable.units for name, variable in role.group.variables.items()}
            caption = (
                f"{role.name}: monthly means; shaded: one standard deviation of all cells and times. "
                "Orange: a change point."
            )
            images.append(
                draw(store_pictures.monthly_series(role.monthly, role.changes.found, units), caption)
            )
    yield store_tables.change_points({role.name: role.changes for role in moving}, tuple(images))


def _values(role: Role, draw: Drawer) -> Iterator[Section]:
    """Moments, distributions and maps of one role; maps alone of the static fields."""
    sampled = list(role.sampled.values())
    if role.name == "static":
        panels = [
            store_maps.MapPanel(one.variable.name, one.mean, as_stored(one.variable)) for one in sampled
        ]
        drawing = store_maps.figure(panels, role.raster)
        yield Section("static", images=(draw(drawing, f"The fields that do not change. {TIPS}"),))
        return
    every = np.arange(len(role.group.times))
    rain = {name: role.group.histogram(name, every) for name in m.counted(role.group.layout.variables)}
    source = _sampling(role)
    histograms = store_pictures.distributions(sampled, rain)
    of_rain = "; rain: of all times, bins by intensity" if rain else ""
    images = [draw(histograms, f"Values of {source}{of_rain}.")]
    caption = f"From {source}. Missing: of the sampled times that have any value. Grey: never seen. {TIPS}"
    for first in range(0, len(sampled), VARIABLES_PER_PICTURE):
        some = sampled[first : first + VARIABLES_PER_PICTURE]
        panels = [panel for one in some for panel in store_maps.panels_of(one)]
        images.append(draw(store_maps.figure(panels, role.raster), caption))
    yield store_tables.moments(role.group, tuple(images))


def _sampling(role: Role) -> str:
    count = len(role.group.times)
    return (
        f"all {count} times"
        if count <= SAMPLE_ROWS
        else f"{len(role.rows)} of the {count:,} times, spread over the whole period"
    )
