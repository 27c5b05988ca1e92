"""The watchdog's patience, by a clock of its own; that it ends a run in every rank is in
tests/training/test_limits.py.
"""

from __future__ import annotations

import os
import threading
from types import SimpleNamespace

import pytest

from stormcast_train.distributed import watchdog
from stormcast_train.distributed.ranks import Ranks
from stormcast_train.distributed.watchdog import Watchdog


class Clock:
    """Stands where it is put, and knows how often it was looked at."""

    def __init__(self) -> None:
        self.now, self._looks = 100.0, 0
        self._looked = threading.Condition()

    def monotonic(self) -> float:
        with self._looked:
            self._looks += 1
            self._looked.notify_all()
        return self.now

    def put(self, now: float) -> None:
        """To `now`, and wait until the watchdog has seen it."""
        with self._looked:
            self.now, seen = now, self._looks
            assert self._looked.wait_for(lambda: self._looks > seen + 2, 60)


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(watchdog, "TICK_S", 0.001)
    monkeypatch.setattr(watchdog, "time", SimpleNamespace(monotonic=made.monotonic, sleep=lambda _: None))
    return made


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnhandledThreadExceptionWarning"
)  # SystemExit in the place of the process' end
def test_a_beat_within_its_patience_keeps_it_quiet_however_long_the_run_and_a_missing_one_ends_it(
    clock, tmp_path, monkeypatch
):
    told, ended = [], threading.Event()

    def leave(code: int) -> None:
        assert code == 1
        ended.set()
        raise SystemExit

    monkeypatch.setattr(watchdog, "os", SimpleNamespace(getpid=os.getpid, write=lambda *_: None, _exit=leave))
    dog = Watchdog(tmp_path / "hang", Ranks(), 1, 2.0, told.append)
    with dog.watching():
        for step in range(5):
            clock.put(100.0 + 1.9 * (step + 1))  # 1.9 s after the beat before
            dog.beat(8 * (step + 1))
        assert told == []
        clock.put(109.5 + 2.0)  # 2 s are not more than 2 s
        assert told == []
        clock.now = 109.5 + 2.01
        assert ended.wait(60)
    (message,) = told
    assert message.startswith("no step was finished for 2 s (train.watchdog) after 40 samples")
    written = (tmp_path / "hang" / "rank-0.txt").read_text()
    assert written.startswith("attempt 1, rank 0 of 1")
    assert "at 40 samples" in written


def test_without_patience_there_is_no_watchdog(tmp_path):
    before = threading.active_count()
    with Watchdog(tmp_path / "hang", Ranks(), 1, None, lambda _: None).watching():
        assert threading.active_count() == before
