"""A Zarr whose chunks were not all written, in both versions of the format: what is absent is missing."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import zarr

from stormcast_train.sources.config import Era5Reader
from stormcast_train.sources.era5 import Era5
from stormcast_train.sources.opened import close_all

LAT, LON = np.linspace(26.0, 22.0, 9), np.linspace(119.0, 123.0, 9)


@pytest.fixture(autouse=True)
def _closed():
    yield
    close_all()


def written(folder, zarr_format, fill=0.0, rain=None):
    """Four hours of rain in chunks of 1 x 5 x 9, fill value `fill`; t2m with NaN as its fill value."""
    group = zarr.open_group(folder, mode="w", zarr_format=zarr_format)
    axes = {"time": np.arange(4), "latitude": LAT, "longitude": LON}
    units = {"time": "hours since 2021-06-01", "latitude": "degrees_north", "longitude": "degrees_east"}
    dims = ("time", "latitude", "longitude")

    def array(name, values, names, fill_value, unit, chunks):
        named = {"dimension_names": names} if zarr_format == 3 else {}
        made = group.create_array(
            name, shape=values.shape, chunks=chunks, dtype=values.dtype, fill_value=fill_value,
            config={"write_empty_chunks": True}, **named,
        )  # fmt: skip
        made[...] = values
        made.attrs["units"] = unit
        if zarr_format == 2:
            made.attrs["_ARRAY_DIMENSIONS"] = list(names)

    for name, values in axes.items():
        array(name, values, (name,), None if zarr_format == 2 else 0, units[name], values.shape)
    rain = np.full((4, 9, 9), 0.002, "f4") if rain is None else rain
    array("tp", rain, dims, fill, "m", (1, 5, 9))
    array("t2m", np.full((4, 9, 9), 290, "f4"), dims, np.nan, "K", (1, 9, 9))
    return folder


def chunk(folder, zarr_format, name, *place):
    if zarr_format == 3:
        return folder / name / "c" / "/".join(map(str, place))
    return folder / name / ".".join(map(str, place))


def read(folder, hour):
    source = Era5("era5", folder.parent, Era5Reader(kind="era5", root=""), no_echo_dbz=-10.0)
    records, refused = source.scan()
    assert not refused
    return source.read(records[hour], ["rain1h", "t2m"])


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_an_hour_that_was_never_written_is_missing_and_its_other_fields_are_there(tmp_path, zarr_format):
    folder = written(tmp_path / "a.zarr", zarr_format)
    for j in range(2):
        chunk(folder, zarr_format, "tp", 2, j, 0).unlink()
    found = read(folder, 2)
    assert np.isnan(found["rain1h"]).all()
    assert (found["t2m"] == 290).all()
    np.testing.assert_allclose(read(folder, 1)["rain1h"], 2.0, rtol=1e-6)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_the_cells_of_a_chunk_that_was_never_written_are_missing(tmp_path, zarr_format):
    folder = written(tmp_path / "a.zarr", zarr_format)
    chunk(folder, zarr_format, "tp", 2, 0, 0).unlink()  # the first five rows: the north
    found = read(folder, 2)["rain1h"].values
    assert np.isnan(found[4:]).all()
    np.testing.assert_allclose(found[:4], 2.0, rtol=1e-6)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_zeros_that_were_written_are_dry(tmp_path, zarr_format):
    rain = np.zeros((4, 9, 9), "f4")
    rain[1, 3, 4] = 0.001
    folder = written(tmp_path / "a.zarr", zarr_format, rain=rain)
    found = read(folder, 1)["rain1h"].values
    assert np.isfinite(found).all()
    assert (found == 0).sum() == 80


def test_a_fill_value_that_is_no_number_of_rain_stays_missing_in_the_old_format(tmp_path):
    rain = np.full((4, 9, 9), 0.002, "f4")
    rain[1, :, 0] = -9999.0
    found = read(written(tmp_path / "a.zarr", 2, fill=-9999.0, rain=rain), 1)["rain1h"].values
    assert np.isnan(found[:, 0]).all()
    assert np.isfinite(found[:, 1:]).all()


def test_a_folder_of_chunks_that_is_gone_is_missing_everywhere(tmp_path):
    folder = written(tmp_path / "a.zarr", 3)
    shutil.rmtree(folder / "tp" / "c")
    assert all(np.isnan(read(folder, hour)["rain1h"]).all() for hour in range(4))


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_planes_of_whole_numbers_without_a_missing_value_are_known_by_their_chunks(tmp_path, zarr_format):
    folder = written(tmp_path / "a.zarr", zarr_format, fill=0, rain=np.full((4, 9, 9), 2, "i2"))
    chunk(folder, zarr_format, "tp", 2, 0, 0).unlink()
    found = read(folder, 2)["rain1h"].values
    assert np.isnan(found[4:]).all()
    assert np.isfinite(found[:4]).all()


def test_an_array_of_the_old_format_without_a_fill_value_is_read(tmp_path):
    folder = written(tmp_path / "a.zarr", 2, fill=None)
    chunk(folder, 2, "tp", 2, 0, 0).unlink()
    assert np.isnan(read(folder, 2)["rain1h"].values[4:]).all()
    np.testing.assert_allclose(read(folder, 1)["rain1h"], 2.0, rtol=1e-6)
