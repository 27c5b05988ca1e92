"""Validation: its numbers are verification's, its bits nobody's, and what it keeps can be drawn."""

from __future__ import annotations

import dataclasses
from itertools import product

import numpy as np
import pytest
import tiny_stages
import tiny_world

from stormcast_train.base.errors import RequestError, UnreadableError
from stormcast_train.forecast.emulator import Emulator
from stormcast_train.forecast.rollout import roll_members
from stormcast_train.stages.stage import kind_of
from stormcast_train.store.reader import open_store
from stormcast_train.training.setup.build_stage import build_stage
from stormcast_train.training.validation.case_fields import case_path, kept_cases, read_case, write_case
from stormcast_train.training.validation.criterion import Criterion, reduced_metrics
from stormcast_train.training.validation.evaluation import Evaluation
from stormcast_train.training.validation.overfitting import ratio_metrics
from stormcast_train.training.validation.validation_cases import SEED, Validation
from stormcast_train.training.validation.validation_plan import (
    ValidationSpec,
    evenly,
    lead_name,
    metric_names,
    rollout_starts,
)
from stormcast_train.verification import metrics
from stormcast_train.verification.aggregate import Aggregate, Row, total
from stormcast_train.verification.case_sums import deterministic, ensemble, measures, valid_cells
from stormcast_train.verification.config import ScoreConfig
from stormcast_train.verification.stratify import inflow_distance_km

HOUR = tiny_world.HOUR
SCORE = ScoreConfig(
    name="tiny", thresholds={"rain": (0.5, 2.0)}, fss_windows_km=(40.0, 80.0), bands_per_octave=1
)
SPEC = ValidationSpec(cases=10, ensemble_cases=3, members=3, steps=2, maps=2, score=SCORE)


@pytest.fixture(scope="module")
def stages(tiny_store, trained):
    more = {"regression": str(trained["regression"])}
    return {
        "regression": build_stage(tiny_stages.request(tiny_store, "regression"), tiny_stages.CPU)[0],
        "diffusion": build_stage(tiny_stages.request(tiny_store, "diffusion", **more), tiny_stages.CPU)[0],
    }


@pytest.fixture(scope="module")
def weights(trained):
    return {kind: Emulator.load(trained[kind]).step_model.network.state_dict() for kind in trained}


@pytest.fixture(scope="module")
def validated(stages, weights):
    """Metrics by stage, and the cases kept."""
    kept = {"regression": [], "diffusion": []}
    found = {
        k: reduced_metrics([Evaluation(s).sums(weights[k], (0, 1), Validation(SPEC, kept[k].append))])
        for k, s in stages.items()
    }
    return found, kept


