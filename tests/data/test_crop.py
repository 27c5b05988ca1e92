from __future__ import annotations

import pytest
import torch

from stormcast_train.data.crop import Crop
from stormcast_train.fields.errors import RequestError


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
