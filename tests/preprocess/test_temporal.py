"""Stuck fields, spikes in time and blocked beams are marked with their
reason, however the store came to be.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stormcast_train.base.console import Console
from stormcast_train.fields.grid import Grid, RegularDomain
from stormcast_train.fields.reasons import Reason
from stormcast_train.fields.times import Period
from stormcast_train.fields.variable_set import VariablesConfig
from stormcast_train.preprocess import build_store
from stormcast_train.preprocess.request import PreprocessRequest
from stormcast_train.preprocess.temporal import blocked_cells, spikes, stuck
from stormcast_train.sources.config import SourceConfig
from stormcast_train.sources.quality_config import QualityConfig
from stormcast_train.store.describe_store import verify_store
from stormcast_train.store.layout import GroupLayout
from stormcast_train.store.reader import Store, open_store
from stormcast_train.store.writer import write_store

Ask = Callable[..., PreprocessRequest]
Bytes = Callable[[Path], dict[str, bytes]]


def hour(n: int) -> np.datetime64:
    return np.datetime64("2021-06-01T00", "s") + n * np.timedelta64(1, "h")


def made(request: PreprocessRequest) -> Store:
    build_store.preprocess(request, Console(quiet=True))
    return open_store(request.store)


def rewrite(
    request: PreprocessRequest, product: str, n: int, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    import tiny_archive

    lat, lon, values = tiny_archive.field(product, hour(n))
    changed = change(values.astype(np.float32).copy()).astype(np.float32)
    np.savez(
        tiny_archive.path_of(request.archive, product, hour(n)),
        lat=lat,
        lon=lon,
        values=changed,
        time=str(hour(n)),
    )


def freeze(request: PreprocessRequest, hours: list[int]) -> None:
    """Give all these hours the temperature of the first."""
    import tiny_archive

    frozen = tiny_archive.field("analysis", hour(hours[0]))[2].astype(np.float32)
    for n in hours:
        rewrite(request, "analysis", n, lambda _: frozen)


def quality(asked: Ask, **checks: Any) -> SourceConfig:
    return SourceConfig.model_validate({**asked().source.model_dump(), "quality": checks})


def masks(store: Store, name: str = "t2m") -> np.ndarray:
    state = store.group("state")
    return state.mask(np.arange(len(state.times)), [name])[:, 0]


def hot(values: np.ndarray) -> np.ndarray:
    values[20:25, 18:24] += 30  # a block around the middle of the domain
    return values


def test_runs_of_identical_digests_are_found_and_what_has_none_is_like_no_other() -> None:
    digests = np.array([[1, -1, 5], [1, -1, 5], [1, -1, 6], [2, -1, 6], [2, -1, 6], [3, -1, 6]])
    expected = np.array([[1, 0, 0], [1, 0, 0], [1, 0, 1], [0, 0, 1], [0, 0, 1], [0, 0, 1]], bool)
    np.testing.assert_array_equal(stuck(digests, 3), expected)
    assert stuck(digests, 2)[3:5, 0].all()


def test_a_spike_leaves_both_neighbours_in_the_same_direction() -> None:
    before, after = np.array([[0.0, 0, 0, 0]]), np.array([[0.0, 20, 0, np.nan]])
    now = np.array(
        [[20.0, 20, -20, 20]]
    )  # up and down again, a step, down and up again, nothing to compare with
    np.testing.assert_array_equal(spikes(before, now, after, 15.0), [[True, False, True, False]])


def test_three_identical_hours_are_stuck_and_two_are_not(asked: Ask) -> None:
    request = asked()
    freeze(request, [5, 6, 7])
    freeze(request, [10, 11])
    store = made(request)
    mask = masks(store)
    assert (mask[5:8] == Reason.STUCK).all()
    assert not mask[:5].any()
    assert not mask[8:].any()
    gap = next(g for g in store.manifest["groups"]["state"]["gaps"] if g["variables"] == ["t2m"])
    assert (gap["first"], gap["last"], gap["reasons"]) == (
        "2021-06-01T05:00:00",
        "2021-06-01T07:00:00",
        ["stuck field"],
    )
    assert verify_store(request.store)["verified"]


def test_a_dry_radar_is_not_stuck(asked: Ask) -> None:
    request = asked()
    for n in range(5, 15):
        rewrite(request, "radar", n, lambda values: np.where(np.isnan(values), np.nan, 0.0))
    seen = open_store(made(request).path).group("state").coverage[1]
    assert 0 < seen.sum() < seen.size
    assert not masks(open_store(request.store), "rain1h")[:, seen].any()


def test_frozen_hours_across_midnight_are_found(asked: Ask) -> None:
    request = asked()
    freeze(request, [22, 23, 24, 25])
    mask = masks(made(request))
    assert (mask[22:26] == Reason.STUCK).all()
    assert not mask[21].any()
    assert not mask[26].any()


def test_a_spike_is_masked_where_it_is_and_nowhere_else(asked: Ask) -> None:
    request = asked()
    rewrite(request, "analysis", 24, hot)
    store = made(request)
    mask = masks(store)
    assert (mask[24] == Reason.SPIKE).sum() > 4
    assert not np.delete(mask, 24, axis=0).any()
    assert store.manifest["groups"]["state"]["partly_missing_cells"]["t2m"] == {
        "spike in time": int((mask[24] > 0).sum())
    }


def test_a_spike_downwards_is_a_spike_too(asked: Ask) -> None:
    request = asked(period="2021-06-01T00/2021-06-01T08")
    rewrite(
        request, "analysis", 5, lambda values: 2 * values - hot(values.copy())
    )  # 30 K colder where `hot` is warmer
    mask = masks(made(request))
    assert (mask[5] == Reason.SPIKE).sum() > 4
    assert not np.delete(mask, 5, axis=0).any()


def test_a_spike_stays_marked_when_the_store_grows(asked: Ask, tmp_path: Path, bytes_of: Bytes) -> None:
    """What is stored of a marked plane no longer tells of its spike: it is looked at again."""
    grown = asked(store=tmp_path / "grown", period="2021-06-01T00/2021-06-01T08")
    rewrite(grown, "analysis", 5, hot)
    spiked = masks(made(grown))
    assert (spiked[5] == Reason.SPIKE).any()
    longer = made(asked(store=tmp_path / "grown", period="2021-06-01T00/2021-06-01T12"))
    np.testing.assert_array_equal(masks(longer)[:8], spiked)
    assert bytes_of(longer.path) == bytes_of(made(asked(period="2021-06-01T00/2021-06-01T12")).path)


def test_wet_hours_are_hours_whatever_the_step_of_the_radar(tmp_path: Path) -> None:
    """Twelve hours of ten-minute rain everywhere but in a beam: 72 wet files are 12 hours, too few to tell
    where 30 are asked for.
    """
    rain = np.ones((72, 15, 15), np.float32)
    rain[:, :, 7] = 0
    times = np.datetime64("2021-06-01T00", "s") + np.arange(72) * np.timedelta64(600, "s")
    grid = Grid(23 + 0.01 * np.arange(15), 121 + 0.01 * np.arange(15))
    write_store(tmp_path / "s", {"state": (grid, times, {"rain10m": rain}, None)})
    layout = GroupLayout.load(tmp_path / "s", "state")
    assert blocked_cells(layout, 72, QualityConfig()) == {}
    enough = QualityConfig.model_validate({"blockage": {"expected_hours": 11.9, "window": 9}})
    np.testing.assert_array_equal(blocked_cells(layout, 72, enough)["rain10m"], rain[0] == 0)
    assert (
        blocked_cells(
            layout, 72, QualityConfig.model_validate({"blockage": {"expected_hours": 12.1, "window": 9}})
        )
        == {}
    )


def test_a_variable_that_changes_once_a_day_is_exempt(asked: Ask) -> None:
    request = asked(source=quality(asked, stuck={"exempt": ["t2m"]}))
    freeze(request, [5, 6, 7])
    assert not masks(made(request)).any()


def test_each_check_has_its_switch(asked: Ask) -> None:
    request = asked(source=quality(asked, stuck={"enabled": False}, spike={"enabled": False}))
    freeze(request, [5, 6, 7])
    rewrite(request, "analysis", 24, hot)
    assert not masks(made(request)).any()


def test_the_marks_do_not_depend_on_how_the_store_grew(asked: Ask, tmp_path: Path, bytes_of: Bytes) -> None:
    request = asked()
    freeze(request, [23, 24, 25])
    rewrite(request, "analysis", 30, hot)
    whole = made(request)
    grown = asked(store=tmp_path / "grown", period="2021-06-01T00/2021-06-02T01")
    made(grown)  # ends with hours 23 and 24 identical: not yet three
    assert not masks(open_store(grown.store)).any()
    longer = made(asked(store=tmp_path / "grown"))
    assert longer.fingerprint == whole.fingerprint
    assert bytes_of(longer.path) == bytes_of(whole.path)


def test_an_hour_that_arrives_corrected_frees_its_neighbours(
    asked: Ask, tmp_path: Path, bytes_of: Bytes
) -> None:
    request = asked()
    freeze(request, [5, 6, 7])
    assert (masks(made(request))[5:8] == Reason.STUCK).all()
    rewrite(request, "analysis", 6, lambda values: values)
    store = made(request)
    assert not masks(store).any()
    clean = asked(store=tmp_path / "clean")
    rewrite(clean, "analysis", 6, lambda values: values)
    assert store.fingerprint == made(clean).fingerprint
    assert bytes_of(store.path) == bytes_of(clean.store)


def test_marks_outside_the_asked_period_are_still_right(asked: Ask, tmp_path: Path, bytes_of: Bytes) -> None:
    request = asked(period="2021-06-01T00/2021-06-02T00")
    freeze(request, [22, 23, 24])
    made(request)
    later = made(
        PreprocessRequest(**{**vars(request), "period": Period.parse("2021-06-02T00/2021-06-03T00")})
    )
    assert (masks(later)[22:25] == Reason.STUCK).all()
    assert later.fingerprint == made(asked(store=tmp_path / "at once")).fingerprint
    assert bytes_of(later.path) == bytes_of(tmp_path / "at once")


@pytest.mark.parametrize("pack", ["none", "int16"])
def test_workers_and_packing_leave_the_marks_alone(asked: Ask, tmp_path: Path, pack: str) -> None:
    request = asked(pack=pack)
    freeze(request, [5, 6, 7])
    rewrite(request, "analysis", 24, hot)
    one = made(request)
    assert (masks(one)[5:8] == Reason.STUCK).all()
    assert (masks(one)[24] == Reason.SPIKE).any()
    assert one.fingerprint == made(asked(store=tmp_path / "two", workers=2, pack=pack)).fingerprint


def test_a_beam_that_never_rains_between_neighbours_that_do_is_blocked_at_every_hour(asked: Ask) -> None:
    fine = RegularDomain(
        name="fine", south=23.3, north=23.9, west=121.0, east=121.6, shape=(31, 31), halo_degrees=1.0
    )
    request = asked(domain=fine)
    for n in range(48):  # columns 115 to 119 of the radar: 121.30 to 121.38 E
        rewrite(
            request,
            "radar",
            n,
            lambda values: np.where(np.arange(values.shape[1]) // 5 == 23, values * 0, values),
        )
    store = made(request)
    mask = masks(store, "rain1h")
    blocked = mask[3] == Reason.SPECKLE
    lon = store.group("state").grid.lon2d
    assert blocked.any()
    assert ((lon[blocked] > 121.29) & (lon[blocked] < 121.39)).all()
    assert (mask[:, blocked] == Reason.SPECKLE).all()
    assert not store.group("state").coverage[1][blocked].any()


def test_an_absurd_hour_under_which_the_radar_saw_nothing_is_masked_and_a_storm_is_not(
    asked: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tiny_archive

    def both(values: np.ndarray, hours_echo: dict[int, float], name: str, time: int) -> np.ndarray:
        return np.full_like(
            values,
            hours_echo.get(time, 0.0) if name == "refc" else 250.0 if time in (5, 9) else 1.0 + time / 50,
        )

    plain = asked().source.model_dump()
    readers = {**plain["readers"], "echo": {"kind": "tiny_archive:Tiny", "options": {"product": "echo"}}}
    source = SourceConfig.model_validate(
        {**plain, "readers": readers, "state": {**plain["state"], "refc": "echo"}}
    )
    variables = VariablesConfig(
        name="radar", state=("t2m", "rain1h", "refc"), background=("msl",), static=("orog",)
    )
    fine = RegularDomain(
        name="fine", south=23.3, north=23.9, west=121.0, east=121.6, shape=(31, 31), halo_degrees=1.0
    )
    request = asked(domain=fine, variables=variables, source=source, period="2021-06-01T00/2021-06-01T12")
    monkeypatch.setitem(tiny_archive.NAMES, "echo", ("refc",))
    for n in range(12):
        lat, lon, values = tiny_archive.field("radar", hour(n))
        for product, name in (("radar", "rain1h"), ("echo", "refc")):
            path = tiny_archive.path_of(request.archive, product, hour(n))
            path.parent.mkdir(exist_ok=True)
            changed = both(np.nan_to_num(values), {8: 50.0, 5: 10.0, 4: 10.0, 9: 12.0}, name, n)
            np.savez(path, lat=lat, lon=lon, values=changed.astype(np.float32), time=str(hour(n)))
    mask = masks(made(request), "rain1h")
    assert (mask[5] == Reason.ABSURD).all()  # 10 dBZ at both ends of its hour
    assert not mask[9].any()  # 50 dBZ when its hour began
    assert not mask[[0, 4, 6, 8, 10]].any()
