"""What a careless or unlucky user meets: one clear message, nothing left behind, no false reason."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from stormcast_train.base.console import Console
from stormcast_train.base.errors import RequestError
from stormcast_train.cli import main
from stormcast_train.fields.grid import RegularDomain
from stormcast_train.fields.variable_set import VariablesConfig
from stormcast_train.preprocess import build_store
from stormcast_train.preprocess.background import BackgroundConfig
from stormcast_train.preprocess.driver_blur import BlurConfig
from stormcast_train.preprocess.engine import DaskConfig
from stormcast_train.preprocess.index import _names_time
from stormcast_train.preprocess.request import PreprocessRequest
from stormcast_train.sources.quality_config import RangeCheck, StuckCheck
from stormcast_train.store.reader import open_store

Ask = Callable[..., PreprocessRequest]
QUIET = Console(quiet=True)


@pytest.mark.parametrize(
    ("name", "matches"),
    [
        ("CB_GC_PCP_1H_RAD.20210601.0400.gz.part", True),
        ("CB_GC_PCP_1H_RAD.20210601.0800.gz.tmp", False),  # another hour of the day
        ("CB_GC_PCP_1H_RAD.20210601.0410.gz", False),
        ("wrfout_d01_2021-06-01_04_interp", True),
        ("wrfout_d01_2021-06-01_04:00:00", True),
        ("wrfout_d01_2021-06-01_05_interp", False),
        ("t2m_20210601T04.nc", True),
        ("t2m_2021060104.nc", True),
        ("era5_20210601.nc", True),  # a day in a file
        ("era5_202106.nc", True),  # a month in a file
        ("era5_202107.nc", False),
        ("copy of 3.gz", False),
    ],
)
def test_a_refused_file_is_the_reason_of_the_times_in_its_name_and_of_no_other(
    name: str, matches: bool
) -> None:
    assert _names_time(name, "2021-06-01T04:00:00") is matches


def test_a_wrong_request_leaves_nothing_that_a_right_one_stumbles_over(asked: Ask) -> None:
    south = RegularDomain(
        name="far", south=60.0, north=61.0, west=10.0, east=11.0, shape=(5, 5), halo_degrees=1.0
    )
    request = asked(domain=south)
    with pytest.raises(RequestError, match="does not reach"):
        build_store.preprocess(request, QUIET)
    assert not request.store.exists() or not list(request.store.iterdir())
    assert build_store.preprocess(asked(), QUIET)["published"]


def test_a_blur_of_an_unknown_variable_is_refused(asked: Ask) -> None:
    with pytest.raises(RequestError, match="names nope, which is no background variable"):
        build_store.preprocess(
            asked(background=BackgroundConfig(blur=BlurConfig(kind="spectral", cutoff_km={"nope": 400.0}))),
            QUIET,
        )


@pytest.mark.parametrize(
    ("name", "step", "reported"),
    [("moments", "10m", "none of state, background"), ("radar", "7min", "does not divide a day")],
)
def test_a_role_that_cannot_be_is_refused_by_name(name: str, step: str, reported: str) -> None:
    with pytest.raises(ValidationError, match=reported):
        VariablesConfig.model_validate(
            {"name": "x", "state": ["t2m"], "groups": {name: {"variables": ["refc"], "step": step}}}
        )


def test_dask_without_slurm_or_scheduler_says_so(asked: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(RequestError, match="needs sbatch"):
        build_store.preprocess(asked(executor="dask", dask=DaskConfig(cluster="slurm")), QUIET)


def test_a_plus_does_not_make_a_wrong_key_right(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["preprocess", "domain=taiwan_tiny", "archive=a", "store=s", "+wokers=3"]) == 2
    assert "wokers" in capsys.readouterr().err


def test_a_store_below_a_file_is_refused(asked: Ask) -> None:
    request = asked()
    (request.archive / "file").write_text("x")
    with pytest.raises(RequestError, match=r"file/store cannot be made: "):
        build_store.preprocess(asked(store=request.archive / "file" / "store"), QUIET)


def test_a_changed_check_of_an_existing_store_is_refused_and_named(asked: Ask) -> None:
    build_store.preprocess(asked(), QUIET)
    source = asked().source
    checks = source.quality.model_copy(
        update={"stuck": StuckCheck(runs=5), "range": RangeCheck(enabled=False)}
    )
    with pytest.raises(
        RequestError,
        match=r"source\.quality\.range\.enabled was true and is now false; source\.quality\.stuck\.runs was 3 and is now 5",
    ):
        build_store.preprocess(asked(source=source.model_copy(update={"quality": checks})), QUIET)


def test_a_finished_store_that_may_only_be_read_is_done(asked: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    request = asked(period="2021-06-01T00/2021-06-02T00")
    build_store.preprocess(request, QUIET)
    (request.store / ".lock").unlink()
    (request.store / ".lock").mkdir()  # whoever may write does so through the lock
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert build_store.preprocess(request, QUIET)["shards_written"] == 0
    with pytest.raises(OSError, match="directory"):
        build_store.preprocess(asked(), QUIET)


@pytest.mark.parametrize("hours", [13, 37])
def test_a_period_that_ends_within_a_day_grows_by_an_hour(
    asked: Ask, tmp_path: Path, bytes_of: Callable[[Path], dict[str, bytes]], hours: int
) -> None:
    def until(hour: int, store: str) -> Path:
        end = np.datetime64("2021-06-01T00") + np.timedelta64(hour, "h")
        build_store.preprocess(request := asked(period=f"2021-06-01T00/{end}", store=tmp_path / store), QUIET)
        return request.store

    before = open_store(until(hours, "grown")).fingerprint
    grown, at_once = until(hours + 1, "grown"), until(hours + 1, "at once")
    assert open_store(grown).fingerprint == open_store(at_once).fingerprint != before
    assert bytes_of(grown) == bytes_of(at_once)


def test_folders_with_spaces_and_chinese_names_are_folders(asked: Ask, tmp_path: Path) -> None:
    plain = build_store.preprocess(asked(period="2021-06-01T00/2021-06-01T06"), QUIET)["fingerprint"]
    archive, store = tmp_path / "my 臺灣 資料 = [a]", tmp_path / "存 放 #1"
    asked().archive.rename(archive)
    assert (
        build_store.preprocess(
            asked(period="2021-06-01T00/2021-06-01T06", archive=archive, store=store), QUIET
        )["fingerprint"]
        == plain
    )
