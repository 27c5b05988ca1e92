"""Global models' forecasts: every value tells its place, its reference time and its lead, so that nothing can
be mixed up unseen.
"""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import eccodes
import netCDF4
import numpy as np
import pytest
import xarray as xr
import zarr

from stormcast_train.base.errors import RequestError, UnreadableError
from stormcast_train.fields.times import Period
from stormcast_train.sources import cf, detect, global_model
from stormcast_train.sources.cf import CfVariable
from stormcast_train.sources.config import GlobalModelReader
from stormcast_train.sources.global_model import GlobalModel
from stormcast_train.sources.opened import close_all

LAT = np.linspace(90.0, -90.0, 13)  # every 15 degrees, north first, as models have it
LON = np.arange(0.0, 360.0, 30.0)
T0 = np.datetime64("2024-01-01T00", "h")
NAMES = ("t2m", "u10m", "z500", "tp06", "tp01")


@pytest.fixture(autouse=True)
def _closed():
    yield
    close_all()


def hour(time) -> float:
    """Hours since T0."""
    return float((np.datetime64(time, "h") - T0).astype(int))


def code(lat, lon, reference, lead_h, k=0, member=0):
    """The value at a place, from its latitude, longitude (-180..180), reference hour, lead and variable;
    exact in float32.
    """
    lon = (np.asarray(lon) + 180.0) % 360.0 - 180.0
    return (
        np.float32(lat) * 10 + np.float32(lon) / 100 + reference * 4 + lead_h / 8 + 20000 * k + 50000 * member
    )


def block(references, leads, names=NAMES):
    """[time, lead_time, variable, lat, lon]."""
    rows = [
        [[code(LAT[:, None], LON[None], hour(r), lead, k) for k in range(len(names))] for lead in leads]
        for r in references
    ]
    return np.array(rows, "f4")


REFERENCES = np.array([T0, T0 + 6])
LEADS = np.array([0, 6, 12])


def earth2studio_zarr(
    path: Path, references=REFERENCES, leads=LEADS, names=NAMES, layout="arrays", integers=False, members=0
) -> Path:
    """What earth2studio.io.ZarrBackend writes: zarr v3, no attributes, datetime64 and timedelta64 (int64 ns
    with zarr 3.0).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr says that fixed-length strings have no specification yet
        root = zarr.group(zarr.storage.LocalStore(path))

        def add(name, values, dims):
            if integers and values.dtype.kind in "mM":
                values = values.astype("int64")
            chunks = tuple(
                1 if d in ("time", "lead_time") and len(dims) > 1 else n
                for d, n in zip(dims, values.shape, strict=True)
            )
            array = root.create_array(
                name,
                shape=values.shape,
                chunks=chunks,
                dtype=values.dtype,
                dimension_names=dims,
                fill_value=None,
            )
            array[:] = values

        add("time", references.astype("datetime64[ns]"), ["time"])
        add("lead_time", leads.astype("timedelta64[h]").astype("timedelta64[ns]"), ["lead_time"])
        add("lat", LAT, ["lat"])
        add("lon", LON, ["lon"])
        values = block(references, leads, names)
        before = ["ensemble"] if members else []
        if members:
            add("ensemble", np.arange(members), ["ensemble"])
            values = np.stack([values + 50000 * m for m in range(members)]).astype("f4")
        dims = [*before, "time", "lead_time", "lat", "lon"]
        if layout == "fields":
            add("variable", np.array(names), ["variable"])
            add("fields", values, [*before, "time", "lead_time", "variable", "lat", "lon"])
        else:
            for k, name in enumerate(names):
                add(name, values[..., k, :, :], dims)
    return path


def earth2studio_netcdf(path: Path, units: str = "hour", leads=LEADS) -> Path:
    """What earth2studio.io.NetCDF4Backend writes: float hours since the year
    1, leads as integers of `hour`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with netCDF4.Dataset(path, "w") as nc:
        for name, kind, values in (
            ("time", "f8", None),
            ("lead_time", "i8", leads),
            ("lat", "f8", LAT),
            ("lon", "f8", LON),
        ):
            stamps = [r.astype("datetime64[s]").item() for r in REFERENCES]
            clock = {"units": "hours since 0001-01-01 00:00:00.0", "calendar": "proleptic_gregorian"}
            found = netCDF4.date2num(stamps, **clock) if values is None else values
            nc.createDimension(name, len(found))
            variable = nc.createVariable(name, kind, (name,))
            variable[:] = found
            if name == "time":
                variable.setncatts(clock)
            if name == "lead_time":
                variable.setncatts(({"units": units} if units else {}) | {"calendar": "gregorian"})
        values = block(REFERENCES, leads)
        for k, name in enumerate(NAMES):
            nc.createVariable(name, "f4", ("time", "lead_time", "lat", "lon"))[:] = values[:, :, k]
    return path


