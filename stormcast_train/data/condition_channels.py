"""Names of a network's input channels, in order, and which channels of the scene they are. Torch-free."""

from __future__ import annotations

from stormcast_train.data.condition_config import STATE_AGE, ConditionSpec
from stormcast_train.data.scene import Scene

TIME_CHANNELS = {
    "hour": ("hour_sin", "hour_cos"),
    "zenith": ("cos_zenith",),
    "year": ("year_sin", "year_cos"),
}
POSITION_CHANNELS = ("latitude", "longitude")
# Channels that begin with one of these take no training noise; the others are the context channels.
WITHOUT_NOISE = ("state", "mask", "regression", "absent", "past", "lead")


def input_names(spec: ConditionSpec, scene: Scene) -> tuple[str, ...]:
    """Of the channels at the domain's points, as `Conditions.assemble` concatenates them."""
    state, background = scene.names, [variable.name for variable in scene.background]
    ages = [f"-{back}" if back else "" for back in range(spec.history - 1, -1, -1)]
    names = [f"state{age}:{name}" for age in ages for name in state]
    names += [f"mask{age}:{state[i]}" for age in ages for i in masked_index(spec, scene)]
    names += [f"background_{when}:{name}" for when in spec.background for name in background]
    names += [f"static:{scene.static[i].name}" for i in static_index(spec, scene)]
    names += POSITION_CHANNELS if spec.position else ()
    names += [name for feature in spec.time for name in TIME_CHANNELS[feature]]
    names += ["absent:background"] if "background" in spec.dropout else []
    names += [name for role in spec.past for name in _past_names(spec, scene, role)]
    names += ["lead"] if spec.lead else []
    names += [STATE_AGE] if STATE_AGE in spec.dropout else []
    names += [f"regression:{name}" for name in state] if spec.regression else []
    return tuple(names)


def halo_names(spec: ConditionSpec, scene: Scene) -> tuple[str, ...]:
    """Of the channels that the halo's encoder takes: the background, and the mask of its missing points."""
    names = [f"background_{when}:{v.name}" for when in spec.background for v in scene.background]
    return (*names, "mask:background")


def is_context(name: str) -> bool:
    """Whether training noise is added to the channel."""
    return not name.startswith(WITHOUT_NOISE)


def masked_index(spec: ConditionSpec, scene: Scene) -> list[int]:
    """State channels whose mask is an input."""
    if spec.mask == "always":
        return list(range(len(scene.names)))
    return [i for i, name in enumerate(scene.names) if name in scene.masked]


def static_index(spec: ConditionSpec, scene: Scene) -> list[int]:
    """Static channels that are an input."""
    if isinstance(spec.static, bool):
        return list(range(len(scene.static))) if spec.static else []
    return [i for i, variable in enumerate(scene.static) if variable.name in spec.static]


def past_index(spec: ConditionSpec, scene: Scene, role: str) -> tuple[int, list[int]]:
    """How many frames of the role are an input, and which of its channels."""
    past, further = spec.past[role], scene.role(role)
    frames = past.minutes * 60 // further.step_s + 1
    index = [i for i, name in enumerate(further.names) if past.channels is None or name in past.channels]
    return frames, index


def _past_names(spec: ConditionSpec, scene: Scene, role: str) -> list[str]:
    """Values of all frames, the oldest first, then their masks."""
    frames, index = past_index(spec, scene, role)
    further = scene.role(role)
    suffixes = []
    for back in range(frames - 1, -1, -1):
        minutes = back * further.step_s // 60
        suffixes += [f"-{minutes}min:{further.names[i]}" for i in index]
    values = [f"past:{role}{suffix}" for suffix in suffixes]
    return values + [f"mask:{role}{suffix}" for suffix in suffixes]
