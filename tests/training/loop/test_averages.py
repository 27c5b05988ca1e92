"""Averages of the weights: tracked, kept as snapshots, chosen and reconstructed."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import toy_stage as toy
from safetensors.numpy import load_file
from torch import nn

from stormcast_train.base.errors import RequestError, UnreadableError
from stormcast_train.base.files import read_json, write_json
from stormcast_train.distributed.ranks import Ranks
from stormcast_train.forecast import chosen
from stormcast_train.forecast.profiles import snapshot_files
from stormcast_train.training.loop.averages import Averages, spare, write_snapshot
from stormcast_train.training.loop.optim_config import EmaSpec, Lengths, OptimConfig, OptimSpec, Rates

POWER = EmaSpec(sigma_rel=(0.05, 0.10), snapshot_every=8, snapshots_kept=32)


def spec(ema: EmaSpec, total: int = 256, half_life: float = 100.0) -> OptimSpec:
    return OptimSpec(
        kind="adam", lr=1.0, betas=(0.9, 0.99), weight_decay=0.0, warmup_samples=0, schedule="constant",
        final_factor=1.0,
        max_grad_norm=None, ema_half_life_samples=half_life, ema=ema, batch_size=1, total_samples=total,
    )  # fmt: skip


def one_hot_walk(ema: EmaSpec, steps: int, directory=None, half_life: float = 100.0) -> list[np.ndarray]:
    """Weights that are 1 in the place of the step and 0 elsewhere, so that an average is the list of how much
    each step counts.
    """
    weight = nn.Parameter(torch.zeros(steps))
    averages = Averages(spec(ema, steps, half_life), {"w": weight})
    for step in range(steps):
        with torch.no_grad():
            weight.copy_(torch.nn.functional.one_hot(torch.tensor(step), steps).float())
        averages.follow(step + 1)
        if directory and (step + 1) % 8 == 0:
            write_snapshot(directory, {k: v.clone() for k, v in averages.state().items()}, step + 1, 8, 32)
    return [value.numpy() for value in averages.state().values()]


def test_each_step_counts_as_much_as_the_integral_of_the_profile_over_it():
    tracked = one_hot_walk(EmaSpec(sigma_rel=(0.10,)), 64)[0]
    s = np.arange(1, 65)
    assert (
        np.abs(tracked - (s**7.9375 - (s - 1.0) ** 7.9375) / 64**7.9375).sum() < 1e-3
    )  # gamma = 6.94 to two places


def test_several_half_lives_leave_the_first_as_it_was_and_each_has_its_own():
    """After 64 steps no half-life up to 6.4 steps is cut short any more: the last step counts 1 - 2^(-1 /
    half-life).
    """
    alone, several = (
        one_hot_walk(EmaSpec(also_samples=also), 64, half_life=5.0) for also in ((), (2.0, 400.0, 3.0))
    )
    assert len(several) == 4
    assert np.array_equal(several[0], alone[0])
    assert [average[-1] for average in several] == pytest.approx(
        [1 - 2 ** (-1 / h) for h in (5.0, 2.0, 6.4, 3.0)], abs=1e-6
    )
    # the step a half-life before counts half as much
    assert [several[k][-1 - h] / several[k][-1] for k, h in ((0, 5), (1, 2), (3, 3))] == pytest.approx(
        [0.5] * 3, rel=1e-5
    )


def test_snapshots_are_thinned_evenly_and_the_newest_stays(tmp_path):
    kept: dict[int, object] = {}
    for samples in range(8, 8 * 21, 8):
        kept[samples] = tmp_path / str(samples)
        for path in spare(kept, 8, 5):
            kept.pop(int(path.name))
    assert list(kept) == [32, 64, 96, 128, 160]  # 20 of them: strides 1, 2 and then 4 leave five
    assert spare({**kept, 165: tmp_path / "165"}, 8, 5) == []


@pytest.fixture
def run(tmp_path):
    """A run's folder as the session leaves it: packages, one checkpoint and snapshots of a one-hot walk of
    256 steps.
    """
    steps, folder = 256, tmp_path / "run"
    tracked = one_hot_walk(POWER, steps, folder / "snapshots")
    write_json(folder / "fingerprint.json", {"fingerprint": "f"})
    write_json(folder / "package" / "last" / "package.json", {
        "fingerprint": "p", "facts": {"samples": steps, "ema": {"kind": "power", "sigma_rel": [0.05, 0.10]}},
    })  # fmt: skip
    return folder, tracked, steps


def weights(choice: chosen.Chosen, steps: int) -> np.ndarray:
    return chosen._summed(choice.parts, {"w": np.zeros(steps, np.float32)})["w"]


@pytest.mark.parametrize(("sigma_rel", "limit"), [(0.08, 2e-3), (0.12, 3e-3), (0.2, 1e-2)])
def test_a_reconstructed_average_is_the_one_that_would_have_been_tracked(run, sigma_rel, limit):
    # The sum of |difference of how much each step counts| bounds the error of any weight by limit x (largest
    # - smallest value it had) / 2: 7e-4 from 32 pairs of snapshots at 0.08 (measured in test_profiles), and
    # at most 1.4 x 2^-11 = 7e-4 from float16.
    folder, _, steps = run
    direct = one_hot_walk(EmaSpec(sigma_rel=(sigma_rel,)), steps)[0]
    rebuilt = weights(chosen.choose(str(folder), ema=sigma_rel), steps)
    assert np.abs(rebuilt - direct).sum() < limit
    assert np.abs(rebuilt - run[1][0]).sum() > 0.2  # and not the default one


def test_an_average_with_no_snapshot_before_it_or_of_no_width_is_refused(run):
    folder, _, _ = run
    with pytest.raises(RequestError, match=r"between 0 and 0\.28"):
        chosen.choose(str(folder), ema=0.5)
    for path in snapshot_files(folder / "snapshots").values():
        path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(UnreadableError, match="is damaged"):
        chosen.choose(str(folder), ema=0.08)
    for path in snapshot_files(folder / "snapshots").values():
        path.unlink()
    with pytest.raises(RequestError, match="no snapshot"):
        chosen.choose(str(folder), ema=0.08)


def test_the_default_average_is_the_package_itself_and_fingerprints_differ_by_average(run):
    folder, _, _ = run
    assert chosen.choose(str(folder), ema=0.05).parts == ()
    prints = {chosen.choose(str(folder), ema=ema).fingerprint() for ema in (None, 0.05, 0.07, 0.08)}
    assert len(prints) == 3
    with pytest.raises(RequestError, match="give its run"):
        chosen.choose(folder / "package" / "last", ema=0.08)


def test_a_run_keeps_its_averages_and_snapshots_through_a_kill(tiny_store, tmp_path):
    whole, killed = (
        with_ema(toy.stage_run(tiny_store, tmp_path / name), POWER) for name in ("whole", "killed")
    )
    assert toy.in_processes(whole) == [0]
    assert toy.in_processes(killed, signals={83: toy.KILL}) == [-toy.KILL]
    assert toy.in_processes(killed) == [0]
    found = snapshot_files(tmp_path / "whole" / "snapshots")
    assert list(found) == list(range(8, 161, 8))
    for samples, path in found.items():
        assert path.read_bytes() == (tmp_path / "killed" / "snapshots" / path.name).read_bytes(), samples


def test_a_kept_checkpoint_gives_any_tracked_average_at_its_samples(tiny_store, tmp_path):
    """Half-lives of 2 and 6 samples, neither cut short at 88 (8.8) or later: one step of 8 samples keeps 2^-4
    and 2^(-4 / 3).
    """
    run = with_ema(
        toy.stage_run(tiny_store, tmp_path / "run", checkpoints_kept=20, checkpoint_every=8),
        EmaSpec(also_samples=(6.0,)),
    )
    run = dataclasses.replace(run, optim=run.optim.model_copy(update={"ema_half_life_samples": 2.0}))
    toy.work(run, Ranks())
    folder = tmp_path / "run"
    facts = read_json(folder / "package" / "last" / "package.json")["facts"]
    assert facts["ema"] == {"kind": "half_life", "half_life_samples": [2.0, 6.0], "total_samples": 160}
    before, optim = (
        load_file(folder / "checkpoints" / f"{samples:012d}" / "optim.safetensors") for samples in (88, 96)
    )
    weights_then = load_file(folder / "checkpoints" / "000000000096" / "weights.safetensors")
    like = {name.partition("/")[2]: value for name, value in optim.items() if name.startswith("average/")}
    assert len(like) == 4
    for slot, kept in (("average", 2**-4), ("average.1", 2 ** (-4 / 3))):
        for name in like:
            expected = kept * before[f"{slot}/{name}"] + (1 - kept) * weights_then[name]
            np.testing.assert_allclose(optim[f"{slot}/{name}"], expected, atol=1e-6)
    for asked, slot in (
        (None, "average"),
        (0.0125, "average"),
        (2, "average"),
        (0.0375, "average.1"),
        (6, "average.1"),
    ):
        choice = chosen.choose(f"{folder}@96", ema=asked)
        found = chosen._summed(choice.parts, like)
        assert choice.facts["samples"] == 96
        other = {"average": "average.1", "average.1": "average"}[slot]
        assert all(np.array_equal(found[name], optim[f"{slot}/{name}"]) for name in like)
        assert not any(np.array_equal(found[name], optim[f"{other}/{name}"]) for name in like)
    assert chosen.choose(f"{folder}@160").parts == ()
    with pytest.raises(RequestError, match=r"half-lives of 2, 6 samples"):
        chosen.choose(str(folder), ema=0.2)
    with pytest.raises(RequestError, match="keeps nothing at 100 samples; it keeps 8, 16, "):
        chosen.choose(f"{folder}@100")


def with_ema(run, ema: EmaSpec):
    return dataclasses.replace(run, optim=run.optim.model_copy(update={"ema": ema}))


def test_the_config_resolves_averages_and_snapshots_in_samples():
    rates, lengths = Rates(regression=1e-3, diffusion=2e-3), Lengths(regression=6400, diffusion=64)

    def resolved(**ema) -> EmaSpec:
        config = OptimConfig(name="x", lr=rates, batch_size=16, total_samples=lengths, ema=ema)
        return config.resolve("regression", None, None).ema

    assert resolved() == EmaSpec()
    assert resolved(also=[0.1, 0.01]).also_samples == (640.0, 64.0)
    assert resolved(kind="power") == EmaSpec(sigma_rel=(0.05, 0.10), snapshot_every=200, snapshots_kept=32)
    assert (
        resolved(kind="power", sigma_rel=[0.07], snapshots={"every_samples": 50, "keep": 8}).snapshot_every
        == 50
    )
