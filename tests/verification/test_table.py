"""The table: additive sums, paired skills, intervals."""

from __future__ import annotations

import numpy as np
import pytest

from stormcast_train.base.errors import RequestError
from stormcast_train.fields.variables import describe
from stormcast_train.verification.aggregate import Aggregate, Row, total
from stormcast_train.verification.case_sums import Measures, deterministic, ensemble
from stormcast_train.verification.compare import blocks_of, resampling
from stormcast_train.verification.config import BootstrapConfig, ScoreConfig
from stormcast_train.verification.stratify import region_masks
from stormcast_train.verification.table import COLUMNS, Facts, Scoring, headline, table

DAY = np.datetime64("2021-06-01T00", "s")
EQUAL = np.ones((1, 1))  # every cell counts alike
PLAIN = Measures(describe("t2m"), (), (), (), None, (), EQUAL)


def field(value: float) -> np.ndarray:
    return np.full((1, 2, 2), value)


def cases(error: float, persisted: float) -> dict[Row, dict[str, np.ndarray]]:
    truth, valid = field(0.0), field(1) > 0
    members = np.array([field(error - 1), field(error + 1)])
    return {
        Row("ensemble", "t2m", "all", 2): ensemble(members, truth, valid, PLAIN, np.random.default_rng(0)),
        Row("regression", "t2m", "all", 1): deterministic(field(2.0), truth, valid, PLAIN),
        Row("persistence", "t2m", "all", 1): deterministic(field(persisted), truth, valid, PLAIN),
    }


def scoring(days: int, step_days: int = 1) -> Scoring:
    aggregate = Aggregate((3600,))
    for day in range(days):
        aggregate.add(DAY + np.timedelta64(86400 * day * step_days, "s"), cases(1.0 + day % 2, 4.0))
    return Scoring(
        aggregate,
        {"t2m": PLAIN},
        resampling(aggregate.times(), BootstrapConfig(samples=200), 0),
        Facts("era5", "hindcast", "test"),
    )


def value(frame, forecast: str, metric: str, column: str = "value") -> float:
    return frame[(frame.forecast == forecast) & (frame.metric == metric)][column].item()


def test_skills_are_of_sums_over_all_starts() -> None:
    frame = table(scoring(2))
    assert tuple(frame.columns) == COLUMNS
    # mean errors 1 and 2: MSE (1 + 4) / 2 = 2.5 against 16
    assert value(frame, "ensemble", "mse_skill") == pytest.approx(1 - 2.5 / 16)
    # members error -1, +1: error 1 -> members 0, 2 around 0: fair CRPS mean(0, 2) - |2| * 2 / 4 = 0; error 2
    # -> (1 + 3)/2 - 1 = 1
    assert value(frame, "ensemble", "crps_fair") == pytest.approx(0.5)
    assert value(frame, "ensemble", "crps_skill") == pytest.approx(1 - 0.5 / 2)
    assert value(frame, "ensemble", "crps_fair_minus_regression") == pytest.approx(0.5 - 2)
    assert value(frame, "ensemble", "rmse", "n_cases") == 2
    assert value(frame, "ensemble", "rmse", "members") == 2


def test_intervals_are_empty_under_ten_blocks_of_three_days() -> None:
    few = table(scoring(27))  # 9 blocks
    assert few.low.isna().all()
    assert (few.n_blocks == 9).all()
    enough = table(scoring(30))  # 10 blocks
    rmse = enough[(enough.forecast == "ensemble") & (enough.metric == "rmse")].iloc[0]
    assert rmse.low <= rmse.value <= rmse.high
    assert rmse.low < rmse.high


def test_blocks_are_of_dates_not_of_starts() -> None:
    starts = DAY + np.array([0, 6, 47, 71, 72, 200]) * np.timedelta64(3600, "s")
    assert blocks_of(starts, "3d").tolist() == [0, 0, 0, 0, 1, 2]
    with pytest.raises(ValueError, match="at least 3d"):
        BootstrapConfig(block="1d")


def test_whole_blocks_are_drawn_and_never_single_starts() -> None:
    """40 blocks of three days with 1 to 4 starts each: a block's starts have one weight, and 40 blocks are
    drawn with replacement.
    """
    held = [1 + b % 4 for b in range(40)]
    hours = np.concatenate([72 * b + 6 * np.arange(n) for b, n in enumerate(held)])
    drawn = resampling(DAY + hours * np.timedelta64(3600, "s"), BootstrapConfig(samples=200), 0)
    assert drawn.n_blocks == 40
    assert (drawn.weights[0] == 1).all()
    first = np.cumsum([0, *held[:-1]])
    by_block = drawn.weights[1:, first]
    np.testing.assert_array_equal(drawn.weights[1:], np.repeat(by_block, held, axis=1))
    np.testing.assert_array_equal(by_block.sum(axis=1), np.full(200, 40))
    # a block is left out with probability (39 / 40)^40 = 0.363 and drawn twice or more with 0.264, each by
    # itself
    assert (by_block == 0).mean() == pytest.approx(0.363, abs=0.02)
    assert (by_block > 1).mean() == pytest.approx(0.264, abs=0.02)
    assert len(np.unique(by_block, axis=0)) == 200
    assert not (by_block == by_block[:, :1]).all(axis=0)[1:].any()  # no two blocks go together


