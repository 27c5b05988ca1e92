"""What a run's directory records of an attempt before its first step."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stormcast_train.base.provenance import code_record
from stormcast_train.distributed.ranks import Ranks
from stormcast_train.runs.environment import attempt_environment
from stormcast_train.runs.run import describe_run
from stormcast_train.runs.run_spec import RunSpec
from stormcast_train.training.run.identity import RunIdentity
from stormcast_train.training.run.inherit import parent_of, parent_record
from stormcast_train.training.run.rank_device import is_deterministic
from stormcast_train.training.run.stage_run import StageRun

if TYPE_CHECKING:
    import torch


def record_attempt(
    run: StageRun, identity: RunIdentity, ranks: Ranks, device: torch.device, attempt: int
) -> None:
    """Write into the directory what the run is and how this attempt is executed."""
    import torch

    code = code_record()
    libraries = {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "cuda": torch.version.cuda,
    }
    execution = run.execution.model_dump(mode="json") | {
        "deterministic": is_deterministic(run.execution.deterministic, device),
        "device": str(device),
        "ranks": ranks.world,
        "launcher": ranks.launcher,
        "attempt": attempt,
        "command": list(run.command),
    }
    request = run.request
    further = [str(Path(entry.store).resolve()) for entry in request.mix.stores]
    places = {
        "store": str(Path(request.store).resolve()),
        "stores": further,
        "regression": _absolute(request.regression),
        "init": _absolute(request.init),
    }
    run.directory.record(
        _identity_record(run, identity, code, attempt),
        {
            "science": identity.science,
            "execution": execution,
            "site": {"site": run.site.model_dump(mode="json"), **places},
        },
        {"environment": attempt_environment(libraries), "code": code},
    )


def _identity_record(
    run: StageRun, identity: RunIdentity, code: Mapping[str, Any], attempt: int
) -> dict[str, Any]:
    """`fingerprint.json`: the fingerprint of the first attempt stays; code accepted later is listed."""
    held = run.directory.identity() if run.directory.exists else {}
    changes = list(held.get("code_changes", []))
    if held and held["code"] != identity.code:
        samples = describe_run(run.directory.path, with_weights=False)["samples"]
        changes.append({"attempt": attempt, "samples": samples, "from": held["code"], "to": identity.code})
    parent = None if held else parent_of(run.directory, run.resume_from)
    resumed_from = parent_record(parent) if parent else held.get("resumed_from")
    return {
        **({"resumed_from": resumed_from} if resumed_from else {}),
        "fingerprint": held.get("fingerprint", identity.fingerprint),
        "science_fingerprint": identity.science_fingerprint,
        "code": identity.code,
        "code_changes": changes,
        "commit": code["commit"],
        "stage": run.request.stage.kind,
        "store": identity.science["store"],
        "total_samples": run.optim.total_samples,
    }


def _absolute(spec: str | None) -> str | None:
    """RUN or RUN@WHICH with an absolute path."""
    if spec is None:
        return None
    named = RunSpec.parse(spec)
    return named.of(named.path.resolve())
