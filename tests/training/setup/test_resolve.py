from __future__ import annotations

import pytest
import tiny_stages

from stormcast_train.cli import main
from stormcast_train.data import mixture
from stormcast_train.store import reader
from stormcast_train.training.setup.build_stage import build_stage
from stormcast_train.training.setup.resolve import resolve
from stormcast_train.training.validation.evaluation import Evaluation


def with_history(store, folder, history):
    stage, stream = build_stage(
        tiny_stages.request(store, "regression", conditions={"history": history}), tiny_stages.CPU
    )
    Evaluation(stage).save_package(folder, stage.network.state_dict(), {})
    stream.close()
    return str(folder)


def test_the_fingerprint_covers_the_hours_that_the_build_trains_on(tiny_store, tmp_path):
    """A diffusion of one past state over a regression of three: windows reach as far back as the regression
    needs.
    """
    setup = resolve(
        tiny_stages.request(tiny_store, "diffusion", regression=with_history(tiny_store, tmp_path / "r", 3))
    )
    assert setup.spec.conditions.history == 1
    assert setup.needs.history == 3
    stage, stream = build_stage(setup.request, tiny_stages.CPU)
    built = stage.template.splits
    assert {name: list(split.starts) for name, split in setup.mixture.splits.items()} == {
        name: list(times) for name, times in built.items()
    }
    alone = resolve(tiny_stages.request(tiny_store, "regression"))
    assert len(alone.mixture.splits["train"].starts) > len(built["train"])
    assert setup.science()["store"] != alone.science()["store"]
    stream.close()


def counted(monkeypatch, module, name):
    calls, whole = [], getattr(module, name)
    monkeypatch.setattr(module, name, lambda *words, **keys: calls.append(words) or whole(*words, **keys))
    return calls


def test_a_fresh_diffusion_opens_the_store_once_and_resolves_its_mix_once(tiny_store, tmp_path, monkeypatch):
    tiny = [
        "network=tiny",
        "optim=tiny",
        "train.batch_size=4",
        "train.total_samples=8",
        f"store={tiny_store}",
        "device=cpu",
    ]
    tiny += [
        "validate.cases=2",
        "validate.ensemble.cases=1",
        "validate.ensemble.members=2",
        "validate.maps=0",
        "log.report=false",
    ]
    assert main(["train", "stage=regression", f"run={tmp_path / 'r'}", *tiny]) == 0
    opened, resolved = (
        counted(monkeypatch, reader.Store, "__init__"),
        counted(monkeypatch, mixture, "split_store"),
    )
    assert (
        main(["train", "stage=diffusion", f"regression={tmp_path / 'r'}", f"run={tmp_path / 'd'}", *tiny])
        == 0
    )
    # the store as it lies, and as the regression's own transforms describe it: `refuse_other_scene` compares
    # the two
    assert len(opened) == 2
    assert len(resolved) == 2


def test_a_stage_that_waits_for_its_regression_is_resolved_with_what_that_will_need(tiny_store):
    request = tiny_stages.request(tiny_store, "diffusion", regression="nowhere")
    with pytest.raises(Exception, match="nowhere"):
        resolve(request)
    waiting = resolve(request, waits_for=request.stage.only("regression"))
    assert waiting.beneath is None
    assert waiting.needs.history == 1
