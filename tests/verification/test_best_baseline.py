"""Baselines that lack cells are compared fairly, and the best one is named where it wins."""

from __future__ import annotations

import numpy as np
import pytest

from stormcast_train.fields.variables import describe
from stormcast_train.products.best_baseline_table import section, sentences
from stormcast_train.verification.aggregate import Aggregate, find
from stormcast_train.verification.best_baseline import Against, best_baselines
from stormcast_train.verification.case_sums import Measures
from stormcast_train.verification.cases import score_start
from stormcast_train.verification.compare import resampling
from stormcast_train.verification.config import BootstrapConfig
from stormcast_train.verification.table import Facts, Scoring, table

DAY = np.datetime64("2021-06-01T00", "s")
PLAIN = Measures(describe("rain1h"), (), (), (), None, (), np.ones((1, 1)))
NAN = np.nan


def row(*values: float) -> np.ndarray:
    """One lead of one row of cells, [1, 1, X]."""
    return np.array([[values]], float)


def scored(days: int, extrapolated: np.ndarray, **more: np.ndarray) -> Scoring:
    """Truth 0 0 0 0; the regression errs by 1 1 1 9, persistence by 2 in every cell; the members around the
    regression by 1 either way.
    """
    regression, aggregate = row(1, 1, 1, 9), Aggregate((3600,))
    forecasts = {
        "ensemble": np.stack([regression - 1, regression + 1]),
        "regression": regression,
        "persistence": row(2, 2, 2, 2),
        "extrapolation": extrapolated,
        **more,
    }
    named = {name: {"rain1h": field} for name, field in forecasts.items()}
    for day in range(days):
        start = DAY + np.timedelta64(86400 * day, "s")
        cases = score_start(start, {"rain1h": row(0, 0, 0, 0)}, named, {"rain1h": PLAIN}, {"all": None}, 0)
        aggregate.add(start, cases)
    resampled = resampling(aggregate.times(), BootstrapConfig(samples=100), 0)
    return Scoring(aggregate, {"rain1h": PLAIN}, resampled, Facts("", "hindcast", "test"))


def value(scoring: Scoring, forecast: str, metric: str) -> float:
    frame = table(scoring)
    return frame[(frame.forecast == forecast) & (frame.metric == metric)].value.item()


def test_inflow_cells_of_the_extrapolation_take_no_cell_from_the_others() -> None:
    scoring = scored(2, row(NAN, 1, 1, 1))
    assert value(scoring, "regression", "mae") == 3  # (1 + 1 + 1 + 9) / 4
    assert value(scoring, "extrapolation", "mae") == 1


def test_skill_of_the_extrapolation_is_over_the_cells_that_it_has() -> None:
    scoring = scored(2, row(NAN, 1, 1, 1))
    assert value(scoring, "extrapolation", "mse_skill") == pytest.approx(1 - 3 / 12)  # 1 1 1 against 2 2 2
    # the regression's MAE on the last three cells is (1 + 1 + 9) / 3
    assert value(scoring, "extrapolation", "crps_skill") == pytest.approx(1 - 1 / (11 / 3))
    # the ensemble's fair CRPS there: 1, 1 around error 1 (members 0 and 2): 1 - 1 = 0; members 8 and 10: 9 - 1
    assert value(scoring, "ensemble", "crps_fair_minus_extrapolation") == pytest.approx(8 / 3 - 1)


def test_rows_on_the_cells_of_a_baseline_are_no_scores_of_their_own() -> None:
    scoring = scored(1, row(NAN, 1, 1, 1))
    assert find(scoring.aggregate.rows(), "regression", "rain1h", "all", "extrapolation") is not None
    frame = table(scoring)
    assert len(frame[(frame.forecast == "regression") & (frame.metric == "rmse")]) == 1


def best(scoring: Scoring, forecast: str) -> Against:
    (found,) = [a for a in best_baselines(scoring) if a.forecast == forecast]
    return found


def test_the_best_baseline_is_the_one_with_the_largest_ratio_on_common_cells() -> None:
    found = best(scored(2, row(NAN, 1, 1, 1)), "regression")
    # RMSE of the regression on three cells sqrt(83 / 3) against 1; on all cells sqrt(84 / 4) against 2
    assert (found.baseline, found.score) == ("extrapolation", "RMSE")
    assert found.ratio == pytest.approx(np.sqrt(83 / 3))
    assert found.share == pytest.approx(0.75)
    assert found.low is None
    assert found.beaten
    assert not found.certain


def test_a_baseline_on_less_than_half_of_the_area_is_not_compared() -> None:
    assert best(scored(2, row(NAN, NAN, NAN, 1)), "regression").baseline == "persistence"


def test_a_full_baseline_shares_all_of_the_area() -> None:
    found = best(scored(2, row(NAN, NAN, NAN, 1)), "regression")
    assert found.share == 1
    assert found.ratio == pytest.approx(np.sqrt(84 / 4) / 2)


def test_ten_blocks_give_an_interval() -> None:
    found = best(scored(30, row(NAN, 1, 1, 1)), "ensemble")
    assert (found.score, found.baseline) == ("fair CRPS", "extrapolation")
    assert found.low == pytest.approx(8 / 3)  # every start is alike
    assert found.certain


def test_a_perfect_baseline_wins() -> None:
    found = best(scored(2, row(0, 0, 0, 0)), "regression")
    assert found.baseline == "extrapolation"
    assert found.ratio == np.inf
    assert best(scored(30, row(0, 0, 0, 0)), "regression").low is None  # no interval around infinity


def against(lead: int, ratio: float, share: float = 1.0, low: float | None = None) -> Against:
    high = None if low is None else low + 0.2
    return Against("t2m", lead, "regression", "RMSE", "stencil", ratio, low, high, share)


def test_the_sentence_names_variable_lead_and_baseline_where_it_wins() -> None:
    (said,) = sentences([against(3600, 1.031), against(7200, 0.9), against(900, 1.25, low=1.1)])
    assert said == (
        "t2m: the best baseline beats the regression (RMSE) at 2 of 3 lead(s): +1 h stencil (1.03), "
        "+15 min stencil (1.25 [1.10, 1.30])."
    )


def test_where_no_baseline_wins_that_is_said() -> None:
    assert sentences([against(3600, 0.9)]) == [
        "No baseline beats the regression (RMSE) in any variable at any lead."
    ]


def test_a_tie_to_two_digits_is_written_with_four() -> None:
    (said,) = sentences([against(3600, 1.0004)])
    assert "(1.0004)" in said


def test_the_table_shows_at_most_twelve_leads_and_the_share_of_the_area() -> None:
    made = section([against(60 * k, 0.5, share=0.7) for k in range(1, 41)], "certain")
    assert [cells[1].text for cells in (made.rows[0], made.rows[-1])] == ["+1 min", "+40 min"]
    assert len(made.rows) == 12
    assert made.rows[0][2].text == "0.50 stencil, 70 % of the area"
    assert made.rows[0][2].good


def test_an_interval_that_holds_one_is_not_coloured() -> None:
    made = section(
        [against(3600, 1.05, low=0.9), against(7200, 1.2, low=1.1), against(10800, 1.05)], "certain"
    )
    assert [cells[2].good for cells in made.rows] == [None, False, False]