def reader(folder: Path, **more) -> GlobalModel:
    return GlobalModel("g", folder, GlobalModelReader(**more))


def pairs(records):
    return [(hour(r.time), hour(r.time) - hour(r.reference_time)) for r in records]


def check_place(got: xr.Dataset, name: str, reference: float, lead: float, k: int, member: int = 0) -> None:
    """Every cell of the field is the one of its own latitude and longitude."""
    assert bool((np.diff(got.lat) > 0).all())
    assert bool((np.diff(got.lon) > 0).all())
    expected = code(got.lat.values[:, None], got.lon.values[None], reference, lead, k, member)
    np.testing.assert_allclose(got[name], expected, rtol=1e-6)


@pytest.mark.parametrize(
    "write",
    [
        earth2studio_zarr,
        lambda p: earth2studio_zarr(p, layout="fields"),
        lambda p: earth2studio_netcdf(p.with_suffix(".nc")),
    ],
    ids=["zarr", "zarr of one array", "netcdf"],
)
def test_every_layout_of_earth2studio_gives_the_same_fields_at_the_same_times(tmp_path, write):
    write(tmp_path / "global_model" / "run.zarr")
    source = reader(tmp_path)
    records, refusals = source.scan()
    assert not refusals
    # references 0 h and 6 h, leads 0, 6, 12: each valid time by its shortest lead first
    assert pairs(records) == [(0, 0), (6, 0), (6, 6), (12, 6), (12, 12), (18, 12)]
    for record, (valid, lead) in zip(records, pairs(records), strict=True):
        got = source.read(record, ["t2m", "u10m", "z500"])
        assert hour(got.valid_time.values) == valid
        assert hour(got.forecast_reference_time.values) == valid - lead
        for k, name in enumerate(("t2m", "u10m", "z500")):
            check_place(got, name, valid - lead, lead, k)


def test_longer_leads_come_first_where_they_are_preferred_and_leads_outside_are_not_taken(tmp_path):
    earth2studio_zarr(tmp_path / "global_model" / "run.zarr")
    assert pairs(reader(tmp_path, prefer="longest_lead").scan()[0])[1:3] == [(6, 6), (6, 0)]
    assert pairs(reader(tmp_path, lead_from="6h").scan()[0]) == [(6, 6), (12, 6), (12, 12), (18, 12)]
    assert pairs(reader(tmp_path, lead_from="6h", lead_to="6h").scan()[0]) == [(6, 6), (12, 6)]
    with pytest.raises(RequestError, match="lead_to=6h is shorter than lead_from=12h"):
        reader(tmp_path, lead_from="12h", lead_to="6h")
    period = Period.parse("2024-01-01T06/2024-01-01T12")  # of the valid time, end exclusive
    assert pairs(reader(tmp_path).scan(period)[0]) == [(6, 0), (6, 6)]


def test_two_files_of_one_valid_time_are_ordered_by_lead_and_then_by_path(tmp_path):
    for name, start in (("b", 0), ("a", 0), ("c", 6)):
        earth2studio_zarr(
            tmp_path / "global_model" / f"{name}.zarr", np.array([T0 + start]), np.array([6, 12]), ("t2m",)
        )
    records, _ = reader(tmp_path).scan()
    assert [(r.path.name[0], *p) for r, p in zip(records, pairs(records), strict=True)][2:5] == [
        ("c", 12, 6),
        ("a", 12, 12),
        ("b", 12, 12),
    ]


