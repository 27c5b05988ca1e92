"""The driver's blur as configured: by variable, by lead; and what its measurement refuses."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from pydantic import ValidationError

from stormcast_train.base.errors import RequestError
from stormcast_train.fields.grid import Grid
from stormcast_train.preprocess.driver_blur import BlurConfig, linear_trend, measure_cutoff_km, power_spectrum

GRID = Grid(np.arange(0, 8, 0.25), np.arange(100, 110, 0.25))


def test_a_variable_without_a_cutoff_of_its_own_takes_that_of_all_others() -> None:
    config = BlurConfig(kind="spectral", cutoff_km={"*": 300, "z500": 600, "msl": 0})
    assert [config.cutoff(name) for name in ("t850", "z500", "msl")] == [300, 600, 0]
    assert BlurConfig(kind="spectral", cutoff_km={"z500": 600}).cutoff("t850") == 0


def test_a_cutoff_grows_with_lead_by_a_rate_or_by_a_table() -> None:
    rate = BlurConfig(kind="spectral", cutoff_km={"*": 300, "msl": 0}, lead_growth_km_per_h=5)
    assert [rate.cutoff("t850", lead) for lead in (0, 6, 24)] == [300, 330, 420]
    assert rate.cutoff("msl", 24) == 0, "what is not blurred at first is never blurred"
    table = BlurConfig(kind="spectral", cutoff_km={"*": {24: 500, 0: 300}}, lead_growth_km_per_h=5)
    assert [table.cutoff("t850", lead) for lead in (0, 12, 24, 48)] == [300, 400, 500, 500]


def test_no_blur_is_the_default_and_half_a_request_is_refused() -> None:
    assert BlurConfig().cutoff("t850") == 0
    assert BlurConfig(kind="none", cutoff_km={"*": 300}).cutoff("t850") == 0
    for wrong, reported in (
        ({}, "needs cutoff_km"),
        ({"cutoff_km": {"*": {}}}, r"cutoff_km of \* is an empty table"),
        ({"cutoff_km": {"*": -5}}, "greater than or equal to 0"),
        ({"cutof_km": {"*": 5}}, "Extra inputs are not permitted"),
    ):
        with pytest.raises(ValidationError, match=reported):
            BlurConfig(kind="spectral", **wrong)


def test_a_wave_lies_in_the_ring_of_its_length() -> None:
    # mode 8 along 40 columns of 27.7 km: half a wave in 5 columns, so 10 x 27.7 = 277 km
    wave = np.cos(np.pi * 8 * (np.arange(40) + 0.5) / 40)[None, :] * np.ones((32, 1))
    wavelength_km, power = power_spectrum(wave[None], GRID)
    assert wavelength_km[power.argmax()] == pytest.approx(10 * GRID.spacing_m[1] / 1000, rel=0.1)
    assert power.max() > 0.95 * power.sum()


def test_a_plane_is_its_own_trend_whatever_is_missing() -> None:
    plane = 3.0 + 0.5 * np.arange(6)[:, None] - 2.0 * np.arange(7)[None, :]
    holed = plane.copy()
    holed[1, 2:5] = np.nan
    np.testing.assert_allclose(linear_trend(holed), plane, atol=1e-12)


def test_times_with_gaps_are_left_out_and_mismatches_are_refused() -> None:
    rng = np.random.default_rng(0)
    fields = rng.normal(size=(3, *GRID.shape))
    holed = fields.copy()
    holed[1, 0, 0] = np.nan
    assert measure_cutoff_km({"t": fields}, {"t": holed}, GRID) == {"t": 0.0}
    with pytest.raises(RequestError, match="same variables"):
        measure_cutoff_km({"t": fields}, {"q": fields}, GRID)
    with pytest.raises(RequestError, match=r"\[time, y, x\]"):
        measure_cutoff_km({"t": fields}, {"t": fields[:, 1:]}, GRID)
    with pytest.raises(RequestError, match="none of 3 times"):
        measure_cutoff_km({"t": fields}, {"t": np.full_like(fields, np.nan)}, GRID)


def test_neither_module_imports_torch_until_a_globe_is_blurred() -> None:
    code = "import sys, stormcast_train.preprocess.driver_blur, stormcast_train.preprocess.spectral as s; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
