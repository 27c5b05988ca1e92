"""From noise to a residual: solvers of the probability-flow equation over PhysicsNeMo's sampling loop.

The caller gives every random draw. Shape suffixes: B samples, C channels, H rows, W columns.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from stormcast_train.base.quiet import library_noise
from stormcast_train.objectives.edm import KeyedScheduler
from stormcast_train.objectives.edm_config import NoiseSpec

with library_noise():
    from physicsnemo.diffusion.samplers import sample
    from physicsnemo.diffusion.samplers.euler import EulerSolver
    from physicsnemo.diffusion.samplers.heun import HeunSolver

# Of Multistep: 18 evaluations from 20 to 0.02 leave every Gaussian mode within 2 %, order 2 within 6 %.
ORDER = 3
Denoiser = Callable[[Tensor, Tensor], Tensor]


class Solver(Protocol):
    """What PhysicsNeMo's loop calls once a step."""

    def step(self, x: Tensor, t_cur: Tensor, t_next: Tensor) -> Tensor:
        """The field [B, C, H, W] from noise level t_cur [B] to t_next [B]."""
        ...


class Heun:
    """PhysicsNeMo's Heun step, and its Euler step for the last one, whose second evaluation Heun's would
    throw away.
    """

    def __init__(self, slope: Denoiser, steps: int) -> None:
        self._heun, self._euler = HeunSolver(slope), EulerSolver(slope)
        self._left = steps

    def step(self, x: Tensor, t_cur: Tensor, t_next: Tensor) -> Tensor:
        """See `Solver.step`."""
        self._left -= 1
        stepped: Tensor = (self._heun if self._left else self._euler).step(x, t_cur, t_next)
        return stepped


class Multistep:
    """One evaluation a step: the clean field as a polynomial in log sigma through the last `order`
    evaluations, integrated exactly.

    An exponential Adams-Bashforth method (Zhang and Chen 2023, DEIS; of order 2 it is DPM-Solver++(2M) of Lu
    et al. 2022 but for the exact weights). In l = -log sigma the flow is x(l1) = (sigma1 / sigma0) x(l0) +
    integral of exp(l - l1) D(l) dl from l0 to l1. The last step, to 0, gives the clean field itself.
    `levels`: the sampler's noise levels without the last 0.
    """

    def __init__(self, clean: Denoiser, levels: Sequence[float], order: int) -> None:
        self._clean, self._order = clean, order
        self._moves = iter([*pairwise(levels), (levels[-1], 0.0)])
        # (log sigma, clean field), the newest first.
        self._held: deque[tuple[float, Tensor]] = deque(maxlen=order)

    def step(self, x: Tensor, t_cur: Tensor, t_next: Tensor) -> Tensor:
        """See `Solver.step`; the levels are those given at the start, whose numbers need no look at the
        device.
        """
        now, following = next(self._moves)
        clean_BCHW = self._clean(x, t_cur)
        if following == 0.0:
            return clean_BCHW
        self._held.appendleft((math.log(now), clean_BCHW))
        weights = exponential_weights([level for level, _ in self._held], math.log(following))
        x = x * (following / now)
        for weight, (_, held_BCHW) in zip(weights, self._held, strict=True):
            x = x + weight * held_BCHW
        return x


def exponential_weights(log_sigmas: Sequence[float], log_next: float) -> list[float]:
    """Weights of clean fields known at these levels (the newest first) in a step from the newest to
    `log_next`.

    They integrate exp(l - l1) P(l) from l0 to l1 exactly for the polynomial P through the fields, with l =
    -log sigma. As for a constant field, they add up to 1 - sigma1 / sigma0.
    """
    step = log_sigmas[0] - log_next
    moments = [-math.expm1(-step)]  # of exp(u - step) u^k over 0..step, by parts from the one before
    for k in range(1, len(log_sigmas)):
        moments.append(step**k - k * moments[-1])
    distances = np.array([log_sigmas[0] - level for level in log_sigmas])  # l - l0
    powers = np.vander(distances, increasing=True).T
    return list(map(float, np.linalg.solve(powers, np.array(moments))))


class Churned:
    """A solver's step after the level was raised with noise that the caller gave (Karras et al. 2022,
    algorithm 2).

    PhysicsNeMo's own stochastic solvers draw from torch's global generator.
    """

    def __init__(self, inner: Solver, spec: NoiseSpec, noise_SBCHW: Sequence[Tensor]) -> None:
        self._inner, self._spec = inner, spec
        self._noise = iter(noise_SBCHW)

    def step(self, x: Tensor, t_cur: Tensor, t_next: Tensor) -> Tensor:
        """See `Solver.step`."""
        top = math.inf if self._spec.churn_max is None else self._spec.churn_max
        noise_BCHW, within_B = next(self._noise), (t_cur >= self._spec.churn_min) & (t_cur <= top)
        raised_B = torch.where(within_B, t_cur * (1 + self._spec.churned), t_cur)
        added_B = (raised_B.square() - t_cur.square()).clamp(min=0).sqrt()
        return self._inner.step(x + added_B.view(-1, 1, 1, 1) * noise_BCHW, raised_B, t_next)


@torch.no_grad()
def draw_residual(clean: Denoiser, spec: NoiseSpec, unit_noise: Tensor) -> Tensor:
    """A residual [B, C, H, W] from sigma_max times the given unit noise.

    clean: (noisy field [B, C, H, W], level [B]) -> the clean field that the network expects. unit_noise: [B,
    C, H, W], or with churn [B, 1 + steps, C, H, W]: the start, then what each step adds.
    """
    scheduler = KeyedScheduler(spec)
    start_BCHW = unit_noise[:, 0] if spec.churn else unit_noise
    levels = scheduler.timesteps(spec.steps, device=start_BCHW.device, dtype=start_BCHW.dtype)
    slope = scheduler.get_denoiser(x0_predictor=clean)
    solver: Solver = _solver(spec, clean, slope)
    if spec.churn:
        solver = Churned(solver, spec, unit_noise[:, 1:].unbind(1))
    drawn_BCHW: Tensor = sample(slope, start_BCHW * levels[0], scheduler, num_steps=spec.steps, solver=solver)
    return drawn_BCHW


def _solver(spec: NoiseSpec, clean: Denoiser, slope: Denoiser) -> Solver:
    if spec.solver == "multistep":
        return Multistep(clean, spec.levels, ORDER)
    euler: Solver = EulerSolver(slope)
    return Heun(slope, spec.steps) if spec.solver == "heun" else euler
