"""Radar composites in ODIM HDF5: places from corners, and the three things that a code can mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pyproj
import pytest

from stormcast_train.base.errors import UnreadableError
from stormcast_train.sources import cf, detect
from stormcast_train.sources.config import CfReader, CfVariable
from stormcast_train.sources.opened import close_all

LAEA = "+proj=laea +lat_0=55.0 +lon_0=10.0 +x_0=1950000.0 +y_0=-2100000.0 +units=m +ellps=WGS84"
X0, Y0, CELL_M, ROWS, COLUMNS = 1900000.0, -2200000.0, 2000.0, 3, 4  # of the south-west corner, an edge
CODES = np.array([[255, 0, 64, 66], [1, 2, 3, 4], [255, 255, 100, 0]], np.uint8)  # rows from the north
INTERVAL = {"startdate": "20210601", "starttime": "120000", "enddate": "20210601", "endtime": "121500"}
DBZH = {"quantity": "DBZH", "gain": 0.5, "offset": -32.0, "nodata": 255.0, "undetect": 0.0}
ACRR = {"quantity": "ACRR", "gain": 0.1, "offset": 0.0, "nodata": 255.0, "undetect": 0.0, **INTERVAL}


@pytest.fixture(autouse=True)
def _closed():
    yield
    close_all()


def corners(cells: float = 0.0) -> dict[str, float]:
    """The corners of the grid, this many cells within its outer edge."""
    proj = pyproj.Proj(LAEA)
    found: dict[str, float] = {}
    inset = cells * CELL_M
    for name, x, y in (
        ("LL", X0 + inset, Y0 + inset),
        ("UR", X0 + COLUMNS * CELL_M - inset, Y0 + ROWS * CELL_M - inset),
    ):
        found[f"{name}_lon"], found[f"{name}_lat"] = proj(x, y, inverse=True)
    return found


def write(
    path: Path, *layers: dict[str, Any], where: dict[str, Any] | None = None, kind: str = "COMP", codes=CODES
):
    """One dataset for each layer; all attributes that it does not give itself stand above it."""
    place = {"projdef": LAEA, "xscale": CELL_M, "yscale": CELL_M, **corners()}
    with netCDF4.Dataset(path, "w") as nc:
        nc.Conventions = "ODIM_H5/V2_2"
        nc.createGroup("what").setncatts(
            {"object": kind, "date": "20210601", "time": "121000", "source": "ORG:247"}
        )
        nc.createGroup("where").setncatts(place if where is None else where)
        for number, what in enumerate(layers, 1):
            dataset = nc.createGroup(f"dataset{number}")
            dataset.createGroup("what").setncatts(what)
            group = dataset.createGroup("data1")
            for name, size in zip(("y", "x"), codes.shape, strict=True):
                group.createDimension(name, size)
            group.createVariable("data", codes.dtype, ("y", "x"))[:] = codes
    return path


def test_a_composite_lies_at_its_cells_centres_and_its_codes_stay_three_things(tmp_path):
    path = write(tmp_path / "a.h5", DBZH)
    assert detect.detect(path) == "cf"
    field = detect.read(path)
    proj = pyproj.Proj(LAEA)
    x, y = np.meshgrid(X0 + CELL_M * (np.arange(COLUMNS) + 0.5), Y0 + CELL_M * (np.arange(ROWS) + 0.5))
    lon, lat = proj(x, y, inverse=True)
    np.testing.assert_allclose(field.lat, lat, atol=1e-7)
    np.testing.assert_allclose(field.lon, lon, atol=1e-7)
    assert str(field.valid_time.values)[:16] == "2021-06-01T12:10"
    # 64 x 0.5 - 32 = 0 dBZ; 255 is not covered; 0 is covered and without echo; rows from the south here
    expected = CODES[::-1] * 0.5 - 32.0
    expected[CODES[::-1] == 255] = np.nan
    np.testing.assert_array_equal(field.DBZH, expected.astype(np.float32))
    assert field.DBZH.attrs["units"] == "dBZ"


def test_corners_at_the_outer_centres_are_taken_as_such(tmp_path):
    edges = detect.read(write(tmp_path / "a.h5", DBZH))
    centres = {"projdef": LAEA, "xscale": CELL_M, "yscale": CELL_M, **corners(0.5)}
    np.testing.assert_allclose(
        detect.read(write(tmp_path / "b.h5", DBZH, where=centres)).lat, edges.lat, atol=1e-7
    )


def test_a_sum_ends_with_its_interval_and_nothing_detected_is_no_rain(tmp_path):
    path = write(tmp_path / "a.h5", ACRR)
    field = detect.read(path)
    assert str(field.valid_time.values)[:16] == "2021-06-01T12:15"
    assert float(field.ACRR[0, 3]) == 0.0
    assert np.isnan(field.ACRR[0, 0])
    mapping = {"rain1h": CfVariable(source="ACRR")}
    reader = CfReader(pattern=("**/*.h5",), variables=mapping)
    (refusal,) = cf.Cf("radar", tmp_path, reader).scan()[1]
    assert "the sums of 'ACRR' run over 15 min" in refusal.reason


def test_codes_beyond_the_values_of_floats_are_codes_too(tmp_path):
    what = {**DBZH, "gain": 1.0, "offset": 0.0, "nodata": -9999000.0, "undetect": -8888000.0}
    codes = np.where(CODES == 255, -9999000, np.where(CODES == 0, -8888000, CODES.astype(np.int64)))
    codes = codes.astype(np.float32)
    field = detect.read(write(tmp_path / "a.h5", what, codes=codes))
    np.testing.assert_array_equal(np.isnan(field.DBZH), CODES[::-1] == 255)
    assert set(field.DBZH.values[CODES[::-1] == 0].tolist()) == {-32.0}


def test_a_composite_reaches_a_source_as_a_mapping_says_within_its_box(tmp_path):
    write(tmp_path / "a.h5", DBZH)
    whole = detect.read(tmp_path / "a.h5")
    south, west = float(whole.lat[1, 1]), float(whole.lon[1, 1])
    box = (south - 1e-3, south + 1e-3, west - 1e-3, west + 1e-3)
    reader = CfReader(
        pattern=("**/*.h5",), variables={"refc": CfVariable(source="DBZH", units="dBZ")}, box=box
    )
    source = cf.Cf("radar", tmp_path, reader)
    (record,), refusals = source.scan()
    assert (record.names, refusals) == (("refc",), [])
    np.testing.assert_array_equal(source.read(record, ["refc"]).refc, whole.DBZH[0:3, 0:3])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"kind": "PVOL"}, "an ODIM HDF5 file of object PVOL.*wradlib"),
        ({"where": {"projdef": LAEA}}, "'where' lacks LL_lon"),
        (
            {"where": {"projdef": LAEA, "xscale": 500.0, "yscale": 500.0, **corners()}},
            "'where' contradicts itself",
        ),
        ({"where": {"projdef": "+proj=nonsense", **corners()}}, "projdef '.proj=nonsense' cannot be used"),
    ],
)
def test_what_lies_on_no_map_is_refused_by_name(tmp_path, change, reason):
    path = write(tmp_path / "a.h5", DBZH, **change)
    with pytest.raises(UnreadableError, match=reason):
        detect.detect(path)


def test_two_products_of_one_time_are_not_mixed(tmp_path):
    path = write(tmp_path / "a.h5", DBZH, DBZH)
    with pytest.raises(UnreadableError, match="'DBZH': 2 datasets hold it at 2021-06-01T12:10"):
        detect.detect(path)
    later = {**ACRR, "startdate": "20210601", "starttime": "121500", "endtime": "123000"}
    field = detect.read(write(tmp_path / "b.h5", ACRR, later))
    assert [str(t)[11:16] for t in field.time.values] == ["12:15", "12:30"]


def test_knmis_own_layout_is_refused_by_name(tmp_path):
    with netCDF4.Dataset(tmp_path / "a.h5", "w") as nc:
        for name in ("geographic", "overview", "image1"):
            nc.createGroup(name)
    with pytest.raises(UnreadableError, match=r"KNMI's own HDF5 layout.*import_knmi_hdf5"):
        detect.detect(tmp_path / "a.h5")
