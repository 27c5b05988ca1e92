"""A raw field on a role's grid: checked where it was measured, averaged as what it is, and every cell with
its reason.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stormcast_train.base.errors import UnreadableError
from stormcast_train.fields.grid import Grid
from stormcast_train.fields.reasons import Reason
from stormcast_train.fields.times import HOUR
from stormcast_train.fields.variable_set import VariablesConfig
from stormcast_train.fields.variables import Variable, describe
from stormcast_train.preprocess.background import BackgroundConfig
from stormcast_train.preprocess.context import Context
from stormcast_train.preprocess.driver_blur import BlurConfig
from stormcast_train.preprocess.fill import Planes, on_grid, planes_of
from stormcast_train.sources.config import SourceConfig
from stormcast_train.sources.source import Fields, Record, Source
from stormcast_train.store.layout import GroupLayout

START = np.datetime64("2021-06-01T00", "s")
FINE = Grid(22.0 + 0.1 * np.arange(4), 120.0 + 0.1 * np.arange(4))
COARSE = Grid(np.array([22.05, 22.25]), np.array([120.05, 120.25]))  # each cell holds four of the fine points
WIDE = Grid(np.array([22.05, 22.25]), np.array([120.05, 120.25, 120.45]))  # its last column lies beyond them


def place(
    store: Path, names: tuple[str, ...], grid: Grid = COARSE, **source: Any
) -> tuple[Context, GroupLayout]:
    """A context and the state's layout on this grid."""
    variables = VariablesConfig(name="v", state=names, static=())
    layout = GroupLayout(store, "state", tuple(map(variables.describe, names)), grid, START, HOUR)
    layout.create()
    config = SourceConfig.model_validate(
        {"name": "s", "readers": {"r": {"kind": "qpesums"}}, "state": {"*": "r"}, **source}
    )
    return Context(store, store, store, config, variables), layout


def regridded(
    store: Path, variable: Variable, values: np.ndarray, grid: Grid = COARSE, **source: Any
) -> tuple[np.ndarray, np.ndarray]:
    context, layout = place(store, (variable.name,), grid, **source)
    return on_grid(context, layout, variable, FINE, values.astype(np.float32))


@pytest.mark.parametrize("method", ["area", "conservative", "bilinear"])
def test_where_reflectivity_is_averaged_it_is_averaged_as_power(tmp_path: Path, method: str) -> None:
    echo = np.zeros((4, 4))
    echo[0, 0] = 30.0  # one of the four points of the south-western cell: 1000 mm6 m-3 beside three of 1
    found, codes = regridded(tmp_path, describe("refc"), echo, regrid={"reflectivity": method})
    # 10 log10((1000 + 3) / 4) = 23.99 dBZ; the mean of the decibels is 7.5
    tolerance = 0.01 if method == "conservative" else 1e-4  # cells that are not quite equal on the sphere
    np.testing.assert_allclose(found, [[10 * np.log10(250.75), 0.0], [0.0, 0.0]], atol=tolerance)
    assert not codes.any()


def test_a_driver_of_reflectivity_is_blurred_as_power_and_never_below_its_floor(tmp_path: Path) -> None:
    grid = Grid(10.0 + 0.25 * np.arange(40), 110.0 + 0.25 * np.arange(40))
    variables = VariablesConfig(name="v", state=("t2m",), background=("refc", "t850"), static=())
    layout = GroupLayout(
        tmp_path, "background", tuple(map(variables.describe, ("refc", "t850"))), grid, START, HOUR
    )
    layout.create()
    source = SourceConfig.model_validate(
        {"name": "s", "readers": {"r": {"kind": "era5"}}, "state": {"*": "r"}, "background": {"*": "r"}}
    )
    blurred = BackgroundConfig(blur=BlurConfig(kind="spectral", cutoff_km={"*": 200.0}))
    context = Context(tmp_path, tmp_path, tmp_path, source, variables, blurred)
    echo = np.zeros(grid.shape, np.float32)
    echo[18:22, 18:22] = 40.0
    found, codes = on_grid(context, layout, layout.variables[0], grid, echo)
    assert not codes.any()
    assert found.min() >= 0.0
    # a blur keeps the mean of what it blurs: 16 cells of 1e4 mm6 m-3 and 1584 of 1 have 100.99; of the
    # decibels it is 0.4
    assert float((10 ** (found.astype(float) / 10)).mean()) == pytest.approx(100.99, rel=0.02)
    assert 30.0 < found.max() < 40.0
    plain, _ = on_grid(context, layout, layout.variables[1], grid, echo + 250)
    assert float(plain.mean()) == pytest.approx(250.4, abs=0.01)


def test_by_default_reflectivity_is_not_averaged_and_rain_is_averaged_as_it_is(tmp_path: Path) -> None:
    values = np.zeros((4, 4))
    values[:2, :2] = [[8.0, 4.0], [2.0, 2.0]]
    rain, _ = regridded(tmp_path / "rain", describe("rain1h"), values)
    np.testing.assert_allclose(
        rain[0, 0], 4.0, rtol=1e-3
    )  # (8 + 4 + 2 + 2) / 4; a cell in the north is a little smaller
    echo, _ = regridded(tmp_path / "echo", describe("refc"), values)
    assert echo[0, 0] in values[:2, :2]


