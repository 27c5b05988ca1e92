from __future__ import annotations

import numpy as np
import pytest
import torch

from stormcast_train.base.errors import RequestError
from stormcast_train.data.crop import Crop, crops_of
from stormcast_train.data.event_config import Event
from stormcast_train.data.mix import CropRule
from stormcast_train.fields.grid import Grid


def test_every_field_of_a_sample_is_cut_at_the_same_offset_and_by_its_position():
    place = torch.arange(9.0)[:, None] * 10 + torch.arange(7.0)
    crop = Crop((4, 3), (9, 7), 0, [5, 6, 7])
    cut, masks = crop(place.expand(3, 2, 9, 7)), crop((place > 0).expand(3, 1, 1, 9, 7))
    assert cut.shape == (3, 2, 4, 3)
    assert masks.shape == (3, 1, 1, 4, 3)
    assert [(int(x[0, 0, 0]) // 10, int(x[0, 0, 0]) % 10) for x in cut] == crop.offsets
    assert Crop((4, 3), (9, 7), 0, [6]).offsets == crop.offsets[1:2]


def test_offsets_reach_every_place_and_no_further():
    offsets = Crop((4, 3), (6, 4), 0, range(400)).offsets
    assert {row for row, _ in offsets} == {0, 1, 2}
    assert {column for _, column in offsets} == {0, 1}
    assert set(Crop((6, 4), (6, 4), 0, range(9)).offsets) == {(0, 0)}


def test_a_crop_larger_than_the_grid_is_refused():
    with pytest.raises(RequestError, match="does not fit"):
        Crop((10, 3), (9, 7), 0, [0])


GRID = Grid(np.arange(20.0, 29.0), np.arange(118.0, 125.0))  # 9 x 7 points
HOUR = np.timedelta64(3600, "s")
NOON = np.datetime64("2021-06-01T12", "s")
# rows 6 and 7 (26 and 27 N), column 1 (119 E)
BOXED = Event(
    name="a", kind="typhoon", period="2021-06-01T12/2021-06-01T13", source="for this test",
    box={"south": 26, "north": 27, "west": 119, "east": 119.5},
)  # fmt: skip


def windows(share, start=NOON - HOUR, count=200, events=(BOXED,)):
    crops = crops_of(CropRule(rows=3, columns=3, towards=("typhoon",), share=share), GRID, HOUR, events)
    return crops.draw(0, range(count), np.repeat(start, count)).offsets


def test_a_window_towards_an_event_is_centred_in_its_box_while_the_target_lies_in_it():
    # a centre at row 6 begins a window of three at row 5, one at column 1 at column 0
    assert set(windows(1.0)) == {(5, 0), (6, 0)}
    uniform = Crop((3, 3), (9, 7), 0, range(200)).offsets
    assert windows(1.0, start=NOON) == uniform  # the target is at 13 h, the event's end
    assert windows(1.0, events=[BOXED.model_copy(update={"box": None})]) == uniform
    drawn = sum(half != whole for half, whole in zip(windows(0.5), uniform, strict=True))
    assert 70 < drawn <= 130


def test_where_a_window_lies_does_not_depend_on_the_other_samples_of_a_batch():
    crops = crops_of(CropRule(rows=3, columns=3, towards=("typhoon",)), GRID, HOUR, [BOXED])
    together = crops.draw(3, [7, 8, 9], np.repeat(NOON - HOUR, 3)).offsets
    assert [crops.draw(3, [p], np.array([NOON - HOUR])).offsets[0] for p in (7, 8, 9)] == together


def test_a_window_around_a_point_at_the_edge_is_moved_into_the_grid():
    assert Crop((4, 3), (9, 7), 0, [0, 1], [(0, 6), (8, 0)]).offsets == [(0, 4), (5, 0)]


def test_a_window_of_the_grids_size_is_the_whole_field():
    assert crops_of(CropRule(rows=9, columns=7), GRID, HOUR, ()) is None
    assert crops_of(None, GRID, HOUR, ()) is None
