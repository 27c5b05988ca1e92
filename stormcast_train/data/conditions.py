"""What a network sees, and what its output means: one place for training and forecast.

Shape suffixes: B samples, K past states (oldest first), F past frames (oldest first), C channels, J
background times (input, target), H rows, W columns (h, w: of the background's own grid). Channel order is
`Conditions.channels`, by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stormcast_train.data.batch import Window
from stormcast_train.data.condition_config import STATE_AGE, ConditionSpec, lead_steps
from stormcast_train.data.dropout import drop
from stormcast_train.data.halo import HaloCrop, with_mask
from stormcast_train.data.interpolate import Interpolator
from stormcast_train.data.keyed_random import normal
from stormcast_train.data.lead import at_lead, drawn_steps, grown
from stormcast_train.data.mirror import Mirror, check_mirror
from stormcast_train.data.normalize import Normalizer
from stormcast_train.data.scene import Scene
from stormcast_train.data.solar import cos_zenith, day_and_hour
from stormcast_train.fields.grid import Grid
from stormcast_train.fields.reach import check_reach
from stormcast_train.fields.times import Times

TIME_CHANNELS = {
    "hour": ("hour_sin", "hour_cos"),
    "zenith": ("cos_zenith",),
    "year": ("year_sin", "year_cos"),
}
POSITION_CHANNELS = ("latitude", "longitude")
SPARED = (
    "state",
    "mask",
    "regression",
    "absent",
    "past",
    "lead",
)  # channels without training noise begin with one of these

Condition: TypeAlias = (
    Tensor | tuple[Tensor, Tensor]
)  # the input [B, Cin, H, W], and the halo [B, Ch, h, w] where the network encodes one


class Conditions:
    """Assembles a network's input from a window: states, their masks, background, static fields, position,
    time, regression.
    """

    def __init__(self, spec: ConditionSpec, scene: Scene, device: torch.device) -> None:
        check_mirror(spec, scene.names)
        self.spec = spec
        self.history = spec.history
        self._scene = scene
        self._masked = [
            i for i, name in enumerate(scene.names) if spec.mask == "always" or name in scene.masked
        ]
        self._lat_HW, self._lon_HW = (
            torch.as_tensor(np.radians(part), dtype=torch.float32, device=device)
            for part in (scene.grid.lat2d, scene.grid.lon2d)
        )
        self._fixed_CHW = torch.cat([self._static(device), self._position()])
        self._interpolate, self._increment_C11 = self._background(device)
        self.halo = (
            HaloCrop(scene.background_grid, scene.grid, spec.halo.degrees)
            if spec.halo and scene.background_grid
            else None
        )
        self.channels, self.halo_channels = self._names(), self._halo_names()
        context = [not name.startswith(SPARED) for name in (*self.channels, *self.halo_channels)]
        self._context_C11 = torch.tensor(context, dtype=torch.float32, device=device)[:, None, None]

    @property
    def inputs(self) -> int:
        """Channels that the network has at every point: those assembled here
        and those its own encoder gives.
        """
        encoder = self.spec.halo.encoder if self.spec.halo else None
        return len(self.channels) + (encoder.channels if encoder else 0)

    @property
    def state(self) -> tuple[str, ...]:
        """Names of the state's variables."""
        return self._scene.names

    @property
    def grid(self) -> Grid:
        """Of the input."""
        return self._scene.grid

    @property
    def device(self) -> torch.device:
        return self._lat_HW.device

    def assemble(
        self, window: Window, regression_BCHW: Tensor | None = None, offsets_BC11: Tensor | None = None
    ) -> Condition:
        """The input [B, channels, H, W], with the halo [B, halo channels, h, w] where there is an encoder for
        it.

        A window may hold more past states than are needed. `regression_BCHW` is the regression's prediction
        in the units of the target.
        """
        input_BCHW = torch.cat([*self._seen(window), *self._told(window, regression_BCHW)], dim=1)
        if offsets_BC11 is not None:
            input_BCHW += offsets_BC11[:, : len(self.channels)]
        if self.halo is None:
            return input_BCHW
        halo_BChw = torch.cat(self._background_parts(self.halo(self._background_of(window))), dim=1)
        if offsets_BC11 is not None:
            halo_BChw += offsets_BC11[:, len(self.channels) : -1]
        return input_BCHW, with_mask(halo_BChw)

    def _seen(self, window: Window) -> list[Tensor]:
        """States and background on the domain's points, with what does not change."""
        oldest = window.states_BKCHW.shape[1] - self.history
        parts = [window.states_BKCHW[:, oldest:].flatten(1, 2)]
        if self._masked:
            missing_BKCHW = ~window.present_BKCHW[:, oldest:, self._masked]
            parts.append(missing_BKCHW.flatten(1, 2).to(parts[0].dtype))
        if self.spec.background:
            assert self._interpolate is not None
            on_points = self._background_parts(self._interpolate(self._background_of(window)))
            parts += [part.nan_to_num_(0.0) for part in on_points]  # all of them are new
        parts.append(self._fixed_CHW.expand(len(window), -1, -1, -1))
        return parts

    def _told(self, window: Window, regression_BCHW: Tensor | None) -> list[Tensor]:
        """Time, what is absent, past frames, lead and age, the regression."""
        parts = [self.time_features(window.times + self._scene.step)] if self.spec.time else []
        if "background" in self.spec.dropout:
            parts.append(self._constant(self._background_absent(window), window))
        for role in self.spec.past:
            parts += self._past_parts(role, window)
        if self.spec.lead:
            parts.append(
                self._constant(
                    None
                    if window.lead_B is None
                    else window.lead_B.clamp(max=self.spec.lead) / self.spec.lead,
                    window,
                )
            )
        if STATE_AGE in self.spec.dropout:
            parts.append(self._constant(window.age_B, window))
        if self.spec.regression:
            assert regression_BCHW is not None
            parts.append(regression_BCHW)
        return parts

    def offsets(self, seed: int, positions: Sequence[int]) -> Tensor | None:
        """Training noise: one normal draw per sample and context channel (not on states, masks or the
        regression), times `noise`.

        Channels of the input, then those of the halo.
        """
        if not self.spec.noise:
            return None
        draw_BC11 = normal(
            seed, ("condition_noise",), positions, (len(self._context_C11), 1, 1), self._context_C11.device
        )
        return self.spec.noise * draw_BC11 * self._context_C11

    def mirror(self, seed: int, positions: Sequence[int]) -> Mirror | None:
        """The mirror of these training samples, where the conditions ask for one."""
        return Mirror(seed, positions, self._lat_HW.device) if self.spec.mirror else None

    def perturb(self, window: Window, seed: int, positions: Sequence[int]) -> Window:
        """The window as training shows it: sources dropped, a lead drawn and what a forecast lacks by then
        taken away.

        With noise on present states (a rollout's are not perfect either), which grows with the lead where
        there is one.
        """
        window = drop(window, self.spec.dropout, seed, positions)
        scale: float | Tensor = self.spec.state_noise
        if self.spec.lead:
            most = lead_steps(self.spec.lead, self._scene.step_s)
            steps_B = drawn_steps(most, seed, positions, self._lat_HW.device)
            window = at_lead(
                window,
                steps_B,
                self._scene.step_s,
                {role: self._scene.role(role).step_s for role in window.past},
            )
            scale = scale * grown(steps_B, window)
        if not self.spec.state_noise:
            return window
        noise = normal(
            seed,
            ("state_noise",),
            positions,
            tuple(window.states_BKCHW.shape[1:]),
            window.states_BKCHW.device,
        )
        return replace(window, states_BKCHW=window.states_BKCHW + scale * noise * window.present_BKCHW)

    def time_features(self, times: Times) -> Tensor:
        """The asked features at these valid times [B, channels, H, W]: hour and day of the year on the
        circle, the sun's height.
        """
        day, hour = day_and_hour(times)
        made = {
            "hour": lambda: self._circle(hour / 24),
            "year": lambda: self._circle(day / 365.25),
            "zenith": lambda: cos_zenith(times, self._lat_HW, self._lon_HW)[:, None],
        }
        return torch.cat([made[feature]() for feature in self.spec.time], dim=1)

    def _circle(self, turns_B: NDArray[np.float64]) -> Tensor:
        """Sine and cosine as constant fields [B, 2, H, W]."""
        angles = 2 * np.pi * turns_B
        pair_B2 = torch.as_tensor(
            np.stack([np.sin(angles), np.cos(angles)], axis=1),
            dtype=torch.float32,
            device=self._lat_HW.device,
        )
        return pair_B2[:, :, None, None].expand(-1, -1, *self._lat_HW.shape)

    def _names(self) -> tuple[str, ...]:
        state, background = self._scene.names, [v.name for v in self._scene.background]
        ages = [f"-{back}" if back else "" for back in range(self.history - 1, -1, -1)]
        names = [f"state{age}:{name}" for age in ages for name in state]
        names += [f"mask{age}:{state[i]}" for age in ages for i in self._masked]
        names += [f"background_{when}:{name}" for when in self.spec.background for name in background]
        names += [f"static:{self._scene.static[i].name}" for i in self._static_index()]
        names += POSITION_CHANNELS if self.spec.position else ()
        names += [name for feature in self.spec.time for name in TIME_CHANNELS[feature]]
        names += ["absent:background"] if "background" in self.spec.dropout else []
        names += [name for role in self.spec.past for name in self._past_names(role)]
        names += ["lead"] if self.spec.lead else []
        names += [STATE_AGE] if STATE_AGE in self.spec.dropout else []
        return (*names, *(f"regression:{name}" for name in state)) if self.spec.regression else tuple(names)

    def _static(self, device: torch.device) -> Tensor:
        static_SHW = torch.as_tensor(self._scene.static_SHW, dtype=torch.float32, device=device)[
            self._static_index()
        ]
        if not len(static_SHW):
            return static_SHW
        mean_S11 = static_SHW.nanmean(dim=(1, 2), keepdim=True)
        variance_S11 = (static_SHW - mean_S11).square().nanmean(dim=(1, 2), keepdim=True)
        scale_S11 = torch.where(variance_S11 > 0, variance_S11, torch.ones_like(variance_S11)).sqrt()
        return ((static_SHW - mean_S11) / scale_S11).nan_to_num(0.0)

    def _static_index(self) -> list[int]:
        asked = self.spec.static
        return [
            i
            for i, v in enumerate(self._scene.static)
            if asked is True or (isinstance(asked, tuple) and v.name in asked)
        ]

    def _position(self) -> Tensor:
        if not self.spec.position:
            return self._lat_HW.new_zeros((0, *self._lat_HW.shape))

        def spread(part: Tensor) -> Tensor:
            low, high = part.min(), part.max()
            return 2 * (part - low) / (high - low).clamp(min=1e-9) - 1

        return torch.stack([spread(self._lat_HW), spread(self._lon_HW)])

    def _background(self, device: torch.device) -> tuple[Interpolator | None, Tensor | None]:
        if not self.spec.background:
            return None, None
        assert self._scene.background_grid is not None
        check_reach(self._scene.background_grid, self._scene.grid, "the store's background")
        normalizer = Normalizer(self._scene.background, self._scene.background_statistics, device)
        return Interpolator(self._scene.background_grid, self._scene.grid, device), normalizer.tendency_C11

    def _background_of(self, window: Window) -> Tensor:
        """The background, wholly missing where the network is told that it is."""
        assert window.background_BJChw is not None
        if "background" not in self.spec.dropout:
            return window.background_BJChw
        absent = self._background_absent(window)[:, None, None, None, None].bool()
        return torch.where(
            absent, torch.full_like(window.background_BJChw, torch.nan), window.background_BJChw
        )

    def _background_absent(self, window: Window) -> Tensor:
        """[B]: 1 where a variable of the background has nothing at its input or target time: the network
        knows all of it, or none.
        """
        assert window.background_BJChw is not None
        whole_B = window.background_BJChw.isfinite().flatten(3).any(dim=3).flatten(1).all(dim=1)
        return (~whole_B).to(window.states_BKCHW.dtype)

    def _background_parts(self, background_BJCHW: Tensor) -> list[Tensor]:
        """The asked times of a background on any grid, NaN where missing."""
        at_input_BCHW, at_target_BCHW = background_BJCHW.unbind(1)
        made = {
            "input": lambda: at_input_BCHW,
            "target": lambda: at_target_BCHW,
            "increment": lambda: self._increment(at_input_BCHW, at_target_BCHW),
        }
        return [made[when]() for when in self.spec.background]

    def _halo_names(self) -> tuple[str, ...]:
        if self.halo is None:
            return ()
        return (
            *(f"background_{when}:{v.name}" for when in self.spec.background for v in self._scene.background),
            "mask:background",
        )

    def _past_index(self, role: str) -> tuple[int, list[int]]:
        """How many frames of the role are seen, and which of its channels."""
        past, further = self.spec.past[role], self._scene.role(role)
        return past.minutes * 60 // further.step_s + 1, [
            i for i, n in enumerate(further.names) if past.channels is None or n in past.channels
        ]

    def _past_names(self, role: str) -> list[str]:
        frames, index = self._past_index(role)
        further = self._scene.role(role)
        seen = [
            f"-{back * further.step_s // 60}min:{further.names[i]}"
            for back in range(frames - 1, -1, -1)
            for i in index
        ]
        return [f"past:{role}{name}" for name in seen] + [f"mask:{role}{name}" for name in seen]

    def _past_parts(self, role: str, window: Window) -> list[Tensor]:
        frames, index = self._past_index(role)
        values, present = (
            x[:, -frames:, index].flatten(1, 2)
            for x in (window.past[role].values_BFCHW, window.past[role].present_BFCHW)
        )
        return [values, (~present).to(values.dtype)]

    def _constant(self, values_B: Tensor | None, window: Window) -> Tensor:
        """One number a sample as a field [B, 1, H, W]; 0 for None."""
        values_B = self._lat_HW.new_zeros(len(window)) if values_B is None else values_B
        return values_B[:, None, None, None].expand(-1, 1, *self._lat_HW.shape)

    def _increment(self, at_input_BCHW: Tensor, at_target_BCHW: Tensor) -> Tensor:
        return (at_target_BCHW - at_input_BCHW).div_(self._increment_C11)


