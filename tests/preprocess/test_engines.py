"""Processes, dask and the parts of a job array make bit-identical stores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stormcast_train.base.console import Console
from stormcast_train.base.errors import FailedError, RequestError
from stormcast_train.preprocess import build_store
from stormcast_train.preprocess.locks import locked, opened_lock
from stormcast_train.preprocess.parts import Part
from stormcast_train.preprocess.request import PreprocessRequest
from stormcast_train.store.describe_store import verify_store
from stormcast_train.store.reader import open_store

Ask = Callable[..., PreprocessRequest]
Bytes = Callable[[Path], dict[str, bytes]]
QUIET = Console(quiet=True)
WEEK = "2021-06-01T00/2021-06-03T12"


def test_parts_cover_every_shard_once() -> None:
    for total in (0, 1, 5, 16, 100):
        shards = [s for number in range(1, 8) for s in Part(number, 7).shards(total)]
        assert shards == list(range(total))


@pytest.mark.parametrize("text", ["0/4", "5/4", "3", "a/b", "-1/2"])
def test_what_is_no_part_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="write part=1/16"):
        Part.parse(text)


def test_parts_in_any_order_make_the_store_of_one_run_and_the_last_publishes(
    asked: Ask, tmp_path: Path, bytes_of: Bytes
) -> None:
    whole = asked(period=WEEK)
    build_store.preprocess(whole, QUIET)
    parted = tmp_path / "parted"
    reported = [
        build_store.preprocess(asked(period=WEEK, store=parted, part=Part(n, 3)), QUIET)["published"]
        for n in (2, 3, 1)
    ]
    assert reported == [False, False, True]
    assert bytes_of(parted) == bytes_of(whole.store)
    assert open_store(parted).fingerprint == open_store(whole.store).fingerprint
    assert (
        build_store.preprocess(asked(period=WEEK, store=parted, part=Part(2, 3)), QUIET)["shards_written"]
        == 0
    )


def test_an_unpublished_store_is_finished_by_the_plain_command(
    asked: Ask, tmp_path: Path, bytes_of: Bytes
) -> None:
    request = asked(period=WEEK)
    build_store.preprocess(asked(period=WEEK, part=Part(1, 2)), QUIET)
    assert not (request.store / "manifest.json").exists()
    build_store.preprocess(request, QUIET)
    whole = asked(period=WEEK, store=tmp_path / "whole")
    build_store.preprocess(whole, QUIET)
    assert bytes_of(request.store) == bytes_of(whole.store)


def test_parts_share_the_store_with_each_other_and_with_nobody_else(asked: Ask) -> None:
    request = asked(period=WEEK)
    build_store.preprocess(asked(period=WEEK, part=Part(1, 2)), QUIET)
    with opened_lock(request.store) as other:
        other.share()
        with pytest.raises(FailedError, match="another preprocess is writing"):
            build_store.preprocess(request, QUIET)
        assert (
            build_store.preprocess(asked(period=WEEK, part=Part(2, 2)), QUIET)["published"] is False
        )  # the other may still be writing
    build_store.preprocess(asked(period=WEEK, part=Part(2, 2)), QUIET)
    assert verify_store(request.store)["verified"]


def test_a_part_waits_for_a_whole_run_and_then_says_so(asked: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    request = asked(period=WEEK)
    build_store.preprocess(request, QUIET)
    monkeypatch.setattr("stormcast_train.preprocess.locks.PATIENCE_S", 0.3)
    with locked(request.store), pytest.raises(FailedError, match="another preprocess is writing"):
        build_store.preprocess(asked(period=WEEK, part=Part(1, 2)), QUIET)


def test_dask_makes_the_store_of_one_process(asked: Ask, tmp_path: Path, bytes_of: Bytes) -> None:
    whole = asked(period=WEEK)
    build_store.preprocess(whole, QUIET)
    request = asked(period=WEEK, store=tmp_path / "dask", executor="dask", workers=2)
    build_store.preprocess(request, QUIET)
    assert bytes_of(request.store) == bytes_of(whole.store)