def test_every_metric_of_an_ensemble_is_verifications_of_the_same_forecast(
    tiny_store, trained, stages, validated
):
    """Rolled from the saved package on the same starts, scored by verification's statistics and metrics."""
    found, store = validated[0]["diffusion"], open_store(tiny_store)
    emulator, group = Emulator.load(trained["diffusion"]), store.group("state")
    starts, steps = rollout_starts(stages["diffusion"].cases.starts, HOUR, 2)
    assert steps == 2
    aggregate = Aggregate((3600, 7200))
    for start in evenly(starts, 3):
        rolled = roll_members(emulator, emulator.reader(store), start, 2, range(3), SEED)
        means = roll_members(emulator.beneath, emulator.reader(store), start, 2, [0], SEED)
        members_MLCHW = np.stack([m.numpy() for m in rolled], axis=1)
        single_LCHW = np.stack([m.numpy()[0] for m in means])
        truth_LCHW = group.read(group.rows(start + HOUR * np.arange(1, 3)), ["t2m", "rain1h"])
        rows = {}
        for c, name in enumerate(("t2m", "rain1h")):
            measured = measures(group.variables[name], group.grid, SCORE)
            x, y = members_MLCHW[:, :, c], truth_LCHW[:, c]
            valid = valid_cells(y, {"e": x, "r": single_LCHW[:, c]})
            rows[Row("ensemble", name, "all", 3)] = ensemble(x, y, valid, measured, None)
            rows[Row("regression", name, "all", 1)] = deterministic(single_LCHW[:, c], y, valid, measured)
        aggregate.add(start, rows)
    for name in ("t2m", "rain1h"):
        own, reference = (
            total(aggregate.stacked(Row(f, name, "all", m)), np.ones((1, 3)))
            for f, m in (("ensemble", 3), ("regression", 1))
        )
        measured = measures(group.variables[name], group.grid, SCORE)
        for lead, at in enumerate(("", "@2h")):
            expected = {
                f"rmse/{name}{at}": metrics.rmse(own)[0, lead],
                f"crps_fair/{name}{at}": metrics.crps_fair(own)[0, lead],
                f"spread_skill/{name}{at}": metrics.spread_skill_ratio(own, 3)[0, lead],
                f"crps_skill/{name}{at}": 1
                - metrics.crps_fair(own)[0, lead] / metrics.mae(reference)[0, lead],
            }
            for b, km in enumerate(measured.bands_km):
                expected[f"psd_ratio/{name}:{km:.3g}km{at}"] = metrics.psd_ratio(own)[0, lead, b]
            for w, km in enumerate(measured.scales_km):
                expected[f"fss/{name}:2mm:{km:.3g}km{at}"] = metrics.fss(own)[
                    0, lead, measured.thresholds.index(2.0), w
                ]
            assert len(expected) > 4
            for key, value in expected.items():
                assert found[f"diffusion/{key}"] == pytest.approx(value, rel=1e-6), key


def test_the_frequency_bias_is_the_members_events_over_the_observed(tiny_store, validated, stages):
    """At 0.5 mm/h: the area of all members at or above it, divided by members, over that of the truth, by
    hand from the fields.
    """
    found = validated[0]
    assert "diffusion/frequency_bias/rain1h:20mm" in found["diffusion"]
    assert not [n for n in found["diffusion"] if n.startswith("diffusion/frequency_bias/rain1h:2mm")]
    spec = SPEC.model_copy(update={"ensemble_cases": 1, "members": 2, "maps": 1, "steps": 1})
    stage, cases = stages["diffusion"], []
    told = reduced_metrics(
        [Evaluation(stage).sums(stage.network.state_dict(), (0, 1), Validation(spec, cases.append))]
    )
    members, truth = cases[0].members["rain1h"][:, 0], cases[0].truth["rain1h"][0]
    valid = np.isfinite(truth) & np.isfinite(members).all(axis=0)
    area = np.cos(np.radians(tiny_world.GRID.lat2d))[valid]  # of equally high rows, up to a factor
    events = ((members[:, valid] >= 0.5) * area).sum() / 2
    assert told["diffusion/frequency_bias/rain1h:0.5mm"] == pytest.approx(
        events / ((truth[valid] >= 0.5) * area).sum()
    )


