"""Examples one ahead: the same bits as made in place, and what goes wrong is raised where it is needed."""

from __future__ import annotations

import threading
from dataclasses import fields, replace

import pytest
import tiny_stages
import torch

from stormcast_train.training.loop.prefetch import Examples
from stormcast_train.training.setup.build_stage import build_stage

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def stages(tiny_store, trained):
    """Stage and stream by kind; the diffusion's means are kept."""
    found = {
        "regression": build_stage(tiny_stages.request(tiny_store, "regression"), CPU),
        "diffusion": build_stage(
            tiny_stages.request(tiny_store, "diffusion", regression=str(trained["regression"])), CPU
        ),
    }
    yield found
    for _, stream in found.values():
        stream.close()


def makers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("examples")]


@pytest.mark.parametrize("kind", ["regression", "diffusion"])
def test_an_example_made_ahead_has_the_bits_of_one_made_in_place(stages, kind):
    stage, stream = stages[kind]
    with Examples(stage, stream, None) as examples:
        examples.prefetch(range(4, 8))
        assert len(makers()) == 1
        ahead = examples.take(range(4, 8))
    assert makers() == []
    here = stage.example(stream.batch(range(4, 8)))
    held = {
        field.name: getattr(here, field.name)
        for field in fields(here)
        if getattr(here, field.name) is not None
    }
    drawn = {"regression": set(), "diffusion": {"sigma_B", "noise"}}[kind]
    assert set(held) == {"condition", "wanted_BCHW", "present_BCHW"} | drawn
    assert all(torch.equal(getattr(ahead, name), value) for name, value in held.items())
    assert all(getattr(ahead, name) is None for name in {"sigma_B", "noise"} - drawn)


def test_an_example_that_needs_a_network_is_made_by_the_loop_itself(stages):
    stage, stream = stages["diffusion"]
    with Examples(replace(stage, setting=replace(stage.setting, kept_mean=None)), stream, None) as examples:
        examples.prefetch(range(4))
        assert makers() == []
        assert torch.equal(examples.take(range(4)).sigma_B, stage.example(stream.batch(range(4))).sigma_B)


def test_an_error_of_the_thread_is_raised_where_the_example_is_taken(stages):
    stage, _ = stages["regression"]

    class Broken:
        def prefetch(self, positions):
            pass

        def batch(self, positions):
            raise OSError(f"cannot read {list(positions)}")

    with Examples(stage, Broken(), None) as examples:
        examples.prefetch(range(2))
        with pytest.raises(OSError, match=r"cannot read \[0, 1\]"):
            examples.take(range(2))


def test_the_wait_for_an_example_is_counted_and_none_without_one(stages):
    stage, stream = stages["regression"]
    with Examples(stage, stream, None) as examples:
        assert examples.waited_s == 0
        examples.take(range(2))
        first = examples.waited_s
        assert first > 0
        examples.prefetch(range(2, 4))
        assert examples.waited_s == first


def test_a_window_is_not_changed_by_an_example_of_it(stages):
    stage, stream = stages["diffusion"]
    batch = stream.batch(range(4))
    before = [
        x.clone() for x in (batch.window.background_BJChw, batch.window.states_BKCHW, batch.target_BCHW)
    ]
    stage.example(batch)
    after = (batch.window.background_BJChw, batch.window.states_BKCHW, batch.target_BCHW)
    assert all(
        torch.equal(a.nan_to_num(), b.nan_to_num()) and torch.equal(a.isnan(), b.isnan())
        for a, b in zip(before, after, strict=True)
    )
