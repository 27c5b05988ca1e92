"""Residual diffusion: what a frozen regression leaves over, drawn (Karras et al. 2022 on the residual, as in
StormCast).

Shape suffixes: B samples, C channels, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from stormcast_train.networks.parameters import network_parameters
from stormcast_train.objectives.edm_config import EdmConfig, EdmSpec, NoiseSpec
from stormcast_train.stages.stage import (
    Example,
    Kind,
    LossTerms,
    MetricPart,
    NetworkRequest,
    Own,
    Parts,
    Setting,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from stormcast_train.data.batch import Batch, Window
    from stormcast_train.data.conditions import Condition, Conditions
    from stormcast_train.data.target import Target
    from stormcast_train.objectives.config import ObjectiveConfig
    from stormcast_train.objectives.count import FixedCount
    from stormcast_train.stages.step import Step

FINER = 4  # the sampler is held against one with so many times the steps


@dataclass(frozen=True, eq=False)
class ResidualStep:
    """The next state as the mean beneath plus a drawn residual, scaled by `residual_C11` (normalised units
    per unit of sigma).
    """

    network: nn.Module
    conditions: Conditions
    target: Target
    beneath: Step
    residual_C11: Tensor
    spec: NoiseSpec

    def condition(self, window: Window, mean_BCHW: Tensor, offsets_BC11: Tensor | None = None) -> Condition:
        """The denoiser's condition; the mean beneath [B, C, H, W] is a normalised state."""
        return self.conditions.assemble(window, self.target.encode(mean_BCHW, window), offsets_BC11)

    def clean(self, next_BCHW: Tensor, mean_BCHW: Tensor) -> Tensor:
        """The scaled residual: standard deviation near sigma_data in every channel, and more where the newest
        state is missing.
        """
        return (next_BCHW - mean_BCHW) / self.residual_C11

    def noise(
        self, seed: int, purpose: tuple[str | int, ...], indices: Sequence[int], shape: Sequence[int]
    ) -> Tensor:
        """See `Step.noise`: [B, C, H, W], or with churn [B, 1 + steps, C, H, W]."""
        draws = (1 + self.spec.steps, *shape) if self.spec.churn else tuple(shape)
        return keyed_noise(self.spec, seed, purpose, indices, draws, self.residual_C11.device)

    def next_state(self, window: Window, noise: Tensor | None = None) -> Tensor:
        """See `Step.next_state`."""
        assert noise is not None
        mean_BCHW = self.beneath.next_state(window)
        return mean_BCHW + self.residual_C11 * self.residual(window, noise, mean_BCHW)

    def residual(self, window: Window, noise: Tensor, mean_BCHW: Tensor) -> Tensor:
        """A draw of the scaled residual [B, C, H, W] for given unit noise and mean, without gradients."""
        import torch

        from stormcast_train.networks.halo_encoder import complete
        from stormcast_train.objectives.sampler import draw_residual

        with torch.no_grad():
            # Completed once, not at every step of the sampler.
            condition_BCHW = complete(self.network, self.condition(window, mean_BCHW))

            def clean(noisy_BCHW: Tensor, sigma_B: Tensor) -> Tensor:
                found: Tensor = self.network(noisy_BCHW, sigma_B, condition=condition_BCHW)
                return found

            return draw_residual(clean, self.spec, noise)


def keyed_noise(
    spec: NoiseSpec,
    seed: int,
    purpose: tuple[str | int, ...],
    indices: Sequence[int],
    shape: Sequence[int],
    device: torch.device,
) -> Tensor:
    """Noise of variance 1 [B, *shape] as the specification asks, a function of (seed, purpose, indices[b])
    alone.
    """
    from stormcast_train.data.keyed_random import normal
    from stormcast_train.objectives.edm import heavy_tailed

    noise = normal(seed, purpose, indices, shape, device)
    if spec.distribution != "student_t":
        return noise
    return heavy_tailed(spec, noise, normal(seed, (*purpose, "chi2"), indices, (spec.nu,), device))


