"""Steps in monthly statistics are found, with their month and size; seasons, noise and single odd months are
none.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stormcast_train.audit.change_points import Monthly, monthly, scan
from stormcast_train.fields.grid import Grid
from stormcast_train.store.reader import open_store
from stormcast_train.store.versions import VersionRun, version_changes
from stormcast_train.store.writer import write_store


def temperature(months: int, seed: int = 0, first: str = "2019-08") -> Monthly:
    """A yearly wave of 8 K and noise of 0.5 K, in January coldest."""
    axis = np.datetime64(first, "M") + np.arange(months)
    season = -8 * np.cos(2 * np.pi * (axis.astype(int) % 12) / 12)
    return Monthly(axis, {("t2m", "mean"): 295 + season + np.random.default_rng(seed).normal(0, 0.5, months)})


def shifted(of: Monthly, month: str, by: float) -> Monthly:
    return Monthly(
        of.months,
        {key: values + by * (of.months >= np.datetime64(month)) for key, values in of.series.items()},
    )


def test_a_step_of_3_k_is_found_at_its_month_with_its_levels() -> None:
    (point,) = scan(shifted(temperature(42), "2021-03", 3.0)).found
    assert (point.variable, point.statistic, point.month, point.coincides_with) == (
        "t2m",
        "mean",
        "2021-03",
        None,
    )
    assert point.before == pytest.approx(295, abs=0.4)
    assert point.after - point.before == pytest.approx(3, abs=0.4)
    assert point.test_statistic > 10


def test_seasons_and_noise_are_no_change_in_any_of_100_series() -> None:
    found = [scan(temperature(42, seed)).found for seed in range(100)]
    assert sum(map(len, found)) == 0


def test_neither_are_noises_that_last_for_months() -> None:
    """An autoregression of 0.3 per month over 42 months: at most one of 50 series may be taken for a step."""
    wrong = 0
    for seed in range(50):
        rng, noise = np.random.default_rng(seed), np.zeros(42)
        for k in range(1, 42):
            noise[k] = 0.3 * noise[k - 1] + rng.normal(0, 0.5)
        axis = np.datetime64("2019-08", "M") + np.arange(42)
        wrong += len(scan(Monthly(axis, {("t2m", "mean"): 295 + noise})).found) > 0
    assert wrong <= 1


def test_one_odd_month_is_no_change() -> None:
    of = temperature(42)
    of.series["t2m", "mean"][20] += 5.0
    assert scan(of).found == ()


def test_two_steps_are_both_found_in_order() -> None:
    of = shifted(shifted(temperature(42), "2020-06", 4.0), "2021-09", -6.0)
    first, second = scan(of).found
    assert (first.month, second.month) == ("2020-06", "2021-09")
    assert second.before == pytest.approx(299, abs=0.6)
    assert second.after == pytest.approx(293, abs=0.6)


def test_a_small_step_counts_where_a_version_changed_and_names_it() -> None:
    """0.75 K in noise of 0.5 K: about 4 standard errors, too few to be believed anywhere but where a reason
    is known.
    """
    of = shifted(temperature(42, seed=3), "2021-03", 0.75)
    runs = [
        VersionRun("rwrf", "V1", np.datetime64("2019-08-01", "s"), np.datetime64("2021-02-28", "s")),
        VersionRun("rwrf", "V2", np.datetime64("2021-03-02", "s"), np.datetime64("2023-01-31", "s")),
    ]
    assert scan(of).found == ()
    (point,) = scan(of, version_changes(runs)).found
    assert (point.month, point.coincides_with) == ("2021-03", "rwrf: V1 -> V2")


@pytest.mark.parametrize(
    ("changed", "month"), [("2021-03-14", "2021-03"), ("2021-02-20", "2021-03"), ("2021-03-20", "2021-04")]
)
def test_a_version_counts_from_the_first_month_that_is_mostly_its_own(changed: str, month: str) -> None:
    (point,) = scan(
        shifted(temperature(42), month, 3.0), [(np.datetime64(changed, "s"), "rwrf: V1 -> V2")]
    ).found
    assert (point.month, point.coincides_with) == (month, "rwrf: V1 -> V2")


def test_a_gross_change_of_unit_is_found_in_eight_months_and_the_march_of_the_seasons_is_not() -> None:
    of = temperature(8)
    assert scan(of).found == ()
    (point,) = scan(shifted(of, "2019-12", -273.15)).found
    assert point.month == "2019-12"


@pytest.mark.parametrize(("statistic", "factor"), [("mean", 0.1), ("std", 0.1), ("mean", 25.4)])
def test_a_scale_that_changes_half_way_is_found_in_the_months_of_rain(statistic: str, factor: float) -> None:
    """Rain of 0.30 mm an hour, 0.03 mm more or less between months, in other units from the second year on."""
    axis = np.datetime64("2019-08", "M") + np.arange(24)
    rain = 0.3 + np.random.default_rng(1).normal(0, 0.03, 24)
    rain[12:] *= factor
    (point,) = scan(Monthly(axis, {("rain1h", statistic): rain})).found
    assert (point.month, point.statistic) == ("2020-08", statistic)
    assert point.after / point.before == pytest.approx(factor, rel=0.3)


def test_less_than_six_months_cannot_tell() -> None:
    reported = scan(shifted(temperature(5), "2019-10", 100.0))
    assert reported.found == ()
    assert reported.cannot_tell is not None
    assert reported.cannot_tell.startswith("5 month(s)")


def test_a_constant_series_has_no_change_and_a_noiseless_step_has_one() -> None:
    axis = np.datetime64("2019-08", "M") + np.arange(24)
    assert scan(Monthly(axis, {("t2m", "mean"): np.full(24, 295.0)})).found == ()
    (point,) = scan(shifted(Monthly(axis, {("t2m", "mean"): np.full(24, 295.0)}), "2020-09", 1.0)).found
    assert (point.month, point.before, point.after) == ("2020-09", pytest.approx(295), pytest.approx(296))


def test_monthly_series_come_from_a_stores_moments(tmp_path: Path) -> None:
    """February 2021 to March: t2m 290 and 300 in halves of the hours (mean 295, std 5), a quarter of the
    cells wet, then none.
    """
    times = np.datetime64("2021-01-28", "s") + np.arange(4 * 45) * np.timedelta64(6 * 3600, "s")
    t2m = np.where(np.arange(180) % 2, 300.0, 290.0)[:, None, None] * np.ones((1, 2, 2))
    rain = np.zeros((180, 2, 2))
    rain[times < np.datetime64("2021-03-01"), 0, 0] = 2.0
    rain[times < np.datetime64("2021-02-01")] = np.nan
    grid = Grid(np.array([22.0, 23.0]), np.array([120.0, 121.0]))
    found = monthly(
        open_store(
            write_store(tmp_path / "s", {"state": (grid, times, {"t2m": t2m, "rain1h": rain}, None)})
        ).group("state")
    )
    assert list(found.months.astype(str)) == ["2021-01", "2021-02", "2021-03"]
    np.testing.assert_allclose(
        found.series["t2m", "mean"], [np.nan, 295, 295]
    )  # four days of January are too few
    np.testing.assert_allclose(found.series["t2m", "std"], [np.nan, 5, 5])
    np.testing.assert_allclose(found.series["rain1h", "wet_fraction"], [np.nan, 0.25, 0.0])
