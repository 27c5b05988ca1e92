"""Worker processes that die or fail say so, and are never left behind."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stormcast_train.base.errors import FailedError
from stormcast_train.preprocess.pool import run_all

PROGRAM = """
import sys, time
from pathlib import Path
from stormcast_train.preprocess.pool import run_all
sys.path.insert(0, {here!r})
from test_pool import linger
if __name__ == "__main__":
    list(run_all(linger, {folder!r}, [1, 2], 2))
"""


def die(_: object, task: int) -> int:
    os._exit(3)


def linger(folder: str, task: int) -> int:
    (Path(folder) / f"{task}").write_text(str(os.getpid()))
    time.sleep(60)
    return task


def full(_: object, task: int) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "shard")


def test_a_worker_that_dies_is_a_failure_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import test_pool as importable

    with pytest.raises(FailedError, match="take fewer workers"):
        list(run_all(importable.die, None, [1, 2, 3], 2))


def test_no_space_is_a_failure_that_can_be_repeated() -> None:
    with pytest.raises(FailedError, match="no space left"):
        list(run_all(full, None, [1], 1))


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PROGRAM.format(here=str(Path(__file__).parent), folder=str(tmp_path)))
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), str(Path(__file__).parent)]),
    }
    parent = subprocess.Popen([sys.executable, str(script)], env=environment)
    files = [tmp_path / "1", tmp_path / "2"]
    _until(lambda: all(f.is_file() and f.read_text() for f in files))
    workers = [int(f.read_text()) for f in files]
    parent.kill()
    parent.wait()
    _until(lambda: not any(_runs(w) for w in workers))


def _runs(process: int) -> bool:
    status = Path(f"/proc/{process}/stat")
    return status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def _until(true: object, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.1)
