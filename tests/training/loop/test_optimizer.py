from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from stormcast_train.base.config import choices
from stormcast_train.training.loop.averages import entering_weights
from stormcast_train.training.loop.optim_config import Lengths, OptimConfig, OptimSpec, Phase, Rates
from stormcast_train.training.loop.optimizer import Optimization, learning_rate


def spec(**keys) -> OptimSpec:
    values = {
        "kind": "adam", "lr": 1.0, "betas": (0.9, 0.99), "weight_decay": 0.0, "warmup_samples": 0,
        "schedule": "constant",
        "final_factor": 0.1, "max_grad_norm": None, "ema_half_life_samples": 100.0, "batch_size": 10,
        "total_samples": 1000,
    }  # fmt: skip
    return OptimSpec(**{**values, **keys})


def test_the_rate_warms_up_in_samples_whatever_the_batch():
    assert learning_rate(spec(warmup_samples=40), 0) == 0.25  # 10 of 40
    assert learning_rate(spec(warmup_samples=40), 30) == 1.0
    assert learning_rate(spec(warmup_samples=40, batch_size=20), 0) == 0.5


def test_the_cosine_ends_at_its_final_factor():
    cosine = spec(schedule="cosine")
    assert learning_rate(cosine, 0) == 1.0
    assert learning_rate(cosine, 500) == pytest.approx(0.55)  # halfway between 1 and 0.1
    assert learning_rate(cosine, 1000) == pytest.approx(0.1)


def test_the_inverse_square_root_begins_where_it_is_told_to():
    rate = spec(schedule="inverse_sqrt", decay_from_samples=100, warmup_samples=20)
    assert [learning_rate(rate, samples) for samples in (0, 100, 400, 900)] == pytest.approx(
        [0.5, 1, 1 / 2, 1 / 3]
    )


def test_a_trapezoid_of_phases_holds_and_then_falls():
    trapezoid = spec(schedule="phases", phases=(Phase(until=0.8, factor=1), Phase(until=1, factor=0.1)))
    assert [learning_rate(trapezoid, samples) for samples in (0, 790, 800, 900, 1000)] == pytest.approx(
        [1, 1, 1, 0.55, 0.1]
    )


