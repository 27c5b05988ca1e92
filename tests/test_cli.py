"""The command line: words in, exit codes and one clear message out."""

from __future__ import annotations

import errno
import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

from stormcast_train import recipes
from stormcast_train.base.config import compose, quoted
from stormcast_train.cli import build_config, main, parse, recipe

VERBS = {
    "synthesize",
    "preprocess",
    "inspect",
    "plot",
    "train",
    "forecast",
    "verify",
    "runs",
    "doctor",
    "bench",
    "variables",
}


def test_the_verbs_of_the_interface_exist_and_no_other() -> None:
    modules = {m.name for m in pkgutil.iter_modules(recipes.__path__) if not m.name.startswith("_")}
    assert modules == set(recipes.HELP) == VERBS


@pytest.mark.parametrize("verb", sorted(recipes.KEYS_ONLY))
def test_a_verb_that_is_not_composed_has_the_same_defaults_in_its_yaml_and_its_config(verb: str) -> None:
    fields = {key: f for key, f in recipe(verb).Config.model_fields.items() if key != "source"}
    written = {key: value for key, value in compose(verb, []).items() if key in fields}
    assert written == {k: "???" if f.is_required() else f.default for k, f in fields.items()}


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_help_shows_keys_groups_and_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    text = capsys.readouterr().out
    assert "Keys" in text
    assert f"stormcast {verb}" in text.split("Example:")[1]


