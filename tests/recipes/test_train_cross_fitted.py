"""`stormcast train stage.residual=cross_fitted`: the regression, its folds, and the diffusion on what they
left.
"""

from __future__ import annotations

import pytest

from stormcast_train.base.files import read_json
from stormcast_train.cli import main
from stormcast_train.runs.events import latest, read_events
from stormcast_train.runs.run import describe_run

TINY = [
    "network=tiny",
    "optim=tiny",
    "train.batch_size=8",
    "train.total_samples=16",
    "stage.residual=cross_fitted",
    "stage.folds=2",
]
TINY += ["log.report=false", "validate.cases=8", "validate.ensemble.cases=2"]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    import tiny_world

    return tiny_world.write(tmp_path_factory.mktemp("folds") / "store")


@pytest.fixture(scope="module")
def both(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("folds") / "run"
    words = ["train", "stage=both", *TINY, "stage.means=disk", f"store={store}", f"run={folder}"]
    assert main(words) == 0
    return folder, words


def test_the_folds_are_trained_after_the_regression_and_the_diffusion_records_them(both):
    folder, _ = both
    package = read_json(folder / "diffusion" / "package" / "last" / "package.json")
    folds = [
        read_json(folder / "regression" / "folds" / str(i) / "package" / "best" / "package.json")
        for i in range(2)
    ]
    assert package["mix"]["folds"] == [fold["fingerprint"] for fold in folds]
    assert [fold["mix"]["fold"] for fold in folds] == [{"index": 0, "of": 2}, {"index": 1, "of": 2}]
    assert package["mix"]["residual_std_from"] == "cross_fitted"
    assert (folder / "diffusion" / "means" / "000000.npy").is_file()


def test_the_events_tell_the_loss_by_noise_level_and_the_regressions_ratio(both):
    folder, _ = both
    diffusion, regression = (read_events(folder / kind) for kind in ("diffusion", "regression"))
    trained, validated = latest(diffusion, "train")[-1], latest(diffusion, "validate")[-1]
    assert any(name.startswith("loss_at_sigma/") for name in trained)
    assert any(name.startswith("diffusion/denoising_loss_at/") for name in validated)
    assert {"regression/residual_ratio/t2m", "regression/residual_ratio/rain1h"} <= set(
        latest(regression, "validate")[-1]
    )


def test_a_ratio_outside_its_range_alone_is_no_warning(both):
    """18 held-out hours are one block of weather: the interval of the ratio is wide, whatever its value."""
    folder, _ = both
    events = read_events(folder / "regression")
    ratios = [
        value
        for event in latest(events, "validate")
        for name, value in event.items()
        if name.startswith("regression/residual_ratio")
    ]
    assert any(not 0.95 <= value <= 1.05 for value in ratios)
    low, high = latest(events, "validate")[-1]["residual_ratio_intervals"]["t2m"]
    assert (low, high) == (0.0, None)
    assert not [event for event in events if event["event"] == "warning" and event["about"] == "residual"]


def test_repeating_the_command_is_done_and_describes_the_diffusion(both, capsys):
    folder, words = both
    assert main(words) == 0
    assert f"done already: {folder / 'diffusion'}" in capsys.readouterr().err


def test_a_dry_run_says_what_the_folds_cost(store, tmp_path, capsys):
    assert main(["train", "stage=both", *TINY, f"store={store}", f"run={tmp_path / 'run'}", "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for fold in ("fold 1 of 2", "fold 2 of 2"):
        assert sum(line.startswith(f"train the regression of {fold}, ") for line in lines) == 1
        assert sum(line.startswith("  left out: ") and line.endswith(fold) for line in lines) == 1
    assert not (tmp_path / "run").exists()


def test_a_diffusion_alone_takes_the_folds_of_the_regressions_run_or_says_how_to_train_them(
    both, store, tmp_path, capsys
):
    folder, _ = both
    words = ["train", "stage=diffusion", *TINY, f"store={store}", f"run={tmp_path / 'run'}"]
    assert main([*words, f"regression={folder / 'regression'}", "--dry-run"]) == 0
    assert main([*words, f"regression={folder / 'regression'}", "stage.folds=3"]) == 2
    assert "stage=regression stage.residual=cross_fitted stage.folds=3" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_inspect_tells_the_ratio(both, capsys):
    folder, _ = both
    assert main(["inspect", str(folder)]) == 0
    assert "training over held-out hours (cross_fitted): rain1h" in capsys.readouterr().out
    assert describe_run(folder)["packages"]["last"]["residual"]["from"] == "cross_fitted"
