"""`inspect --clock` finds planted shifts of 8 h and 1 h and whose they are, and is silent about archives
whose clocks agree.

Four days of the synthetic Taiwan: enough for these; `preprocess.clock_pairs` says what more days give.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stormcast_train.cli import main
from stormcast_train.fields.grid import Grid
from stormcast_train.store.writer import write_store

HOUR = np.timedelta64(3600, "s")
Asked = Callable[..., dict[str, Any]]


def synthesize(folder: Path, seed: int, days: int, *more: str) -> Path:
    words = [
        f"out={folder}",
        "domain=taiwan_tiny",
        "variables=surface_radar",
        f"seed={seed}",
        f"period=2021-06-01T00/2021-06-{days + 1:02d}T00",
    ]
    assert main(["synthesize", *words, *more, "--json"]) == 0
    return folder


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthesize(tmp_path_factory.mktemp("clock") / "archive", 1, 4, "qpepre=true")


@pytest.fixture
def asked(capsys: pytest.CaptureFixture[str]) -> Asked:
    def ask(*words: str) -> dict[str, Any]:
        capsys.readouterr()
        assert main(["inspect", *words, "--clock", "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return ask


def test_clocks_that_agree_are_found_to_agree(archive: Path, asked: Asked) -> None:
    told = asked(str(archive))
    assert told["clocks_agree"] is True
    assert told["clock_warnings"] == []
    assert told["clock_offsets"] == {"era5": 0, "qpesums": 0, "rwrf": 0}
    sure = {(p["first"], p["second"]): p for p in told["clocks"] if p["verdict"] == "agree"}
    echo = sure[
        "qpesums.rain1h", "qpesums.refc"
    ]  # the hour's rain against the echoes of that hour, not of its end
    assert abs(echo["lag_h"]) < 0.25
    assert echo["score_best"] > 0.9
    assert echo["hours"] > 90
    assert ("rwrf.t2m", "sun") in sure


def test_local_time_taken_for_utc_is_named_with_the_key_that_mends_it(
    archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(archive), "--clock", "source.readers.qpesums.utc_offset=8"]) == 0, (
        "it informs"
    )
    said = capsys.readouterr().out
    assert "warning: qpesums is 8 h behind" in said
    assert "set source.readers.qpesums.utc_offset=0" in said


@pytest.fixture(scope="module")
def collected(archive: Path) -> tuple[list[Any], list[Any], Any]:
    """Every source's series on common blocks, read once."""
    from stormcast_train.audit.clock_series import archive_feeds, collect, stretches
    from stormcast_train.base.config import compose
    from stormcast_train.base.typed import typed
    from stormcast_train.recipes.inspect import Config

    composed = compose("inspect", ["source=qpepre", "path=x"], None)
    source = typed(Config, {"path": "x", "source": composed["source"]}).source
    feeds, left_out = archive_feeds(archive, source, None)
    assert left_out == {}
    periods = stretches(feeds, 240)
    series, blocks = collect(feeds, periods, lambda n=1: None)
    return series, periods, blocks


@pytest.mark.parametrize(
    ("source", "variable", "hours"),
    [("qpesums", None, 8), ("rwrf", None, 8), ("era5", None, -8), ("qpepre", None, 8), ("qpepre", None, -1),
    ("qpesums", "rain1h", -1), ("rwrf", None, 1)],
)  # fmt: skip
def test_a_planted_shift_is_found_with_its_culprit(
    collected, source: str, variable: str | None, hours: int
) -> None:
    from dataclasses import replace

    from stormcast_train.audit.clock_culprits import culprits
    from stormcast_train.audit.clock_pairs import compare

    def late(values: np.ndarray) -> np.ndarray:
        moved = np.roll(values, hours, axis=0)
        moved[slice(0, hours) if hours > 0 else slice(hours, None)] = np.nan
        return moved

    series, periods, blocks = collected
    shifted = [
        replace(s, stretches=tuple(late(v) for v in s.stretches))
        if s.feed == source and variable in (None, s.name)
        else s
        for s in series
    ]
    found = culprits(compare(shifted, periods, blocks, np.random.default_rng(0)))
    assert [[(c.who, c.lag_h) for c in one] for one in found.alternatives] == [
        [(f"{source}.{variable}" if variable else source, hours)]
    ]


@pytest.mark.parametrize("seed", [2, 3])
def test_other_worlds_raise_no_false_alarm(tmp_path: Path, asked: Asked, seed: int) -> None:
    told = asked(str(synthesize(tmp_path / "archive", seed, 3)))
    assert told["clocks_agree"] is True
    assert told["clock_warnings"] == []
    assert len(told["clocks"]) > 3


def test_a_period_is_compared_alone_and_one_too_short_cannot_tell(archive: Path, asked: Asked) -> None:
    told = asked(str(archive), "period=2021-06-02T00/2021-06-03T00", "source.readers.era5.root=elsewhere")
    assert "no folder 'elsewhere'" in told["clock_left_out"]["era5"]
    assert told["clock_periods"] == ["2021-06-02T00:00:00/2021-06-03T00:00:00"]
    assert told["clocks_agree"] is None
    assert {p["verdict"] for p in told["clocks"]} == {"cannot tell"}


