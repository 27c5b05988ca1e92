"""`processes=N`, with small programs in the place of `stormcast` (torch-free: these take milliseconds)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import suppress
from pathlib import Path

import pytest

from stormcast_train.base.errors import FailedError, RequestError, StoppedError
from stormcast_train.distributed import local as launch

PREAMBLE = """
import os, signal, sys, time
from pathlib import Path
from stormcast_train.distributed.local import reporting
from stormcast_train.base.errors import RequestError, StoppedError
rank, world, folder = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), Path(sys.argv[1])
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Makes the ranks run this body."""

    def write(body: str) -> list[str]:
        path = tmp_path / "program.py"
        path.write_text(PREAMBLE + textwrap.dedent(body))
        monkeypatch.setattr(launch, "COMMAND", (sys.executable, str(path)))
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        return [str(tmp_path)]

    return write


def test_rank_0s_result_is_the_commands(program):
    words = program(
        "with reporting() as result: result.update(rank=rank, world=world, "
        "threads=os.environ['OMP_NUM_THREADS'])"
    )
    assert launch.run_ranks(3, words) == {"rank": 0, "world": 3, "threads": "1"}


def test_an_error_of_one_rank_is_told_once_with_its_exit_code(program, capfd):
    words = program("with reporting(): raise RequestError('nine does not divide', batch=9)")
    with pytest.raises(RequestError, match="nine does not divide") as caught:
        launch.run_ranks(2, words)
    assert caught.value.facts == {"batch": 9}
    assert capfd.readouterr().err == ""


def test_a_stop_of_all_ranks_is_a_stop_of_the_command(program):
    with pytest.raises(StoppedError, match="stopped at 8"):
        launch.run_ranks(2, program("with reporting(): raise StoppedError('stopped at 8')"))


def test_a_full_disk_is_told_as_such(program):
    with pytest.raises(OSError, match="No space left"):
        launch.run_ranks(1, program("with reporting(): raise OSError(28, 'No space left on device', 'x')"))


def test_a_dead_rank_ends_the_others_after_the_grace_and_does_not_wait_for_them(
    program, tmp_path, monkeypatch
):
    """The others would wait for ever, and so would the patience for ranks
    that outlive one that ended well.
    """
    monkeypatch.setattr(launch, "GRACE_S", 0.2)
    monkeypatch.setattr(launch, "PATIENCE_S", float("inf"))
    words = program("""
        (folder / f".pid{rank}").write_text(str(os.getpid()))
        (folder / f".pid{rank}").rename(folder / f"pid{rank}")
        while rank != 1 or len(list(folder.glob("pid*"))) < 3:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    with pytest.raises(FailedError, match="rank 1 was killed by SIGKILL"):
        launch.run_ranks(3, words)
    assert gone([int(path.read_text()) for path in sorted(tmp_path.glob("pid*"))])


def test_the_rank_that_failed_is_told_and_not_the_one_that_lost_it(program):
    words = program("""
        from stormcast_train.base.errors import FailedError
        with reporting():
            while rank == 1 and not (folder / "ready").exists():
                time.sleep(0.02)
            (folder / ("ready" if rank == 0 else "first")).touch()
            if rank == 1:
                raise FailedError("another rank is gone", peer_gone=True)
            while not (folder / "first").exists():
                time.sleep(0.02)
            raise RequestError("the cause")
    """)
    with pytest.raises(RequestError, match="the cause"):
        launch.run_ranks(2, words)


LAUNCHER = """
import sys
from stormcast_train.distributed import local as launch
from stormcast_train.base.errors import StormcastError
launch.COMMAND = (sys.executable, sys.argv[1])
try:
    launch.run_ranks(2, [sys.argv[2]])
except StormcastError as error:
    sys.exit(error.exit_code)
"""
WAITING = """
with reporting():
    seen = []
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda *_: seen.append(1))
    (folder / f".pid{rank}").write_text(str(os.getpid()))
    (folder / f".pid{rank}").rename(folder / f"pid{rank}")
    while not seen:
        time.sleep(0.02)
    raise StoppedError("stopped")
"""


