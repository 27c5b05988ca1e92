"""Whether a regression has memorised its training hours: its residual there against held-out hours, by variable and by wavelength.

A memorised regression leaves residuals too small to train a diffusion on, and ensembles too narrow.
Shape suffixes: B samples, C channels, K bands of wavelength, H rows, W columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from stormcast_train.data.batch import Window
from stormcast_train.data.conditions import Target
from stormcast_train.data.window import WindowReader
from stormcast_train.fields.times import Times
from stormcast_train.training.means import BLOCK, Regressions, blocks
from stormcast_train.training.stage import Number, Sums
from stormcast_train.training.validate import Cases, exact

CASES = 64  # of training and of held-out hours in a validation
BEGIN_CASES = 256  # where a diffusion begins
USUAL = (0.95, 1.05)
BANDS = ((2, 4), (4, 8), (8, 16), (16, 32), (32, math.inf))  # wavelengths in grid lengths
METRIC = "regression/residual_ratio"
CURE = "train fewer samples, on a longer mix, or let stage.residual=cross_fitted give the diffusion residuals of unseen hours"
Mean = Callable[[Window], Tensor]


def ratio_sums(mean: Mean, target: Target, train: Cases, held_out: Cases, share: tuple[int, int]) -> Sums:
    """`regression/residual_ratio/VARIABLE`: mean square of the residual on training over that on held-out starts, as additive sums.

    The mean over cases of each case's mean over its present cells; empty where either split is. Exact sums of blocks that one rank
    evaluates as a whole: not a bit depends on how many ranks share them.
    """
    chosen = [cases.chosen(CASES) for cases in (train, held_out)]
    if not all(len(starts) for starts in chosen):
        return {}
    names = train.reader.scene.names
    found: list[list[Number]] = [[Fraction(0)] * len(names) for _ in chosen]
    for sums, cases, starts in zip(found, (train, held_out), chosen, strict=True):
        for first in range(0, len(starts), BLOCK)[share[0] :: share[1]]:
            for row in _squares(mean, target, cases.reader, starts[first : first + BLOCK]).tolist():
                sums[:] = [before + exact(value) / len(starts) for before, value in zip(sums, row, strict=True)]
    return {f"{METRIC}/{name}": pair for name, pair in zip(names, zip(*found, strict=True), strict=True)}


def compare(train_mean: Mean, regressions: Regressions, train: Cases, held_out: Cases) -> dict[str, Any]:
    """`ratio` by variable and `ratio_by_wavelength` by variable and band (grid lengths), of training over held-out starts.

    train_mean: what gives the mean of a training start; held-out starts have the full regression's. Empty where a split is.
    """
    if not len(train.starts) or not len(held_out.starts):
        return {}
    names, target = train.reader.scene.names, regressions.target
    ratios_CK = torch.nan_to_num(
        _powers(train_mean, target, train) / _powers(regressions.full.mean, target, held_out), nan=1.0, posinf=1.0
    )  # a variable that never errs
    known = _band_names(train.reader.scene.grid.shape)
    return {
        "ratio": dict(zip(names, ratios_CK[:, 0].tolist(), strict=True)),
        "ratio_by_wavelength": {
            name: dict(zip(known, row[1:], strict=True)) for name, row in zip(names, ratios_CK.tolist(), strict=True)
        },
    }  # fmt: skip


def memorised(ratios: Mapping[str, float], cross_fitted: bool = False) -> list[str]:
    """One sentence for a person, with the cure, where a ratio lies outside USUAL; else nothing."""
    outside = {name: value for name, value in ratios.items() if math.isfinite(value) and not USUAL[0] <= value <= USUAL[1]}
    if not outside:
        return []
    told = ", ".join(f"{name} {value:.2f}" for name, value in sorted(outside.items()))
    said = f"the residual on training hours has another variance than on held-out hours (ratio outside {USUAL[0]}-{USUAL[1]}: {told})"
    if cross_fitted:
        return [f"{said} although it is cross-fitted: the two periods have other weather; validate in every season (mix=), or more folds"]
    if min(outside.values()) > 1:
        return [f"{said}: the held-out period is easier; validate in every season (mix=)"]
    return [f"{said}: the regression has memorised hours, or the held-out ones are harder; {CURE}"]


def memorised_in(metrics: Mapping[str, float]) -> list[str]:
    """`memorised` of a validation's metrics."""
    return memorised({name.removeprefix(METRIC + "/"): v for name, v in metrics.items() if name.startswith(METRIC + "/")})


