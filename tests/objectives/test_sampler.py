"""The sampler against the closed form: for a Gaussian field the exact denoiser is known, mode by mode."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.fft import dctn, idctn

from stormcast_train.fields.grid import Grid
from stormcast_train.fields.wavelengths import wavelength_bands
from stormcast_train.objectives.edm_config import COVERED, NoiseConfig, NoiseSpec
from stormcast_train.objectives.sampler import draw_residual, exponential_weights

MODES = (0.01, 0.05, 0.25, 1.0, 4.0, 16.0, 20.0)  # of a residual whose cells have the variance 0.25


class Exact:
    """x0 = S / (S + sigma^2) x for independent modes of variance S, given as the last dimension."""

    def __init__(self, variances):
        self.variances, self.calls = torch.tensor(variances, dtype=torch.float64), 0

    def __call__(self, noisy, sigma):
        self.calls += 1
        return self.variances / (self.variances + sigma.view(-1, 1, 1, 1) ** 2) * noisy


def kept(spec, variances):
    """Variance of a drawn mode over that of the field: drawn from noise of one, the draw's square is its
    variance.
    """
    exact = Exact(variances)
    drawn = draw_residual(exact, spec, torch.ones(1, 1, 1, len(variances), dtype=torch.float64))
    return (drawn.flatten() ** 2 / exact.variances).tolist(), exact.calls


def closed_form(spec, variances):
    """The exact flow from sigma_max to 0 multiplies a mode by sqrt(S / (S + sigma_max^2))."""
    return [spec.sigma_max**2 / (spec.sigma_max**2 + v) for v in variances]


@pytest.mark.parametrize("sigma_max", [20.0, 40.0, 80.0, 160.0])
def test_the_default_sampler_gives_every_gaussian_mode_its_variance_within_two_percent(sigma_max):
    # sigma_max serves modes up to sigma_max^2 / 20; the lowest, 0.01, is 4 % of a cell's variance
    variances = [v for v in (*MODES, 64.0, 256.0, 1000.0) if v <= sigma_max**2 / 20]
    spec = NoiseConfig(sigma_max=sigma_max, wide=0.1).resolve(1.0)
    found, calls = kept(spec, variances)
    assert found == pytest.approx(closed_form(spec, variances), rel=0.021)
    assert calls == spec.evaluations == spec.steps <= 24


def test_eight_heun_steps_inflate_the_variance_and_are_not_the_default():
    # what the default was: 1.53, 1.33, 1.20 and 0.95 times the true variance for 0.01, 0.25, 4 and 64
    found, _ = kept(NoiseSpec(solver="heun", steps=8, rho=7.0), (0.01, 0.25, 4.0, 64.0))
    assert found == pytest.approx([1.51, 1.33, 1.19, 0.95], abs=0.02)


def test_heun_does_not_pay_the_evaluation_that_it_would_throw_away():
    spec = NoiseSpec(solver="heun", steps=5)
    found, calls = kept(spec, MODES)
    assert calls == spec.evaluations == 9
    # by hand: Heun from level to level, the last step to 0 is Euler's, which is the clean field
    for value, variance in zip(found, MODES, strict=True):
        x, slope = spec.levels[0], lambda x, s, v=variance: x * s / (v + s * s)
        for now, following in zip(spec.levels, spec.levels[1:], strict=False):
            euler = x + (following - now) * slope(x, now)
            x += (following - now) * (slope(x, now) + slope(euler, following)) / 2
        last = spec.levels[-1]
        assert value == pytest.approx((x * variance / (variance + last**2)) ** 2 / variance, rel=1e-6)


@pytest.mark.parametrize("solver", ["multistep", "heun"])
def test_more_steps_come_nearer_to_the_exact_flow(solver):
    errors = []
    for steps in (10, 20, 40):
        spec = NoiseSpec(solver=solver, steps=steps, sigma_min=0.002)
        found, _ = kept(spec, MODES)
        errors.append(max(abs(a / b - 1) for a, b in zip(found, closed_form(spec, MODES), strict=True)))
    assert errors[2] < errors[1] / 2 < errors[0] / 4


def test_weights_of_a_step_integrate_polynomials_exactly():
    # from log sigma 1.0 to 0.4 through fields at 1.0, 1.5, 1.9; in l = -log sigma: int_0^0.6 exp(u - 0.6) u^k
    # du
    weights = exponential_weights([1.0, 1.5, 1.9], 0.4)
    u = np.linspace(0, 0.6, 200001)
    for k, fields in enumerate(([1, 1, 1], [0.0, -0.5, -0.9], [0.0, 0.25, 0.81])):
        wanted = np.trapezoid(np.exp(u - 0.6) * u**k, u)
        assert np.dot(weights, fields) == pytest.approx(wanted, rel=1e-8)
    assert exponential_weights([math.log(2.0)], 0.0) == pytest.approx(
        [0.5]
    )  # DDIM from 2 to 1: x / 2 + D / 2


def spectrum(shape, cells):
    """Variance of the orthonormal cosine modes of an exponential covariance of this length, cells of variance
    0.25.
    """
    m, n = (np.arange(size) * np.pi / size for size in shape)
    density = (1 + cells**2 * (m[:, None] ** 2 + n[None, :] ** 2)) ** -1.5
    return 0.25 * density / density.mean()


def test_draws_of_a_field_with_long_waves_have_its_power_in_every_band():
    shape, generator = (224, 128), torch.Generator().manual_seed(1)
    variances = spectrum(shape, 16)
    noise = torch.randn(4, 1, *shape, generator=generator)

    def clean(noisy, sigma):
        modes = dctn(noisy.numpy(), axes=(-2, -1), norm="ortho")
        shrunk = variances / (variances + sigma.numpy().reshape(-1, 1, 1, 1) ** 2) * modes
        return torch.from_numpy(idctn(shrunk, axes=(-2, -1), norm="ortho").astype(np.float32))

    spec = NoiseConfig(wide=0.1).resolve(float(variances.max() / 0.25))
    drawn = dctn(draw_residual(clean, spec, noise).numpy(), axes=(-2, -1), norm="ortho") ** 2
    wanted = (
        dctn(noise.numpy(), axes=(-2, -1), norm="ortho") ** 2 * variances
    )  # what an exact sampler makes of this noise
    bands, lengths = wavelength_bands(Grid(np.linspace(21.6, 25.6, 224), np.linspace(119.75, 122.25, 128)), 1)
    ratio = (drawn.sum((0, 1)).ravel() @ bands) / (wanted.sum((0, 1)).ravel() @ bands)
    assert len(lengths) >= 6
    assert ratio == pytest.approx(np.ones(len(lengths)), abs=0.03)


def test_a_sigma_max_below_the_largest_scales_is_refused_with_the_value_that_would_do():
    # 512 x 640 cells that remember 25 cells: S = 0.25 * 327680 * max/sum of the density = about 910
    largest = float(spectrum((512, 640), 25).max() / 0.25)
    with pytest.raises(
        Exception,
        match=r"sigma_max=20 leaves the residual's largest scales 31% of their variance.*sigma_max=(\d+)",
    ) as found:
        NoiseConfig(sigma_max=20.0, wide=0.1).resolve(largest)
    value = float(str(found.value).split("write objective.noise.sigma_max=")[1].split(",")[0])
    assert NoiseConfig(sigma_max=value, wide=0.1).resolve(largest).sigma_max == value
    assert NoiseConfig(wide=0.1).resolve(largest).sigma_max == value
    assert value**2 >= 40 * largest * 0.25


def test_levels_that_training_hardly_draws_are_refused():
    # lognormal(-1.2, 1.2): P(10 < sigma < 40) = 0.0018, less than COVERED
    with pytest.raises(ValueError, match=r"give a larger wide \(now 0\)"):
        NoiseConfig(sigma_max=20.0, P_mean=-1.2, wide=0.0)
    with pytest.raises(Exception, match="of the training draws"):
        NoiseConfig(P_mean=-1.2, wide=0.0).resolve(400.0)
    # a tenth over ln(80 / 0.02) = 8.3: ln 2 / 8.3 / 10 = 0.0084 lie between 40 and 80
    assert math.log(2) / math.log(4000) / 10 > COVERED
    NoiseConfig(sigma_max=80.0, P_mean=-1.2, wide=0.1)
