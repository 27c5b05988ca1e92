"""Config files of one's own: their keys act, or are refused with the file's name."""

from __future__ import annotations

from pathlib import Path

import pytest

from stormcast_train.cli import build_config, main, parse, recipe


def _refused(folder: Path, file: str, text: str, words: list[str], capsys) -> str:
    """What is said of a config folder that holds this one file."""
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(text)
    assert main([*words, "--config-dir", str(folder)]) == 2
    return capsys.readouterr().err


TRAIN = ["train", "store=s", "run=r", "--dry-run"]
PREPROCESS = ["preprocess", "domain=taiwan_tiny", "store=s", "archive=a", "--dry-run"]
OPTIM = "name: mine\nlr: 1e-3\ntotal_samples: 80\n"


@pytest.mark.parametrize(
    ("file", "text", "words", "said"),
    [
        (
            "optim/mine.yaml",
            OPTIM + "batch_sise: 4\n",
            [*TRAIN, "optim=mine"],
            "'optim.batch_sise' is not a known key. Did you mean 'batch_size'?",
        ),
        (
            "optim/mine.yaml",
            OPTIM + "batch_size: 4\nema: {snapshots: {keeep: 3}}\n",
            [*TRAIN, "optim=mine"],
            "'optim.ema.snapshots.keeep' is not a known key. Did you mean 'keep'?",
        ),
        (
            "domain/mine.yaml",
            "kind: regular\nname: m\nsouth: 20\nnorth: 25\nwets: 119\neast: 122\nshape: [3, 3]\n",
            [*PREPROCESS[:1], *PREPROCESS[2:], "domain=mine"],
            "'domain.wets' is not a known key. Did you mean 'west'?",
        ),
        (
            "experiment/mine.yaml",
            "# @package _global_\nvalidate: {ensemble: {memberz: 3}}\n",
            [*TRAIN, "experiment=mine"],
            "'validate.ensemble.memberz' is not a known key. Did you mean 'members'?",
        ),
        (
            "experiment/mine.yaml",
            "# @package _global_\noptim: {ema_half_life: .inf}\n",
            [*TRAIN, "experiment=mine"],
            "optim.ema_half_life=inf is wrong: Input should be a finite number",
        ),
        (
            "driver/mine.yaml",
            "# @package background\nname: mine\ncadense: 3h\n",
            [*PREPROCESS, "driver=mine"],
            "'background.cadense' is not a known key. Did you mean 'cadence'?",
        ),
        (
            "driver/mine.yaml",
            "name: mine\ncadence: 3h\n",
            [*PREPROCESS, "driver=mine"],
            "does not begin with the line `# @package background`",
        ),
        (
            "optim/mine.yaml",
            "# @package _global_\nseed: 4\n",
            [*TRAIN, "optim=mine"],
            "begins with a line `# @package`, which would put its keys elsewhere than optim= does",
        ),
    ],
)
def test_a_wrong_key_of_a_file_is_named_with_its_file(
    file: str, text: str, words: list[str], said: str, tmp_path: Path, capsys
) -> None:
    err = _refused(tmp_path, file, text, words, capsys)
    assert said in err
    assert f"{tmp_path / file}" in err
    assert err.count("\n") == 1


def test_a_word_acts_on_a_key_that_the_chosen_file_leaves_out(tmp_path: Path) -> None:
    """It said: 'optim.weight_decay' is not a key of 'train'. Did you mean 'optim.weight_decay'?"""
    (tmp_path / "optim").mkdir()
    (tmp_path / "optim" / "mine.yaml").write_text(OPTIM + "batch_size: 4\n")
    words = ["train", "store=s", "run=r", "optim=mine", "--config-dir", str(tmp_path)]
    config = build_config(recipe("train"), parse([*words, "optim.weight_decay=0.25"]))
    assert (config.optim.weight_decay, config.optim.batch_size) == (0.25, 4)


def test_a_file_of_ones_own_hides_the_shipped_one_of_its_name(tmp_path: Path) -> None:
    """optim/tiny.yaml ships batches of 4."""
    (tmp_path / "optim").mkdir()
    (tmp_path / "optim" / "tiny.yaml").write_text(OPTIM + "batch_size: 7\n")
    words = ["train", "store=s", "run=r", "optim=tiny", "--config-dir", str(tmp_path)]
    assert build_config(recipe("train"), parse(words)).optim.batch_size == 7


def test_a_driver_is_chosen_by_its_group_and_changed_by_the_key_it_fills(capsys) -> None:
    words = [*PREPROCESS[:-1], "driver=six_hourly"]
    assert build_config(recipe("preprocess"), parse(words)).background.cadence == "6h"
    changed = build_config(recipe("preprocess"), parse([*words, "background.cadence=3h"]))
    assert changed.background.cadence == "3h"
    assert main([*words, "driver.cadence=3h"]) == 2
    assert "driver= is a choice, whose keys are written background.cadence=" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("optim.betas=[0.9,1.5]", "optim.betas.1=1.5 is wrong"),
        ("optim.lr=1e6", "optim.lr.other=1000000.0 is wrong"),
        ("objective.noise.P_mean=nan", "objective.noise.P_mean=nan is wrong"),
        ("network.channel_mult=[1,0]", "network.channel_mult.1=0 is wrong"),
    ],
)
def test_a_number_that_cannot_be_meant_is_refused_with_its_whole_key(word: str, said: str, capsys) -> None:
    assert main([*TRAIN, word]) == 2
    assert said in capsys.readouterr().err
