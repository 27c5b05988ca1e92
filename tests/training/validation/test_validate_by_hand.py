"""Validation of known networks against numpy: every metric at every lead, and which cells count."""

from __future__ import annotations

import known_world as known
import numpy as np
import pytest

from stormcast_train.data.keyed_random import normal
from stormcast_train.store.reader import open_store
from stormcast_train.training.validation.criterion import reduced_metrics
from stormcast_train.training.validation.validate import validate
from stormcast_train.training.validation.validation_cases import SEED, Cases, Validation
from stormcast_train.training.validation.validation_plan import ValidationSpec
from stormcast_train.verification.config import ScoreConfig

LEADS, MEMBERS = 3, 3
STARTS = range(
    1, 11
)  # hours, more than a block; the rollouts begin at all of them whose three steps lie among them
SPEC = ValidationSpec(
    cases=20, ensemble_cases=20, members=MEMBERS, steps=LEADS, maps=0, score=ScoreConfig(name="t",
    spectra=False)
)  # fmt: skip
AT = ("", "@2h", "@3h")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return open_store(known.write(tmp_path_factory.mktemp("known") / "store"))


def cases(emulator, store) -> Cases:
    return Cases(emulator.reader(store), known.FIRST + np.array(STARTS) * known.HOUR)


def rollouts() -> list[int]:
    return [hour for hour in STARTS if hour + LEADS - 1 in STARTS]


def truth(hour: int) -> np.ndarray:
    return known.analysis()[hour].astype(np.float64)


def areas() -> np.ndarray:
    """Of the rows' cells [H, 1], relative: sin of the northern minus sin of the southern edge, halfway
    between the rows.
    """
    edges = np.radians(np.array([21.75, 22.25, 22.75, 23.25, 23.75]))
    return np.diff(np.sin(edges))[:, None]


def mean_over(parts) -> float:
    """The area-weighted mean of (values, which of them count) of all cases."""
    total = sum((np.where(counted, values, 0) * areas()).sum() for values, counted in parts)
    return float(total / sum((counted * areas()).sum() for _, counted in parts))


@pytest.mark.parametrize("target", ["state", "tendency"])
def test_a_regressions_errors_and_skill_at_every_lead_are_those_of_numpy(store, target):
    emulator = known.emulator(target=target)
    found = reduced_metrics([validate(emulator, cases(emulator, store), (0, 1), Validation(SPEC))])
    assert rollouts() == [1, 2, 3, 4, 5, 6, 7, 8]
    for c, name in enumerate(known.STATISTICS):
        for lead in range(1, LEADS + 1):
            errors, persisted = [], []
            for start in STARTS if lead == 1 else rollouts():
                happened, begun = truth(start + lead)[c], truth(start)[c]
                forecast = known.rolled(lead, target, start).members[0, -1, c]
                there = np.isfinite(happened) & np.isfinite(begun) & known.COVERAGE[c]
                errors.append((forecast - happened, there))
                persisted.append((begun - happened, there))
            mse, reference = (mean_over([(e**2, there) for e, there in part]) for part in (errors, persisted))
            expected = {
                "rmse": mse**0.5,
                "mae": mean_over([(abs(e), there) for e, there in errors]),
                "mse_skill": 1 - mse / reference,
            }
            for quantity, value in expected.items():
                assert found[f"regression/{quantity}/{name}{AT[lead - 1]}"] == pytest.approx(
                    value, rel=1e-5
                ), (quantity, name, lead)


def noise_of(start: int) -> np.ndarray:
    """[L, M, C, H, W]"""
    stamp = f"2021-06-01T{start:02d}:00:00"
    drawn = [
        normal(SEED, ("forecast", stamp, lead), range(MEMBERS), (2, 4, 5), known.CPU)
        for lead in range(1, LEADS + 1)
    ]
    return np.stack([x.double().numpy() for x in drawn])