def test_a_cell_beyond_the_source_is_outside_its_coverage_and_others_have_the_worst_reason_of_their_points(
    tmp_path: Path,
) -> None:
    t2m = np.full((4, 4), 290.0)
    t2m[0, 0], t2m[1, 1], t2m[3, 3] = np.nan, 500.0, np.nan
    found, codes = regridded(tmp_path, describe("t2m"), t2m, WIDE, regrid={"t2m": "area"})
    assert codes.tolist() == [
        [Reason.OUT_OF_RANGE, 0, Reason.OUTSIDE_COVERAGE],
        [0, Reason.NOT_IN_FILE, Reason.OUTSIDE_COVERAGE],
    ]
    np.testing.assert_array_equal(np.isnan(found), codes > 0)


def test_a_sum_lacks_what_any_of_its_terms_lacks() -> None:
    first = Planes(
        [np.array([1.0, 2.0, np.nan], np.float32)],
        [np.array([0, 0, Reason.NOT_IN_FILE], np.uint8)],
        "V1",
        {"t2m": "a"},
    )
    second = Planes(
        [np.array([10.0, np.nan, 30.0], np.float32)],
        [np.array([0, Reason.OUT_OF_RANGE, 0], np.uint8)],
        "V2",
        {"u10m": "b"},
    )
    total = first.weighted(0.5).plus(second, 0.25)
    np.testing.assert_array_equal(total.values_NYX, [[0.5 * 1 + 0.25 * 10, np.nan, np.nan]])
    np.testing.assert_array_equal(total.mask_NYX, [[0, Reason.OUT_OF_RANGE, Reason.NOT_IN_FILE]])
    assert (total.version, total.notes) == ("V1, V2", {"t2m": "a", "u10m": "b"})
    assert first.plus(first, 1.0).version == "V1"


class Held(Source):
    """Files that are a field each; an empty name is one that cannot be read."""

    def __init__(self, field: np.ndarray) -> None:
        super().__init__("r")
        self.field, self.read_names = field, []

    def scan(self, period: object = None) -> tuple[list[Record], list[Any]]:
        return [], []

    def read(self, record: Record, names: Any) -> Any:
        raise NotImplementedError

    def read_fields(self, record: Record, names: Any) -> Fields:
        self.read_names.append((record.path.name, tuple(names)))
        if record.path.name.startswith("cut"):
            raise UnreadableError(f"{record.path} is cut")
        return Fields(FINE, dict.fromkeys(names, self.field), record.time, "V1")


def taken(context: Context, source: Source) -> Callable[..., Any]:
    context._sources["r"] = source
    return planes_of


def test_the_first_file_that_can_be_read_is_taken_and_those_passed_over_are_told(tmp_path: Path) -> None:
    context, layout = place(tmp_path, ("t2m", "u10m"), regrid={"instant": "area"})
    records = tuple(
        Record(START, Path(name), ("t2m", "u10m")) for name in ("cut1.nc", "whole.nc", "never.nc")
    )
    source = Held(np.full((4, 4), 5.0, np.float32))
    found = taken(context, source)(context, layout, records, ["u10m"], "r", keep=False)
    assert [name for name, _ in source.read_names] == ["cut1.nc", "whole.nc"]
    np.testing.assert_allclose(found.values_NYX, 5.0)
    assert found.notes == {"u10m": "passed over: cut1.nc is cut"}
    assert planes_of(context, layout, records[1:], ["u10m"], "r", keep=False).notes == {}
    both = (records[0], Record(START, Path("cut2.nc"), ("u10m",)))
    assert planes_of(context, layout, both, ["u10m"], "r", keep=False) == "cut1.nc is cut; cut2.nc is cut"


def test_what_the_next_time_asks_for_again_is_read_once(tmp_path: Path) -> None:
    context, layout = place(tmp_path, ("t2m",), regrid={"instant": "area"})
    records, source = (Record(START, Path("a.nc"), ("t2m",)),), Held(np.full((4, 4), 290.0, np.float32))
    for keep, times in ((True, 1), (True, 1), (False, 1)):
        taken(context, source)(context, layout, records, ["t2m"], "r", keep=keep)
        assert len(source.read_names) == times
    context.recent.clear()
    for times in (2, 3):
        planes_of(context, layout, records, ["t2m"], "r", keep=False)
        assert len(source.read_names) == times


def test_missing_cells_of_a_models_field_are_told_by_their_pattern_and_those_of_a_radar_are_not(
    tmp_path: Path,
) -> None:
    context, layout = place(tmp_path, ("t2m", "rain1h"), regrid={"instant": "area", "accumulation": "area"})
    field = np.full((4, 4), 5.0, np.float32)
    field[1] = np.nan
    for name, notes in (
        ("t2m", {"t2m": "row 1 from edge to edge (4 cells, 25 % of the usual coverage)"}),
        ("rain1h", {}),
    ):
        records = (Record(START, Path(f"{name}.nc"), (name,)),)
        assert taken(context, Held(field))(context, layout, records, [name], "r", keep=False).notes == notes