def _squares(mean: Mean, target: Target, reader: WindowReader, starts: Times) -> Tensor:
    """Mean square of the residual over present cells [B, C], float64 on the host."""
    found = [torch.zeros((0, len(reader.scene.names)), dtype=torch.float64)]
    for residual_BCHW, present_BCHW in residuals(mean, target, reader, starts):
        found.append((residual_BCHW.square().sum(dim=(2, 3)) / present_BCHW.sum(dim=(2, 3)).clamp(min=1)).cpu())
    return torch.cat(found)


def _powers(mean: Mean, target: Target, cases: Cases) -> Tensor:
    """Mean square and power in each band [C, 1 + K], over at most BEGIN_CASES starts, float64."""
    starts, total = cases.chosen(BEGIN_CASES), torch.zeros(())
    for residual_BCHW, present_BCHW in residuals(mean, target, cases.reader, starts):
        square_BC = residual_BCHW.square().sum(dim=(2, 3)) / present_BCHW.sum(dim=(2, 3)).clamp(min=1)
        bands_BCK = band_power(residual_BCHW)
        total = total + torch.cat([square_BC[..., None], bands_BCK], dim=2).sum(dim=0).cpu()
    return total / len(starts)


def residuals(mean: Mean, target: Target, reader: WindowReader, starts: Times) -> Iterator[tuple[Tensor, Tensor]]:
    """The next state minus its mean (0 where missing), and presence, normalised [B, C, H, W], float64, block by block."""
    for batch in blocks(reader, starts):
        present_BCHW = target.present(batch.target_present_BCHW, batch.window.present_BKCHW[:, -1])
        residual_BCHW = torch.where(present_BCHW, (batch.target_BCHW - mean(batch.window)).double(), 0.0)
        yield residual_BCHW, present_BCHW.double()


def band_power(field_BCHW: Tensor) -> Tensor:
    """Power of each field in the bands of wavelength that its grid has [B, C, K], under a Hann taper."""
    rows, columns = field_BCHW.shape[-2:]
    taper_HW = torch.outer(*(_hann(n, field_BCHW) for n in (rows, columns)))
    power_BCHW = torch.fft.fft2(field_BCHW * taper_HW).abs().square() / (rows * columns)
    inside_KHW = _bands((rows, columns)).to(field_BCHW.device)
    return torch.stack([(power_BCHW * inside_HW).sum(dim=(2, 3)) for inside_HW in inside_KHW], dim=2)


def _hann(count: int, like: Tensor) -> Tensor:
    return torch.hann_window(count + 2, periodic=False, dtype=like.dtype, device=like.device)[1:-1]


def _all_bands(shape: tuple[int, int]) -> Tensor:
    """[bands, H, W]: the modes of each of BANDS; diagonal waves shorter than two grid lengths count to the first."""
    cycles_HW = torch.hypot(*torch.meshgrid(*(torch.fft.fftfreq(n, dtype=torch.float64) for n in shape), indexing="ij"))
    length_HW = (1 / cycles_HW).clamp(min=BANDS[0][0])
    return torch.stack([(length_HW >= low) & (length_HW < high) for low, high in BANDS])  # the mean's length is infinite: in none


def _bands(shape: tuple[int, int]) -> Tensor:
    every = _all_bands(shape)
    return every[every.any(dim=(1, 2))]


def _band_names(shape: tuple[int, int]) -> list[str]:
    held = _all_bands(shape).any(dim=(1, 2)).tolist()
    return [f"{low:g}-{high:g}" for (low, high), has in zip(BANDS, held, strict=True) if has]
