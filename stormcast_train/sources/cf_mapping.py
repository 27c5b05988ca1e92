"""Where a mapping says that a variable is in a file, and what its values there mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stormcast_train.base.errors import RequestError, UnreadableError, nearest
from stormcast_train.fields.times import parse_duration, seconds
from stormcast_train.fields.units import conversion, normalised
from stormcast_train.fields.variables import Variable
from stormcast_train.sources.bounds import check_interval, check_method
from stormcast_train.sources.codes import KeptCode, marked, no_echo_codes
from stormcast_train.sources.config import CfVariable
from stormcast_train.sources.cube import Cube
from stormcast_train.sources.cubes import GriddedFile


@dataclass(frozen=True)
class Mapped:
    """A variable, and where the mapping says that it is in a file. totals: its values are sums that run on."""

    variable: Variable
    at: CfVariable
    totals: bool = False

    def __post_init__(self) -> None:
        if self.at.no_echo and not self.variable.is_intermittent:
            raise RequestError(
                f"no_echo is for reflectivity, rates and amounts, and {self.variable.name} is of kind "
                f"{self.variable.kind}: name its codes under missing"
            )

        given = self.at.interval
        if given is not None and seconds(parse_duration(given)) != self.variable.interval_s:
            raise RequestError(
                f"the mapping of {self.variable.name} says that its sums run over {given}, and "
                f"{self.variable.name} is of {self.variable.interval_s} s; map it to a variable of that interval "
                "(variables.define adds one)"
            )

    def check(self, cube: Cube, path: Path) -> None:
        """UnreadableError where the file says that its values are another thing than the variable: of another
        interval, or a mean, or a maximum.
        """
        check_method(self.variable, cube, path, scaled=self.at.scale is not None)
        if not self.totals:
            check_interval(self.variable, cube, path)

    @property
    def no_echo(self) -> tuple[float, ...]:
        """The codes of cells that were covered and showed nothing."""
        return no_echo_codes(self.variable, self.at.no_echo)

    def canonical(
        self, values_YX: NDArray[np.float32], scale: tuple[float, float], no_echo_dbz: float
    ) -> NDArray[np.float32]:
        """Values as the file has them in the variable's unit (times scale[0], plus scale[1]); codes replaced."""
        nothing_YX = marked(values_YX, self.no_echo) if self.no_echo else None
        if self.at.missing:
            values_YX = np.where(marked(values_YX, self.at.missing), np.float32(np.nan), values_YX)
        if scale != (1.0, 0.0):
            values_YX = (values_YX * np.float64(scale[0]) + scale[1]).astype(np.float32)
        if nothing_YX is None or not nothing_YX.any():
            return values_YX
        floor = no_echo_dbz if self.variable.kind == "reflectivity" else 0.0
        return np.where(nothing_YX, np.float32(floor), values_YX)


def kept_codes(mapped: Iterable[Mapped]) -> tuple[KeptCode, ...]:
    """All codes that are no missing values: certain where the mapping names them."""
    return tuple(
        KeptCode(one.at.source, code, one.at.no_echo is not None) for one in mapped for code in one.no_echo
    )


def find(file: GriddedFile, path: Path, declared: CfVariable) -> tuple[Cube, int]:
    """The cube and level row of a declared variable; UnreadableError names what the file holds instead."""
    named = [c for c in file.cubes if declared.source in (c.name, *c.aliases)]
    if not named:
        held = [c.name for c in file.cubes]
        why = f" ({file.skipped[declared.source]})" if declared.source in file.skipped else ""
        hint = f"{nearest(declared.source, held)} It holds {', '.join(held) or 'none'}"
        raise UnreadableError(f"{path} holds no field '{declared.source}'{why}.{hint}", path=str(path))
    chosen = [cube for cube in named if _has_keys(cube, declared.keys)]
    if not chosen:
        raise UnreadableError(
            f"{path}: no '{declared.source}' has the keys {declared.keys}; it has {_kinds(named)}",
            path=str(path),
        )
    rows = [(cube, _level_row(cube, declared)) for cube in chosen]
    found = [(cube, row) for cube, row in rows if row is not None] or rows
    if len({_kind(cube) for cube, _ in found}) > 1:
        raise UnreadableError(
            f"{path} holds '{declared.source}' as {_kinds([cube for cube, _ in found])}; choose one with "
            "keys:",
            path=str(path),
        )
    return _checked(*found[0], path, declared)


def _has_keys(cube: Cube, keys: Mapping[str, str | int | float]) -> bool:
    attrs = cube.attrs
    return all(str(attrs.get(f"GRIB_{key}", attrs.get(key))) == str(value) for key, value in keys.items())


def _level_row(cube: Cube, declared: CfVariable) -> int | None:
    """The row of the declared level, the first without one; None where the cube does not hold the level."""
    return 0 if declared.level is None else cube.level_row(declared.level)


def _kind(cube: Cube) -> tuple[str, str]:
    return str(cube.attrs.get("GRIB_typeOfLevel")), str(cube.attrs.get("GRIB_stepType"))


def _kinds(cubes: Sequence[Cube]) -> str:
    """How cubes of one name differ, as `keys:` would name it."""
    texts = []
    for cube in cubes:
        level, step = _kind(cube)
        texts.append(f"{{typeOfLevel: {level}, stepType: {step}}} at {cube.levels.tolist()}")
    return ", ".join(texts)


def _checked(cube: Cube, row: int | None, path: Path, declared: CfVariable) -> tuple[Cube, int]:
    """The cube and row where level and unit are as declared; UnreadableError where not."""
    if declared.level is None and len(cube.levels) > 1:
        raise UnreadableError(
            f"{path}: '{cube.name}' has levels {cube.levels.tolist()}; choose one with level:", path=str(path)
        )
    if row is None:
        raise UnreadableError(
            f"{path}: '{cube.name}' has no level {declared.level}; it has {cube.levels.tolist()}",
            path=str(path),
        )
    if declared.units is not None and normalised(declared.units) != cube.units:
        raise UnreadableError(
            f"{path}: '{cube.name}' is in '{cube.units}', and the config expects '{declared.units}'",
            path=str(path),
        )
    return cube, row


def scaling(mapped: Mapped, cube: Cube, path: Path) -> tuple[float, float]:
    """(scale, offset) to the variable's unit: declared, or from the file's unit."""
    declared, wanted = mapped.at, mapped.variable.units
    if declared.scale is not None or declared.offset is not None:
        return (1.0 if declared.scale is None else declared.scale), declared.offset or 0.0
    found = conversion(cube.units or declared.units or "", wanted)
    if found is None:
        raise UnreadableError(
            f"{path}: '{cube.name}' is in '{cube.units}', from which no conversion to {wanted} for "
            f"{mapped.variable.name} is known; declare scale: and offset:",
            path=str(path),
        )
    return found
