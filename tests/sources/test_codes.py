"""No echo, not covered and missing are three things, whatever a file declares."""

from __future__ import annotations

import netCDF4
import numpy as np
import pytest
import xarray as xr

from stormcast_train.base.errors import RequestError
from stormcast_train.fields.variables import describe, own_variable
from stormcast_train.preprocess.quality import check
from stormcast_train.sources import cf
from stormcast_train.sources.codes import declared_codes
from stormcast_train.sources.config import CfReader, CfVariable
from stormcast_train.sources.opened import close_all

# A row: an echo, covered without echo, not covered, a weak echo; a row: a code of one's own.
RAW = np.array([[[35.0, -99.0, -999.0, -7.0], [-77.0, -99.0, -999.0, 12.0]]], "f4")


@pytest.fixture(autouse=True)
def _closed():
    yield
    close_all()


def write(path, attrs, values=RAW, units="dBZ", dtype="f4"):
    """One hour of radar as stored; the attributes say what is declared missing and how it is packed."""
    with netCDF4.Dataset(path, "w") as file:
        for name, size in (("time", 1), ("lat", 2), ("lon", 4)):
            file.createDimension(name, size)
        time = file.createVariable("time", "i4", ("time",))
        time.units, time[:] = "hours since 2021-06-01", [0]
        lat, lon = (file.createVariable(name, "f8", (name,)) for name in ("lat", "lon"))
        lat.units, lat[:] = "degrees_north", [24.0, 24.1]
        lon.units, lon[:] = "degrees_east", [120.0, 120.1, 120.2, 120.3]
        fill = attrs.get("_FillValue", False)
        refl = file.createVariable("refl", dtype, ("time", "lat", "lon"), fill_value=fill)
        refl.setncatts({"units": units} | {key: v for key, v in attrs.items() if key != "_FillValue"})
        refl.set_auto_maskandscale(False)
        refl[:] = values


def read(folder, name, mapped, floor=0.0, own=None, **more):
    source = cf.Cf("radar", folder, CfReader(variables={name: CfVariable(**mapped)}, **more), floor)
    source.own_variables = own or {}
    records, refusals = source.scan()
    assert not refusals
    return source.read(records[0], [name])[name].values


@pytest.mark.parametrize(
    "declared",
    [
        {"_FillValue": np.float32(-999), "missing_value": np.float32(-99)},
        {"_FillValue": np.float32(-99), "missing_value": np.float32(-999)},
        {},
    ],
    ids=["missing_value", "_FillValue", "undeclared"],
)
def test_what_saw_nothing_is_the_floor_and_not_missing_whatever_the_file_declares(tmp_path, declared):
    write(tmp_path / "a.nc", declared)
    values_YX = read(tmp_path, "refc", {"source": "refl"}, floor=-5.0)
    assert values_YX[0, 0] == 35.0
    assert values_YX[0, 1] == values_YX[1, 1] == -5.0
    assert values_YX[0, 3] == -7.0
    checked_YX, codes_YX = check(describe("refc"), values_YX)
    assert np.isnan(checked_YX[:, 2]).all()  # -999: declared missing, or no echo that a radar could see
    assert codes_YX[0, 2]


def test_a_mapping_names_other_codes(tmp_path):
    write(tmp_path / "a.nc", {"_FillValue": np.float32(-999)})
    values_YX = read(tmp_path, "refc", {"source": "refl", "no_echo": -77, "missing": [-99]})
    assert values_YX[1, 0] == 0.0
    assert np.isnan(values_YX[:, 1:3]).all()


def test_packed_codes_are_given_in_the_unit_that_people_read(tmp_path):
    packed = {"scale_factor": 0.1, "_FillValue": np.int16(-990), "missing_value": np.int16(-9990)}
    write(tmp_path / "a.nc", packed, np.rint(RAW * 10), dtype="i2")
    assert read(tmp_path, "refc", {"source": "refl"})[0, 1] == 0.0  # -990 * 0.1 = -99 dBZ


def test_the_only_value_that_a_file_declares_missing_is_missing_unless_the_mapping_says_otherwise(tmp_path):
    write(tmp_path / "a.nc", {"_FillValue": np.float32(-99)})
    assert np.isnan(read(tmp_path, "refc", {"source": "refl"})[0, 1])
    close_all()
    assert read(tmp_path, "refc", {"source": "refl", "no_echo": -99})[0, 1] == 0.0


def test_no_echo_of_a_rate_is_no_rain(tmp_path):
    write(tmp_path / "a.nc", {"_FillValue": np.float32(-999)}, units="mm/h")
    own = {"rainrate": own_variable("rainrate", {"units": "mm h-1", "kind": "rate"})}
    values_YX = read(tmp_path, "rainrate", {"source": "refl", "no_echo": [-99]}, own=own)
    assert values_YX[0, 1] == 0.0
    assert np.isnan(values_YX[0, 2])


def test_a_zarr_gives_the_same(tmp_path):
    write(tmp_path / "a.nc", {"missing_value": np.float32(-99)})
    with xr.open_dataset(tmp_path / "a.nc", decode_cf=False) as raw:
        raw["refl"].attrs["_FillValue"] = np.float32(-999)
        raw.to_zarr(tmp_path / "b.zarr", consolidated=False)
    (tmp_path / "a.nc").unlink()
    values_YX = read(tmp_path, "refc", {"source": "refl"})
    assert values_YX[0, 1] == 0.0
    assert np.isnan(values_YX[0, 2])


def test_a_temperature_has_no_echo_code(tmp_path):
    write(tmp_path / "a.nc", {"_FillValue": np.float32(-999)}, units="K")
    with pytest.raises(RequestError, match="name its codes under missing"):
        read(tmp_path, "t2m", {"source": "refl", "no_echo": [-99]})


def test_the_weakest_echo_of_a_cloud_radar_is_the_floor_and_a_code_is_missing():
    values_YX, codes_YX = check(describe("refc"), np.array([[-60.0, -99.0, -999.0, 20.0]], "f4"))
    np.testing.assert_array_equal(values_YX, [[0.0, np.nan, np.nan, 20.0]])
    assert codes_YX.astype(bool).tolist() == [[False, True, True, False]]


def test_declared_codes_are_in_the_unit_that_people_read():
    assert declared_codes({"_FillValue": -990, "missing_value": [-990, -9990], "scale_factor": 0.1}) == (
        -99,
        -999,
    )
    assert declared_codes({"_FillValue": np.nan}) == ()
