"""What a cluster or machine is: never part of a run's fingerprint."""

from __future__ import annotations

from pydantic import Field

from stormcast_train.base.frozen import Frozen


class SiteConfig(Frozen):
    """`site=`: a machine by name. `collective_timeout_s`: how long a rank waits for the others before it
    gives up.
    """

    name: str
    collective_timeout_s: float = Field(default=1800.0, gt=0)
