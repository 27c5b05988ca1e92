"""Scores on disk: `scores.csv` for people and scripts, `scores.nc` with the same numbers by coordinates."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stormcast_train.base.files import replacing

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

LABELS = ("forecast", "variable", "lead_seconds", "region")


def write_csv(scores: pd.DataFrame, path: Path) -> None:
    """One row a score; absent thresholds, scales and intervals are empty, an undefined value (0 / 0) is
    `nan`.
    """
    text = scores.assign(value=[f"{v:.9g}" for v in scores.value])
    with replacing(path) as temporary:
        text.to_csv(temporary, index=False, float_format="%.9g")


def to_dataset(scores: pd.DataFrame) -> xr.Dataset:
    """One variable per metric (and `_low`, `_high` where there are intervals) over the labels that
    distinguish its rows.
    """
    import xarray as xr

    found = {}
    for metric, rows in scores.groupby("metric", sort=False):
        labels = [*LABELS, *(label for label in ("threshold", "scale_km") if rows[label].notna().any())]
        renamed = {label: f"{metric}_{label}" for label in labels if label in ("threshold", "scale_km")}
        indexed = rows.set_index(labels)
        for suffix, column in (("", "value"), ("_low", "low"), ("_high", "high")):
            if suffix == "" or indexed[column].notna().any():
                found[f"{metric}{suffix}"] = xr.DataArray.from_series(
                    indexed[column].astype(np.float64)
                ).rename(renamed)
    return xr.Dataset(found)


def write_netcdf(scores: pd.DataFrame, path: Path, attributes: dict[str, str]) -> None:
    """`scores.nc`, atomically."""
    made = to_dataset(scores).assign_attrs(attributes)
    with replacing(path) as temporary:
        made.to_netcdf(temporary, engine="netcdf4")