def test_a_regressions_metrics_are_verifications_of_one_step(tiny_store, trained, stages, validated):
    found, store = validated[0]["regression"], open_store(tiny_store)
    emulator, group = Emulator.load(trained["regression"]), store.group("state")
    aggregate = Aggregate((3600,))
    for start in evenly(stages["regression"].cases.starts, 10):
        fields = next(iter(roll_members(emulator, emulator.reader(store), start, 1, [0], SEED))).numpy()
        happened, started = (
            group.read(group.rows(np.array([start + HOUR * k])), ["t2m", "rain1h"])[0] for k in (1, 0)
        )
        rows = {}
        for c, name in enumerate(("t2m", "rain1h")):
            f, y, p = fields[:, c], happened[None, c], started[None, c]
            valid, measured = (
                valid_cells(y, {"f": f, "p": p}),
                measures(group.variables[name], group.grid, SCORE),
            )
            rows |= {
                Row("f", name, "all", 1): deterministic(f, y, valid, measured),
                Row("p", name, "all", 1): deterministic(p, y, valid, measured),
            }
        aggregate.add(start, rows)
    for name in ("t2m", "rain1h"):
        f, p = (
            total(aggregate.stacked(Row(which, name, "all", 1)), np.ones((1, len(aggregate.starts))))
            for which in "fp"
        )
        assert found[f"regression/rmse/{name}"] == pytest.approx(metrics.rmse(f)[0, 0], rel=1e-5)
        assert found[f"regression/mae/{name}"] == pytest.approx(metrics.mae(f)[0, 0], rel=1e-5)
        assert found[f"regression/mse_skill/{name}"] == pytest.approx(
            1 - metrics.mse(f)[0, 0] / metrics.mse(p)[0, 0], rel=1e-5
        )
    assert found["regression/mse_skill/t2m@2h"] > 0


@pytest.mark.parametrize("kind", ["regression", "diffusion"])
def test_the_rings_from_the_inflow_edge_share_all_cells(kind, stages, weights):
    """Their squared errors and their cells sum to the whole's, at every lead."""
    sums = Evaluation(stages[kind]).sums(weights[kind], (0, 1), Validation(SPEC))
    for name, at in product(("t2m", "rain1h"), ("", "@2h")):
        rings = [
            v
            for k, v in sums.items()
            if k.startswith(f"{kind}/inflow_rmse/{name}:") and k.partition("@")[2] == at[1:]
        ]
        assert sum(cells > 0 for _, cells in rings) == 4
        squares, cells = sums[f"{kind}/rmse/{name}{at}"]
        assert float(sum(ring[1] for ring in rings)) == pytest.approx(float(cells), rel=1e-12)
        assert float(sum(ring[0] for ring in rings)) == pytest.approx(float(squares), rel=1e-9)


def test_distance_is_against_the_wind_and_to_the_nearest_edge_in_a_calm():
    (dy, dx), (rows, columns) = (s / 1000 for s in tiny_world.GRID.spacing_m), tiny_world.GRID.shape
    westerly = inflow_distance_km(tiny_world.GRID, (10.0, 0.0))
    assert westerly[5] == pytest.approx(
        (np.arange(columns) + 0.5) * dx
    )  # what blows east came in at the west edge
    southerly = inflow_distance_km(tiny_world.GRID, (0.0, 3.0))
    assert southerly[:, 2] == pytest.approx((np.arange(rows) + 0.5) * dy)
    # a wind of equal parts at the south-west cell: along the ray, sqrt(2) times the shorter half cell
    assert inflow_distance_km(tiny_world.GRID, (2.0, 2.0))[0, 0] == pytest.approx(
        np.sqrt(2) * min(dx, dy) / 2
    )
    calm = inflow_distance_km(tiny_world.GRID, (0.1, 0.1))
    assert np.array_equal(calm, inflow_distance_km(tiny_world.GRID, None))
    assert calm[0, 0] == pytest.approx(min(dx, dy) / 2)


@pytest.mark.parametrize("kind", ["regression", "diffusion"])
def test_not_a_bit_depends_on_the_number_of_ranks(kind, stages, weights, validated):
    parts = [Evaluation(stages[kind]).sums(weights[kind], (rank, 3), Validation(SPEC)) for rank in range(3)]
    assert reduced_metrics(parts) == pytest.approx(validated[0][kind], abs=0, rel=0, nan_ok=True)


@pytest.mark.parametrize("kind", ["regression", "diffusion"])
def test_the_names_are_known_before_anything_is_measured(kind, tiny_store, validated, stages, weights):
    group = open_store(tiny_store).group("state")
    names = metric_names(
        kind_of(kind),
        [group.variables[n] for n in group.channels],
        group.grid,
        HOUR,
        2,
        SPEC,
        ratio=kind == "regression",
    )
    by_draw = f"{kind}/denoising_loss_at/"  # which noise levels are met depends on the draws
    ratios = set(ratio_metrics(kind, Evaluation(stages[kind]).ratios(weights[kind])))
    assert sorted(names) == sorted(
        ratios | {name for name in validated[0][kind] if not name.startswith(by_draw)}
    )


