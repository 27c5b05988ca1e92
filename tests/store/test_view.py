"""A training takes some of a store's channels and tells them differently; the store stays as it is."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_world

from stormcast_train.base.errors import RequestError
from stormcast_train.fields.transforms import CubeRoot, QuantileMap, SquareRoot
from stormcast_train.fields.variable_set import VariablesConfig
from stormcast_train.fields.variables import describe
from stormcast_train.store import sampling
from stormcast_train.store.reader import open_store
from stormcast_train.store.view import StoreView
from stormcast_train.store.view_request import requested_view
from stormcast_train.store.writer import write_store

NCDR = VariablesConfig(
    name="ncdr", state=("t2m", "u10m", "v10m", "rain1h"), background=("msl", "t2m")
)  # the default of every verb


def asked(**more) -> VariablesConfig:
    return VariablesConfig.model_validate({**NCDR.model_dump(), **more})


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return open_store(tiny_world.write(tmp_path_factory.mktemp("choice") / "store"))


def test_a_request_that_changes_nothing_is_no_choice(store):
    assert requested_view(store, NCDR, ()) is None
    # what the store says already
    assert (
        requested_view(
            store,
            asked(override={"rain1h": {"transform": {"kind": "log1p", "scale": 1.0}, "drizzle": 0.1}}),
            (),
        )
        is None
    )
    assert (
        requested_view(store, asked(drop=["u10m"], add=["rain1h"]), ()) is None
    )  # already absent, already there


def test_what_the_request_itself_repeats_is_kept_for_a_diffusion_whose_regression_changed_it(store):
    repeated = asked(override={"rain1h": {"loss_weight": 1.0}})
    assert requested_view(store, repeated, ("variables.override.rain1h.loss_weight",)).override == {
        "rain1h": {"loss_weight": 1.0}
    }
    assert requested_view(store, repeated, ("variables.override",)).override == {
        "rain1h": {"loss_weight": 1.0}
    }
    assert requested_view(store, repeated, ("variables.override.t2m.loss_weight",)) is None


def test_a_dropped_channel_is_gone_and_the_others_keep_their_values(store):
    chosen = store.viewed(
        requested_view(store, asked(drop=["t2m"], drop_background=["t2m"]), ("variables.drop",))
    )
    state, whole = chosen.group("state"), store.group("state")
    assert state.channels == ("rain1h",)
    assert chosen.group("background").channels == ("u850",)
    rows = np.arange(8)
    assert np.array_equal(state.read(rows), whole.read(rows)[:, 1:], equal_nan=True)
    assert np.array_equal(state.coverage, whole.coverage[1:])
    assert state.available[60].all()  # the hour that t2m lacks
    assert state.statistics("transformed", rows)["rain1h"] == whole.statistics("transformed", rows)["rain1h"]
    assert state.fingerprint(rows) == whole.fingerprint(rows, ["rain1h"])
    with pytest.raises(RequestError, match="holds no 't2m'"):
        state.read(rows, ["t2m"])


def test_a_list_of_the_request_is_taken_in_its_order_and_of_the_groups_default_not_at_all(store):
    request = asked(state=["rain1h", "t2m"])
    assert requested_view(store, request, ("variables.state",)).state == ("rain1h", "t2m")
    assert requested_view(store, request, ()) is None
    state = store.viewed(requested_view(store, request, ("variables.state",))).group("state")
    assert np.array_equal(state.read([3]), store.group("state").read([3])[:, ::-1], equal_nan=True)
    assert state.statistics("value", [3, 4])["t2m"] == store.group("state").statistics("value", [3, 4])["t2m"]


def test_a_role_of_which_nothing_is_left_is_absent(store):
    chosen = store.viewed(requested_view(store, asked(drop_background=["t2m", "u850"]), ()))
    assert chosen.roles == ("state", "static")


@pytest.mark.parametrize(
    ("more", "named", "message"),
    [
        ({"add": ["rain10m"]}, (), "the store's state holds no 'rain10m'. Did you mean 'rain1h'"),
        ({"drop": ["rainh"]}, (), "'rainh', which is not in the state. Did you mean 'rain1h'"),
        ({"state": ["t2m", "refc"]}, ("variables.state",), "the store's state holds no 'refc'"),
        ({"drop": ["t2m", "rain1h"]}, (), "leave no state variable"),
        (
            {"override": {"refc": {"loss_weight": 2}}},
            (),
            "variables.override.refc: the store .* has no such variable",
        ),
        (
            {"override": {"rain1h": {"units": "m"}}},
            (),
            "variables.override.rain1h.units=m: the store holds mm",
        ),
        (
            {"override": {"rain1h": {"low": 400}}},
            (),
            "variables.override.rain1h: .*low=400 is above high=300",
        ),
    ],
)
def test_what_the_store_lacks_or_cannot_be_told_is_refused_with_the_nearest(store, more, named, message):
    with pytest.raises(RequestError, match=message):
        requested_view(store, asked(**more), named)


def test_another_set_takes_its_channels_of_a_store_that_has_them(tmp_path):
    from stormcast_train.base.files import read_json, write_json

    path = tiny_world.write(tmp_path / "store")
    write_json(
        path / "manifest.json",
        {**read_json(path / "manifest.json"), "config": {"variables": {"name": "large"}}},
    )
    small = VariablesConfig(name="small", state=("rain1h",), background=("u850",), static=("orog",))
    choice = requested_view(open_store(path), small, ("variables",))
    assert (choice.state, choice.background, choice.static) == (("rain1h",), ("u850",), ("orog",))
    assert requested_view(open_store(path), small, ()) is None  # the group's default asks for nothing
    with pytest.raises(RequestError, match="holds no 'u10m'"):
        requested_view(open_store(path), NCDR, ("variables",))


@pytest.mark.parametrize(
    "transform",
    [SquareRoot(), CubeRoot(scale=0.2), QuantileMap(values=(0.0, 1.0, 5.0), scores=(-0.5, 1.0, 3.0))],
)
def test_statistics_of_another_transform_are_those_of_a_store_made_with_it(store, tmp_path, transform):
    choice = requested_view(store, asked(override={"rain1h": {"transform": transform.model_dump()}}), ())
    state = store.viewed(choice).group("state")
    whole = store.group("state")
    rain_TYX = whole.read(np.arange(len(whole.times)), ["rain1h"])[:, 0]
    made = describe("rain1h", {"transform": transform.model_dump()})
    other = open_store(
        write_store(
            tmp_path / "other",
            {"state": (tiny_world.GRID, whole.times, {"rain1h": rain_TYX}, None)},
            variables={"rain1h": made},
        )
    )
    rows = np.concatenate([np.arange(10, 70), np.arange(80, 101)])
    for kind in ("value", "transformed", "tendency"):
        assert state.statistics(kind, rows)["rain1h"] == other.group("state").statistics(kind, rows)["rain1h"]
        assert state.statistics(kind, rows)["t2m"] == whole.statistics(kind, rows)["t2m"]


def test_of_many_rows_some_are_read_evenly_and_their_predecessors_for_the_change(store, monkeypatch):
    monkeypatch.setattr(sampling, "SAMPLED_ROWS", 4)
    read: list[int] = []

    def plane(row: int) -> np.ndarray:
        read.append(row)
        return np.full((2, 2), row * row, np.float32)

    variable = describe("rain1h", {"transform": {"kind": "sqrt"}})
    # rows 1..12 in quarters: 1, 4, 7, 10; sqrt(row^2) = row, so the mean is 5.5 and every change 1
    values = sampling.moments_of(variable, plane, np.arange(1, 13), tendency=False)
    assert read == [1, 4, 7, 10]
    assert values[1] == 5.5
    changes = sampling.moments_of(variable, plane, np.arange(1, 13), tendency=True)
    assert (changes[0], changes[1], changes[2]) == (16, 1.0, 0.0)
    assert sorted(set(read)) == [0, 1, 3, 4, 6, 7, 9, 10]


def test_a_quantile_map_is_fitted_to_the_rain_of_the_rows_asked_for(store):
    state = store.viewed(StoreView(override={"rain1h": {"transform": {"kind": "quantile"}}})).group("state")
    early, late = (
        state.fitted(rows).variables["rain1h"].transform for rows in (np.arange(40), np.arange(60, 100))
    )
    assert early.fitted
    assert early != late
    edges, counts = store.group("state").histogram("rain1h", np.arange(40))
    at = int(np.searchsorted(edges, early.values[1]))
    from statistics import NormalDist

    assert early.scores[1] == pytest.approx(NormalDist().inv_cdf(counts[:at].sum() / counts.sum()))
