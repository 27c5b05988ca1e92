from __future__ import annotations

import multiprocessing
import socket
from pathlib import Path

import fitted_folds
import numpy as np
import pytest
import tiny_stages
import torch

from stormcast_train.base.errors import FailedError, RequestError
from stormcast_train.base.files import read_json
from stormcast_train.distributed.collectives import process_group
from stormcast_train.distributed.ranks import Ranks
from stormcast_train.forecast.emulator import Emulator
from stormcast_train.training.setup import means
from stormcast_train.training.setup.build_stage import build_stage
from stormcast_train.training.setup.folds import fold_of
from stormcast_train.training.setup.residual_facts import FILE
from stormcast_train.training.validation.evaluation import Evaluation

FOLDS = 2


@pytest.fixture(scope="module")
def run(tiny_store, tmp_path_factory):
    """A regression with two folds, hardly trained: its run."""
    folder = tmp_path_factory.mktemp("means") / "regression"
    fitted_folds.fit_with_folds(tiny_stages.request(tiny_store, "regression"), folder, FOLDS, steps=4)
    return folder


def request(store, run, kind, scratch=None, folds=FOLDS, **more):
    asked = fitted_folds.cross_fitted(
        tiny_stages.request(store, "diffusion", regression=str(run), **more), folds
    )
    return asked.model_copy(
        update={"stage": asked.stage.model_copy(update={"means": kind}), "keep": scratch and str(scratch)}
    )


def built(store, run, kind, scratch=None, **more):
    return build_stage(request(store, run, kind, scratch, **more), tiny_stages.CPU)


@pytest.fixture
def small_files(monkeypatch):
    monkeypatch.setattr(means, "BLOCKS", 2)  # files of 2 x 16 starts


def test_the_mean_of_a_training_start_is_of_the_fold_that_has_not_seen_it(tiny_store, run):
    stage, stream = built(tiny_store, run, "fly")
    batch = stream.batch(range(12))
    block = fold_of(batch.window.times, stage.setting.mean.__self__.edges)
    assert set(block) == {0, 1}
    given = stage.setting.mean_of(batch, batch.window)
    for fold in range(FOLDS):
        alone = Emulator.load(run / "folds" / str(fold)).step_model.next_state(batch.window)
        assert torch.allclose(given[block == fold], alone[block == fold], atol=1e-5)
        assert not torch.allclose(given[block != fold], alone[block != fold], atol=1e-3)


def test_what_the_denoiser_is_told_is_the_folds_mean_and_what_it_learns_is_its_residual(tiny_store, run):
    stage, stream = built(tiny_store, run, "fly")
    batch, seen = stream.batch(range(6)), []

    def network(x, t, condition):
        seen.append(condition)
        return torch.zeros_like(x)

    stage.loss(network, stage.example(batch))
    assert torch.equal(seen[0], stage.step.condition(batch.window, stage.setting.mean(batch.window)))
    assert not torch.equal(
        seen[0], stage.step.condition(batch.window, stage.step.beneath.next_state(batch.window))
    )


def test_validation_and_forecast_use_the_full_regression(tiny_store, run, tmp_path):
    stage, _ = built(tiny_store, run, "fly")
    Evaluation(stage).save_package(tmp_path / "p", stage.network.state_dict(), {})
    package = Emulator.load(tmp_path / "p").package
    full = Emulator.load(run)
    assert package.beneath.fingerprint == full.fingerprint
    assert package.mix["folds"] == [Emulator.load(run / "folds" / str(i)).fingerprint for i in range(FOLDS)]
    assert package.mix["residual_std_from"] == "cross_fitted"
    assert package.facts["residual"]["from"] == "cross_fitted"
    assert stage.step.beneath is stage.setting.mean.__self__.full


def test_means_on_disk_are_those_in_memory_and_on_the_fly(tiny_store, run, tmp_path, small_files):
    fly, stream = built(tiny_store, run, "fly")
    memory, _ = built(tiny_store, run, "memory")
    disk, _ = built(tiny_store, run, "disk", tmp_path)
    assert fly.setting.kept_mean is None
    every = range(stream.dataset_size)
    assert torch.equal(disk.setting.kept_mean(every), memory.setting.kept_mean(every))
    for stage in (memory, disk):
        batch = stream.batch(range(16))
        assert torch.allclose(
            stage.setting.mean_of(batch, batch.window), fly.setting.mean_of(batch, batch.window), atol=1e-6
        )  # last bits follow what else is in a batch
        losses = [s.loss(s.network, s.example(batch)).total.detach() for s in (stage, fly)]
        assert torch.allclose(*losses, rtol=1e-5)
    assert sorted(p.name for p in (tmp_path / "means").iterdir()) == [
        "000000.npy",
        "000001.npy",
        "000002.npy",
        "means.json",
    ]
    assert not list(Path(tiny_store).rglob("*.npy"))


