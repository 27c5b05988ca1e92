"""The keys of `bench`: sizes and repeats of each measurement."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from stormcast_train.base.frozen import Frozen


class PreprocessSizes(Frozen):
    """What `bench preprocess` measures. Days are whole: a shard is one; the first warms up and is not
    counted.
    """

    start: str = "2021-06-01"
    days: int = Field(default=2, ge=1)  # counted with one worker
    days_of_many: int = Field(default=4, ge=1)  # counted with several workers, and for the memory's constancy
    workers: int = Field(default=2, ge=2)
    repeats: int = Field(default=5, ge=1)
    spacing_m: float | None = Field(default=None, gt=0)  # of the archive's RWRF grid
    spin_s: float = Field(default=2.0, gt=0)  # of pure arithmetic, the control
    processors: int = Field(default=112, ge=1)  # of the node that is predicted
    threads_gain: float = Field(
        default=1.25, ge=1.0
    )  # assumed throughput of two hardware threads of a core, over one
    years: float = Field(default=3.5, gt=0)


class LoadSizes(Frozen):
    """What `bench load` measures."""

    grids: tuple[tuple[int, int], ...] = ((224, 128), (320, 200))
    hours: int = Field(default=48, ge=24)
    channels: int = Field(default=24, ge=2, le=24)
    batch: int = Field(default=8, ge=1)
    batches: int = Field(default=4, ge=1)  # in one repeat
    repeats: int = Field(default=15, ge=1)
    peer_samples: int = Field(default=4, ge=1)  # of the peer's in one repeat


class TrainSizes(Frozen):
    """What `bench train` measures. `folder` and `batch` are filled in for the ranks of one measurement."""

    blocks: int = Field(default=20, ge=20)  # turns of each side
    steps: int = Field(default=6, ge=1)  # in a turn
    step_ms: float = Field(default=100.0, gt=0)  # the batch of a rank grows until a bare step takes this long
    batch: int | None = Field(default=None, ge=1)  # samples of one rank
    hours: int = Field(default=60, ge=40)  # of the store
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = False
    tf32: bool = False
    folder: str | None = None
