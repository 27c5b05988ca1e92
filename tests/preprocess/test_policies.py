"""A value at a time is the source's own, held, summed or interpolated as the config says, and never the
nearest.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from stormcast_train.base.console import Console
from stormcast_train.base.errors import RequestError
from stormcast_train.data.meaning import driver_facts
from stormcast_train.fields.reasons import Reason
from stormcast_train.fields.times import Period
from stormcast_train.fields.variable_set import VariablesConfig
from stormcast_train.fields.variables import describe
from stormcast_train.preprocess import build_store
from stormcast_train.preprocess.background import BackgroundConfig
from stormcast_train.preprocess.request import PreprocessRequest
from stormcast_train.preprocess.survey import survey
from stormcast_train.sources.config import SourceConfig
from stormcast_train.sources.policy import Exact, Hold, Interpolate, fitting
from stormcast_train.store.reader import Store, open_store

Ask = Callable[..., PreprocessRequest]
Bytes = Callable[[Path], dict[str, bytes]]
DAY = "2021-06-01T00/2021-06-02T00"


def hour(n: float) -> np.datetime64:
    return np.datetime64("2021-06-01T00", "s") + np.timedelta64(round(3600 * n), "s")


def made(request: PreprocessRequest) -> Store:
    build_store.preprocess(request, Console(quiet=True))
    return open_store(request.store)


def source(asked: Ask, **policy: Any) -> SourceConfig:
    plain = asked().source.model_dump()
    return SourceConfig.model_validate({**plain, "policy": policy})


def forget(request: PreprocessRequest, product: str, hours: list[int]) -> None:
    import tiny_archive

    for n in hours:
        tiny_archive.path_of(request.archive, product, hour(n)).unlink()


def ten_minutes(archive: Path, lacking: tuple[float, ...] = ()) -> None:
    """Radar files every ten minutes: n tenths of a millimetre in the n-th ten minutes since 2021-06-01."""
    import tiny_archive

    for path in (archive / "radar").glob("*.npz"):
        path.unlink()
    lat, lon = np.arange(22.0, 26.0, 0.02), np.arange(119.0, 123.0, 0.02)
    for n in range(-6, 150):
        if n / 6 not in lacking:
            values = np.full((len(lat), len(lon)), (n + 10) / 10, np.float32)
            name = str(hour(n / 6)).replace("-", "").replace("T", "_").replace(":", "")[:13]
            np.savez(
                archive / "radar" / f"radar_{name}.npz",
                lat=lat,
                lon=lon,
                values=values,
                time=str(hour(n / 6)),
            )
    tiny_archive.NAMES["radar"] = ("rain10m",)


@pytest.fixture
def ten(asked: Ask, monkeypatch: pytest.MonkeyPatch) -> PreprocessRequest:
    import tiny_archive

    monkeypatch.setitem(tiny_archive.NAMES, "radar", ("rain10m",))
    request = asked(period=DAY)
    ten_minutes(request.archive)
    return request


def test_exactly_is_the_default_and_a_missing_hour_is_a_gap_beside_full_neighbours(asked: Ask) -> None:
    request = asked(period=DAY)
    forget(request, "analysis", [5])
    state = made(request).group("state")
    assert (state.mask([5], ["t2m"]) == Reason.NOT_RECEIVED).all()
    assert not state.mask([4, 6], ["t2m"]).any()


def test_a_held_value_is_the_newest_within_its_limit_and_is_told(asked: Ask) -> None:
    request = asked(period=DAY, source=source(asked, t2m={"kind": "hold", "limit": "2h"}))
    forget(request, "analysis", [5, 6, 7])
    store = made(request)
    state = store.group("state")
    read = {n: state.read([n], ["t2m"])[0, 0] for n in range(4, 9)}
    np.testing.assert_array_equal(read[5], read[4])
    np.testing.assert_array_equal(read[6], read[4])
    assert np.isnan(read[7]).all()  # three hours old
    assert (read[8] > read[4]).all()
    assert store.manifest["groups"]["state"]["made"] == {"t2m": {"held for 1 h": 1, "held for 2 h": 1}}


def test_a_held_value_may_come_from_before_the_period(asked: Ask) -> None:
    period = Period.parse("2021-06-01T05/2021-06-01T12")
    request = asked(source=source(asked, analysis={"kind": "hold", "limit": "3h"}))
    forget(request, "analysis", [5, 6])
    early = made(PreprocessRequest(**{**vars(request), "period": period}))
    t2m = early.group("state").read([0], ["t2m"])[0, 0]
    lat, lon = early.group("state").grid.lat2d, early.group("state").grid.lon2d
    np.testing.assert_allclose(t2m, 280 + lat + 2 * (lon - 120) + 0.4, atol=5e-5)  # hour 4


def test_between_two_values_it_is_linear_in_time_up_to_the_largest_gap(asked: Ask) -> None:
    request = asked(period=DAY, source=source(asked, analysis={"kind": "interpolate", "gap": "3h"}))
    forget(request, "analysis", [5, 6, 10, 11, 12])
    store = made(request)
    state = store.group("state")
    lat, lon = state.grid.lat2d, state.grid.lon2d
    for n in (5, 6):  # t2m grows by 0.1 an hour, so linear is exact
        np.testing.assert_allclose(
            state.read([n], ["t2m"])[0, 0], 280 + lat + 2 * (lon - 120) + n / 10, atol=1e-4
        )
    assert (state.mask([10, 11, 12], ["t2m"]) == Reason.NOT_RECEIVED).all()  # four hours apart
    assert store.manifest["groups"]["state"]["made"]["t2m"] == {"interpolated over 3 h": 2}


@pytest.mark.parametrize(
    "policy", [{"kind": "interpolate", "gap": "3h"}, {"kind": "hold", "limit": "3h"}], ids=lambda p: p["kind"]
)
def test_amounts_are_never_interpolated_nor_held(asked: Ask, policy: dict[str, str]) -> None:
    request = asked(period=DAY, source=source(asked, radar=policy))
    forget(request, "radar", [5])
    store = made(request)
    assert (store.group("state").mask([5], ["rain1h"]) == Reason.NOT_RECEIVED).all()
    assert np.isfinite(store.group("state").read([4, 6], ["rain1h"])[..., -1]).all()
    assert store.manifest["groups"]["state"]["made"] == {}


@pytest.mark.parametrize(
    ("name", "hold", "interpolate"),
    [("t2m", True, True), ("refc", True, False), ("rain1h", False, False), ("tp", False, False)],
)
def test_echoes_are_held_and_not_interpolated_and_amounts_are_neither(
    name: str, hold: bool, interpolate: bool
) -> None:
    for policy, fits in ((Hold(limit="2h"), hold), (Interpolate(gap="2h"), interpolate)):
        assert fitting(policy, describe(name)) == (policy if fits else Exact())


def test_a_policy_of_a_variable_counts_before_that_of_its_reader(asked: Ask) -> None:
    chosen = source(asked, analysis={"kind": "hold", "limit": "2h"}, t2m={"kind": "interpolate", "gap": "3h"})
    assert chosen.policy_of("state", describe("t2m")) == Interpolate(gap="3h")
    assert chosen.policy_of("state", describe("u10m")) == Hold(limit="2h")
    assert chosen.policy_of("background", describe("msl")) == Exact()


def test_a_value_after_the_period_is_the_later_end_of_its_last_hours(asked: Ask) -> None:
    request = asked(
        period="2021-06-01T00/2021-06-01T06",
        source=source(asked, analysis={"kind": "interpolate", "gap": "3h"}),
    )
    forget(request, "analysis", [5])
    state = made(request).group("state")
    lat, lon = state.grid.lat2d, state.grid.lon2d
    np.testing.assert_allclose(
        state.read([5], ["t2m"])[0, 0], 280 + lat + 2 * (lon - 120) + 0.5, atol=1e-4
    )  # of hours 4 and 6
    assert len(state.times) == 6


def test_six_ten_minute_totals_that_end_in_the_hour_make_its_rain(ten: PreprocessRequest, asked: Ask) -> None:
    request = PreprocessRequest(
        **{**vars(ten), "source": source(asked, rain1h={"kind": "accumulate", "of": "rain10m"})}
    )
    store = made(request)
    state = store.group("state")
    # the hour that ends at 03:00 has the pieces n = 13..18: (23+24+25+26+27+28)/10 = 15.3
    np.testing.assert_allclose(state.read([3], ["rain1h"]), 15.3, rtol=1e-6)
    np.testing.assert_allclose(
        state.read([0], ["rain1h"]), (5 + 6 + 7 + 8 + 9 + 10) / 10, rtol=1e-6
    )  # from before the period
    assert len(state.times) == 24
    assert not store.manifest["refused"]


def test_a_sum_without_one_of_its_pieces_is_a_gap_that_names_it(ten: PreprocessRequest, asked: Ask) -> None:
    ten_minutes(ten.archive, lacking=(17 / 6,))
    store = made(
        PreprocessRequest(
            **{**vars(ten), "source": source(asked, rain1h={"kind": "accumulate", "of": "rain10m"})}
        )
    )
    assert np.isnan(store.group("state").read([3], ["rain1h"])).all()
    gap = next(g for g in store.manifest["groups"]["state"]["gaps"] if g["variables"] == ["rain1h"])
    assert "1 of 6 rain10m are missing (2021-06-01T02:50:00)" in gap["details"][0]


def test_a_missing_piece_at_the_full_hour_does_not_move_the_axis(ten: PreprocessRequest, asked: Ask) -> None:
    ten_minutes(ten.archive, lacking=(3.0, 4.0, 5.0, 6.0))
    state = made(
        PreprocessRequest(
            **{**vars(ten), "source": source(asked, rain1h={"kind": "accumulate", "of": "rain10m"})}
        )
    ).group("state")
    assert state.times[0] == hour(0)
    assert (np.diff(state.times) == np.timedelta64(3600, "s")).all()


def test_ten_minute_radar_has_a_clock_of_its_own_beside_an_hourly_state(
    ten: PreprocessRequest, asked: Ask
) -> None:
    variables = VariablesConfig.model_validate(
        {
            "name": "frames",
            "state": ("t2m",),
            "background": ("msl",),
            "static": ("orog",),
            "groups": {"radar": {"variables": ["rain10m"], "step": "10m"}},
        }
    )
    plain = asked().source.model_dump()
    chosen = SourceConfig.model_validate({**plain, "groups": {"radar": {"*": "radar"}}})
    store = made(PreprocessRequest(**{**vars(ten), "variables": variables, "source": chosen}))
    radar = store.group("radar")
    assert len(radar.times) == 144
    assert radar.grid.fingerprint == store.group("state").grid.fingerprint
    np.testing.assert_allclose(radar.read(radar.rows(hour(17 / 6)), ["rain10m"]), 2.7, rtol=1e-6)
    assert len(store.group("state").times) == 24


def test_the_cadence_of_operation_is_what_training_sees_and_its_cost_is_told(asked: Ask) -> None:
    request = asked(period=DAY, background=BackgroundConfig(cadence="6h"))
    import tiny_archive

    for n in range(60):  # a driver that bends: msl + n^2, so linear over 6 h is wrong by (n - a)(b - n)
        path = tiny_archive.path_of(request.archive, "driver", hour(n))
        lat, lon, values = tiny_archive.field("driver", hour(n))
        np.savez(path, lat=lat, lon=lon, values=(values + n * n).astype(np.float32), time=str(hour(n)))
    store = made(request)
    background = store.group("background")
    assert len(background.times) == 24
    expected = 100008 + 10 * background.grid.lat2d + 36 + (8 - 6) / 6 * (144 - 36)
    np.testing.assert_allclose(background.read([8], ["msl"])[0, 0], expected, atol=0.02)
    assert driver_facts(store)["msl"].startswith("every 3600 s, from ")
    assert driver_facts(store)["msl"].endswith(", interpolated over 6 h")
    count, squares = store.manifest["groups"]["background"]["facts"]["cadence_error"]["msl"]
    # hours 1..5 after each sixth: errors (n-a)(b-n) = 5, 8, 9, 8, 5; mean square over them (25+64+81+64+25)/5
    # = 51.8
    assert squares / count == pytest.approx(51.8, rel=1e-3)
    assert store.manifest["groups"]["background"]["made"]["msl"] == {"interpolated over 6 h": 20}


def test_a_cadence_cannot_give_amounts_and_says_so(asked: Ask) -> None:
    variables = VariablesConfig(name="rainy", state=("t2m",), background=("msl", "rain1h"), static=("orog",))
    with pytest.raises(RequestError, match="cannot give rain1h"):
        made(asked(variables=variables, background=BackgroundConfig(cadence="6h")))
    with pytest.raises(ValidationError, match="does not divide a day"):
        BackgroundConfig(cadence="5h")


def test_a_policy_that_makes_no_sense_is_refused_by_name(asked: Ask) -> None:
    for wrong, reported in (
        ({"rain1h": {"kind": "accumulate", "of": "t2m"}}, "no sum"),
        ({"radar": {"kind": "accumulate", "of": "rain10m"}}, "is for a variable"),
    ):
        with pytest.raises((ValidationError, RequestError), match=reported):
            source(asked, **wrong)
    with pytest.raises(RequestError, match="no variable is called"):
        survey(asked(source=source(asked, nonsense={"kind": "exact"})))
    with pytest.raises(RequestError, match="cannot be the difference of two sums"):
        survey(asked(source=source(asked, t2m={"kind": "difference"})))


def test_two_workers_interpolate_to_the_same_bits_as_one(asked: Ask, tmp_path: Path, bytes_of: Bytes) -> None:
    chosen = source(asked, analysis={"kind": "interpolate", "gap": "3h"})
    request = asked(source=chosen)
    forget(request, "analysis", [5, 6, 23, 24, 30])
    one = made(request)
    two = made(asked(source=chosen, store=tmp_path / "two", workers=2))
    assert one.fingerprint == two.fingerprint
    assert bytes_of(one.path) == bytes_of(two.path)


@pytest.mark.parametrize("where", ["regrid", "quality"])
def test_an_unknown_variable_anywhere_in_a_source_is_refused(asked: Ask, where: str) -> None:
    more = {"regrid": {"rain1x": "nearest"}} if where == "regrid" else {}
    quality = {"spike": {"limits": {"rain1x": 3.0}}} if where == "quality" else {}
    chosen = SourceConfig.model_validate({**source(asked).model_dump(), **more, "quality": quality})
    with pytest.raises(RequestError, match="no variable is called 'rain1x'"):
        survey(asked(source=chosen))