@pytest.mark.parametrize("kind", ["regression", "diffusion"])
def test_a_forecast_that_is_not_finite_is_never_the_best(kind, stages, weights):
    """NaN cells are not left out of the score as if they were masked."""
    broken = {name: tensor * float("nan") for name, tensor in weights[kind].items()}
    found = reduced_metrics([Evaluation(stages[kind]).sums(broken, (0, 1), Validation(SPEC))])
    assert {f"{kind}/rmse/t2m", f"{kind}/rmse/rain1h", f"{kind}/rmse/t2m@2h"} <= set(found)
    assert not [name for name, value in found.items() if np.isfinite(value)]
    assert not Criterion(f"{kind}/{kind_of(kind).best}", kind).improves(found)


def test_leads_are_named_in_hours_or_minutes():
    assert [lead_name(lead, np.timedelta64(3600, "s")) for lead in (1, 6)] == ["", "@6h"]
    assert lead_name(2, np.timedelta64(300, "s")) == "@10min"


def test_a_rollout_stays_in_the_split_and_is_shortened_where_none_fits():
    starts = tiny_world.START + HOUR * np.array([0, 1, 2, 5, 6])
    long, steps = rollout_starts(starts, HOUR, 3)
    assert (list(long), steps) == ([starts[0]], 3)
    pairs, steps = rollout_starts(starts[3:], HOUR, 6)
    assert (list(pairs), steps) == ([starts[3]], 2)


def test_the_same_cases_are_kept_every_time_and_read_back(validated, stages, weights, tmp_path):
    kept, again = validated[1]["diffusion"], []
    parts = [Validation(SPEC, again.append)] * 2
    for rank in range(2):
        Evaluation(stages["diffusion"]).sums(weights["diffusion"], (rank, 2), parts[rank])
    assert sorted(case.start for case in again) == sorted(case.start for case in kept)
    assert len(kept) == 2
    for case in kept:
        write_case(case_path(tmp_path, 800, case.start), case, {"samples": 800})
    ((samples, paths),) = kept_cases(tmp_path).items()
    assert samples == 800
    read = read_case(paths[0])
    assert [v.name for v in read.variables] == ["rain1h", "t2m"]
    assert read.members["t2m"].shape == (2, 2, 12, 8)
    np.testing.assert_array_equal(read.mean["rain1h"], kept[0].mean["rain1h"].astype(np.float32))
    assert np.isnan(read.truth["rain1h"][:, 0, 0]).all()  # the hole in the radar's coverage
    paths[0].write_bytes(b"\x89HDF")
    with pytest.raises(UnreadableError, match="validation case"):
        read_case(paths[0])


def test_a_wrong_metric_or_veto_is_refused_before_anything_is_written(tiny_store, tmp_path):
    import toy_stage

    from stormcast_train.training.run.checks import check_metrics

    run = toy_stage.stage_run(tiny_store, tmp_path / "run", best_metric="regression/rsme/t2m")
    with pytest.raises(
        RequestError,
        match=r"train.best_metric=regression/rsme/t2m is not measured. Did you mean 'regression/rmse/t2m'",
    ):
        check_metrics(run, run.setup)
    vetoed = dataclasses.replace(
        run,
        execution=run.execution.model_copy(
            update={"best_metric": None, "veto": {"regression/psd/*": (0.5, 2)}}
        ),
    )
    with pytest.raises(RequestError, match=r"train.veto=regression/psd/\* is not measured"):
        check_metrics(vetoed, vetoed.setup)
    assert not (tmp_path / "run").exists()