def test_starts_of_one_block_count_as_one_in_the_width_of_an_interval() -> None:
    """Twelve blocks of one error each, with one start or with ten equal ones: the interval is the same."""
    errors, found = np.arange(12.0), []
    for starts in (1, 10):
        aggregate = Aggregate((3600,))
        for b, i in np.ndindex(12, starts):
            row = {
                Row("regression", "t2m", "all", 1): deterministic(
                    field(errors[b]), field(0.0), field(1) > 0, PLAIN
                )
            }
            aggregate.add(DAY + np.timedelta64(3600 * (72 * b + i), "s"), row)
        made = Scoring(
            aggregate,
            {"t2m": PLAIN},
            resampling(aggregate.times(), BootstrapConfig(), 0),
            Facts("", "hindcast", "test"),
        )
        line = table(made).query("metric == 'mae'").iloc[0]
        found.append((line.value, line.low, line.high))
    assert found[0] == pytest.approx(found[1])
    # the mean of 12 drawn from 0..11: 5.5 +- 1.96 x 3.452 / sqrt(12) = 3.55 .. 7.45
    assert found[0] == pytest.approx((5.5, 3.55, 7.45), abs=0.2)


def test_the_interval_of_a_constant_difference_has_no_width() -> None:
    aggregate = Aggregate((3600,))
    for day in range(40):
        truth, valid = (
            field(float(day)),
            field(1) > 0,
        )  # the cases differ wildly, the two forecasts by exactly 1 in each
        aggregate.add(
            DAY + np.timedelta64(86400 * day, "s"),
            {
                Row("ensemble", "t2m", "all", 1): deterministic(field(-1.0), truth, valid, PLAIN),
                Row("regression", "t2m", "all", 1): deterministic(field(0.0), truth, valid, PLAIN),
            },
        )
    made = Scoring(
        aggregate,
        {"t2m": PLAIN},
        resampling(aggregate.times(), BootstrapConfig(samples=200), 0),
        Facts("", "hindcast", "test"),
    )
    frame = table(made)
    line = frame[(frame.forecast == "ensemble") & (frame.metric == "crps_fair_minus_regression")].iloc[0]
    assert (line.value, line.low, line.high) == pytest.approx(
        (1, 1, 1)
    )  # paired: the same dates are drawn for both
    rmse = frame[(frame.forecast == "ensemble") & (frame.metric == "rmse")].iloc[0]
    assert rmse.high - rmse.low > 1


def test_parts_scored_elsewhere_add_up_to_the_whole() -> None:
    whole, first, second = Aggregate((3600,)), Aggregate((3600,)), Aggregate((3600,))
    for day, part in enumerate((first, second)):
        start, made = DAY + np.timedelta64(86400 * day, "s"), cases(float(day), 3.0)
        part.add(start, made)
        whole.add(start, made)
    merged = first + second
    row = Row("ensemble", "t2m", "all", 2)
    for name, expected in total(whole.stacked(row), np.ones((1, 2))).items():
        np.testing.assert_array_equal(total(merged.stacked(row), np.ones((1, 2)))[name], expected)
    with pytest.raises(ValueError, match="twice"):
        merged + first


def test_a_baseline_missing_at_a_start_is_compared_on_the_others_alone() -> None:
    made = scoring(2)
    third = cases(100.0, 0.0)
    del third[Row("persistence", "t2m", "all", 1)]
    made.aggregate.add(DAY + np.timedelta64(10 * 86400, "s"), third)
    again = Scoring(
        made.aggregate, made.measured, resampling(made.aggregate.times(), BootstrapConfig(), 0), made.facts
    )
    frame = table(again)
    assert value(frame, "ensemble", "mse_skill") == pytest.approx(
        1 - 2.5 / 16
    )  # the start without persistence is not in it
    assert value(frame, "persistence", "rmse", "n_cases") == 2
    assert value(frame, "ensemble", "rmse", "n_cases") == 3


def test_the_headline_averages_over_leads_before_it_divides() -> None:
    facts = headline(scoring(2))["t2m"]
    assert facts["crps_over_regression_mae"] == pytest.approx(0.5 / 2)
    assert facts["regression_rmse_over_persistence"] == pytest.approx(2 / 4)


def test_regions_need_their_static_fields() -> None:
    static = {"lsm": np.array([[1.0, 1.0, 0.0]]), "orog": np.array([[900.0, 10.0, 0.0]])}
    masks = region_masks(("all", "land", "sea", "land_above_500m"), static)
    assert masks["all"] is None
    assert masks["land"].tolist() == [[True, True, False]]
    assert masks["sea"].tolist() == [[False, False, True]]
    assert masks["land_above_500m"].tolist() == [[True, False, False]]
    with pytest.raises(RequestError, match="lsm"):
        region_masks(("sea",), {})


def test_the_standard_config_is_typed() -> None:
    from stormcast_train.base.config import compose
    from stormcast_train.base.typed import typed

    config = typed(ScoreConfig, compose("verify", ["forecast=f", "store=s", "out=o"])["score"])
    assert config.thresholds_of(describe("rain1h")) == (0.5, 1, 5, 10, 20, 40)
    assert config.thresholds_of(describe("refc")) == (20, 30, 40)
    for name, of_hour in (
        ("rain1h", 1.0),
        ("rain10m", 1 / 6),
        ("rain5m", 1 / 12),
    ):  # light and heavy rain of every length are scored
        assert {round(rate * of_hour, 6) for rate in (0.5, 20)} <= set(config.thresholds_of(describe(name)))


def test_thresholds_of_no_variable_are_refused_by_name() -> None:
    score = ScoreConfig(name="s", thresholds={"rain": (1.0,), "rainrate": (2.0,), "refc": (20.0,)})
    score.check_names(["rainrate"])
    with pytest.raises(RequestError, match=r"score\.thresholds\.rainrate: .* Did you mean 'rain'"):
        score.check_names(["t2m"])
