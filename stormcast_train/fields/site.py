"""What a cluster or machine is: never part of a run's fingerprint."""

from __future__ import annotations

from stormcast_train.fields.variables import Frozen


class SiteConfig(Frozen):
    """`site=`: a machine by name."""

    name: str