def test_six_hours_of_rain_are_never_called_one_and_an_hour_of_rain_needs_an_hour_of_forecast(tmp_path):
    earth2studio_zarr(tmp_path / "global_model" / "run.zarr")
    source = reader(tmp_path)
    records, _ = source.scan()
    at6 = {lead: r.names for r, (valid, lead) in zip(records, pairs(records), strict=True) if valid == 6}
    assert at6 == {6: ("rain1h", "t2m", "tp", "u10m", "z500"), 0: ("t2m", "u10m", "z500")}
    late = next(r for r in records if pairs([r]) == [(6, 6)])
    got = source.read(late, ["rain1h", "tp"])
    expected = code(got.lat.values[:, None], got.lon.values[None], 0, 6, 4)
    np.testing.assert_allclose(got.tp, expected, rtol=1e-6)
    np.testing.assert_allclose(got.rain1h, expected.astype("f8") * 1000, rtol=1e-6)
    earth2studio_zarr(tmp_path / "other" / "run.zarr", names=("tp06", "tp"))
    _, refusals = reader(tmp_path, root="other").scan()
    assert "'tp06' is left out: it holds the sum of 6 hours" in refusals[0].reason
    assert "'tp' is left out: the file does not give the interval of its sums" in refusals[0].reason
    assert reader(tmp_path, root="other", names={"tp": "tp"}).scan()[0][0].names == ("rain1h", "tp")


def test_the_member_asked_for_is_read_and_one_that_is_not_there_is_named(tmp_path):
    earth2studio_zarr(tmp_path / "global_model" / "run.zarr", members=3, names=("t2m",))
    for member in (0, 2):
        source = reader(tmp_path, member=member)
        record = source.scan()[0][2]
        check_place(source.read(record, ["t2m"]), "t2m", 0, 6, 0, member)
    assert detect.detect(tmp_path / "global_model" / "run.zarr") == "global_model"
    _, refusals = reader(tmp_path, member=5).scan()
    assert "no ensemble 5; it holds [0, 1, 2]" in refusals[0].reason


def test_integers_without_units_are_refused_until_the_config_says_what_they_count(tmp_path):
    earth2studio_zarr(tmp_path / "global_model" / "run.zarr", integers=True)
    records, refusals = reader(tmp_path).scan()
    assert not records
    assert "'lead_time'" in refusals[0].reason
    assert "unitless: nanoseconds" in refusals[0].reason
    source = reader(tmp_path, unitless="nanoseconds")
    records, _ = source.scan()
    assert pairs(records) == [(0, 0), (6, 0), (6, 6), (12, 6), (12, 12), (18, 12)]
    check_place(source.read(records[3], ["u10m"]), "u10m", 6, 6, 1)


@pytest.mark.parametrize("layout", ["arrays", "fields"])
def test_a_lead_that_is_not_written_yet_is_no_field_of_zeros(tmp_path, layout):
    path = earth2studio_zarr(
        tmp_path / "global_model" / "run.zarr", layout=layout, names=("t2m", "u10m"), members=2
    )
    # the chunk of reference 0 h, lead 6 h (row 1) of all members; Earth2Studio's arrays have the fill value 0
    for chunk in (path / ("u10m" if layout == "arrays" else "fields") / "c").glob("*/0/1"):
        shutil.rmtree(chunk)
    source = reader(tmp_path, member=1)
    records, _ = source.scan()
    assert pairs(records)[1:3] == [(6, 0), (6, 6)]
    with pytest.raises(UnreadableError, match=r"is on disk at .* never written"):
        source.read(records[2], ["u10m"])
    check_place(source.read(records[1], ["u10m"]), "u10m", 6, 0, 1, member=1)


@pytest.mark.parametrize(
    ("units", "leads", "why"),
    [
        ("", LEADS, "no units"),
        ("fortnight", LEADS, "fortnight"),
        ("hour", LEADS - 6, "negative"),
        ("month", LEADS, "no unit of time"),
    ],
)
def test_leads_that_cannot_be_trusted_are_refused_with_the_reason(tmp_path, units, leads, why):
    earth2studio_netcdf(tmp_path / "global_model" / "run.nc", units, leads)
    records, refusals = reader(tmp_path).scan()
    assert not records
    assert why in refusals[0].reason