class Target:
    """What the output means. tendency: (next - newest) / its standard deviation; state: the next state. All
    normalised.

    Where the newest state is missing there is nothing to add a tendency to: the output is the next state
    there too.
    """

    def __init__(self, kind: str, normalizer: Normalizer, coverage_CHW: Tensor) -> None:
        self._tendency = kind == "tendency"
        self._scale_C11 = normalizer.tendency_C11
        self.coverage_CHW = coverage_CHW

    def encode(self, next_BCHW: Tensor, window: Window) -> Tensor:
        """From the next state to what the network should give."""
        if not self._tendency:
            return next_BCHW
        return torch.where(window.known_BCHW, (next_BCHW - window.newest_BCHW) / self._scale_C11, next_BCHW)

    def decode(self, output_BCHW: Tensor, window: Window) -> Tensor:
        """From the network's output to the next state; 0 outside the static coverage."""
        if not self._tendency:
            return output_BCHW * self.coverage_CHW
        return (
            torch.where(window.known_BCHW, window.newest_BCHW + self._scale_C11 * output_BCHW, output_BCHW)
            * self.coverage_CHW
        )

    def compared(self, target_present_BCHW: Tensor, window: Window) -> Tensor:
        """Cells by which residuals are compared and scaled: of a tendency both ends are there. Loss is
        wherever the target is.
        """
        return target_present_BCHW & window.known_BCHW if self._tendency else target_present_BCHW
