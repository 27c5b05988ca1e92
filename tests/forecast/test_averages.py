"""`ema=`: the weights that a forecast is made with are those of the average that was asked for."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import known_world as known
import numpy as np
import pytest
from safetensors.numpy import save_file

from stormcast_train.base.console import Console
from stormcast_train.base.errors import RequestError
from stormcast_train.base.files import write_json
from stormcast_train.forecast import forecast_file
from stormcast_train.forecast import package as packages
from stormcast_train.forecast.emulator import Emulator
from stormcast_train.recipes import forecast as recipe
from stormcast_train.store.reader import open_store

START, SAMPLES = "2021-06-05T00", 320
WARMER, COLDER = (
    (0.4, 0.0),
    (-0.2, 0.0),
)  # of the standard deviation of an hour's change: what each average's network says


@pytest.fixture(scope="module")
def run(trained, tmp_path_factory):
    """A run's folder with averages of half-lives 16 and 64 samples: the package and `average` warm,
    `average.1` cools.
    """
    folder, made = tmp_path_factory.mktemp("averages") / "run", packages.load(trained["regression"])
    warm, cold = (known.steady(made, per_step).weights for per_step in (WARMER, COLDER))
    ema = {"kind": "half_life", "half_life_samples": [16.0, 64.0], "total_samples": SAMPLES}
    facts = {"samples": SAMPLES, "ema": ema}
    packages.save(replace(made, weights=warm, facts=facts), folder / "package" / "last")
    kept = folder / "checkpoints" / f"{SAMPLES:012d}"
    kept.mkdir(parents=True)
    tensors = {
        f"{slot}/{name}": value
        for slot, weights in (("average", warm), ("average.1", cold))
        for name, value in weights.items()
    }
    save_file(tensors, kept / "optim.safetensors")
    digest = hashlib.sha256((kept / "optim.safetensors").read_bytes()).hexdigest()
    write_json(kept / "checkpoint.json", {"samples": SAMPLES, "sha256": {"optim.safetensors": digest}})
    write_json(folder / "fingerprint.json", {"fingerprint": "f"})
    return folder


@pytest.mark.parametrize(
    ("ema", "says"), [(None, WARMER), (16, WARMER), (0.05, WARMER), (64, COLDER), (0.2, COLDER)]
)  # a half-life in samples, or as a part of 320
def test_a_forecast_is_made_with_the_average_that_was_asked_for(run, tiny_store, tmp_path, ema, says):
    bias = next(
        p
        for name, p in Emulator.load(run, ema=ema).step_model.network.named_parameters()
        if name.endswith("aux_conv.bias")
    )
    assert bias.tolist() == pytest.approx(says)
    config = recipe.Config(
        run=str(run), ema=ema, store=str(tiny_store), start=START, steps=2, out=str(tmp_path / "f.nc")
    )
    recipe.run(config, Console(quiet=True))
    change_k = packages.load(run / "package" / "last").scene.statistics["t2m"].tendency_std * says[0]
    begun = open_store(tiny_store).dataset("state")["t2m"].sel(time=START).values
    with forecast_file.open_forecast(tmp_path / "f.nc") as written:
        for lead in (1, 2):
            np.testing.assert_allclose(written.t2m.values[0, 0, lead - 1], begun + lead * change_k, rtol=1e-6)


def test_an_average_that_the_run_does_not_track_is_refused(run, tiny_store, tmp_path):
    config = recipe.Config(
        run=str(run), ema=32, store=str(tiny_store), start=START, steps=1, out=str(tmp_path / "f.nc")
    )
    with pytest.raises(RequestError, match="tracks half-lives of 16, 64 samples"):
        recipe.run(config, Console(quiet=True))
    assert list(tmp_path.iterdir()) == []
