"""Source configs: who supplies what, and the readers that they build."""

from __future__ import annotations

import pytest
import yaml

from stormcast_train.base.config import CHECKOUT
from stormcast_train.base.errors import RequestError
from stormcast_train.base.typed import typed
from stormcast_train.fields.variables import describe
from stormcast_train.sources.config import SourceConfig
from stormcast_train.sources.opened import MAX_BYTES, MAX_FILES, close_all, opened
from stormcast_train.sources.source import Source, build_sources


def shipped(name: str) -> SourceConfig:
    return typed(SourceConfig, yaml.safe_load((CHECKOUT / "source" / f"{name}.yaml").read_text()))


@pytest.mark.parametrize("name", ["taiwan", "qpepre", "cwa", "knmi", "india", "ai_driver"])
def test_every_shipped_source_builds_its_readers(name, tmp_path):
    config = shipped(name)
    built = build_sources(config, tmp_path)
    assert set(built) == set(config.readers)
    assert all(isinstance(source, Source) for source in built.values())


def test_rain_comes_from_one_product_only():
    assert shipped("taiwan").reader_of("state", "rain1h") == "qpesums"
    assert shipped("taiwan").reader_of("state", "t2m") == "rwrf"
    assert shipped("qpepre").reader_of("state", "rain1h") == "qpepre"
    assert shipped("qpepre").reader_of("state", "refc") == "qpesums"
    assert {shipped("cwa").reader_of("state", v) for v in ("rain1h", "refc")} == {"cwa"}
    assert shipped("india").background_coarsen == 4


def test_reflectivity_is_never_averaged_by_default():
    assert shipped("taiwan").method_of(describe("refc")) == "nearest"
    assert shipped("india").method_of(describe("u10m")) == "bilinear"


def test_a_method_is_chosen_by_the_name_of_a_variable_before_its_kind():
    chosen = SourceConfig.model_validate(
        {**shipped("taiwan").model_dump(), "regrid": {"accumulation": "area", "rain1h": "conservative"}}
    )
    assert [chosen.method_of(describe(name)) for name in ("rain1h", "rain10m", "t2m", "refc")] == [
        "conservative",
        "area",
        "bilinear",
        "nearest",
    ]


def test_a_role_that_names_an_unknown_reader_is_answered_with_the_nearest():
    with pytest.raises(RequestError, match="Did you mean 'rwrf'"):
        typed(SourceConfig, {"name": "x", "readers": {"rwrf": {"kind": "rwrp"}}, "state": {"*": "rwrp"}})
    with pytest.raises(RequestError, match="no reader for the background variable"):
        shipped("knmi").reader_of("background", "t2m")


def test_an_outsider_adds_a_reader_by_its_path(tmp_path):
    readers = {"mine": {"kind": "stormcast_train.sources.qpepre:Qpepre", "options": {}}}
    config = typed(SourceConfig, {"name": "x", "readers": readers, "state": {"*": "mine"}})
    assert build_sources(config, tmp_path)["mine"].name == "mine"
    for kind, complaint in (
        ("no.such:Thing", "cannot be imported"),
        ("stormcast_train.sources.qpepre:Nothing", "has no 'Nothing'"),
    ):
        broken = typed(
            SourceConfig, {"name": "x", "readers": {"mine": {"kind": kind}}, "state": {"*": "mine"}}
        )
        with pytest.raises(RequestError, match=complaint):
            build_sources(broken, tmp_path)


class Kept:
    """A stand-in for an opened file that counts its closings."""

    closed = 0

    def __init__(self, bytes_held: int = 0) -> None:
        self.bytes_held = bytes_held

    def close(self) -> None:
        Kept.closed += 1


def _keep(path):
    return Kept()


def _keep_large(path):
    return Kept(MAX_BYTES // 2 + 1)


def test_of_files_that_lie_in_memory_only_as_many_are_kept_as_fit(tmp_path):
    close_all()
    Kept.closed = 0
    for name in ("a", "b", "c"):
        (tmp_path / name).touch()
        opened(tmp_path / name, _keep_large)
    assert Kept.closed == 2, "two of them are more than may be held"
    close_all()
    assert Kept.closed == 3


def test_only_the_latest_few_files_stay_open(tmp_path):
    close_all()
    Kept.closed = 0
    paths = [tmp_path / str(i) for i in range(MAX_FILES + 5)]
    for path in paths:
        path.touch()
    first = opened(paths[0], _keep)
    assert opened(paths[0], _keep) is first
    for path in paths:
        opened(path, _keep)
    assert Kept.closed == 5
    assert opened(paths[0], _keep) is not first
    close_all()
    assert Kept.closed == MAX_FILES + 6
