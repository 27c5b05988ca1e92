"""Curves of scores."""

from __future__ import annotations

import pandas as pd
import pytest
from matplotlib.figure import Figure

from stormcast_train.products import curves


@pytest.mark.parametrize(
    ("leads_s", "label", "places"),
    [((1800, 3600), "lead, min", [30, 60]), ((3600, 7200), "lead, h", [1, 2]), ((300,), "lead, min", [5])],
)
def test_leads_are_drawn_in_minutes_where_steps_are(leads_s, label, places):
    rows = [{"metric": "rmse", "forecast": "mean", "lead_seconds": s, "value": 1.0} for s in leads_s]
    axis = Figure().subplots()
    own = pd.DataFrame(rows).assign(low=float("nan"), high=float("nan"))
    curves.by_lead(axis, own, "rmse", "RMSE", ["mean"])
    assert axis.get_xlabel() == label
    assert axis.lines[0].get_xdata().tolist() == places