def store(path: Path, late_h: int, days: int = 5, late_from: int = 0) -> Path:
    """Days of a warm land's temperature in the state, and in the background `late_h` hours late from the hour
    `late_from` on.
    """
    times = np.datetime64("2021-06-01T00", "s") + np.arange(24 * days) * HOUR
    inner, outer = (
        Grid(np.linspace(22, 25, 16), np.linspace(120, 122, 12)),
        Grid(np.arange(20.0, 28.0, 0.5), np.arange(118.0, 125.0, 0.5)),
    )

    def warmth(grid: Grid, hours: np.ndarray) -> np.ndarray:
        local = hours[:, None, None] + grid.lon2d / 15  # warmest at 14 local time
        return (
            295
            + 5 * np.cos(2 * np.pi * (local - 14) / 24)
            + np.random.default_rng(0).normal(0, 0.5, (len(hours), *grid.shape))
        )

    hours = np.arange(24.0 * days)
    state = (inner, times, {"t2m": warmth(inner, hours)}, None)
    background = (outer, times, {"t2m": warmth(outer, hours - late_h * (hours >= late_from))}, None)
    return write_store(path, {"state": state, "background": background})


def test_the_roles_of_a_store_are_compared_with_each_other_and_the_sun(tmp_path: Path, asked: Asked) -> None:
    assert asked(str(store(tmp_path / "right", 0)))["clocks_agree"] is True
    told = asked(str(store(tmp_path / "wrong", 8)))
    assert told["clocks_agree"] is False
    assert [(w["source"], w["lag_h"]) for w in told["clock_warnings"]] == [("background", 8)]


def test_a_background_that_moves_half_way_is_told_with_the_moment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(store(tmp_path / "moves", 8, 8, 96)), "--clock"]) == 0
    said = capsys.readouterr().out
    assert "warning: background is 8 h ahead from 2021-06-0" in said
    assert "(somewhere between 2021-06-0" in said
    assert "only these files are off: correct their stamps, or leave them out (period=)" in said
    assert "from the beginning to 2021-06-0" in said
    assert "the clocks agree" not in said


def test_only_an_archive_or_a_store_has_clocks_to_compare(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x").write_text("?")
    assert main(["inspect", str(tmp_path / "x"), "--clock"]) == 2
    assert "--clock compares" in capsys.readouterr().err
    assert main(["inspect", str(store(tmp_path / "s", 0)), "period=2021-06-01/2021-06-02"]) == 2
    assert "belongs to --clock" in capsys.readouterr().err


def test_an_archive_of_one_unrelated_source_has_nothing_to_compare(tmp_path: Path) -> None:
    from stormcast_train.audit.clock_report import compare_clocks
    from stormcast_train.base.errors import RequestError
    from stormcast_train.sources.config import SourceConfig

    (tmp_path / "rwrf").mkdir()
    source = SourceConfig.model_validate(
        {"name": "s", "state": {"*": "m"}, "readers": {"m": {"kind": "rwrp"}}}
    )
    with pytest.raises(RequestError, match="holds nothing"):
        compare_clocks(
            tmp_path, "archive", source, None, 240, lambda text, total: nullcontext(lambda n=1: None)
        )


@pytest.mark.slow
def test_an_archive_whose_rain_moves_by_an_hour_half_way_does_not_agree(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the third day on the files of an hour's rain carry the hour's beginning, by name and by header."""
    import gzip
    import shutil

    from stormcast_train.synthetic.write_qpesums import decode, encode, file_name, packed

    moved = shutil.copytree(archive, tmp_path / "moved")
    changed = np.datetime64("2021-06-03T00", "s")
    for path in sorted(moved.glob("qpesums/*/CB_GC_PCP_1H_RAD.*.gz")):
        header, raw = decode(gzip.decompress(path.read_bytes()))
        stamp = np.datetime64(f"{header.stamp[0]}-{header.stamp[1]:02d}-{header.stamp[2]:02d}", "s")
        stamp = stamp + header.stamp[3] * HOUR
        if stamp >= changed:
            path.unlink()
        if stamp > changed:
            earlier = path.parent.parent / str(stamp - HOUR)[:10].replace("-", "")
            content = packed(encode(header.at(stamp - HOUR), raw))
            (earlier / file_name("CB_GC_PCP_1H_RAD", stamp - HOUR)).write_bytes(content)
    assert main(["inspect", str(moved), "--clock", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["clocks_agree"] is False
    assert told["clock_offsets"]["qpesums"] is None
    (wrong,) = told["clock_warnings"]
    assert (wrong["source"], wrong["lag_h"], wrong["ends"]) == ("qpesums.rain1h", -1, None)
    assert wrong["begins"]["earliest"] <= "2021-06-03T00:00:00" <= wrong["begins"]["latest"]
    assert len(told["clock_stretches"]) == 2
