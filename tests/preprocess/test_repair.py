"""What `inspect --verify` finds damaged is as it was after its own advice is taken."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stormcast_train.base.console import Console
from stormcast_train.base.errors import FailedError
from stormcast_train.preprocess import build_store
from stormcast_train.preprocess.request import PreprocessRequest
from stormcast_train.store import zarr_format as z
from stormcast_train.store.describe_store import verify_store
from stormcast_train.store.reader import open_store

Ask = Callable[..., PreprocessRequest]
QUIET = Console(quiet=True)


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 8
    path.write_bytes(content)


def moved(folder: Path) -> None:
    """Other numbers, well written."""
    document = json.loads((folder / "zarr.json").read_text())
    z.write_array(folder, z.read_array(folder) + 1, document["dimension_names"], document["attributes"])


def reworded(path: Path) -> None:
    path.write_text(path.read_text().replace('"attributes": {', '"attributes": {"by": "hand", ', 1))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a flipped byte of lat": lambda s: flipped(s / "state/lat/c/0"),
    "other numbers in lon": lambda s: moved(s / "state/lon"),
    "a driver's lat without file": lambda s: (s / "background/lat/c/0").unlink(),
    "a static lon without folder": lambda s: shutil.rmtree(s / "static/lon"),
    "channel names": lambda s: flipped(s / "state/channel/c/0"),
    "scales": lambda s: moved(s / "state/scale"),
    "the time axis": lambda s: flipped(s / "background/time/c/0"),
    "coverage": lambda s: flipped(s / "moments/state/coverage/c/0/0/0"),
    "metadata of lat": lambda s: reworded(s / "state/lat/zarr.json"),
    "a group's own metadata": lambda s: reworded(s / "background/zarr.json"),
    "metadata of the whole": lambda s: (s / "zarr.json").write_text("{}"),
    "metadata of all moments": lambda s: (s / "moments/zarr.json").unlink(),
    "metadata of values": lambda s: reworded(s / "state/values/zarr.json"),
    "metadata of moments": lambda s: reworded(s / "moments/state/moments/zarr.json"),
    "the manifest": lambda s: (s / "manifest.json").write_text(
        (s / "manifest.json").read_text().replace("tiny", "tint")
    ),
    "a manifest that is none": lambda s: (s / "manifest.json").write_text("{"),
    "a record": lambda s: (s / "shards/state/0.json").write_text(
        (s / "shards/state/0.json").read_text() + " "
    ),
    "moments": lambda s: flipped(s / "moments/state/moments/c/0/0/0/0"),
    "a mask": lambda s: flipped(s / "state/mask/c/1/0/0/0"),
    "values": lambda s: flipped(s / "state/values/c/1/0/0/0"),
    "regrid weights": lambda s: next((s / "weights").glob("state-*.json")).write_text("{}"),
}


def taken(advice: str) -> None:
    """Remove what the advice says to remove."""
    for named in re.findall(r"Remove (\S+?)\.?(?: |$)", advice):
        path = Path(named)
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_the_advice_of_verify_repairs_what_it_found(asked: Ask) -> None:
    request = asked(pack="int16", period="2021-06-01T00/2021-06-02T06")
    build_store.preprocess(request, QUIET)
    before, lat = verify_store(request.store), open_store(request.store).group("state").grid.lat
    fingerprint = open_store(request.store).fingerprint
    for what, damage in DAMAGES.items():
        damage(request.store)
        with pytest.raises(FailedError, match="epeat preprocess") as found:
            verify_store(request.store)
        taken(str(found.value))
        assert build_store.preprocess(request, QUIET)["fingerprint"] == fingerprint, what
        assert verify_store(request.store) == before, what
        np.testing.assert_array_equal(open_store(request.store).group("state").grid.lat, lat, what)
        assert build_store.preprocess(request, QUIET)["shards_written"] == 0, what


def test_a_store_that_was_never_finished_gets_its_coordinates_back(asked: Ask) -> None:
    request = asked()
    build_store.preprocess(request, QUIET)
    (request.store / "manifest.json").unlink()
    flipped(request.store / "state/lat/c/0")
    build_store.preprocess(request, QUIET)
    assert verify_store(request.store)["verified"]


def test_coordinates_that_the_archive_cannot_tell_any_more_are_not_guessed(asked: Ask) -> None:
    request = asked()
    build_store.preprocess(request, QUIET)
    (request.store / "background/lat/c/0").unlink()
    for path in (request.archive / "driver").glob("*.npz"):
        with np.load(path) as z_file:
            arrays = dict(z_file)
        np.savez(path, **(arrays | {"lat": arrays["lat"] + 0.01}))
    with pytest.raises(FailedError, match="the archive now gives different ones"):
        build_store.preprocess(request, QUIET)


def test_what_cannot_be_read_as_json_says_what_to_do(asked: Ask) -> None:
    request = asked(period="2021-06-01T00/2021-06-01T06")
    before = build_store.preprocess(request, QUIET)["fingerprint"]
    record = request.store / "shards/state/0.json"
    record.write_text("")
    with pytest.raises(FailedError, match=r"Remove .*0\.json and repeat preprocess") as found:
        build_store.preprocess(request, QUIET)
    taken(str(found.value))
    assert build_store.preprocess(request, QUIET)["fingerprint"] == before
    (request.store / "state/zarr.json").write_text("{")
    for look in (lambda: build_store.preprocess(request, QUIET), lambda: verify_store(request.store)):
        with pytest.raises(FailedError, match="make the store again in another folder"):
            look()


def test_a_groups_clock_that_was_changed_is_not_believed(asked: Ask) -> None:
    request = asked(period="2021-06-01T00/2021-06-01T06")
    build_store.preprocess(request, QUIET)
    own = request.store / "state/zarr.json"
    own.write_text(own.read_text().replace("2021-06-01T00:00:00", "2021-05-31T00:00:00"))
    with pytest.raises(FailedError, match="is not what was written, and does not follow"):
        build_store.preprocess(request, QUIET)
    with pytest.raises(FailedError, match=r"state/zarr\.json is not what was written"):
        verify_store(request.store)
