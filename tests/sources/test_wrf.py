"""Fields derived from raw model levels, against atmospheres whose answer is known on paper, and on a real
file.
"""

from __future__ import annotations

import sys
from pathlib import Path

import netCDF4
import numpy as np
import pytest

from stormcast_train.base.errors import RequestError
from stormcast_train.sources import rwrp
from stormcast_train.sources.config import RwrpReader
from stormcast_train.sources.wrf import dew_point_k, saturation_pressure_pa
from stormcast_train.sources.wrf_file import WrfFile

sys.path.insert(0, str(Path(__file__).resolve().parent))
import raw_wrf
from raw_wrf import COLUMNS, FACE_PA, LEVELS, MASS_PA, ROWS, SHAPE, level

NAME = "wrfout_d02_2021-06-01_03:00:00"
TIMES = ["2021-06-01_03:00:00"]
GRAVITY = 9.80665


def test_the_height_of_a_pressure_in_an_isothermal_atmosphere_is_the_hydrostatic_one(tmp_path):
    path = raw_wrf.write(tmp_path / NAME, raw_wrf.isothermal(250.0), TIMES)
    field = rwrp.read(path, ["z850", "z500", "z333", "t850", "t200"])
    for hpa in (850, 500, 333):
        np.testing.assert_allclose(
            field[f"z{hpa}"], 287.0 * 250.0 * np.log(1000 / hpa), rtol=2e-6
        )  # R T ln(p0 / p)
    np.testing.assert_allclose(field.t850, 250.0, rtol=1e-6)
    np.testing.assert_allclose(field.t200, 250.0, rtol=1e-6)


def test_a_field_linear_in_the_logarithm_of_pressure_is_interpolated_exactly(tmp_path):
    temperature = 220 + 20 * np.log(MASS_PA / 1e4)  # 220 K at 100 hPa, 20 K more per unit of ln p
    ratio = 1e-3 * np.log(MASS_PA / 1e4)
    fields = raw_wrf.column(level(temperature), level(np.zeros(LEVELS + 1)))
    fields["QVAPOR"] = ("zyx", level(ratio / (1 - ratio)))  # so that q = r / (1 + r) is linear
    field = rwrp.read(raw_wrf.write(tmp_path / NAME, fields, TIMES), ["t700", "q700", "t150"])
    np.testing.assert_allclose(field.t700, 220 + 20 * np.log(7.0), rtol=1e-6)
    np.testing.assert_allclose(field.t150, 220 + 20 * np.log(1.5), rtol=1e-6)
    np.testing.assert_allclose(field.q700, 1e-3 * np.log(7.0), rtol=1e-5)


def test_outside_the_column_there_is_nothing_and_at_its_ends_there_is(tmp_path):
    pressure = np.array(level(np.linspace(900e2, 140e2, LEVELS)))
    pressure[:, 0, 0] = np.linspace(700e2, 140e2, LEVELS)  # a mountain: its lowest level lies at 700 hPa
    fields = raw_wrf.column(level(np.full(LEVELS, 250.0)), level(np.zeros(LEVELS + 1)), pressure)
    field = rwrp.read(
        raw_wrf.write(tmp_path / NAME, fields, TIMES), ["t925", "t900", "t850", "t700", "t140", "t100"]
    )
    assert np.isnan(field.t925).all()
    assert np.isnan(field.t100).all()
    for name in ("t900", "t850"):
        assert np.argwhere(np.isnan(field[name].values)).tolist() == [[0, 0]]
    for name in ("t700", "t140"):
        np.testing.assert_allclose(field[name], 250.0, rtol=1e-6)


