"""Which validation is the best: names, globs, directions, vetoes."""

from __future__ import annotations

import pytest

from stormcast_train.base.errors import RequestError
from stormcast_train.training.validation.criterion import Criterion, matching

NAN = float("nan")


def test_a_name_means_itself_and_all_below_it_and_a_glob_what_it_matches():
    names = [
        "d/fss/rain:1mm:10km",
        "d/fss/rain:1mm:10km@6h",
        "d/fss/rain:20mm:10km",
        "d/rmse/t2m",
        "d/rmse/t2m@6h",
    ]
    assert matching("d/fss", names) == names[:3]
    assert matching("d/fss/rain:1mm", names) == names[:2]
    assert matching("d/rmse/t2m", names) == names[3:]
    assert matching("d/*@6h", names) == [names[1], names[4]]
    assert matching("d/rms", names) == []


def test_the_mean_over_the_variables_decides_and_more_skill_is_better():
    criterion = Criterion("diffusion/crps_skill", "diffusion")
    assert criterion.improves({"diffusion/crps_skill/t2m": 0.2, "diffusion/crps_skill/rain1h": 0.4})
    assert not criterion.improves({"diffusion/crps_skill/t2m": 0.5, "diffusion/crps_skill/rain1h": 0.0})
    assert criterion.improves({"diffusion/crps_skill/t2m": 0.5, "diffusion/crps_skill/rain1h": NAN})
    assert not criterion.improves({"diffusion/crps_skill/t2m": NAN})


def test_a_ratio_is_best_when_each_is_near_one():
    criterion = Criterion("diffusion/spread_skill", "diffusion")
    assert criterion.improves({"diffusion/spread_skill/a": 0.9, "diffusion/spread_skill/b": 0.9})
    # 0.5 and 1.5 have the mean 1, and neither is right
    assert not criterion.improves({"diffusion/spread_skill/a": 0.5, "diffusion/spread_skill/b": 1.5})


def metrics(crps: float, spread: float) -> dict[str, float]:
    return {"diffusion/crps_fair/t2m": crps, "diffusion/spread_skill/t2m": spread}


def test_a_vetoed_validation_is_best_only_until_one_passes():
    criterion = Criterion("diffusion/crps_fair", "diffusion", {"diffusion/spread_skill/*": (0.7, 1.4)})
    assert criterion.improves(metrics(1.0, 0.3))  # none has passed yet
    assert criterion.broken(metrics(1.0, 0.3)) == [
        "diffusion/spread_skill/t2m = 0.3 is outside 0.7..1.4 (train.veto diffusion/spread_skill/*)"
    ]
    assert criterion.improves(metrics(0.9, 1.6))
    assert criterion.improves(metrics(2.0, 1.0))  # worse, but it passes
    assert not criterion.improves(metrics(0.5, 0.3))
    assert criterion.improves(metrics(1.5, 0.7))


def test_what_cannot_be_judged_breaks_no_veto():
    criterion = Criterion("diffusion/crps_fair", "diffusion", {"diffusion/spread_skill/*": (0.7, 1.4)})
    assert criterion.broken(metrics(1.0, NAN)) == []


def test_the_best_so_far_survives_a_checkpoint_vetoed_or_not():
    veto = {"diffusion/spread_skill/*": (0.7, 1.4)}
    first, resumed = (Criterion("diffusion/crps_fair", "diffusion", veto) for _ in range(2))
    first.improves(metrics(1.0, 0.3))
    assert first.best == [1.0, "vetoed"]
    resumed.best = [1.0, "vetoed"]
    assert not resumed.improves(metrics(1.1, 0.3))
    assert resumed.improves(metrics(1.1, 1.0))
    assert resumed.best == 1.1
    resumed.best = 0.5  # as checkpoints without vetoes hold it
    assert not resumed.improves(metrics(0.6, 1.0))


def test_an_unknown_name_is_a_wrong_request_with_the_nearest():
    known = ["diffusion/crps_fair/t2m", "diffusion/spread_skill/t2m"]
    with pytest.raises(RequestError, match="Did you mean 'diffusion/crps_fair'"):
        Criterion("diffusion/crps_fare", "diffusion").check(known)
    with pytest.raises(RequestError, match=r"train.veto=diffusion/spread/\* is not measured"):
        Criterion("diffusion/crps_fair", "diffusion", {"diffusion/spread/*": (0, 1)}).check(known)
    with pytest.raises(RequestError, match="no metric of a diffusion"):
        Criterion("diffusion/denoising_loss", "diffusion", {"regression/rmse/*": (0, 1)})
