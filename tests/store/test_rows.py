"""Rows by number: what is read straight into a buffer is what any Zarr library reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from stormcast_train.fields.grid import Grid
from stormcast_train.store.reader import open_store
from stormcast_train.store.writer import write_store

GRID = Grid(np.linspace(21.6, 25.6, 5), np.linspace(119.75, 122.25, 4))
TIMES = np.datetime64("2021-06-01T00", "s") + np.arange(30) * np.timedelta64(3600, "s")  # two shards
NAMES = ("t2m", "u10m", "v10m", "u850", "v850")


@pytest.fixture(scope="module", params=["none", "int16"])
def store(request, tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    fields = {n: (rng.normal(280 if n == "t2m" else 0, 5, (30, 5, 4))).astype(np.float32) for n in NAMES}
    fields["u10m"][3] = np.nan
    for values in fields.values():
        values[26] = np.nan  # a row that no file of the shard holds
    return write_store(
        tmp_path_factory.mktemp("s") / "store", {"state": (GRID, TIMES, fields, None)}, pack=request.param
    )


@pytest.mark.parametrize("channels", [None, NAMES[1:3], NAMES[::2], NAMES[::-1], ("v850", "t2m", "u10m")])
def test_rows_and_channels_in_any_order_equal_what_xarray_reads(store: Path, channels) -> None:
    group = open_store(store).group("state")
    rows = [29, 0, 3, 26, 25, 24, 23, 3]
    names = channels or NAMES
    out = np.full((len(rows), len(names), 5, 4), -1, np.float32)
    assert group.read(rows, channels, out=out) is out
    whole = xr.open_zarr(store, group="state", consolidated=False, mask_and_scale=False)
    values = whole["values"].values
    if group.layout.pack == "int16":
        values = np.stack([c.decode(values[:, i]) for i, c in enumerate(group.layout.codings)], axis=1)
    np.testing.assert_array_equal(out, values[rows][:, [NAMES.index(n) for n in names]])


def test_a_buffer_that_is_not_contiguous_gets_the_same_values(store: Path) -> None:
    group = open_store(store).group("state")
    wide = np.zeros((2, 5, 5, 8), np.float32)
    group.read([0, 25], out=wide[..., ::2])
    np.testing.assert_array_equal(wide[..., ::2], group.read([0, 25]))
    assert not wide[..., 1::2].any()
