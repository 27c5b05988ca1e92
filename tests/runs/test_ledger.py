from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from stormcast_train.base.errors import RequestError
from stormcast_train.runs import events as log
from stormcast_train.runs.data_use import DataUse, SplitUse
from stormcast_train.runs.ledger import Entry, common_scores, comparable, differing, entries
from stormcast_train.runs.ledger_text import duration, sheet, tables
from stormcast_train.runs.run import RunDirectory, run_folders
from stormcast_train.training.validation.overfitting import Ratio, memorised

SCIENCE = {
    "network": {"name": "tiny", "width": 8},
    "optim": {"lr": 0.002, "batch_size": 4, "total_samples": 80, "ema_half_life_samples": 4.0},
    "seed": 0,
    "store": {"state": "a" * 64},
}
USE = DataUse("taiwan_tiny", (56, 32), "1f", 3600, 100, {"train": SplitUse(70, 60), "test": SplitUse(20, 19)})


def run(folder, science=SCIENCE, stage="regression", execution=None, data=USE, state=("t2m", "rain1h")):
    made = RunDirectory(folder)
    identity = {"fingerprint": "f" * 64, "stage": stage, "total_samples": 80, "commit": None}
    documents = {
        "science": science,
        "execution": execution or {"device": "cpu"},
        "site": {"store": "/stores/a"},
    }
    made.record(identity, documents, {"environment": {"torch": {"threads": 2}}})
    package = made.package("best")
    package.mkdir(parents=True)
    units = {"t2m": "K", "rain1h": "mm"}
    scene = {"state": [{"name": name, "units": units[name]} for name in state]}
    (package / "package.json").write_text(json.dumps({"facts": {"samples": 40}, "scene": scene}))
    write(made, "start", 0, 0, ranks=3, **({"data": data.record()} if data else {}))
    return made


def write(made, event, samples, second, attempt=1, **facts):
    line = {"event": event, "samples": samples, "attempt": attempt, **facts}
    line["time"] = f"2026-01-01T00:{second // 60:02d}:{second % 60:02d}.000Z"
    with open(made.path / log.NAME, "a") as handle:
        handle.write(json.dumps(line) + "\n")


def validated(made, samples, second, best=False, **rmse):
    found = {f"regression/rmse/{name}": value for name, value in rmse.items()}
    write(made, "validate", samples, second, best=best, **found, **{"regression/fss/rain1h:1mm:10km": 0.5})


def test_a_run_is_judged_by_the_validation_of_its_best_package_not_by_its_last_batch(tmp_path):
    made = run(tmp_path / "a")
    validated(made, 40, 30, best=True, t2m=1.25, rain1h=0.5)
    validated(made, 80, 60, t2m=1.5, rain1h=0.75)
    write(made, "train", 80, 60, loss=1234.5)
    write(made, "done", 80, 61)
    entry = Entry.of(made.path)
    assert [(s.variable, s.quantity, s.value, s.units) for s in entry.scores] == [
        ("t2m", "rmse", 1.25, "K"),
        ("rain1h", "rmse", 0.5, "mm"),
    ]
    assert entry.scored_at == 40
    header, line = tables([entry]).splitlines()[1:3]
    assert "t2m, K" in header
    assert "1.25" in line.split()
    assert "1234" not in tables([entry])


def test_runs_of_different_channels_are_compared_by_the_variables_they_share(tmp_path):
    both, one = run(tmp_path / "both"), run(tmp_path / "one", state=("t2m",))
    validated(both, 40, 30, best=True, t2m=1.25, rain1h=0.5)
    validated(one, 40, 30, best=True, t2m=1.0)
    assert [score.variable for score in common_scores(entries(tmp_path))] == ["t2m"]


def test_keys_that_differ_are_columns_and_what_follows_from_others_is_none(tmp_path):
    longer = {**SCIENCE["optim"], "lr": 0.001, "total_samples": 160, "ema_half_life_samples": 8.0}
    run(tmp_path / "a")
    run(tmp_path / "b", {**SCIENCE, "optim": longer, "network": {"name": "paper", "width": 128}})
    found = entries(tmp_path)
    assert differing(found) == ["network.name", "optim.lr"]  # half-lives are a twentieth of both runs
    header, *lines = tables(found).splitlines()[1:]
    assert {"network.name", "optim.lr"} <= set(header.split())
    assert {"paper", "0.001"} <= set(lines[1].split())


