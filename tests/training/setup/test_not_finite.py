"""A store that holds inf (another's, or of an older version), and a loss that stops being finite."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_stages
import tiny_world
import torch

from stormcast_train.base.errors import RequestError
from stormcast_train.data.extremes import most_extreme
from stormcast_train.fields.reasons import Reason
from stormcast_train.store import writer
from stormcast_train.store.reader import open_store
from stormcast_train.training.run.failure import failure_text
from stormcast_train.training.setup.build_stage import build_stage
from stormcast_train.training.setup.resolve import resolve

HOURS = 120  # train: 84 hours, less the gap; test: from hour 102


def write(path: Path, role: str, hour: int) -> Path:
    """t2m above the driver's t2m and u850, with inf in one cell of one hour."""
    rng = np.random.default_rng(0)
    times = tiny_world.START + np.arange(HOURS) * tiny_world.HOUR
    fields = {
        "state": {"t2m": 290 + rng.normal(0, 3, (HOURS, 12, 8))},
        "background": {name: 280 + rng.normal(0, 3, (HOURS, 8, 7)) for name in ("t2m", "u850")},
    }
    list(fields[role].values())[-1][hour, 3, 3] = np.inf
    grids = {"state": tiny_world.GRID, "background": tiny_world.DRIVER}
    groups = {name: (grids[name], times, arrays, None) for name, arrays in fields.items()}
    with np.errstate(all="ignore"):  # moments of inf
        return writer.write_store(path, groups)


def only_nan(values_YX, mask_YX):
    """What the writer did before: inf stayed."""
    mask_YX[np.isnan(values_YX) & (mask_YX == 0)] = Reason.NOT_IN_FILE


@pytest.mark.parametrize("role", ["state", "background"])
def test_inf_is_never_written_but_missing_with_a_reason_that_is_counted(tmp_path, role):
    store = open_store(write(tmp_path / "s", role, 70))
    group = store.group(role)
    name = group.channels[-1]
    assert np.isnan(group.read([70], [name])[0, 0, 3, 3])
    assert group.mask([70], [name])[0, 0, 3, 3] == Reason.OUT_OF_RANGE
    counted = store.manifest["groups"][role]["partly_missing_cells"]
    assert counted == {name: {"outside the physical range": 1}}
    assert np.isfinite(group.moments[:, :, :2]).all()


@pytest.mark.parametrize(
    ("role", "hour", "said"),
    [
        ("state", 70, "state t2m that are not finite (inf) at 2021-06-03T22:00:00, in the train split"),
        ("background", 70, "background u850 that are not finite (inf) at 2021-06-03T22:00:00, in the train"),
        ("state", 110, "state t2m that are not finite (inf) at 2021-06-05T14:00:00, in the test split"),
    ],
)
def test_a_store_that_holds_inf_is_refused_with_role_variable_hour_and_split(
    tmp_path, monkeypatch, role, hour, said
):
    monkeypatch.setattr(writer, "_give_reasons", only_nan)
    store = write(tmp_path / "s", role, hour)
    with pytest.raises(RequestError) as refused:
        resolve(tiny_stages.request(store, "regression"))
    assert said in str(refused.value)


def test_the_most_extreme_field_of_a_sample_is_named(tiny_store):
    stage, stream = build_stage(tiny_stages.request(tiny_store, "regression"), torch.device("cpu"))
    batch = stream.batch([0])
    start = batch.window.times[0]
    usual = stage.most_extreme(batch)
    assert 0 < usual["deviations"] < 20
    batch.window.background_BJChw[0, 1, 1, 2, 2] = torch.inf  # u850 one step later
    found = most_extreme(batch, stage.template.scene)
    wanted = {"role": "background", "variable": "u850", "time": str(start + tiny_world.HOUR)}
    assert found == {**wanted, "deviations": None}


def test_a_stop_names_role_variable_and_hour_and_no_checkpoint_that_does_not_exist(tiny_store, tmp_path):
    mixture = resolve(tiny_stages.request(tiny_store, "regression")).mixture

    def text(*suspects):
        return failure_text("not finite", suspects, mixture, tmp_path)

    field = {"role": "background", "variable": "u850", "time": "2021-06-03T22:00:00", "dataset_index": 3}
    for said in (
        "background u850 at 2021-06-03T22:00:00 holds values that are not finite",
        "no checkpoint had been written before",
    ):
        assert said in text({**field, "deviations": None})
    assert "most extreme field (35 standard deviations from its mean): look at it" in text(
        {**field, "deviations": 3.0}, {**field, "deviations": 35.0}
    )
    assert "usual weather: lower optim.lr" in text({**field, "deviations": 3.0})
    assert "each of these samples alone is finite" in text()