@pytest.fixture
def started(program, tmp_path):
    """A command and its two waiting ranks; what a failed test leaves of them is ended, each by its own id."""
    words = program(WAITING)
    command = [sys.executable, "-c", LAUNCHER, str(tmp_path / "program.py"), *words]
    parent = subprocess.Popen(command, start_new_session=True)
    try:
        wait_for(lambda: len(list(tmp_path.glob("pid*"))) == 2 or parent.poll() is not None, 120)
        yield parent, pids_in(tmp_path)
    finally:
        if parent.poll() is None:
            parent.kill()
        parent.wait(30)
        end_those_of(tmp_path)


def pids_in(folder: Path) -> list[int]:
    return [int(path.read_text()) for path in sorted(folder.glob("pid*"))]


def end_those_of(folder: Path) -> None:
    """The ranks that wrote their ids into `folder` and still run a program of it."""
    for pid in pids_in(folder):
        with suppress(FileNotFoundError, ProcessLookupError):
            if str(folder) in Path(f"/proc/{pid}/cmdline").read_text():
                os.kill(pid, signal.SIGKILL)


def gone(pids: list[int]) -> bool:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        states = [Path(f"/proc/{pid}/stat") for pid in pids]
        if all(not s.exists() or s.read_text().rsplit(")", 1)[1].split()[0] == "Z" for s in states):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_the_command_reaches_every_rank(started, number):
    parent, pids = started
    assert len(pids) == 2
    parent.send_signal(number)
    assert parent.wait(30) == 75
    assert gone(pids)


def test_ending_the_commands_process_group_ends_all_ranks(started):
    parent, pids = started
    assert len(pids) == 2
    assert all(os.getpgid(pid) == os.getpgid(parent.pid) for pid in pids)
    os.killpg(parent.pid, signal.SIGKILL)
    parent.wait(30)
    assert gone(pids)


def test_ranks_do_not_outlive_a_command_that_is_killed(started):
    parent, pids = started
    assert len(pids) == 2
    parent.kill()
    parent.wait(30)
    assert gone(pids)


TORCHRUN_RANK = """
import os, signal, sys, time
from pathlib import Path
from stormcast_train.distributed.local import stop_with_launcher
from stormcast_train.distributed.ranks import ranks_from_environment
from stormcast_train.distributed.signals import StopRequest
folder, ranks = Path(sys.argv[1]), ranks_from_environment()
with StopRequest().listening() as stop:
    stop_with_launcher(ranks)
    (folder / f"pid{ranks.rank}").write_text(str(os.getpid()))
    while not stop.asked:
        time.sleep(0.02)
    (folder / f"asked{ranks.rank}").write_text(stop.reason)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_torchrun_asks_every_rank_to_stop(tmp_path, number):
    """torchrun passes SIGTERM on and dies of SIGUSR1."""
    (tmp_path / "rank.py").write_text(TORCHRUN_RANK)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    words = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        str(tmp_path / "rank.py"),
        str(tmp_path),
    ]
    with (tmp_path / "log").open("wb") as log:
        parent = subprocess.Popen(
            [sys.executable, *words], env=environment, start_new_session=True, stdout=log, stderr=log
        )
    try:
        wait_for(lambda: all((tmp_path / f"pid{rank}").is_file() for rank in (0, 1)), 90)
        parent.send_signal(number)
        wait_for(lambda: all((tmp_path / f"asked{rank}").is_file() for rank in (0, 1)), 30)
        assert (tmp_path / "asked0").read_text() == "SIGTERM was received"
    finally:
        os.killpg(parent.pid, signal.SIGKILL)
        parent.wait(30)
        end_those_of(tmp_path)


def wait_for(fact, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