def test_networks_of_one_name_that_differ_show_how(tmp_path):
    run(tmp_path / "a")
    run(tmp_path / "b", {**SCIENCE, "network": {"name": "tiny", "width": 16}})
    assert differing(entries(tmp_path)) == ["network.width"]


def test_what_is_null_in_one_run_and_absent_in_another_does_not_differ(tmp_path):
    run(tmp_path / "a", {**SCIENCE, "variables": {"state": ["t2m"], "static": None}})
    run(tmp_path / "b")
    assert differing(entries(tmp_path)) == ["variables.state"]


def test_other_data_of_one_request_is_a_column_of_its_own(tmp_path):
    run(tmp_path / "a")
    run(tmp_path / "b", {**SCIENCE, "store": {"state": "b" * 64}})
    assert differing(entries(tmp_path)) == ["data"]


def test_kinds_of_stage_and_grids_are_tables_of_their_own(tmp_path):
    elsewhere = DataUse("india", (40, 40), "2e", 3600, 100, {})
    for name, more in (("a", {}), ("b", {"stage": "diffusion"}), ("c", {"data": elsewhere}), ("d", {})):
        run(tmp_path / name, **more)
    groups = [[entry.path[-1] for entry in group] for group in comparable(entries(tmp_path))]
    assert groups == [["a", "d"], ["b"], ["c"]]


def test_cost_adds_the_attempts_and_counts_ranks_and_threads(tmp_path):
    made = run(tmp_path / "a")  # 3 ranks of 2 threads
    write(made, "train", 40, 60, loss=1.0, samples_per_second=2.0)
    write(made, "start", 30, 600, attempt=2, ranks=1)
    write(made, "train", 80, 630, attempt=2, loss=1.0, samples_per_second=1.0)
    write(made, "done", 80, 640, attempt=2)
    cost = Entry.of(made.path).cost
    # 60 s to 40 samples, then 40 s from 30 to 80; (60 x 3 + 40 x 1) x 2 threads are 440 s of CPU
    assert (cost.seconds, cost.samples, cost.samples_per_second) == (100.0, 90, 1.5)
    assert (cost.hours, cost.unit) == (pytest.approx(440 / 3600), "CPU-hours")


def test_a_gpu_hour_is_a_ranks_whatever_its_threads(tmp_path):
    made = run(tmp_path / "a", execution={"device": "cuda:0"})
    write(made, "done", 80, 60)
    cost = Entry.of(made.path).cost
    assert (cost.hours, cost.unit) == (pytest.approx(3 * 60 / 3600), "GPU-hours")


def overfitted():
    return memorised({"t2m": Ratio(0.5, 0.4, 0.6)})[0]


def test_warnings_are_a_word_in_the_table_and_whole_below_it(tmp_path):
    made = run(tmp_path / "a")
    write(made, "warning", 40, 30, message=overfitted(), about="residual")
    write(made, "warning", 80, 60, message="the network has learned nothing: ...", about="learning")
    write(made, "stopped", 60, 61, reason="SIGTERM was received")
    entry = Entry.of(made.path)
    assert [remark.word for remark in entry.remarks] == ["stopped", "overfitting", "learned nothing"]
    told = tables([entry])
    assert "stopped, overfitting, learned nothing" in told
    assert overfitted() in told
    assert "SIGTERM was received" in told


def test_a_finding_that_a_later_validation_no_longer_has_is_not_repeated(tmp_path):
    made = run(tmp_path / "a")
    write(made, "validate", 40, 30, residual_ratio_intervals={"t2m": [0.4, 0.6]})
    write(made, "warning", 40, 30, message=overfitted(), about="residual")
    assert [remark.word for remark in Entry.of(made.path).remarks] == ["failed", "overfitting"]
    write(made, "validate", 80, 60, residual_ratio_intervals={"t2m": [0.9, 1.1]})
    write(made, "done", 80, 61)
    assert Entry.of(made.path).remarks == ()


def test_a_killed_run_says_that_nothing_was_said(tmp_path):
    made = run(tmp_path / "a")
    assert "without a word" in Entry.of(made.path).remarks[0].sentence


def test_a_narrow_terminal_gets_a_paragraph_a_run_within_its_width(tmp_path):
    for name, rate in (("a", 0.002), ("b", 0.001)):
        made = run(tmp_path / name, {**SCIENCE, "optim": {**SCIENCE["optim"], "lr": rate}})
        validated(made, 40, 30, best=True, t2m=1.25, rain1h=0.5)
        write(made, "warning", 40, 30, message=overfitted(), about="residual")
    found = entries(tmp_path)
    assert max(map(len, tables(found).splitlines())) > 100
    narrow = tables(found, 60).splitlines()
    assert all(len(line) <= 60 for line in narrow if str(tmp_path) not in line)
    assert "    keys: optim.lr 0.001" in narrow
    assert "    scores: t2m 1.25 K; rain1h 0.5 mm" in narrow


