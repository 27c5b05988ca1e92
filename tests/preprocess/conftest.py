"""A tiny archive in memory: an analysis on a turned Lambert grid, radar rain, and a coarse driver."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stormcast_train.fields.grid import RegularDomain
from stormcast_train.fields.times import Period
from stormcast_train.fields.variable_set import VariablesConfig
from stormcast_train.preprocess.request import PreprocessRequest
from stormcast_train.sources.config import SourceConfig

MODULE = "tiny_archive"


@pytest.fixture
def tiny_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two and a half days of files (`tiny_archive.write_hour` says what is in them)."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    import tiny_archive as made

    archive = tmp_path / "archive"
    made.write(archive, "2021-06-01T00", 60)
    return archive


@pytest.fixture
def asked(tiny_archive: Path, tmp_path: Path) -> Callable[..., PreprocessRequest]:
    """A request for the tiny archive; keywords change it."""

    def make(**changes: Any) -> PreprocessRequest:
        period = changes.pop("period", "2021-06-01T00/2021-06-03T00")
        readers = {
            n: {"kind": f"{MODULE}:Tiny", "options": {"product": n}} for n in ("analysis", "radar", "driver")
        }
        roles = {
            "state": {"*": "analysis", "rain1h": "radar"},
            "background": {"*": "driver"},
            "static": {"*": "analysis"},
        }
        source = SourceConfig.model_validate({"name": "tiny", "readers": readers, **roles})
        facts: dict[str, Any] = {
            "domain": RegularDomain(
                name="tiny", south=23.3, north=23.9, west=120.7, east=121.3, shape=(13, 11), halo_degrees=1.0
            ),
            "variables": VariablesConfig(
                name="tiny", state=("t2m", "rain1h"), background=("msl",), static=("orog",)
            ),
            "source": source,
            "archive": tiny_archive,
            "store": tmp_path / "store",
            "period": Period.parse(period) if period else None,
            "workers": 1,
        }
        return PreprocessRequest(**{**facts, **changes})

    return make


@pytest.fixture
def bytes_of() -> Callable[[Path], dict[str, bytes]]:
    """Every byte of a store that readers see, statistics included, by name; not the records, which tell when
    and by which code.
    """

    def read(store: Path) -> dict[str, bytes]:
        files = {
            p.relative_to(store): p
            for p in sorted(store.rglob("*"))
            if p.is_file() and not p.name.startswith(".")
        }
        seen = {
            name.as_posix(): p.read_bytes()
            for name, p in files.items()
            if name.parts[0] not in ("shards", "manifest.json")
        }
        assert {"state/values/c/0/0/0/0", "moments/state/moments/c/0/0/0/0"} <= set(seen)
        return seen

    return read