class ResidualDiffusion(Kind):
    """Denoising of the scaled residual of a frozen regression."""

    name = "diffusion"
    beneath = "regression"
    draws = True
    objective_kind = "edm"
    conditions: ClassVar = {"regression": True, "noise": 0.0}
    best = "denoising_loss"
    ignorant_loss = 1.0  # of EDM's preconditioning, at every noise level
    own = (Own("denoising_loss"), Own("sampler_variance_ratio", by_wavelength=True))

    def objective(self, asked: ObjectiveConfig, largest_variance: float | None) -> EdmSpec:
        """See `Kind.objective`."""
        assert isinstance(asked, EdmConfig)
        assert largest_variance is not None
        return asked.resolve(largest_variance)

    def inputs_before_conditions(self, state: Sequence[str]) -> tuple[str, ...]:
        """See `Kind.inputs_before_conditions`."""
        return tuple(f"noisy:{name}" for name in state)

    def build_network(self, request: NetworkRequest) -> nn.Module:
        """See `Kind.build_network`."""
        from stormcast_train.networks.family import family_of
        from stormcast_train.objectives.edm import precondition

        assert isinstance(request.objective, EdmSpec)
        denoiser = family_of(request.config.kind).denoiser(
            request.config, request.shape, request.inputs, request.outputs, request.seed
        )
        return precondition(denoiser, request.objective.noise)

    def parameters(self, request: NetworkRequest, objective: ObjectiveConfig) -> int | None:
        """See `Kind.parameters`."""
        inputs = request.outputs + request.inputs
        return network_parameters(request.config, request.shape, inputs, request.outputs, level=True)

    def build_step(self, parts: Parts) -> ResidualStep:
        """See `Kind.build_step`. measured: `residual_std`, held-out, normalised, by variable."""
        import torch

        assert parts.beneath is not None
        assert isinstance(parts.objective, EdmSpec)
        spec = parts.objective.noise
        scales = [parts.measured["residual_std"][name] / spec.sigma_data for name in parts.names]
        scale_C11 = torch.tensor(scales, dtype=torch.float32, device=parts.conditions.device)[:, None, None]
        return ResidualStep(parts.network, parts.conditions, parts.target, parts.beneath, scale_C11, spec)

    def needs_no_network(self, step: Step, setting: Setting) -> bool:
        """See `Kind.needs_no_network`: where the means are kept, and are of the windows as they are."""
        return setting.kept_mean is not None and not step.conditions.spec.perturbed

    def example(self, step: ResidualStep, batch: Batch, setting: Setting) -> Example:
        """See `Kind.example`; noise level, noise and conditioning noise are
        keyed by the batch's positions.
        """
        from stormcast_train.data.keyed_random import normal
        from stormcast_train.objectives.edm import training_sigma

        seed, positions, device = setting.seed, batch.positions, batch.target_BCHW.device
        perturbed = step.conditions.perturb(batch.window, seed, positions)
        mean_BCHW = setting.mean_of(batch, perturbed)
        batch, mirror = replace(batch, window=perturbed), step.conditions.mirror(seed, positions)
        if mirror:
            batch, mean_BCHW = mirror.batch(batch), mirror(mean_BCHW)
        present_BCHW = batch.target_present_BCHW
        condition = step.condition(batch.window, mean_BCHW, step.conditions.offsets(seed, positions))
        clean_BCHW = step.clean(batch.target_BCHW, mean_BCHW) * present_BCHW
        made = setting.cropped(Example(condition, clean_BCHW, present_BCHW), batch)
        sigma_B = training_sigma(step.spec, normal(seed, ("sigma",), positions, (2,), device))
        noise_BCHW = keyed_noise(
            step.spec, seed, ("noise",), positions, tuple(made.wanted_BCHW.shape[1:]), device
        )
        return replace(made, sigma_B=sigma_B, noise=noise_BCHW)

    def loss(self, step: ResidualStep, network: nn.Module, example: Example, count: FixedCount) -> LossTerms:
        """See `Kind.loss`."""
        import torch

        from stormcast_train.objectives.edm import by_level, denoising_error

        sigma_B, noise_BCHW, present_BCHW = example.sigma_B, example.noise, example.present_BCHW
        assert sigma_B is not None
        assert noise_BCHW is not None
        error_BCHW = denoising_error(
            network, step.spec, example.wanted_BCHW, present_BCHW, example.condition, sigma_B, noise_BCHW
        )
        return LossTerms(
            *count.terms(error_BCHW),
            by_level(sigma_B, count.per_sample(error_BCHW), torch.ones_like(sigma_B)),
        )

    def measure(
        self, step: ResidualStep, batch: Batch, cases: Sequence[int], seed: int
    ) -> Iterator[MetricPart]:
        """See `Kind.measure`: `denoising_loss` on fixed noise, and by range of the level. A loss, so every
        cell counts alike.
        """
        import torch

        from stormcast_train.data.keyed_random import normal
        from stormcast_train.objectives.edm import by_level, denoising_error, training_sigma

        present_BCHW, mean_BCHW = batch.target_present_BCHW, step.beneath.next_state(batch.window)
        clean_BCHW = step.clean(batch.target_BCHW, mean_BCHW) * present_BCHW
        device, shape = clean_BCHW.device, tuple(clean_BCHW.shape[1:])
        sigma_B = training_sigma(step.spec, normal(seed, ("validation_sigma",), cases, (2,), device))
        noise_BCHW = keyed_noise(step.spec, seed, ("validation_noise",), cases, shape, device)
        condition = step.condition(batch.window, mean_BCHW)
        with torch.no_grad():
            error_BCHW = denoising_error(
                step.network, step.spec, clean_BCHW, present_BCHW, condition, sigma_B, noise_BCHW
            )
        error_BC, count_BC = (part.double().sum(dim=(2, 3)) for part in (error_BCHW, present_BCHW))
        for name, error, count in zip(
            step.conditions.state, error_BC.sum(dim=0).tolist(), count_BC.sum(dim=0).tolist(), strict=True
        ):
            yield MetricPart("denoising_loss", name, error, count)
        for level, (error, count) in by_level(sigma_B, error_BC.sum(dim=1), count_BC.sum(dim=1)).items():
            if count:
                yield MetricPart("denoising_loss_at", level, float(error), float(count))

    def measure_few(
        self, step: ResidualStep, batch: Batch, cases: Sequence[int], seed: int
    ) -> Iterator[MetricPart]:
        """See `Kind.measure_few`: `sampler_variance_ratio`, of drawn residuals over those with FINER times
        the steps, same latents.
        """
        from stormcast_train.data.spectrum import Spectrum

        spectrum, mean_BCHW = Spectrum(step.conditions.grid), step.beneath.next_state(batch.window)
        shape = tuple(batch.target_BCHW.shape[1:])
        drawn = []
        for spec in (step.spec, step.spec.finer(FINER)):
            sampler = replace(step, spec=spec)
            latents = sampler.noise(seed, ("convergence",), cases, shape)
            residual_BCHW = sampler.residual(batch.window, latents, mean_BCHW)
            drawn.append(residual_BCHW.double() * step.target.coverage_CHW)
        squares_2C = [field_BCHW.square().sum(dim=(0, 2, 3)).tolist() for field_BCHW in drawn]
        powers_2CK = [spectrum(field_BCHW)[1].sum(dim=0).tolist() for field_BCHW in drawn]
        for c, name in enumerate(step.conditions.state):
            yield MetricPart("sampler_variance_ratio", name, squares_2C[0][c], squares_2C[1][c])
            for band, ours, finer in zip(spectrum.bands, powers_2CK[0][c], powers_2CK[1][c], strict=True):
                yield MetricPart("sampler_variance_ratio", f"{name}:{band}", ours, finer)
