"""`init=`: what is taken of another run's weights."""

from __future__ import annotations

import pytest
import tiny_stages
import torch

from stormcast_train.base.errors import RequestError
from stormcast_train.forecast.emulator import Emulator
from stormcast_train.networks.config import NetworkConfig
from stormcast_train.networks.songunet import SongUNets
from stormcast_train.store.view import StoreView
from stormcast_train.training.setup.build_stage import build_stage
from stormcast_train.training.setup.warm_start import Layout, start_from

TINY = NetworkConfig(model_channels=8, channel_mult=(1, 2), num_blocks=1)
HELD = Layout(("state:t2m", "state:rain1h", "static:orog"), ("t2m", "rain1h"))
FIRST, LAST = "enc.12x12_conv.weight", "dec.12x12_aux_conv"


def held_weights() -> dict:
    return {
        name: value.numpy()
        for name, value in SongUNets().regression(TINY, (12, 8), 3, 2, seed=1).state_dict().items()
    }


def only(state, ending: str) -> torch.Tensor:
    return torch.as_tensor(next(value for name, value in state.items() if name.endswith(ending)))


def test_channels_are_matched_by_name_and_new_ones_keep_their_initial_weights():
    asked = Layout(("static:orog", "state:u10m", "state:t2m"), ("u10m", "t2m"))
    network, initial = (SongUNets().regression(TINY, (12, 8), 3, 2, seed=2) for _ in range(2))
    theirs, before = held_weights(), initial.state_dict()
    said = start_from(network, theirs, HELD, asked)
    after = network.state_dict()
    first, last, bias = (only(after, part) for part in (FIRST, f"{LAST}.weight", f"{LAST}.bias"))
    assert torch.equal(first[:, 0], only(theirs, FIRST)[:, 2])  # orog
    assert torch.equal(first[:, 1], only(before, FIRST)[:, 1])  # u10m is new
    assert torch.equal(first[:, 2], only(theirs, FIRST)[:, 0])  # t2m
    assert torch.equal(last[1], only(theirs, f"{LAST}.weight")[0])
    assert torch.equal(last[0], only(before, f"{LAST}.weight")[0])
    assert bias[1] == only(theirs, f"{LAST}.bias")[0]
    rest = [name for name in after if not name.endswith((FIRST, f"{LAST}.weight", f"{LAST}.bias"))]
    assert len(rest) == len(after) - 3 > 50
    assert not all(torch.equal(before[name], torch.from_numpy(theirs[name])) for name in rest)
    assert all(torch.equal(after[name], torch.from_numpy(theirs[name])) for name in rest)
    assert said.endswith("2 of 3 inputs and 1 of 2 outputs by name; new channels: state:u10m, output u10m")


def test_layers_are_matched_by_level_so_the_grid_may_be_another():
    network = SongUNets().regression(TINY, (20, 16), 3, 2, seed=2)
    said = start_from(network, held_weights(), HELD, HELD)
    assert said.startswith(f"{len(network.state_dict())} of {len(network.state_dict())} tensors are taken")
    assert torch.equal(only(network.state_dict(), "enc.20x20_conv.weight"), only(held_weights(), FIRST))


def test_a_denoiser_sees_the_noisy_state_before_its_conditions():
    held, asked = (
        Layout((*(f"noisy:{name}" for name in names), "static:orog"), names)
        for names in (("t2m",), ("t2m", "u10m"))
    )
    assert asked.inputs == ("noisy:t2m", "noisy:u10m", "static:orog")
    parent, network = (
        SongUNets().denoiser(TINY, (12, 8), 1, 1, seed=1),
        SongUNets().denoiser(TINY, (12, 8), 1, 2, seed=2),
    )
    start_from(network, {name: value.numpy() for name, value in parent.state_dict().items()}, held, asked)
    first, theirs = (only(n.state_dict(), FIRST) for n in (network, parent))
    assert torch.equal(first[:, [0, 2]], theirs)


def test_a_wider_network_is_refused():
    wide = SongUNets().regression(
        NetworkConfig(model_channels=16, channel_mult=(1, 2), num_blocks=1), (12, 8), 3, 2, seed=0
    )
    with pytest.raises(RequestError, match="another network"):
        start_from(wide, held_weights(), HELD, HELD)


def test_a_stage_with_other_conditions_starts_from_what_it_shares(tiny_store, trained):
    conditions = {"background": ["target"], "position": True}
    request = tiny_stages.request(
        tiny_store, "regression", conditions=conditions, init=str(trained["regression"])
    )
    stage, _ = build_stage(request, tiny_stages.CPU)
    held, asked = (
        Emulator.load(trained["regression"]).step_model.conditions.channels,
        stage.step.conditions.channels,
    )
    theirs = only(Emulator.load(trained["regression"]).step_model.network.state_dict(), FIRST)
    first = only(stage.network.state_dict(), FIRST)
    shared = [name for name in asked if name in held]
    assert asked != held
    assert torch.equal(first[:, [asked.index(n) for n in shared]], theirs[:, [held.index(n) for n in shared]])
    assert (
        f"{len(shared)} of {len(asked)} inputs and 2 of 2 outputs by name; new channels: latitude, longitude"
        in stage.started
    )


def test_weights_that_learned_another_transform_are_taken_and_it_is_said(tiny_store, trained):
    def started(**override):
        view = StoreView(override=override) if override else None
        request = tiny_stages.request(
            tiny_store, "regression", init=str(trained["regression"]), variables=view
        )
        return build_stage(request, tiny_stages.CPU)[0].started

    assert "warning" not in started()
    said = started(rain1h={"transform": {"kind": "sqrt", "scale": 0.5}})
    assert (
        "warning: these weights were trained on something else: state rain1h was seen through log1p" in said
    )
    assert "and here it is through sqrt {'scale': 0.5}" in said
