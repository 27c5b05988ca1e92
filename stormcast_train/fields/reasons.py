"""Why a value is missing. A store's `mask` holds one of these per cell; 0 means the value is present."""

from __future__ import annotations

from enum import IntEnum


class Reason(IntEnum):
    """Codes of the `mask` array (uint8); stable on disk, so numbers are never reused."""

    PRESENT = 0
    OUTSIDE_COVERAGE = 1  # the source does not see this cell, at any time or at this one
    NOT_RECEIVED = 2  # no file of the archive holds this time
    UNREADABLE = 3  # a file was there and could not be read
    NOT_IN_FILE = 4  # the variable is not in the file, or the file marks the cell as missing
    OUT_OF_RANGE = 5  # outside the variable's physical range
    STUCK = 6  # bit-identical in three or more consecutive times
    SPIKE = 7  # leaves its neighbours in time
    SPECKLE = 8  # an isolated radar pixel, or a beam that is always zero
    ABSURD = 9  # an hour that its neighbours, reflectivity or gauges contradict


DESCRIPTIONS: dict[Reason, str] = {
    Reason.PRESENT: "present",
    Reason.OUTSIDE_COVERAGE: "outside the source's coverage",
    Reason.NOT_RECEIVED: "no file for this time",
    Reason.UNREADABLE: "file unreadable",
    Reason.NOT_IN_FILE: "missing in the file",
    Reason.OUT_OF_RANGE: "outside the physical range",
    Reason.STUCK: "stuck field",
    Reason.SPIKE: "spike in time",
    Reason.SPECKLE: "radar speckle or blocked beam",
    Reason.ABSURD: "contradicted by neighbours",
}
