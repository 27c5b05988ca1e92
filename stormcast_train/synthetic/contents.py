"""Which files an archive holds for a set of variables, and where each hour's files are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stormcast_train.base.errors import RequestError, nearest
from stormcast_train.fields.variable_set import VariablesConfig
from stormcast_train.fields.variables import split_level
from stormcast_train.synthetic import driver, write_qpepre, write_qpesums, write_rwrf
from stormcast_train.synthetic.faults import fault_of

RADAR = {"rain1h": "CB_GC_PCP_1H_RAD", "refc": "COMPREF"}


@dataclass(frozen=True)
class ArchiveContents:
    """Canonical names by file: rwrf fields, QPESUMS variables, whether QPEPRE is written, ERA5 single and
    pressure-level fields.
    """

    rwrf: tuple[str, ...]
    qpesums: tuple[str, ...]
    qpepre: bool
    era5: tuple[str, ...]

    @property
    def era5_single(self) -> tuple[str, ...]:
        return tuple(n for n in self.era5 if not split_level(n))

    @property
    def era5_levels(self) -> tuple[str, ...]:
        return tuple(n for n in self.era5 if split_level(n))


@dataclass(frozen=True)
class HourFile:
    """One file of one hour: its folder (source), what it holds, where it is, and what is wrong with it."""

    folder: str
    product: str
    path: Path
    fault: str | None

    @property
    def exists(self) -> bool:
        """Whether nothing is left to do for it: written, or meant to be missing."""
        return self.fault == "missing" or self.path.exists()


def contents_of(variables: VariablesConfig, qpepre: bool) -> ArchiveContents:
    """The files from which `variables` can be read; RequestError where no synthetic source holds one."""
    if variables.step not in ("1h", "60min"):
        raise RequestError(
            f"variables={variables.name} has a step of {variables.step}, and the synthetic archive one of "
            "1h; choose variables= with step 1h"
        )
    radar = tuple(n for n in variables.state if n in RADAR)
    rwrf = tuple(n for n in variables.state if n not in RADAR)
    _check(
        "state",
        [n for n in rwrf if not write_rwrf.supported(n)],
        [*write_rwrf.SURFACE, *RADAR],
        variables.name,
    )
    _check(
        "background",
        [n for n in variables.background if not driver.supported(n)],
        driver.SURFACE,
        variables.name,
    )
    background = tuple(dict.fromkeys([*variables.background, "tp"])) if variables.background else ()
    return ArchiveContents(rwrf, radar, qpepre and "rain1h" in radar, background)


def _check(role: str, missing: list[str], known: object, set_name: str) -> None:
    if missing:
        names = [str(n) for n in known] if isinstance(known, (list, tuple)) else []
        hint = nearest(missing[0], names)
        raise RequestError(
            f"the synthetic archive cannot hold {', '.join(missing)} ({role} of variables={set_name}).{hint}"
        )


def hour_files(
    contents: ArchiveContents, archive: Path, time: np.datetime64, fault_seed: int | None
) -> Iterator[HourFile]:
    """The files of one hour; `fault_seed` None: none of them is faulty."""

    def one(folder: str, product: str, name: str) -> HourFile:
        fault = fault_of(fault_seed, folder, time) if fault_seed is not None else None
        return HourFile(
            folder,
            product,
            archive / folder / name,
            fault if product != "refc" or fault in ("missing", "truncated") else None,
        )

    yield one("rwrf", "rwrf", write_rwrf.file_name(time))
    for variable in contents.qpesums:
        day = str(time.astype("datetime64[D]")).replace("-", "")
        yield one("qpesums", variable, f"{day}/{write_qpesums.file_name(RADAR[variable], time)}")
    if contents.qpepre:
        yield one("qpepre", "qpepre", f"{str(time)[:4]}/{write_qpepre.file_name(time)}")