def test_an_ensembles_error_spread_and_crps_at_every_lead_are_those_of_numpy(store):
    emulator = known.emulator("diffusion")
    found = reduced_metrics([validate(emulator, cases(emulator, store), (0, 1), Validation(SPEC))])
    ensembles = {
        start: known.rolled(LEADS, start=start, noise=noise_of(start)).members for start in rollouts()
    }
    for c, name in enumerate(known.STATISTICS):
        for lead in range(1, LEADS + 1):
            squares, variances, crps, singles = [], [], [], []
            for start in rollouts():
                happened, members = truth(start + lead)[c], ensembles[start][:, lead - 1, c]
                there = np.isfinite(happened) & known.COVERAGE[c]
                pairs = np.abs(members[:, None] - members[None]).sum(axis=(0, 1)) / (
                    2 * MEMBERS * (MEMBERS - 1)
                )
                squares.append(((members.mean(axis=0) - happened) ** 2, there))
                variances.append((members.var(axis=0, ddof=1), there))
                crps.append((np.abs(members - happened).mean(axis=0) - pairs, there))
                singles.append((np.abs(known.rolled(lead, start=start).members[0, -1, c] - happened), there))
            mse, fair = mean_over(squares), mean_over(crps)
            expected = {
                "rmse": mse**0.5, "crps_fair": fair, "crps_skill": 1 - fair / mean_over(singles),
                "spread_skill": (mean_over(variances) * (MEMBERS + 1) / MEMBERS / mse) ** 0.5,
            }  # fmt: skip
            for quantity, value in expected.items():
                assert found[f"diffusion/{quantity}/{name}{AT[lead - 1]}"] == pytest.approx(
                    value, rel=1e-5
                ), (quantity, name, lead)


@pytest.mark.parametrize("target", ["state", "tendency"])
def test_the_denoising_loss_is_that_of_numpy_and_counts_no_missing_cell(store, target):
    """20 cells a case, but for rain: one never covered, and one missing at hour 3, the target of hour 2.

    As the start of hour 3 it is there: a tendency is trained as a state where the newest one is missing.
    """
    emulator = known.emulator("diffusion", target)
    sums = validate(emulator, cases(emulator, store), (0, 1), Validation(SPEC))
    assert [sums[f"diffusion/denoising_loss/{name}"][1] for name in known.STATISTICS] == [
        10 * 20,
        10 * 19 - 1,
    ]
    expected = np.zeros(2)
    for number, start in enumerate(STARTS):
        (before, _), (now, _), (then, there) = (known.known_at(start + k) for k in (-1, 0, 1))
        lacks = [~known.known_at(start + k)[1][1] for k in (-1, 0)]
        mean, added = known.step(known.seen_at(start + 1, 1, [before, now], lacks), now, lacks[1], target)
        clean = (then - mean) / known.RESIDUAL * there
        level = np.exp(
            -1.2 + 1.2 * float(normal(SEED, ("validation_sigma",), [number], (2,), known.CPU)[0, 0])
        )
        noise = normal(SEED, ("validation_noise",), [number], (2, 4, 5), known.CPU)[0].double().numpy()
        error = known.kept(clean + level * noise) + added - clean
        weight = (level**2 + 0.25) / (level * 0.5) ** 2  # Karras et al. 2022, eq. 8, with sigma_data 0.5
        expected += (weight * error**2 * there).sum(axis=(1, 2))
    for total, name in zip(expected, known.STATISTICS, strict=True):
        assert float(sums[f"diffusion/denoising_loss/{name}"][0]) == pytest.approx(total, rel=1e-5)
    levels = [pair for key, pair in sums.items() if key.startswith("diffusion/denoising_loss_at/")]
    assert sum(count for _, count in levels) == 10 * 20 + 10 * 19 - 1
    assert float(sum(error for error, _ in levels)) == pytest.approx(expected.sum(), rel=1e-5)