def test_staggered_winds_are_brought_to_the_mass_points_and_turned_to_the_earth(tmp_path):
    fields = raw_wrf.isothermal()
    fields["U"] = (
        "zyX",
        np.broadcast_to(np.arange(COLUMNS + 1) * 2.0, (LEVELS, ROWS, COLUMNS + 1)),
    )  # means 1 3 5 7
    fields["V"] = (
        "zYx",
        np.broadcast_to((np.arange(ROWS + 1) * 4.0)[:, None], (LEVELS, ROWS + 1, COLUMNS)),
    )  # means 2 6 10
    field = rwrp.read(raw_wrf.write(tmp_path / NAME, fields, TIMES), ["u500", "v500"])
    u, v = np.array([1.0, 3, 5, 7])[None], np.array([2.0, 6, 10])[:, None]
    np.testing.assert_allclose(field.u500, 0.8 * u - 0.6 * v, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(field.v500, 0.8 * v + 0.6 * u, rtol=1e-5, atol=1e-5)


def test_an_updraught_is_a_falling_pressure(tmp_path):
    fields = raw_wrf.isothermal(250.0)
    fields["W"] = ("Zyx", np.full((LEVELS + 1, *SHAPE), 2.0))
    field = rwrp.read(raw_wrf.write(tmp_path / NAME, fields, TIMES), ["w500"])
    # -rho g w, rho = p / (R T); density is interpolated in ln p between levels a tenth apart: off by 0.1^2 /
    # 8 at most
    np.testing.assert_allclose(field.w500, -50000 / (287 * 250) * GRAVITY * 2, rtol=0.00126)


def test_saturated_air_has_a_relative_humidity_of_100_and_its_temperature_as_dew_point(tmp_path):
    fields = raw_wrf.isothermal(280.0)
    vapour = 611.2 * np.exp(17.67 * 6.85 / 250.35)  # Bolton at 280 K: 991 Pa
    fields["QVAPOR"] = ("zyx", level(0.622 * vapour / (MASS_PA - vapour)))
    fields["Q2"] = ("yx", np.full(SHAPE, 0.622 * vapour / (1e5 - vapour)))
    field = rwrp.read(raw_wrf.write(tmp_path / NAME, fields, TIMES), ["r850", "d2m"])
    np.testing.assert_allclose(field.r850, 100.0, rtol=1e-5)
    np.testing.assert_allclose(field.d2m, 280.0, atol=1e-3)


def test_published_vapour_pressures_are_met():
    # WMO-No. 8 (saturation over water): 6.11 hPa at 0 C, 12.27 at 10 C, 42.43 at 30 C; Bolton's fit is good
    # to 0.3 %
    np.testing.assert_allclose(
        saturation_pressure_pa(np.array([273.15, 283.15, 303.15])), [611.2, 1227, 4243], rtol=3e-3
    )
    assert float(dew_point_k(np.array(0.0), np.array(1e5))) > 150, "dry air has a dew point, not an infinity"


def test_column_vapour_of_humidity_linear_in_pressure_is_its_integral(tmp_path):
    humidity = 2e-7 * MASS_PA
    fields = raw_wrf.isothermal()
    fields["QVAPOR"] = ("zyx", level(humidity / (1 - humidity)))
    fields["PSFC"] = ("yx", np.full(SHAPE, 1e5))
    field = rwrp.read(raw_wrf.write(tmp_path / NAME, fields, TIMES), ["tcwv"])
    inside = 1e-7 * (MASS_PA[0] ** 2 - MASS_PA[-1] ** 2)  # the integral of 2e-7 p
    below = humidity[0] * (1e5 - MASS_PA[0])  # constant from the lowest level to the ground
    np.testing.assert_allclose(field.tcwv, (inside + below) / GRAVITY, rtol=1e-5)


@pytest.mark.parametrize("height_m", [0.0, 500.0, 2000.0])
def test_sea_level_pressure_under_a_standard_atmosphere_is_1013_hpa_from_any_height(tmp_path, height_m):
    ground = 101325 * (1 - 0.0065 * height_m / 288.15) ** (GRAVITY / (287.0 * 0.0065))

    def temperature(pressure_pa):
        return 288.15 * (pressure_pa / 101325) ** (287.0 * 0.0065 / GRAVITY)

    faces, mass = FACE_PA * ground / 1e5, MASS_PA * ground / 1e5
    geopotential = GRAVITY * (288.15 - temperature(faces)) / 0.0065
    fields = raw_wrf.column(level(temperature(mass)), level(geopotential), level(mass))
    field = rwrp.read(raw_wrf.write(tmp_path / NAME, fields, TIMES), ["msl"])
    # layers of a tenth in ln p: the mean of two interfaces lies 0.19^2 0.1^2 / 8 * 288.15 / 0.0065 = 2 m off,
    # which are 24 Pa
    np.testing.assert_allclose(field.msl, 101325, atol=35)


def test_hot_ground_is_not_reduced_with_a_hotter_sea_level(tmp_path):
    # ground at 303 K: Shuell's sea level temperature is 290.66 - 0.005 (Tg - 290.66)^2, colder than a lapse
    # of 6.5 K per km gives
    height_m, ground = 1000.0, 90000.0
    faces, mass = FACE_PA * ground / 1e5, MASS_PA * ground / 1e5
    temperature = 303.0 * (mass / ground) ** (287.0 * 0.0065 / GRAVITY)
    geopotential = GRAVITY * (
        height_m + (303.0 - 303.0 * (faces / ground) ** (287.0 * 0.0065 / GRAVITY)) / 0.0065
    )
    fields = raw_wrf.column(level(temperature), level(geopotential), level(mass))
    field = rwrp.read(raw_wrf.write(tmp_path / NAME, fields, TIMES), ["msl"])
    lowest_k = float(temperature[0])
    lowest_m = float(height_m + (303.0 - lowest_k) / 0.0065)
    sea_k = 290.66 - 0.005 * (lowest_k - 290.66) ** 2
    np.testing.assert_allclose(
        field.msl, mass[0] * np.exp(2 * GRAVITY * lowest_m / (287.0 * (sea_k + lowest_k))), rtol=5e-4
    )


def test_composite_reflectivity_is_the_largest_of_the_column(tmp_path):
    fields = raw_wrf.isothermal()
    echo = np.full((LEVELS, *SHAPE), -30.0)
    echo[7, 1, 2] = 45.0
    fields["REFL_10CM"] = ("zyx", echo)
    refc = rwrp.read(raw_wrf.write(tmp_path / NAME, fields, TIMES), ["refc"]).refc
    assert float(refc[1, 2]) == 45.0
    assert float(refc[0, 0]) == -30.0


def test_names_are_told_from_the_header_and_only_for_what_can_be_made(tmp_path):
    raw_wrf.write(tmp_path / "rwrf" / NAME, raw_wrf.isothermal(), TIMES)
    (record,), _ = rwrp.Rwrp("r", tmp_path).scan()
    assert {"t2m", "sp", "u10m"} - set(record.names) == {"u10m"}, "U10 is not in the file"
    assert {"d2m", "tcwv", "msl", "t850", "u500", "z50", "w1000", "r925"} <= set(record.names)
    assert "refc" not in record.names
    assert "z825" not in record.names
    (chosen,), _ = rwrp.Rwrp("r", tmp_path, RwrpReader(levels=(825,))).scan()
    assert {"z825", "q825"} <= set(chosen.names)
    assert "z850" not in chosen.names
    with netCDF4.Dataset(record.path, "a") as nc:
        nc.renameVariable("SINALPHA", "OTHER")
    without = rwrp.Rwrp("r", tmp_path).scan()[0][0]
    assert "t850" in without.names
    assert "u850" not in without.names, "a wind that cannot be turned to the earth is not offered"
    with pytest.raises(RequestError, match="v700"):
        rwrp.read(record.path, ["v700"])
    assert float(rwrp.read(record.path, ["t825"]).t825[0, 0]) == pytest.approx(250, rel=1e-6), (
        "a file read alone gives any level"
    )


def test_each_model_level_field_is_decoded_once_and_only_when_asked(tmp_path, monkeypatch):
    raw_wrf.write(tmp_path / "rwrf" / NAME, raw_wrf.isothermal(), TIMES)
    source = rwrp.Rwrp("r", tmp_path)
    (record,), _ = source.scan()
    decoded: list[str] = []
    plain = WrfFile._read
    monkeypatch.setattr(
        WrfFile, "_read", lambda self, name, *rest: decoded.append(name) or plain(self, name, *rest)
    )
    source.read(record, ["t850", "t500", "t300", "q500", "r700"])
    assert sorted(decoded) == ["P", "PB", "QVAPOR", "T", "XLAT", "XLONG"]
    decoded.clear()
    source.read(record, ["t2m"])
    assert sorted(decoded) == ["T2", "XLAT", "XLONG"]


def test_cells_that_were_never_written_are_missing(tmp_path):
    fields = raw_wrf.isothermal()
    letters, theta = fields["T"]
    broken = np.array(theta)
    broken[:, 1, 1] = netCDF4.default_fillvals["f4"]
    fields["T"] = (letters, broken)
    letters, pressure = fields["P"]
    lost = np.array(pressure)
    lost[:, 2, 2] = netCDF4.default_fillvals["f4"]
    fields["P"] = (letters, lost)
    field = rwrp.read(raw_wrf.write(tmp_path / NAME, fields, TIMES), ["t500", "q500", "tcwv", "msl"])
    missing = {name: np.argwhere(np.isnan(field[name].values)).tolist() for name in field}
    assert missing == {"t500": [[1, 1], [2, 2]], "q500": [[2, 2]], "tcwv": [[2, 2]], "msl": [[1, 1], [2, 2]]}


def test_a_real_wrf_file_makes_physical_sense(real_data):
    path = real_data / "wrf" / "wrf_d01_allvars_cropped.nc"
    names = [
        "msl",
        "tcwv",
        "d2m",
        "t2m",
        "z500",
        "z300",
        "t500",
        "t400",
        "t300",
        "q400",
        "r500",
        "u300",
        "v300",
        "w500",
        "t850",
    ]
    field = rwrp.read(path, names, "2005-09-21T03")
    assert 100500 < float(field.msl.min()) < float(field.msl.max()) < 103000, "Tibet's ground lies at 550 hPa"
    assert bool((field.d2m <= field.t2m).all())
    # thickness of 500-300 hPa from its mean virtual temperature: 1/4 1/2 1/4 is Simpson's rule but for a few
    # 0.1 K
    virtual = (field.t500 + 2 * field.t400 + field.t300) / 4 * (1 + 0.61 * field.q400)
    np.testing.assert_allclose(field.z300 - field.z500, 287.0 * virtual * np.log(5 / 3), rtol=3e-3)
    assert 0 < float(field.r500.min()) < float(field.r500.max()) < 110
    assert float(np.abs(field.w500).max()) < 2
    assert bool(np.isnan(field.t850).all()), "850 hPa lies under the plateau"
    with netCDF4.Dataset(path) as nc:
        # the model's own dry mass of each layer, (MU + MUB) dη / g, needs no pressure at all
        vapour = (nc["QVAPOR"][1] * (nc["MU"][1] + nc["MUB"][1])[None] * -nc["DNW"][:][:, None, None]).sum(
            0
        ) / GRAVITY
    np.testing.assert_allclose(field.tcwv, vapour, rtol=0.01)
