"""`processes=N`: the same command again as N ranks on this machine. Torch-free.

The ranks stay in the command's process group, so ending the group ends them; they also end when the launching
process does. Each leaves a report (its result or its error), so that one clear message reaches the person,
not N.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from stormcast_train.base.errors import FailedError, StoppedError, StormcastError, from_report, to_report
from stormcast_train.base.files import write_json
from stormcast_train.distributed.ranks import LOCAL, Ranks, ranks_from_environment

REPORTS = "STORMCAST_RANK_REPORTS"
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
GRACE_S = 10.0  # for the ranks that outlive a failed one
PATIENCE_S = 120.0  # for the ranks that outlive one that ended well or stopped
POLL_S = 0.05
COMMAND = (sys.executable, "-m", "stormcast_train.cli")
PR_SET_PDEATHSIG = 1


def run_ranks(processes: int, words: Sequence[str]) -> dict[str, Any]:
    """Run `stormcast <words>` as `processes` ranks and give rank 0's result, or raise the error of the first
    rank that failed.
    """
    with tempfile.TemporaryDirectory(prefix="stormcast-ranks-") as folder:
        launch = _Launch(processes, words, Path(folder))
        with launch.forwarding():
            failed = launch.wait()
        return _outcome(Path(folder), launch, failed)


@contextmanager
def reporting() -> Iterator[dict[str, Any]]:
    """Around the work of a rank: what is put into the yielded dict, or the error that ends it, reaches the
    launching process.

    Outside a local launch it does nothing.
    """
    result: dict[str, Any] = {}
    folder = os.environ.get(REPORTS)
    if folder is None:
        yield result
        return
    _die_with_launcher()
    report = _report(folder)
    try:
        yield result
        write_json(report, {"result": result})
    except StormcastError as error:
        leave_report(error)
        raise SystemExit(error.exit_code) from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise
        write_json(report, {"errno": error.errno, "text": error.strerror, "filename": error.filename})
        raise SystemExit(1) from None


def leave_report(error: StormcastError) -> bool:
    """Report to the launching process what ends this rank; False where there is none."""
    folder = os.environ.get(REPORTS)
    if folder is not None:
        write_json(_report(folder), to_report(error))
    return folder is not None


def stop_with_launcher(ranks: Ranks) -> None:
    """Have torchrun's end ask this rank to stop (Linux): a signal that torchrun does not pass on, SIGUSR1 for
    one, only ends torchrun.
    """
    if ranks.launcher == "torchrun" and sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _report(folder: str) -> Path:
    return Path(folder) / f"{ranks_from_environment().rank}.json"


class _Launch:
    """The child processes of one launch."""

    def __init__(self, processes: int, words: Sequence[str], folder: Path) -> None:
        port = _free_port()
        self.stop_asked = False
        self.children = [_start(rank, processes, port, words, folder) for rank in range(processes)]

    @contextmanager
    def forwarding(self) -> Iterator[None]:
        """Signals that ask this process to stop are passed on; no child outlives the context."""

        def forward(number: int, _: FrameType | None) -> None:
            self.stop_asked = True
            self._signal(number)

        previous = {number: signal.signal(number, forward) for number in FORWARDED}
        try:
            yield
        finally:
            self._signal(signal.SIGKILL)
            for child in self.children:
                child.wait()
            for number, handler in previous.items():
                signal.signal(number, handler)

    def wait(self) -> list[int]:
        """Until all have ended, or have had their time after the first; gives the ranks that failed by
        themselves, in that order.
        """
        failed: list[int] = []
        deadline = float("inf")
        while True:
            codes = [child.poll() for child in self.children]
            for rank, code in enumerate(codes):
                if code not in (None, 0, StoppedError.exit_code) and rank not in failed:
                    failed.append(rank)
            if None not in codes or time.monotonic() > deadline:
                return failed
            if any(code is not None for code in codes):
                deadline = min(deadline, time.monotonic() + (GRACE_S if failed else PATIENCE_S))
            time.sleep(POLL_S)

    def _signal(self, number: int) -> None:
        for child in self.children:
            if child.poll() is None:
                child.send_signal(number)


def _start(rank: int, world: int, port: int, words: Sequence[str], folder: Path) -> subprocess.Popen[bytes]:
    environment = {
        "OMP_NUM_THREADS": "1",
        **os.environ,
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        LOCAL: str(os.getpid()),
        REPORTS: str(folder),
    }
    return subprocess.Popen([*COMMAND, *words], env=environment, stdout=sys.stderr.fileno())


def _outcome(folder: Path, launch: _Launch, failed: Sequence[int]) -> dict[str, Any]:
    """Rank 0's result where no rank failed; otherwise the error of the first that did not merely lose
    another.
    """
    reports: dict[int, dict[str, Any]] = {}
    for path in sorted(folder.glob("*.json")):
        reports[int(path.stem)] = json.loads(path.read_text())
    causes = [rank for rank in failed if not reports.get(rank, {}).get("facts", {}).get("peer_gone")]
    rank = next(iter([*causes, *failed]), 0)
    report = reports.get(rank, {})
    if "result" in report:
        return dict(report["result"])
    if "errno" in report:
        raise OSError(report["errno"], report["text"], report["filename"])
    if "error" in report:
        raise from_report(report)
    if launch.stop_asked:
        raise StoppedError("stopped on request; the same command resumes")
    code = launch.children[rank].returncode
    how = f"ended with exit code {code} (its message is above)"
    if code < 0:
        how = f"was killed by {signal.Signals(-code).name}"
    raise FailedError(
        f"rank {rank} {how}, and the others were ended; the same command resumes from the last checkpoint",
        rank=rank,
    )


def _die_with_launcher() -> None:
    """Have the kernel end this rank when the launching process dies, however it dies (Linux)."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(os.environ[LOCAL]):
        os.kill(os.getpid(), signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
