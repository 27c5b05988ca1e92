"""`resume_from=`: a run goes on under a new name; the one it came from is left as it is."""

from __future__ import annotations

import dataclasses
import shutil

import pytest
import toy_stage as toy

from stormcast_train.base.errors import RequestError
from stormcast_train.base.files import read_json, write_json
from stormcast_train.distributed.ranks import Ranks
from stormcast_train.runs.events import read_events
from stormcast_train.runs.run import describe_run
from stormcast_train.training.loop.optim_config import EmaSpec
from stormcast_train.training.run.execute import begin, identify
from stormcast_train.training.run.inherit import comparable

POWER = EmaSpec(sigma_rel=(0.05, 0.10), snapshot_every=40, snapshots_kept=4)


def run_of(store, folder, resume_from=None, **keys):
    run = toy.stage_run(store, folder, **keys)
    optim = run.optim.model_copy(update={"ema": POWER, "schedule": "constant"})
    return dataclasses.replace(run, optim=optim, resume_from=str(resume_from) if resume_from else None)


def contents(folder) -> dict:
    return {
        path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


@pytest.fixture(scope="module")
def whole(tiny_store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("inherit") / "whole"
    toy.work(run_of(tiny_store, folder), Ranks())
    return folder


@pytest.fixture(scope="module")
def stopped(tiny_store, tmp_path_factory):
    """The same run, told to stop at 96 of 160 samples."""
    folder = tmp_path_factory.mktemp("inherit") / "stopped"
    assert toy.in_processes(run_of(tiny_store, folder), signals={90: toy.STOP}) == [75]
    return folder


def test_it_ends_in_the_bits_of_the_run_that_was_never_handed_over(tiny_store, whole, stopped, tmp_path):
    before = contents(stopped)
    run = run_of(tiny_store, tmp_path / "mine", resume_from=stopped)
    described = toy.work(run, Ranks())
    assert contents(stopped) == before
    assert (described["state"], described["weights_sha256"]) == (
        "done",
        describe_run(whole)["weights_sha256"],
    )
    assert read_events(tmp_path / "mine")[0]["samples"] == 96
    mine, theirs = (read_json(folder / "fingerprint.json") for folder in (tmp_path / "mine", stopped))
    assert mine["resumed_from"]["fingerprint"] == theirs["fingerprint"]
    assert mine["resumed_from"]["path"] == str(stopped)
    assert sorted(p.name for p in (tmp_path / "mine" / "snapshots").iterdir()) == sorted(
        p.name for p in (whole / "snapshots").iterdir()
    )
    assert toy.work(run, Ranks())["attempts"] == 1  # and repeated it is done
    assert toy.work(dataclasses.replace(run, resume_from=None), Ranks())["attempts"] == 1


def test_a_done_run_goes_on_when_it_may_be_longer(tiny_store, whole, tmp_path):
    run = run_of(tiny_store, tmp_path / "longer", resume_from=whole, total_samples=200)
    assert toy.work(run, Ranks())["samples"] == 200
    assert read_events(tmp_path / "longer")[0]["samples"] == 160


def test_what_was_killed_before_its_copy_was_whole_copies_again(tiny_store, whole, stopped, tmp_path):
    run = run_of(tiny_store, tmp_path / "mine", resume_from=stopped)
    toy.work(run, Ranks())
    shutil.rmtree(tmp_path / "mine" / "checkpoints")
    events = tmp_path / "mine" / "events.jsonl"
    events.write_text(events.read_text().splitlines(keepends=True)[0])
    described = toy.work(dataclasses.replace(run, resume_from=None), Ranks())
    assert described["weights_sha256"] == describe_run(whole)["weights_sha256"]
    assert [event["samples"] for event in read_events(tmp_path / "mine") if event["event"] == "start"] == [
        96,
        96,
    ]


@pytest.mark.parametrize(
    ("keys", "said"),
    [({"seed": 1}, "seed was 0 and is now 1"), ({"lr": 1e-4}, "optim.lr"), ({"batch_size": 4}, "batch_size")],
)
def test_another_experiment_is_refused_with_what_differs(tiny_store, stopped, tmp_path, keys, said):
    run = run_of(tiny_store, tmp_path / "mine", resume_from=stopped, **keys)
    with pytest.raises(RequestError, match=said):
        begin(run, identify(run))


def test_a_shorter_length_other_code_and_no_run_are_refused(tiny_store, stopped, tmp_path):
    with pytest.raises(RequestError, match="has seen 96 samples already, and 48"):
        toy.work(run_of(tiny_store, tmp_path / "mine", resume_from=stopped, total_samples=48), Ranks())
    assert not (tmp_path / "mine" / "fingerprint.json").exists()
    with pytest.raises(RequestError, match="does not exist"):
        identify(run_of(tiny_store, tmp_path / "other", resume_from=tmp_path / "nowhere"))
    copied = tmp_path / "copied"
    for path, content in contents(stopped).items():
        (copied / path).parent.mkdir(parents=True, exist_ok=True)
        (copied / path).write_bytes(content)
    write_json(copied / "fingerprint.json", {**read_json(copied / "fingerprint.json"), "code": "0" * 64})
    run = run_of(tiny_store, tmp_path / "third", resume_from=copied)
    with pytest.raises(RequestError, match="allow_code_change=true"):
        begin(run, identify(run))
    assert begin(dataclasses.replace(run, allow_code_change=True), identify(run)) == "new"


def test_lengths_that_follow_the_runs_length_are_no_difference():
    def science(total: int, half_life: float) -> dict:
        return {
            "seed": 0,
            "optim": {
                "lr": 1.0,
                "total_samples": total,
                "ema_half_life_samples": half_life,
                "ema": {"snapshot_every": None},
            },
        }

    asked = science(400, 20.0)
    assert comparable(science(200, 10.0), asked) == comparable(asked, asked)  # a twentieth of each
    assert comparable(science(200, 20.0), asked) == comparable(asked, asked)  # the same in samples
    assert comparable(science(200, 15.0), asked) != comparable(asked, asked)
