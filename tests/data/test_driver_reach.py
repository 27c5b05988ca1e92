"""The driver at the domain's points and around them, wherever longitudes are counted from; and where it does
not reach.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from stormcast_train.base.errors import RequestError
from stormcast_train.data.condition_config import ConditionSpec
from stormcast_train.data.conditions import Conditions
from stormcast_train.data.halo import HaloCrop
from stormcast_train.data.interpolate import Interpolator
from stormcast_train.data.mix import FractionsMix
from stormcast_train.data.scene import build_scene, split_store
from stormcast_train.fields.grid import Grid
from stormcast_train.verification.cases import bilinear

CPU = torch.device("cpu")
LAT = np.arange(-30.0, -4.0, 2.5)
GLOBES = {
    "0..360": Grid(LAT, np.arange(0.0, 360.0, 2.5)),
    "-180..180": Grid(LAT, np.arange(-180.0, 180.0, 2.5)),
}
FIJI = Grid(np.linspace(-20, -15, 6), np.linspace(177, 182, 11))


def waves(grid: Grid) -> torch.Tensor:
    lon = torch.as_tensor(np.radians(grid.lon2d))
    return lon.sin() + lon.cos()


@pytest.mark.parametrize("turns", [0.0, -360.0, 720.0])
@pytest.mark.parametrize("globe", GLOBES.values(), ids=GLOBES)
def test_a_global_driver_is_interpolated_across_its_seam(globe: Grid, turns: float) -> None:
    target = Grid(FIJI.lat, FIJI.lon + turns)
    found = Interpolator(globe, target, CPU)(waves(globe))
    assert (found - waves(target)).abs().max() < 4e-4  # 1.414 (2.5 pi / 180)^2 / 8 = 3.4e-4


@pytest.mark.parametrize("turns", [0.0, -360.0])
@pytest.mark.parametrize("globe", GLOBES.values(), ids=GLOBES)
def test_the_halo_of_a_global_driver_is_one_piece_across_its_seam(globe: Grid, turns: float) -> None:
    domain = Grid(FIJI.lat, FIJI.lon + turns)
    crop = HaloCrop(globe, domain, 4.0)
    # 177 - 4 = 173 and 182 + 4 = 186, to the next 2.5 degrees
    assert (crop.grid.lon - turns).tolist() == [172.5, 175, 177.5, 180, 182.5, 185, 187.5]
    assert (crop(waves(globe)) - waves(crop.grid)).abs().max() < 1e-6


@pytest.mark.parametrize("globe", GLOBES.values(), ids=GLOBES)
def test_scores_take_the_driver_across_its_seam_too(globe: Grid) -> None:
    found = bilinear(waves(globe).numpy()[None], globe, FIJI)[0]
    assert np.abs(found - waves(FIJI).numpy()).max() < 4e-4


def test_conditions_refuse_a_driver_that_does_not_reach_the_domain(tiny_store) -> None:
    times = split_store(tiny_store, FractionsMix(train=0.7, validation=0.15, test=0.15), 1, True)[
        "train"
    ].times
    scene = build_scene(tiny_store, times, True, False)
    spec = ConditionSpec(
        history=1,
        background=("target",),
        static=False,
        time=(),
        position=False,
        regression=False,
        mask="auto",
        noise=0.0,
    )
    Conditions(spec, scene, CPU)
    # the domain reaches to 25.6 N 122.25 E: of a driver at whole degrees up to 24 N, 25.6 is more than a cell
    # beyond
    short = replace(scene, background_grid=scene.background_grid.crop(slice(0, 5), slice(None)))
    with pytest.raises(
        RequestError, match=r"20\.00\.\.24\.00 N.*25\.60 N 119\.75 E, 25\.60 N 122\.25 E: 16 of its 96"
    ):
        Conditions(spec, short, CPU)
