from __future__ import annotations

import numpy as np
import pytest
import tiny_stages
import torch

from stormcast_train.base.errors import RequestError
from stormcast_train.base.files import read_json, write_json
from stormcast_train.data.spectrum import Spectrum
from stormcast_train.fields.grid import Grid
from stormcast_train.fields.wavelengths import cosines
from stormcast_train.training.setup import residual_facts as known
from stormcast_train.training.setup.build_stage import build_stage
from stormcast_train.training.setup.residuals import block_size, measure

GRID = Grid(np.linspace(21.6, 25.6, 12), np.linspace(119.75, 122.25, 8))


def diffusion(store, trained, **more):
    return tiny_stages.request(store, "diffusion", regression=str(trained["regression"]), **more)


def test_the_cosine_transform_is_scipys_and_keeps_the_sum_of_squares():
    from scipy.fft import dct

    field = np.random.default_rng(0).normal(size=7)
    assert cosines(7) @ field == pytest.approx(dct(field, norm="ortho"))
    assert (cosines(7) @ cosines(7).T) == pytest.approx(np.eye(7))


def test_a_field_that_is_one_everywhere_is_all_in_the_mode_without_waves():
    # the orthonormal mode 0 of 12 x 8 ones is sqrt(96): its square, 96, is a cell's variance times the number
    # of cells
    wavenumber, band = Spectrum(GRID)(torch.ones(1, 1, 12, 8, dtype=torch.float64))
    assert float(wavenumber[0, 0, 0]) == pytest.approx(96)
    assert float(wavenumber[0, 0, 1:].abs().max()) < 1e-20
    assert float(band.abs().max()) < 1e-20


def test_white_noise_has_its_cells_variance_in_every_mode():
    noise = torch.randn(4000, 1, 12, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wavenumber, band = (part.mean(dim=0)[0] for part in Spectrum(GRID)(noise))
    assert wavenumber == pytest.approx(torch.ones(len(wavenumber)), abs=0.08)
    assert band == pytest.approx(torch.ones(len(band)), abs=0.03)


def test_blocks_shrink_where_states_are_large():
    assert block_size(("t2m",) * 4, (224, 128)) == 16
    assert block_size(("t2m",) * 99, (512, 640)) == 2  # 130 MB a state


def test_the_scale_is_the_root_mean_square_over_present_cells(tiny_store, trained):
    stage, _ = build_stage(diffusion(tiny_store, trained), tiny_stages.CPU)
    reader, starts, step = stage.cases.reader, stage.cases.starts, stage.step
    found = measure(step.beneath.next_state, step.target, reader, starts)
    window, target, present = reader.to_device(reader.read(starts))
    present = step.target.compared(present, window)
    residual = (target - step.beneath.next_state(window)).double() * present
    for c, name in enumerate(("t2m", "rain1h")):
        expected = float((residual[:, c].square().sum() / present[:, c].sum()).sqrt())
        assert found.std()[name] == pytest.approx(expected, rel=1e-6)
        assert stage.template.measured["residual_std"][name] == found.std()[name]
    modes = torch.from_numpy(cosines(12)) @ residual @ torch.from_numpy(cosines(8)).T
    rain = float(modes[:, 1].square().mean(dim=0)[0, 0])  # the mean over cases of the domain mean's mode
    assert found.wavenumber_NCG[:, 1, 0].mean() == pytest.approx(rain, rel=1e-6)
    assert found.largest_variance()["rain1h"] >= rain / found.std()["rain1h"] ** 2 * (1 - 1e-9)


def test_sigma_max_and_steps_are_what_the_residual_needs_and_the_package_has_them(tiny_store, trained):
    asked = tiny_stages.request(tiny_store, "diffusion", regression=str(trained["regression"]))
    stage, _ = build_stage(asked.model_copy(update={"objective": type(asked.objective)()}), tiny_stages.CPU)
    largest = max(stage.template.mix["largest_variance"].values())
    noise = stage.template.objective.noise
    assert noise == stage.step.spec
    assert noise.sigma_max >= max(20.0, (40 * largest * 0.25) ** 0.5)
    assert noise.steps >= 18
    small = asked.objective.model_validate({"noise": {"sigma_max": 1.0}})
    if 20 * largest * 0.25 > 1:
        with pytest.raises(RequestError, match=r"write objective\.noise\.sigma_max="):
            build_stage(asked.model_copy(update={"objective": small}), tiny_stages.CPU)


def test_what_was_measured_is_kept_in_the_run_and_read_again_not_measured(
    tiny_store, trained, tmp_path, monkeypatch
):
    asked = diffusion(tiny_store, trained).model_copy(update={"keep": str(tmp_path)})
    first, _ = build_stage(asked, tiny_stages.CPU)
    document = read_json(tmp_path / known.FILE)
    document["facts"]["std"]["t2m"] = 0.75
    write_json(tmp_path / known.FILE, document)
    monkeypatch.setattr(known, "measure", None)  # nothing may be measured again
    again, _ = build_stage(asked, tiny_stages.CPU)
    assert again.template.measured["residual_std"] == {**first.template.measured["residual_std"], "t2m": 0.75}
    monkeypatch.undo()
    document["made_by"]["regression"] = "another"
    write_json(tmp_path / known.FILE, document)
    fresh, _ = build_stage(asked, tiny_stages.CPU)
    assert fresh.template.measured["residual_std"] == first.template.measured["residual_std"]
