"""Broken files, killed processes and rival writers leave the store of a clean run, gaps excepted, and every
gap has its reason.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stormcast_train.base.errors import UnreadableError
from stormcast_train.cli import main
from stormcast_train.fields.reasons import Reason
from stormcast_train.sources import detect
from stormcast_train.store.reader import Store, open_store

DOMAIN = ["domain=taiwan_tiny", "domain.shape=[20,12]", "domain.halo_degrees=1"]
PERIOD = "period=2021-06-01T00/2021-06-03T12"
CELLS = {
    "absurd temperature": Reason.OUT_OF_RANGE,
    "NaN stripe": Reason.NOT_IN_FILE,
    "negative rain": Reason.OUT_OF_RANGE,
}
FILES = {
    "missing": Reason.NOT_RECEIVED,
    "truncated": Reason.UNREADABLE,
    "wrong time inside": Reason.UNREADABLE,
}
SUFFIXES = {"rwrf": [""], "qpesums": [".gz"], "era5": [".nc", ".zip"]}
NAMES = {"rwrf": ("t2m", "u10m", "v10m"), "qpesums": ("rain1h",)}


def words(archive: Path, store: Path, *more: str) -> list[str]:
    return ["preprocess", *DOMAIN, PERIOD, "variables=ncdr", f"archive={archive}", f"store={store}", *more]


def content(store: Path) -> dict[str, bytes]:
    """Every byte that a reader sees, by name."""
    files = (p for p in sorted(store.rglob("*")) if p.is_file() and not p.name.startswith("."))
    return {
        p.relative_to(store).as_posix(): p.read_bytes()
        for p in files
        if "shards" not in p.parts and p.name != "manifest.json"
    }


def start(archive: Path, store: Path, *more: str) -> subprocess.Popen[bytes]:
    program = "import sys; from stormcast_train.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, *words(archive, store, *more)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("spoiled") / "archive"
    assert main(["synthesize", *DOMAIN, PERIOD, f"out={out}", "faults=true", "qpepre=false"]) == 0
    return out


@pytest.fixture(scope="module")
def once(spoiled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of one undisturbed run, with one process."""
    store = tmp_path_factory.mktemp("once") / "store"
    assert main(words(spoiled, store, "workers=1")) == 0
    return store


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("clean")
    assert main(["synthesize", *DOMAIN, PERIOD, f"out={folder / 'archive'}", "qpepre=false"]) == 0
    assert main(words(folder / "archive", folder / "store", "workers=1")) == 0
    return open_store(folder / "store")


def test_every_fault_is_a_gap_with_its_reason_and_nothing_else_changes(
    spoiled: Path, once: Path, clean: Store
) -> None:
    faults: list[dict[str, Any]] = [
        f for f in json.loads((spoiled / "faults.json").read_text()) if f["source"] in NAMES
    ]
    assert {f["fault"] for f in faults} == {*CELLS, *FILES}  # two and a half days hold every kind
    store = open_store(once)
    state, whole = store.group("state"), clean.group("state")
    rows = np.arange(len(state.times))
    mask, expected = state.mask(rows), whole.mask(rows)
    for fault in faults:
        row = int(state.rows(fault["time"])[0])
        for name in NAMES[fault["source"]]:
            channel = state.index([name])[0]
            if fault["fault"] in FILES:
                assert (mask[row, channel] == FILES[fault["fault"]]).all(), fault
            elif name in ("t2m", "rain1h"):
                assert (mask[row, channel] == CELLS[fault["fault"]]).any(), fault
            expected[row, channel] = mask[row, channel]
    np.testing.assert_array_equal(mask, expected)
    values, truth = state.read(rows), whole.read(rows)
    np.testing.assert_array_equal(values, np.where(mask == 0, truth, np.nan))
    unreadable = [f for f in faults if FILES.get(f["fault"]) == Reason.UNREADABLE]
    reports = " ".join(d for gap in store.manifest["groups"]["state"]["gaps"] for d in gap["details"])
    assert all(Path(f["path"]).name in reports for f in unreadable)


def boundaries(path: Path) -> list[int]:
    """Where to cut: nothing, one byte, inside the first bytes, the sizes of headers, the middle, all but a
    little.
    """
    size = path.stat().st_size
    cuts = {
        0,
        1,
        4,
        8,
        96,
        512,
        1024,
        2048,
        size // 4,
        size // 2,
        3 * size // 4,
        size - 512,
        size - 8,
        size - 1,
    }
    return sorted(c for c in cuts if 0 <= c < size)


@pytest.mark.parametrize("folder", ["rwrf", "qpesums", "era5"])
def test_a_file_cut_anywhere_is_unreadable_and_never_half_a_field(
    clean: Store, tmp_path: Path, folder: str
) -> None:
    archive = Path(clean.manifest["archive"])
    kinds: dict[str, Path] = {}
    for path in sorted(p for p in (archive / folder).rglob("*") if p.is_file()):
        kinds.setdefault(re.sub(r"\d+", "", path.name), path)
    assert sorted(path.suffix for path in kinds.values()) == SUFFIXES[folder]
    for path in kinds.values():
        for cut in boundaries(path):
            part = tmp_path / path.name
            part.write_bytes(path.read_bytes()[:cut])
            with pytest.raises(UnreadableError, match=re.escape(str(part))):  # which says why of this file
                detect.read(part)


KILLS = [pytest.param(seed, marks=[] if seed < 3 else [pytest.mark.slow]) for seed in range(20)]


@pytest.mark.parametrize("seed", KILLS)
def test_a_run_killed_at_any_moment_is_completed_to_the_same_bytes(
    spoiled: Path, once: Path, tmp_path: Path, seed: int
) -> None:
    store = tmp_path / "store"
    process = start(spoiled, store, "workers=2")
    while not (store / "plan.json").is_file() and process.poll() is None:
        time.sleep(0.01)
    time.sleep(float(np.random.default_rng(seed).uniform(0, 4)))
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert main(words(spoiled, store, "workers=1")) == 0
    assert content(store) == content(once)
    assert open_store(store).fingerprint == open_store(once).fingerprint


def test_of_two_writers_one_waits_or_is_refused_and_the_store_is_whole(
    spoiled: Path, once: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    rivals = [start(spoiled, store, "workers=1") for _ in range(2)]
    ends = [(process.wait(), process.stderr.read().decode() if process.stderr else "") for process in rivals]
    assert sorted(code for code, _ in ends) in ([0, 0], [0, 1])
    assert all("another preprocess is writing" in reported for code, reported in ends if code == 1), ends
    assert content(store) == content(once)


def test_parts_at_the_same_time_make_the_same_bytes_and_one_of_them_publishes(
    spoiled: Path, once: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    parts = [start(spoiled, store, "workers=1", f"part={n}/2") for n in (1, 2)]
    for process in parts:
        reported = process.stderr.read().decode() if process.stderr else ""
        assert process.wait() == 0, reported
    assert content(store) == content(once)