def cfgrib_netcdf(path: Path, shift_h: int = 0) -> Path:
    """cfgrib's layout written to NetCDF by xarray: time, step, and valid_time as their sum."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = block(REFERENCES, LEADS, ("t2m",))[:, :, 0]
    valid = REFERENCES[:, None] + LEADS[None] + np.timedelta64(shift_h, "h")
    coords = {
        "time": REFERENCES.astype("datetime64[ns]"),
        "step": LEADS.astype("timedelta64[h]").astype("timedelta64[ns]"),
        "latitude": LAT,
        "longitude": LON,
        "valid_time": (("time", "step"), valid.astype("datetime64[ns]")),
        "number": 0,
    }
    fields = xr.Dataset({"t2m": (("time", "step", "latitude", "longitude"), values, {"units": "K"})}, coords)
    fields.to_netcdf(path)
    return path


def test_time_step_and_valid_time_of_cfgrib_agree_or_the_file_is_refused(tmp_path):
    cfgrib_netcdf(tmp_path / "global_model" / "a.nc")
    source = reader(tmp_path)
    records, _ = source.scan()
    assert pairs(records) == [(0, 0), (6, 0), (6, 6), (12, 6), (12, 12), (18, 12)]
    check_place(source.read(records[4], ["t2m"]), "t2m", 0, 12, 0)
    cfgrib_netcdf(tmp_path / "wrong" / "a.nc", shift_h=1)
    _, refusals = reader(tmp_path, root="wrong").scan()
    assert "valid times are not its reference times plus 'step'" in refusals[0].reason


def test_one_lead_in_a_file_is_its_valid_time_and_not_its_reference_time(tmp_path):
    whole = xr.open_dataset(cfgrib_netcdf(tmp_path / "a.nc"), decode_timedelta=True).load()
    (tmp_path / "global_model").mkdir()
    whole.isel(time=[1], step=[2]).drop_vars("valid_time").to_netcdf(tmp_path / "global_model" / "b.nc")
    whole.close()
    assert pairs(reader(tmp_path).scan()[0]) == [(18, 12)]
    got = cf.read(tmp_path / "global_model" / "b.nc", {"t2m": CfVariable(source="t2m")})
    assert hour(got.valid_time.values) == 18  # any reader, not only this one
    with pytest.raises(UnreadableError, match="several forecasts"):
        cf.read(tmp_path / "a.nc", {"t2m": CfVariable(source="t2m")})


def grib(
    path: Path,
    base: str,
    leads,
    header_base: str = "",
    names=("2t", "10u", "z"),
    header_leads=None,
    sums=None,
) -> Path:
    """GRIB messages of a forecast on the 15 x 30 degree grid; `z` at 500 and 850 hPa. sums: (start, end) step
    of a `tp`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    reference = np.datetime64(f"{base[:4]}-{base[4:6]}-{base[6:8]}T{base[8:]}")
    stamp = header_base or base
    with open(path, "wb") as handle:
        for lead, written in zip(leads, header_leads if header_leads is not None else leads, strict=True):
            fields = [(n, p) for n in names for p in ((500, 850) if n == "z" else (0,))] + [("tp", 0)] * bool(
                sums
            )
            for k, (name, level) in enumerate(fields):
                message = eccodes.codes_grib_new_from_samples(
                    "regular_ll_pl_grib2" if level else "regular_ll_sfc_grib2"
                )
                keys = {
                    "Ni": 12,
                    "Nj": 13,
                    "latitudeOfFirstGridPointInDegrees": 90,
                    "latitudeOfLastGridPointInDegrees": -90,
                }
                keys |= {"longitudeOfFirstGridPointInDegrees": 0, "longitudeOfLastGridPointInDegrees": 330}
                keys |= {
                    "iDirectionIncrementInDegrees": 30,
                    "jDirectionIncrementInDegrees": 15,
                    "dataType": "fc",
                }
                keys |= {"dataDate": int(stamp[:8]), "dataTime": int(stamp[8:]) * 100, "shortName": name}
                keys |= {"level": level} if level else {}
                keys |= (
                    {"stepRange": f"{sums[0]}-{sums[1]}"} if name == "tp" and sums else {"step": int(written)}
                )
                for key, value in {**keys, "bitsPerValue": 24}.items():
                    eccodes.codes_set(message, key, value)
                eccodes.codes_set_values(
                    message, code(LAT[:, None], LON[None], hour(reference), lead, k).astype("f8").ravel()
                )
                eccodes.codes_write(message, handle)
                eccodes.codes_release(message)
    return path


