"""Stages of the tiny world, trained by a bare loop: what the stages themselves do, without the run around
them.
"""

from __future__ import annotations

from pathlib import Path

import torch

from stormcast_train.data.mix import FractionsMix
from stormcast_train.networks.config import NetworkConfig
from stormcast_train.objectives.edm_config import EdmConfig
from stormcast_train.training.setup.build_stage import build_stage
from stormcast_train.training.setup.config import StageConfig, StageRequest
from stormcast_train.training.validation.evaluation import Evaluation

CPU = torch.device("cpu")
BATCH = 8


def request(store: Path, kind: str, **more) -> StageRequest:
    conditions = more.pop("conditions", {})
    return StageRequest(
        stage=StageConfig(kind=kind, conditions=conditions),
        network=NetworkConfig(model_channels=8, channel_mult=(1, 2), num_blocks=1),
        objective=EdmConfig.model_validate(
            {"noise": {"steps": 4, "solver": "heun", "rho": 7.0, "sigma_max": 20.0}}
        ),
        mix=FractionsMix(train=0.7, validation=0.15, test=0.15),
        store=str(store),
        **more,
    )


def fit(stage, stream, steps: int) -> list[float]:
    optimizer = torch.optim.Adam(stage.network.parameters(), 3e-3)
    losses = []
    for k in range(steps):
        terms = stage.loss(stage.network, stage.example(stream.batch(range(k * BATCH, (k + 1) * BATCH))))
        optimizer.zero_grad()
        terms.total.backward()
        optimizer.step()
        losses.append(float(terms.total.detach()))
    return losses


def train_both(store: Path, folder: Path) -> dict[str, Path]:
    for kind, steps, more in (
        ("regression", 60, {}),
        ("diffusion", 40, {"regression": str(folder / "regression")}),
    ):
        stage, stream = build_stage(request(store, kind, **more), CPU)
        fit(stage, stream, steps)
        Evaluation(stage).save_package(folder / kind, stage.network.state_dict(), {"samples": steps * BATCH})
    return {kind: folder / kind for kind in ("regression", "diffusion")}
