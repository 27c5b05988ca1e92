"""What a resolved request takes of its store, counted without reading a field. Torch-free."""

from __future__ import annotations

from stormcast_train.base.fingerprint import digest
from stormcast_train.data.condition_channels import halo_names, input_names
from stormcast_train.data.condition_config import past_roles
from stormcast_train.data.scene import Scene, build_scene, extend_scene
from stormcast_train.fields.times import seconds
from stormcast_train.networks.parameters import encoder_parameters
from stormcast_train.runs.data_use import DataUse, SplitUse
from stormcast_train.stages.stage import NetworkRequest
from stormcast_train.training.setup.resolve import Setup


def data_use(setup: Setup) -> DataUse:
    """Windows by split, and what is left out."""
    splits = {
        name: SplitUse(len(split.times), len(split.starts)) for name, split in setup.mixture.splits.items()
    }
    fold, whole = setup.request.fold, len(setup.whole.splits["train"].starts)
    state = setup.store.group("state")
    described = (setup.opened.manifest.get("config") or {}).get("domain") or {}
    return DataUse(
        domain=str(described.get("name", "no named domain")),
        shape=state.grid.shape,
        grid=state.grid.fingerprint[:12],
        step_s=seconds(state.step),
        times=len(state.times),
        splits=splits,
        held_out=digest(setup.mixture.splits["validation"].starts)[:12],
        missing=_missing(setup),
        dropped=_dropped(setup),
        fold=fold.title if fold else None,
        left_out=whole - splits["train"].windows,
        further=sum(len(entry.starts) for entry in setup.mixture.further),
    )


def parameters(setup: Setup) -> int | None:
    """Of the network that is trained; None where only building it tells."""
    spec, request, scene = setup.spec.conditions, setup.request, _scene(setup)
    inputs, halo = len(input_names(spec, scene)), 0
    if spec.halo and spec.halo.encoder and scene.background_grid:
        encoder = spec.halo.encoder
        inputs += encoder.channels
        halo = encoder_parameters(
            len(halo_names(spec, scene)), encoder.channels, encoder.width, encoder.levels
        )
    asked = NetworkRequest(request.network, scene.grid.shape, inputs, len(scene.names), request.seed)
    found = setup.kind.parameters(asked, request.objective)
    return None if found is None else found + halo


def _scene(setup: Setup) -> Scene:
    """The fields, as `build_stage` has them."""
    conditions = setup.spec.conditions
    asked = (
        setup.store,
        setup.whole.splits["train"].times,
        setup.use_background,
        conditions.static,
        past_roles(conditions),
        setup.whole.training,
    )
    return extend_scene(setup.beneath.scene, *asked) if setup.beneath else build_scene(*asked)


def _missing(setup: Setup) -> dict[str, int]:
    found = {}
    for role in ("state", *(("background",) if setup.use_background else ())):
        group = setup.store.group(role)
        gone = int((~group.available.all(axis=1)).sum())
        if gone:
            found[role] = gone
    return found


def _dropped(setup: Setup) -> dict[str, tuple[str, ...]]:
    """Variables that the store holds and `variables=` or the conditions leave out; a whole role is told as
    such.
    """
    asked = setup.spec.conditions
    used = {"state": True, "background": setup.use_background, "static": bool(asked.static)}
    found: dict[str, tuple[str, ...]] = {}
    for role in setup.opened.roles:
        held = setup.opened.group(role).channels
        if not used.get(role, role in asked.past):
            found[role] = (f"(all {len(held)} variables: no condition asks for them)",)
            continue
        names = setup.store.group(role).channels
        if role == "static" and isinstance(asked.static, tuple):
            names = asked.static
        if gone := tuple(name for name in held if name not in names):
            found[role] = gone
    return found