def test_help_of_preprocess_tells_the_keys_of_its_groups_with_their_defaults(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["preprocess", "--help"]) == 0
    text = capsys.readouterr().out
    for said in (
        "driver= native | six_hourly",
        "cadence: null",
        "cutoff_km: {}",
        "policy: {}",
        "stuck: {enabled: true, runs: 3",
        "every: 1h",
    ):
        assert said in text
    assert len(text.splitlines()) < 80
    assert max(map(len, text.splitlines())) < 180


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EACCES, "get the right"),
        (errno.EPERM, "get the right"),
        (errno.EROFS, "can only be read"),
    ],
)
def test_the_advice_fits_what_the_system_refused(
    number: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(_: object) -> None:
        raise OSError(number, os.strerror(number), "there")

    monkeypatch.setattr("stormcast_train.cli.execute", refused)
    assert main(["doctor"]) == 1
    told = capsys.readouterr().err
    assert said in told
    assert ("free some" in told) == (number == errno.ENOSPC)


def test_a_wrong_verb_suggests_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian"]) == 2
    assert "Did you mean 'train'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["train", "store=x", "run=y", "trane.batch_size=4"], "train.batch_size"),
        (["synthesize", "domian=taiwan_tiny", "out=x"], "domain"),
        (["synthesize", "domain=taiwan_tinny", "out=x"], "taiwan_tiny"),
        (["preprocess", "domain=taiwan_tiny", "store=x"], "archive="),
        (
            ["preprocess", "domain=taiwan_tiny", "store=x", "archive=y", "period=2021-06-02/2021-06-01"],
            "empty",
        ),
    ],
)
def test_a_wrong_request_is_exit_2_with_one_clear_line(
    words: list[str],
    expected: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    captured = capsys.readouterr()
    assert expected in captured.err
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("plus", ["", "+", "++"])
@pytest.mark.parametrize(
    ("verb", "word", "key", "meant"),
    [
        ("train", "seeed=1", "seeed", "seed"),
        ("train", "train.batchsize=4", "train.batchsize", "train.batch_size"),
        ("forecast", "memebers=3", "memebers", "members"),
        ("verify", "score.bootstrap.sample=500", "score.bootstrap.sample", "score.bootstrap.samples"),
    ],
)
def test_a_key_that_is_not_known_is_refused_with_the_nearest_plus_or_not(
    plus: str,
    verb: str,
    word: str,
    key: str,
    meant: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Hydra itself would add whatever begins with a plus."""
    monkeypatch.chdir(tmp_path)
    assert main([verb, plus + word]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"stormcast: '{key}' is not a key of '{verb}'. Did you mean '{meant}'?")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("plus", ["", "+", "++"])
def test_a_known_key_means_the_same_with_a_plus(plus: str) -> None:
    config = build_config(
        recipe("train"), parse(["train", "store=s", "run=r", f"{plus}seed=7", f"{plus}train.batch_size=4"])
    )
    assert (config.seed, config.train.batch_size) == (7, 4)


def test_json_puts_one_object_on_stdout_even_for_an_error(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["inspect", str(tmp_path / "nothing"), "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["exit_code"] == 2


def test_words_are_sorted_by_kind() -> None:
    request = parse(["inspect", "store", "--verify", "--json", "seed=1", "--config-dir", "here"])
    assert request.verb == "inspect"
    assert request.positional == ("store",)
    assert request.overrides == ("verify=true", "seed=1")
    assert request.as_json
    assert request.config_dir == Path("here")


@pytest.mark.parametrize(
    "word",
    [
        "run=a b",
        "run=x@last",
        "period=2021-06-01T00/2021-06-03T00",
        "out=/tmp/a~b/c.nc",
        "run=a=b",
        "start=2021-06-02T00:30",
    ],
)
def test_values_people_type_reach_the_config_as_they_are(word: str) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_override(quoted(word))
    value = parsed.value()
    assert str(getattr(value, "text", value)) == word.split("=", 1)[1]


def test_help_of_a_source_explains_its_keys(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["preprocess", "source=knmi", "--help"]) == 0
    told = capsys.readouterr().out
    assert "source.readers.knmi: {kind: cf" in told
    assert "source.readers.knmi.variables.rain5m:" in told
    assert "no_echo: values that stand for" in told


def test_help_and_dry_run_never_import_torch() -> None:
    code = (
        "import sys; from stormcast_train.cli import main; main(['train', '--help']); main([]);"
        "main(['synthesize', 'domain=taiwan_tiny', 'out=nowhere', '--dry-run']); sys.exit('torch' in "
        "sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("words", [["--help"], [], ["runs", "list", "."]])
def test_help_and_a_list_of_no_runs_import_no_heavy_library(words: list[str], tmp_path: Path) -> None:
    heavy = ["dask", "hydra", "numpy", "omegaconf", "pandas", "scipy", "torch", "xarray"]
    code = f"import sys; from stormcast_train.cli import main; main({words}); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "no runs in ." in done.stdout or "Verbs:" in done.stdout
    assert [name for name in heavy if name in done.stdout.splitlines()[-1].split()] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["forecast", "run=r", "store=s", "out=o", "objective.noise.steps=64"],
            "forecast reads no objective",
        ),
        (["verify", "forecast=f", "store=s", "out=o", "network=tiny"], "verify reads no network"),
        (["train", "store=s", "run=r", "hydra.verbose=true"], "train reads no hydra"),
        (["inspect", "a", "path=b"], "'a' stands for path=, which is given too: give it once"),
        (["train", "store=s", "run=r", "~mix.crop"], "a key is not removed; give mix.crop=null"),
    ],
)
def test_a_word_without_effect_is_refused(words: list[str], said: str, capsys) -> None:
    assert main(words) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "# @package _global_\ntrian:\n  total_samples: 16\n",
            "no verb has the key 'trian'. Did you mean 'train'?",
        ),
        ("optim:\n  batch_size: 4\n", "does not begin with the line `# @package _global_`"),
    ],
)
def test_a_key_without_effect_in_an_experiment_is_refused_with_the_files_name(
    text: str, said: str, tmp_path: Path, capsys
) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    words = ["train", "--config-dir", str(tmp_path), "experiment=mine", "store=s", "run=r", "--dry-run"]
    assert main(words) == 2
    err = capsys.readouterr().err
    assert said in err
    assert str(tmp_path / "experiment" / "mine.yaml") in err