def test_a_sheet_says_what_was_left_out(tmp_path):
    use = DataUse(
        "taiwan_tiny", (56, 32), "1f", 3600, 100, {"train": SplitUse(70, 60), "test": SplitUse(20, 19)},
        missing={"state": 3}, dropped={"state": ("rain1h",)},
    )  # fmt: skip
    lines = sheet(Entry.of(run(tmp_path / "a", data=use).path)).splitlines()
    assert f"{'data':<16}windows: train 60, test 19" in lines
    left_out = [line.strip() for line in lines if "left out: " in line]
    assert left_out == [
        "left out: 10 of the store's 100 times, which lie between the splits, or in none of them",
        "left out: windows that need one of 3 times at which state is missing",
        "left out: state rain1h",
    ]
    assert not any(line.startswith("loss") for line in lines)


def test_what_a_start_records_comes_back_as_it_was():
    assert DataUse.restore(json.loads(json.dumps(USE.record()))) == USE


def test_a_run_from_before_the_record_is_listed_without_it(tmp_path):
    made = run(tmp_path / "a", data=None)
    assert Entry.of(made.path).data is None
    assert "store /stores/a" in tables(entries(tmp_path))
    assert made.path.name in sheet(Entry.of(made.path))


def test_folders_that_no_run_lies_in_are_not_looked_into(tmp_path):
    run(tmp_path / "runs" / "both" / "regression")
    run(tmp_path / "runs" / "both" / "regression" / "folds" / "0")
    run(tmp_path / "runs" / "both" / "regression" / "package" / "copy")
    run(tmp_path / "store" / "within")
    (tmp_path / "store" / "zarr.json").write_text("{}")
    found = [str(path.relative_to(tmp_path)) for path in run_folders(tmp_path)]
    assert found == ["runs/both/regression", "runs/both/regression/folds/0"]
    assert run_folders(tmp_path, 1) == []
    assert len(run_folders(tmp_path / "runs", 2)) == 2
    with pytest.raises(RequestError, match="is not a folder"):
        entries(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("seconds", "said"), [(42, "42 s"), (90, "1.5 min"), (5400, "1.5 h"), (200_000, "2.3 days")]
)
def test_a_duration_has_the_unit_that_suits_it(seconds, said):
    assert duration(seconds) == said


def test_listing_imports_neither_torch_nor_hydra_nor_numpy(tmp_path):
    run(tmp_path / "a")
    code = (
        "import sys; from stormcast_train.cli import main; code = main(['runs', 'list', sys.argv[1]]);"
        "heavy = {'torch', 'omegaconf', 'numpy', 'safetensors', 'xarray'} & set(sys.modules);"
        "sys.exit(code or (str(heavy) if heavy else 0))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_runs_that_validate_on_other_starts_are_said_to(tmp_path):
    for name, held_out in (("a", "1"), ("b", "1"), ("c", "2")):
        made = run(tmp_path / name, data=replace(USE, held_out=held_out))
        validated(made, 40, 30, best=True, t2m=1.25)
    found = entries(tmp_path)
    assert "which are not the same for all of them" in tables(found)
    assert "which are not the same for all of them" not in tables(found[:2])


def test_a_run_from_before_the_record_stands_beside_those_of_its_store(tmp_path):
    run(tmp_path / "a", data=None)
    run(tmp_path / "b")
    assert len(comparable(entries(tmp_path))) == 1


def test_commands_in_a_warning_stay_whole_on_a_narrow_terminal(tmp_path):
    made = run(tmp_path / "a")
    command = "  stormcast train " + "key=value " * 12
    write(made, "warning", 40, 30, message=f"{overfitted()}:\n{command}", about="residual")
    assert command in tables(entries(tmp_path), 60).splitlines()


def test_a_long_value_is_cut_in_the_table_and_whole_in_json(tmp_path):
    events = [{"name": f"storm {i}", "from": "2021-06-01"} for i in range(20)]
    run(tmp_path / "a", {**SCIENCE, "events": events})
    run(tmp_path / "b", {**SCIENCE, "events": []})
    found = entries(tmp_path)
    assert max(map(len, tables(found).splitlines())) < 400
    assert "storm 19" in found[0].as_json()["keys"]["events"]
