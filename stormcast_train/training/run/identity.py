"""What makes a run the same experiment, and how a request meets the directory that it names. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from stormcast_train.base.differences import differences, listed
from stormcast_train.base.errors import RequestError
from stormcast_train.base.fingerprint import digest
from stormcast_train.base.provenance import code_fingerprint
from stormcast_train.forecast.chosen import open_header
from stormcast_train.training.run.inherit import check_parent, inherited_init
from stormcast_train.training.run.stage_run import StageRun

Begin = Literal["new", "resume", "done"]


@dataclass(frozen=True)
class RunIdentity:
    """What makes a run the same experiment: its science (config, seed, used
    part of the store) and the code.
    """

    science: dict[str, Any]
    science_fingerprint: str
    code: str

    @property
    def fingerprint(self) -> str:
        """Of the run that begins with this code."""
        return digest(self.science_fingerprint, self.code)

    @property
    def data_fingerprint(self) -> str:
        """Of the part of the store that the mix uses."""
        return digest(self.science["store"])


def identify(run: StageRun) -> RunIdentity:
    """The identity of what is asked; reads the store's and the regression's fingerprints, never torch."""
    science = run.setup.science()
    continues, init = inherited_init(run.directory, run.resume_from)
    if not continues:
        init = None if run.request.init is None else open_header(run.request.init).fingerprint
    science |= {"init": init, "optim": run.optim.model_dump(mode="json")}
    return RunIdentity(science, digest(science), code_fingerprint())


def begin(run: StageRun, identity: RunIdentity) -> Begin:
    """How the request meets its directory; RequestError where that holds another experiment, another thing,
    or other code began it.
    """
    directory = run.directory
    foreign = directory.foreign()
    if foreign:
        raise RequestError(
            f"run={directory.path} is not a run, since it holds {', '.join(foreign[:4])}: give another "
            "folder",
            foreign=foreign,
        )
    if not directory.exists:
        if run.resume_from is not None:
            check_parent(run.resume_from, identity.science, identity.code, run.allow_code_change)
        return "new"
    held = directory.identity()
    if held["science_fingerprint"] != identity.science_fingerprint:
        if run.resume_from is None and directory.untouched():
            return "new"  # its first attempt was refused; this one is another request
        where = listed(differences(directory.document("science"), identity.science))
        fix = "give another run=, or the keys it began with"
        raise RequestError(
            f"run={directory.path} holds another experiment ({where}): {fix}", run=str(directory.path)
        )
    if directory.state() == "done":
        return "done"
    if held["code"] != identity.code and not run.allow_code_change:
        raise RequestError(
            f"the code has changed since the last attempt of {directory.path} (commit "
            f"{held.get('commit')}): go back to it, or accept the change with allow_code_change=true, which "
            "the run records",
            run=str(directory.path),
        )
    return "resume"


def is_done(run: StageRun, identity: RunIdentity) -> bool:
    """Whether this very experiment has ended; safe to ask while another rank writes."""
    held = run.directory.identity() if run.directory.exists else {}
    return held.get("science_fingerprint") == identity.science_fingerprint and run.directory.state() == "done"