@pytest.mark.parametrize(
    ("shape", "quarter"), [("linear", 0.75), ("cosine", 1 - 0.5 * (1 - 0.5**0.5)), ("sqrt", 0.5)]
)
def test_a_phase_falls_in_its_shape(shape, quarter):
    falling = spec(schedule="phases", phases=(Phase(until=1, factor=0, shape=shape),))
    assert learning_rate(falling, 250) == pytest.approx(quarter)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"schedule": "inverse_sqrt"}, "decay_from_samples"),
        ({"decay_from_samples": 5}, "decay_from_samples"),
        ({"schedule": "phases"}, "phases"),
        ({"schedule": "phases", "phases": [{"until": 0.5, "factor": 1}]}, "the last be 1"),
        (
            {"schedule": "phases", "phases": [{"until": 1, "factor": 1}, {"until": 0.5, "factor": 1}]},
            "must grow",
        ),
        ({"ema": {"kind": "power", "also": [0.1]}}, "half-lives"),
        ({"ema": {"kind": "power", "sigma_rel": [0.3]}}, "sigma_rel"),
        ({"ema": {"also": [-0.1]}}, "above 0"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(keys, said):
    rates, lengths = Rates(regression=1e-3, diffusion=2e-3), Lengths(regression=100, diffusion=64)
    with pytest.raises(ValidationError, match=said):
        OptimConfig(name="x", lr=rates, batch_size=16, total_samples=lengths, **keys)


def test_an_old_weight_counts_half_after_the_half_life():
    kept = 1.0
    for _ in range(10):  # 10 batches of 10 samples
        kept *= 1 - entering_weights(spec(), samples=5000)[0]
    assert kept == pytest.approx(0.5)


def test_early_on_the_average_looks_back_a_tenth_of_the_samples_seen():
    assert 1 - entering_weights(spec(), samples=100)[0] == pytest.approx(
        0.5
    )  # half-life 10 samples = one batch


def stepped(network: nn.Module, optim: Optimization, samples: int) -> None:
    generator = torch.Generator().manual_seed(samples)
    network(torch.randn(4, 3, generator=generator)).square().mean().backward()
    optim.step(samples, optim.gradient_norm())


def test_a_restored_optimiser_goes_on_to_the_same_bits():
    torch.manual_seed(0)
    first = nn.Linear(3, 2)
    optim = Optimization(first, spec(lr=0.01))
    for k in range(3):
        stepped(first, optim, 10 * k)
    second = nn.Linear(3, 2)
    second.load_state_dict(first.state_dict())
    restored = Optimization(second, spec(lr=0.01))
    restored.restore({name: value.clone() for name, value in optim.state().items()})
    for k in range(3, 6):
        stepped(first, optim, 10 * k)
        stepped(second, restored, 10 * k)
    assert torch.equal(first.weight, second.weight)
    assert torch.equal(optim.averaged_weights()["weight"], restored.averaged_weights()["weight"])


def test_a_gradient_is_scaled_to_the_norm_limit_and_its_norm_is_the_one_before():
    network = nn.Linear(2, 1, bias=False)
    nn.init.zeros_(network.weight)
    network.weight.grad = torch.tensor([[3.0, 4.0]])
    optim = Optimization(network, spec(max_grad_norm=1.0))
    norm = optim.gradient_norm()
    assert float(norm) == 5.0
    seen = []
    original = optim._optimizer.step
    optim._optimizer.step = lambda: (seen.append(network.weight.grad.clone()), original())
    optim.step(0, norm)
    assert torch.allclose(seen[0], torch.tensor([[0.6, 0.8]]), atol=1e-5)


def test_the_share_of_clipped_steps_is_told_since_it_was_last_asked():
    network = nn.Linear(2, 1, bias=False)
    optim = Optimization(network, spec(max_grad_norm=1.0))
    for scale in (0.1, 0.1, 10.0, 0.1):  # gradient norms 0.14, 0.14, 14, 0.14: one of four above 1
        network.weight.grad = torch.full((1, 2), scale)
        optim.step(0, optim.gradient_norm())
    assert optim.clipping() == {"clipped_fraction": 0.25}
    assert optim.clipping() == {"clipped_fraction": 0.0}
    assert Optimization(network, spec()).clipping() == {}


def test_a_length_is_rounded_up_to_whole_batches_and_overrides_replace_the_preset():
    rates, lengths = Rates(regression=1e-3, diffusion=2e-3), Lengths(regression=100, diffusion=64)
    config = OptimConfig(name="x", lr=rates, batch_size=16, total_samples=lengths)
    assert config.resolve("regression", None, None).total_samples == 112
    assert config.resolve("diffusion", 8, 50).total_samples == 56
    assert config.resolve("diffusion", None, None).lr == 2e-3
    assert config.resolve("diffusion", None, None).ema_half_life_samples == pytest.approx(0.05 * 64)


def test_the_presets_are_there():
    assert {"paper", "fast", "tiny"} <= set(choices("optim"))


@pytest.mark.parametrize("rate", [0.0, -1e-3, float("inf"), float("nan")])
def test_a_rate_that_is_none_is_refused_under_its_own_name(rate):
    with pytest.raises(ValidationError, match=r"lr\n.*is not a finite number above 0"):
        OptimConfig(name="x", lr=rate, batch_size=16, total_samples=64)


def test_a_bare_number_is_that_of_every_kind_of_stage():
    config = OptimConfig(name="x", lr=3e-3, batch_size=16, total_samples=64)
    assert {config.resolve(kind, None, None).total_samples for kind in ("regression", "crps")} == {64}
    assert config.resolve("diffusion", None, None).lr == 3e-3