def test_grib_with_one_lead_a_file_is_found_by_its_name_and_checked_when_read(tmp_path):
    for lead in (6, 12):
        grib(tmp_path / "global_model" / f"EC-pangu_2024010100-{lead}.grb", "2024010100", [lead])
    grib(tmp_path / "global_model" / "EC-pangu_2024010106-006.grb", "2024010106", [6])
    source = reader(tmp_path)
    records, refusals = source.scan()
    assert not refusals
    assert pairs(records) == [(6, 6), (12, 6), (12, 12)]
    assert records[0].names == ("t2m", "u10m", "z500", "z850")
    for record, (valid, lead) in zip(records, pairs(records), strict=True):
        got = source.read(record, record.names)
        for k, name in enumerate(record.names):
            expected = code(got.lat.values[:, None], got.lon.values[None], valid - lead, lead, k)
            np.testing.assert_allclose(got[name], expected, atol=1e-2)
        assert got.attrs["source_version"] == "EC-pangu GRIB fc"


def test_a_grib_that_holds_another_time_than_its_name_is_not_read(tmp_path):
    grib(tmp_path / "global_model" / "EC-pangu_2024010100-6.grb", "2024010100", [12])
    source = reader(tmp_path)
    with pytest.raises(
        UnreadableError, match=r"named for 2024-01-01T00:00:00 \+ 6 h and holds 2024-01-01T00:00:00 \+ 12 h"
    ):
        source.read(source.scan()[0][0], ["t2m"])
    grib(tmp_path / "all" / "EC-pangu_2024010106.grb", "2024010100", [6, 12])
    assert "holds forecasts from 2024-01-01T00" in reader(tmp_path, root="all").scan()[1][0].reason
    grib(tmp_path / "bad" / "EC-pangu_2024013100-6.grb", "2024010100", [6]).rename(
        tmp_path / "bad" / "EC-pangu_2024023100-6.grb"
    )
    assert reader(tmp_path, root="bad").scan()[1][0].path.name == "EC-pangu_2024023100-6.grb"


def test_a_header_without_leads_is_taken_where_its_time_is_the_valid_time_of_the_name(tmp_path):
    grib(
        tmp_path / "global_model" / "EC-pangu_2024010100-6.grb",
        "2024010100",
        [6],
        header_base="2024010106",
        header_leads=[0],
    )
    source = reader(tmp_path)
    records, _ = source.scan()
    assert pairs(records) == [(6, 6)]
    got = source.read(records[0], ["t2m"])
    assert (hour(got.valid_time.values), hour(got.forecast_reference_time.values)) == (6, 0)


def test_all_leads_in_one_grib_are_rows_of_it_and_sums_are_known_by_their_steps(tmp_path):
    grib(tmp_path / "global_model" / "model_2024010100.grib2", "2024010100", [6, 12])
    records, _ = reader(tmp_path).scan()
    assert pairs(records) == [(6, 6), (12, 12)]
    grib(tmp_path / "sums" / "a.grib2", "2024010100", [6], names=("2t",), sums=(0, 6))
    assert reader(tmp_path, root="sums").scan()[0][0].names == ("t2m",)
    with pytest.raises(RequestError, match="its sums run over 6 h"):
        global_model.read(tmp_path / "sums" / "a.grib2", ["rain1h"])
    grib(tmp_path / "hourly" / "a.grib2", "2024010100", [6], names=("2t",), sums=(5, 6))
    assert reader(tmp_path, root="hourly").scan()[0][0].names == ("rain1h", "t2m", "tp")


def test_a_forecast_is_told_from_an_analysis_by_its_content_and_read_alone(tmp_path):
    path = earth2studio_zarr(tmp_path / "run.zarr")
    assert detect.detect(path) == "global_model"
    assert detect.detect(grib(tmp_path / "a.grib2", "2024010100", [6])) == "global_model"
    got = detect.read(path, ["t2m"])
    assert [hour(t) for t in got.time.values] == [0, 6, 12, 18]
    check_place(got.isel(time=2), "t2m", 6, 6, 0)  # at 12 h the 6 h forecast, not the 12 h one
    check_place(detect.read(path, ["t2m"], "2024-01-01T18"), "t2m", 6, 12, 0)
    with pytest.raises(RequestError, match="from 2024-01-01T00:00:00 to 2024-01-01T18"):
        global_model.read(path, ["t2m"], "2024-01-02T00")