def test_means_on_disk_are_taken_up_where_they_stopped_and_made_again_for_another_regression(
    tiny_store, run, tmp_path, small_files
):
    folder = tmp_path / "means"  # below the folder that the run keeps
    built(tiny_store, run, "disk", tmp_path)
    kept, gone = folder / "000000.npy", folder / "000001.npy"
    before, whole = kept.stat().st_mtime_ns, gone.read_bytes()
    gone.unlink()
    built(tiny_store, run, "disk", tmp_path)
    assert kept.stat().st_mtime_ns == before
    assert gone.read_bytes() == whole
    noted = read_json(folder / "means.json")
    assert noted["regression"] == Emulator.load(run).fingerprint
    assert len(noted["folds"]) == FOLDS
    build_stage(request(tiny_store, run, "disk", tmp_path).model_copy(update={"stage": request(tiny_store,
    run, "disk").stage.model_copy(
        update={"residual": "held_out"})}), tiny_stages.CPU)  # fmt: skip
    assert read_json(folder / "means.json")["folds"] == []
    assert kept.stat().st_mtime_ns != before


def test_a_cut_file_of_means_is_refused_and_disk_needs_a_run(tiny_store, run, tmp_path, small_files):
    folder = tmp_path / "means"  # below the folder that the run keeps
    built(tiny_store, run, "disk", tmp_path)
    cut = folder / "000001.npy"
    cut.write_bytes(cut.read_bytes()[:-1000])
    with pytest.raises(FailedError, match=r"000001.npy"):
        built(tiny_store, run, "disk", tmp_path)
    with pytest.raises(RequestError, match="needs a run directory"):
        built(tiny_store, run, "disk")


def test_noise_on_the_states_takes_the_mean_of_what_the_network_is_told(tiny_store, run):
    noisy, stream = built(tiny_store, run, "auto", conditions={"state_noise": 0.2})
    assert noisy.setting.kept_mean is None
    kept, _ = built(tiny_store, run, "memory", conditions={"state_noise": 0.2})
    batch = stream.batch(range(6))
    assert torch.equal(
        kept.loss(kept.network, kept.example(batch)).total,
        noisy.loss(noisy.network, noisy.example(batch)).total,
    )


def test_missing_folds_are_refused_with_the_command(tiny_store, run, trained):
    with pytest.raises(
        RequestError, match=r"needs 3 folds .* it has 2: train them with `stormcast train stage=regression"
    ):
        built(tiny_store, run, "fly", folds=3)
    with pytest.raises(RequestError, match="is a package"):
        built(tiny_store, trained["regression"], "fly")


def _rank(rank: int, port: int, asked, folder: Path) -> None:
    torch.set_num_threads(1)
    means.BLOCKS = 2
    with process_group(Ranks(rank, 2, rank, "torchrun", "127.0.0.1", port), tiny_stages.CPU, 60):
        stage, stream = build_stage(asked, tiny_stages.CPU)
        np.save(folder / f"seen{rank}.npy", stage.setting.kept_mean(range(stream.dataset_size)).numpy())


def test_two_ranks_share_the_work_and_see_the_bits_of_one(tiny_store, run, tmp_path, small_files):
    alone, stream = built(tiny_store, run, "disk", tmp_path / "one")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = multiprocessing.get_context("forkserver")
    asked = request(tiny_store, run, "disk", tmp_path / "two")
    ranks = [server.Process(target=_rank, args=(r, port, asked, tmp_path)) for r in range(2)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(200)
    assert [rank.exitcode for rank in ranks] == [0, 0]
    for r in range(2):
        assert np.array_equal(
            np.load(tmp_path / f"seen{r}.npy"), alone.setting.kept_mean(range(stream.dataset_size)).numpy()
        )
    assert (tmp_path / "two" / FILE).read_bytes() == (
        tmp_path / "one" / FILE
    ).read_bytes()  # the residual's scale, to the last bit
