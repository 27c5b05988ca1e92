"""A regression of the tiny world and its folds, as the runs that `stage.residual=cross_fitted` looks for,
trained by a bare loop.
"""

from __future__ import annotations

from pathlib import Path

import tiny_stages
import torch

from stormcast_train.base.files import write_json
from stormcast_train.training.setup.build_stage import build_stage
from stormcast_train.training.setup.config import StageRequest
from stormcast_train.training.setup.folds import Fold
from stormcast_train.training.validation.evaluation import Evaluation


def fit(request: StageRequest, folder: Path, steps: int, lr: float = 5e-3):
    """Train and leave the package as a run in `folder`; gives the stage."""
    stage, stream = build_stage(request, tiny_stages.CPU)
    optimizer = torch.optim.Adam(stage.network.parameters(), lr)
    for k in range(steps):
        optimizer.zero_grad()
        stage.loss(stage.network, stage.example(stream.batch(range(8 * k, 8 * k + 8)))).total.backward()
        optimizer.step()
    Evaluation(stage).save_package(
        folder / "package" / "last", stage.network.state_dict(), {"samples": 8 * steps}
    )
    write_json(folder / "fingerprint.json", {})
    return stage


def fit_with_folds(request: StageRequest, folder: Path, folds: int, steps: int):
    """The regression in `folder` and its folds below; gives the regression's stage."""
    stage = fit(request, folder, steps)
    for index in range(folds):
        fit(
            request.model_copy(update={"fold": Fold(index=index, of=folds)}),
            folder / "folds" / str(index),
            steps,
        )
    return stage


def cross_fitted(request: StageRequest, folds: int) -> StageRequest:
    """The diffusion's request with its residual from the folds."""
    return request.model_copy(
        update={"stage": request.stage.model_copy(update={"residual": "cross_fitted", "folds": folds})}
    )
