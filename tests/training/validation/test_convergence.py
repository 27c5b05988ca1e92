from __future__ import annotations

import json

import pytest
import tiny_stages

from stormcast_train.objectives.edm_config import NoiseSpec
from stormcast_train.stages.residual_diffusion import FINER
from stormcast_train.training.setup.build_stage import build_stage
from stormcast_train.training.validation.convergence import convergence_facts, unconverged
from stormcast_train.training.validation.criterion import reduced_metrics
from stormcast_train.training.validation.evaluation import Evaluation
from stormcast_train.training.validation.validation_cases import Validation
from stormcast_train.training.validation.validation_plan import ValidationSpec

LEAST = Validation(ValidationSpec(cases=4, ensemble_cases=1, members=2, maps=0))


def ratio(store, trained, **noise):
    asked = tiny_stages.request(store, "diffusion", regression=str(trained["regression"]))
    objective = asked.objective.model_validate({"noise": noise})
    stage, _ = build_stage(asked.model_copy(update={"objective": objective}), tiny_stages.CPU)
    return reduced_metrics([Evaluation(stage).sums(stage.network.state_dict(), (0, 1), LEAST)])


def test_the_default_sampler_is_near_one_and_few_steps_are_told_by_variable_and_wavelength(
    tiny_store, trained
):
    """The untrained network's posterior is that of a Gaussian of variance sigma_data^2, which few Heun steps
    inflate.
    """
    found = convergence_facts(ratio(tiny_store, trained), 8)
    assert set(found["variance_ratio"]) == {"t2m", "rain1h"}
    assert all(value == pytest.approx(1, abs=0.02) for value in found["variance_ratio"].values())
    assert set(found["by_wavelength"]["t2m"]) == {"114km", "229km", "457km", "915km"}
    assert unconverged(found) == []
    few = convergence_facts(ratio(tiny_store, trained, solver="heun", steps=4), 8)
    assert few["variance_ratio"]["t2m"] > 1.1
    (sentence,) = unconverged(few)
    assert "the sampler is not converged" in sentence
    assert f"t2m {few['variance_ratio']['t2m']:.2f}" in sentence


def test_a_finer_sampler_has_four_times_the_steps_on_the_same_range():
    spec = NoiseSpec(steps=18)
    assert FINER == 4
    assert spec.finer(4).steps == 72
    assert (spec.finer(4).levels[0], spec.finer(4).levels[-1]) == pytest.approx(
        (spec.levels[0], spec.levels[-1])
    )


def test_without_validation_cases_nothing_is_claimed():
    assert convergence_facts({}, 8) == {}
    assert convergence_facts({"diffusion/sampler_variance_ratio/t2m": float("nan")}, 8) == {}
    assert unconverged({}) == []
    assert json.dumps(convergence_facts({"diffusion/sampler_variance_ratio/t2m": 1.0}, 8))
