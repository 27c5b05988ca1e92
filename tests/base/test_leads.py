from __future__ import annotations

from stormcast_train.base.leads import lead_text, lead_unit


def test_leads_are_told_in_hours_where_all_are_whole_hours_else_in_minutes():
    assert lead_unit([3600, 6 * 3600]) == (3600, "h")
    assert lead_unit([1800, 3600]) == (60, "min")
    assert lead_text(6 * 3600, 3600) == "6 h"
    assert lead_text(3600, 300) == "60 min"  # after twelve steps of five minutes
