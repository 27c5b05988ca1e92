"""A truncated file of any netCDF flavour is unreadable, never zeros."""

from __future__ import annotations

import netCDF4
import numpy as np
import pytest

from stormcast_train.base.errors import UnreadableError
from stormcast_train.sources.netcdf import open_netcdf
from stormcast_train.sources.opened import reading

FLAVOURS = ["NETCDF3_CLASSIC", "NETCDF3_64BIT_OFFSET", "NETCDF3_64BIT_DATA", "NETCDF4_CLASSIC", "NETCDF4"]


def write(path, flavour: str, records: int = 3, fields: int = 2):
    """`fields` record variables of an odd number of bytes beside a fixed one,
    with attributes to step over.
    """
    with netCDF4.Dataset(path, "w", format=flavour) as nc:
        nc.title = "odd"
        for name, size in (("Time", None), ("x", 5)):
            nc.createDimension(name, size)
        nc.createVariable("fixed", "f8", ("x",))[:] = np.arange(5)
        nc["fixed"].units = "m"
        for i in range(fields):
            nc.createVariable(f"r{i}", "i2", ("Time", "x"))[:] = np.full((records, 5), 7)
    return path


@pytest.mark.parametrize("fields", [0, 1, 2])
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_whole_file_opens_and_a_cut_one_does_not(tmp_path, flavour, fields):
    path = write(tmp_path / "a.nc", flavour, fields=fields)
    with open_netcdf(path) as nc:
        np.testing.assert_array_equal(nc["fixed"][:], np.arange(5))
    content = path.read_bytes()
    with open_netcdf(path, content) as nc:
        np.testing.assert_array_equal(nc["fixed"][:], np.arange(5))
    for cut in (4, 12, len(content) // 2, 20):
        path.write_bytes(content[:-cut])
        why = "its header asks for|unpack requires" if flavour.startswith("NETCDF3") else "HDF error"
        with (
            pytest.raises(UnreadableError, match=f"a.nc cannot be read: .*({why})"),
            reading(path),
            open_netcdf(path),
        ):
            pass


def test_the_last_record_may_lack_its_padding(tmp_path):
    path = write(tmp_path / "a.nc", "NETCDF3_CLASSIC")
    path.write_bytes(path.read_bytes()[:-2])  # 5 int16 are 10 bytes, padded to 12
    with open_netcdf(path) as nc:
        assert nc["r1"][2].tolist() == [7] * 5
