"""`source=`: which reader supplies which variable of which role, and how each reader finds its files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from stormcast_train.base.errors import RequestError, nearest
from stormcast_train.base.frozen import Frozen
from stormcast_train.fields.variables import Variable, describe, is_standard
from stormcast_train.sources.policy import EXACT, Accumulate, Difference, Policy, Rule, fitting
from stormcast_train.sources.quality_config import QualityConfig


def _tuple(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


Codes = Annotated[
    tuple[float, ...], BeforeValidator(lambda given: (given,) if isinstance(given, int | float) else given)
]
Words = Annotated[tuple[str, ...], BeforeValidator(_tuple)]
Method = Literal["bilinear", "nearest", "conservative", "area", "max"]
STANDARD_LEVELS_HPA = (50, 100, 150, 200, 250, 300, 400, 500, 600, 700, 850, 925, 1000)
PRODUCTS = {
    "CB_GC_PCP_1H_RAD": "rain1h",
    "CB_GC_PCP_10M_RAD": "rain10m",
    "COMPREF": "refc",
    "MREF3D21L": "refc",
    "qpfqpe_060min": "rain1h",
}
CWA_PRODUCTS = {"O-A0059-001": "refc", "O-B0045-001": "rain1h", "compref_mosaic": "refc"}
GRIDDED_SUFFIXES = ("**/*.nc", "**/*.nc4", "**/*.zip", "**/*.grib", "**/*.grib2", "**/*.grb", "**/*.grb2")


class RwrpReader(Frozen):
    """RWRP/RWRF hourly analyses (`_interp`) or raw wrfout/wrfinput.

    root: folders below the archive, every one that exists is read. lead: how far an analysis's valid time
    lies after its reference time (`0h`, or `1h` where the file is the first hour of a forecast). domain: nest
    number, null for any.
    levels: pressure levels (hPa) that raw files are offered on. role: `forecast` takes the reference time
    from the file or its folder and, for each valid time, the shortest lead of `lead_from`..`lead_to` (both
    included, null: any).
    """

    kind: Literal["rwrp"] = "rwrp"
    root: Words = ("rwrf", "rwrp", "RWRF", "RWRP")
    pattern: Words = ("**/wrfout_d*", "**/wrfinput_d*", "**/[rR][wW][rR][fFpP]*_[0-9]*")
    domain: int | None = None
    lead: str = "0h"
    levels: tuple[int, ...] = STANDARD_LEVELS_HPA
    role: Literal["analysis", "forecast"] = "analysis"
    lead_from: str = "0h"
    lead_to: str | None = None


class QpesumsReader(Frozen):
    """QPESUMS binary mosaics.

    products: file name stem -> variable; where two supply the same variable at the same time, the first one
    named here is used. every: only valid times that are a multiple of this count (null: all of them); hourly
    totals end at HH:00.
    utc_offset: hours that the stamps are ahead of UTC. leads: how far the valid time of a nowcast lies after
    its stamp; such products are records of `role: forecast` only (and need a `pattern`), all others of `role:
    analysis` only. shift_degrees: added to (lat, lon), for instance (-0.0018, 0.0082) from TWD67 to WGS84 at
    Taiwan; off by default, it is less than a cell.
    """

    kind: Literal["qpesums"] = "qpesums"
    root: Words = ("qpesums", "QPESUMS")
    pattern: Words = ("**/CB_GC_PCP_1H_RAD.*", "**/CB_GC_PCP_10M_RAD.*", "**/COMPREF.*", "**/MREF3D21L.*")
    products: dict[str, str] = Field(default=PRODUCTS)
    every: str | None = "1h"
    utc_offset: float = 0.0
    leads: dict[str, str] = Field(default={"qpfqpe_060min": "1h"})
    role: Literal["analysis", "forecast"] = "analysis"
    shift_degrees: tuple[float, float] = (0.0, 0.0)


class CwaReader(Frozen):
    """CWA open data grids, XML or JSON.

    products: data id, or the part of a history name after its stamp -> variable. every: only valid times
    (UTC) that are a multiple of this count (null: all of them). utc_offset: hours that times without an
    offset of their own are ahead of UTC, the 2018 ones that their label calls UTC among them; the offset of
    an ISO time is used as it is. name_offset: hours that the stamps of history names
    (`YYYYMMDDHHMMcompref_mosaic.xml`) are ahead of UTC. shift_degrees: as for QPESUMS.
    """

    kind: Literal["cwa"] = "cwa"
    root: Words = ("cwa", "CWA", "cwb", "CWB")
    pattern: Words = ("**/*.xml", "**/*.json", "**/*.xml.gz", "**/*.json.gz")
    products: dict[str, str] = Field(default=CWA_PRODUCTS)
    every: str | None = "1h"
    utc_offset: float = 8.0
    name_offset: float = 8.0
    shift_degrees: tuple[float, float] = (0.0, 0.0)


class QpepreReader(Frozen):
    """QPEPRE text: one hour's rain, matched by the END time in its name.

    utc_offset: hours that the stamps are ahead of UTC. missing: a code that marks a missing value besides any
    negative.
    shape: (rows, columns) that a whole file has; null accepts any rectangle.
    """

    kind: Literal["qpepre"] = "qpepre"
    root: Words = ("qpepre", "QPEPRE")
    pattern: Words = ("**/qpepre_*.txt",)
    utc_offset: float = 0.0
    missing: float | None = None
    shape: tuple[int, int] | None = (275, 162)


class Era5Reader(Frozen):
    """ERA5 in any layout: CDS new and old, ZIP, hourly or monthly splits, GRIB, ARCO or WeatherBench Zarr.

    names: other names in the files -> variable (`t` with levels becomes `t850` by its level's value).
    """

    kind: Literal["era5"] = "era5"
    root: Words = ("era5", "ERA5")
    pattern: Words = (*GRIDDED_SUFFIXES, "**/*.zarr")
    names: dict[str, str] = Field(default={})


class GlobalModelReader(Frozen):
    """Forecasts of a global model: Zarr, NetCDF or GRIB with reference time and lead, or
    `MODEL_YYYYMMDDHH-LEAD.grb`.

    lead_from, lead_to: leads outside are not taken (`lead_to` null: no limit). prefer: which of several
    forecasts of one valid time comes first. member: which one of an ensemble, by its number. names: other
    names in the files -> variable.
    unitless: the unit of integer times and leads that declare none (`nanoseconds`: Earth2Studio with zarr
    3.0); null refuses them.
    """

    kind: Literal["global_model"] = "global_model"
    root: Words = ("global_model", "ai_model", "GLOBAL_MODEL")
    pattern: Words = (*GRIDDED_SUFFIXES, "**/*.zarr")
    names: dict[str, str] = Field(default={})
    lead_from: str = "0h"
    lead_to: str | None = None
    prefer: Literal["shortest_lead", "longest_lead"] = "shortest_lead"
    member: int = Field(default=0, ge=0)
    unitless: Literal["nanoseconds", "seconds", "hours"] | None = None


class CfVariable(Frozen):
    """A variable in a CF file: canonical value = stored value * scale + offset.

    units: what the file must declare (null: anything; without scale and offset a known unit is converted).
    level: picked by value along the file's vertical coordinate. keys: GRIB keys that the message must have,
    where the name alone is ambiguous (`{typeOfLevel: heightAboveGround}`). missing: further values (in the
    file's unit, before scale and offset) that stand for a missing one. no_echo: values that stand for "covered,
    nothing seen", also where the file declares them missing: they become the floor of reflectivity
    (`no_echo_dbz`) and 0 of amounts and rates; by default -99 of reflectivity, as in MRMS and
    CWA files, unless it is the only value that the file declares missing.
    interval: the time that the file's sums run over, which must be the variable's (null: the file's own bounds
    are compared where it has any).
    """

    source: str
    units: str | None = None
    scale: float | None = None
    offset: float | None = None
    level: float | None = None
    keys: dict[str, str | int | float] = Field(default={})
    missing: Codes = ()
    no_echo: Codes | None = None
    interval: str | None = None


class CfReader(Frozen):
    """Any CF NetCDF, Zarr or GRIB.

    variables: canonical name -> where it is in the file. time, latitude, longitude: names of the coordinates,
    where the file's own conventions do not give them. stamp: whether an accumulation's time is its end, start
    or middle. utc_offset: hours that the times are ahead of UTC. member: which one of an ensemble, by its
    number. box: (south, north, west, east); only the rows and columns around it are read (of a satellite's disk: none
    that sees space).
    """

    kind: Literal["cf"] = "cf"
    root: Words = ("",)
    pattern: Words = (*GRIDDED_SUFFIXES, "**/*.zarr")
    variables: dict[str, CfVariable]
    time: str | None = None
    latitude: str | None = None
    longitude: str | None = None
    stamp: Literal["end", "start", "middle"] = "end"
    utc_offset: float = 0.0
    role: Literal["analysis", "forecast"] = "analysis"
    box: tuple[float, float, float, float] | None = None
    member: int | None = Field(default=None, ge=0)


class PluginReader(Frozen):
    """`kind: package.module:Thing`, called as Thing(name, archive, **options); it must be a Source."""

    kind: str
    options: dict[str, Any] = Field(default={})


def _tag(value: Any) -> str:
    kind = str(value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None))
    return "plugin" if ":" in kind else kind


ReaderConfig = Annotated[
    Annotated[RwrpReader, Tag("rwrp")]
    | Annotated[QpesumsReader, Tag("qpesums")]
    | Annotated[CwaReader, Tag("cwa")]
    | Annotated[QpepreReader, Tag("qpepre")]
    | Annotated[Era5Reader, Tag("era5")]
    | Annotated[GlobalModelReader, Tag("global_model")]
    | Annotated[CfReader, Tag("cf")]
    | Annotated[PluginReader, Tag("plugin")],
    Discriminator(_tag),
]
DEFAULT_METHODS: dict[str, Method] = {
    "instant": "bilinear",
    "accumulation": "bilinear",
    "rate": "bilinear",
    "reflectivity": "nearest",
    "static": "bilinear",
}


class SourceConfig(Frozen):
    """`source=`: readers by name, and for each role the reader of each variable (`*`: all others).

    groups: the readers of the additional roles (`variables.groups`), by role; the state's where one is not
    named.
    policy: how a value at a time comes from the times a source has, by variable or by reader; exact where
    none is given.
    regrid: method per variable name or kind. background_coarsen: means over n x n cells of the background's
    reader.
    quality: the checks of raw fields, each with its switch.
    no_echo_dbz: the one floor that "covered, nothing seen" becomes, for all sources of reflectivity.
    """

    name: str
    readers: dict[str, ReaderConfig]
    state: dict[str, str]
    background: dict[str, str] = Field(default={})
    static: dict[str, str] = Field(default={})
    groups: dict[str, dict[str, str]] = Field(default={})
    policy: dict[str, Policy] = Field(default={})
    regrid: dict[str, Method] = Field(default={})
    background_coarsen: int = Field(default=1, ge=1)
    no_echo_dbz: float = 0.0
    quality: QualityConfig = QualityConfig()

    @model_validator(mode="after")
    def _readers_exist(self) -> SourceConfig:
        roles = {"state": self.state, "background": self.background, "static": self.static, **self.groups}
        for role, chosen in roles.items():
            for variable, reader in chosen.items():
                if reader not in self.readers:
                    known = f"{nearest(reader, self.readers)} They are {', '.join(sorted(self.readers))}"
                    raise ValueError(
                        f"{role}.{variable} names the reader '{reader}', which is not among the readers of "
                        f"this source.{known}"
                    )
        return self

    @model_validator(mode="after")
    def _policies_fit(self) -> SourceConfig:
        for name, policy in self.policy.items():
            if isinstance(policy, Accumulate):
                if name in self.readers:
                    raise ValueError(
                        f"policy.{name}: accumulate is for a variable (such as rain1h), and {name} is a "
                        "reader"
                    )
                if is_standard(name) and is_standard(policy.of):
                    policy.pieces(describe(name), describe(policy.of))
        return self

    def check_names(self, describe: Callable[[str], Variable]) -> None:
        """RequestError for a variable that is not known, of a policy, a method of regridding or a check's limits,
        and for a sum that its pieces do not make.

        describe: gives the variable of a name, the config's own among them.
        """
        for name, policy in self.policy.items():
            if isinstance(policy, Accumulate):
                policy.pieces(describe(name), describe(policy.of))
            elif isinstance(policy, Difference) and name not in self.readers:
                policy.check(describe(name))
            elif name not in self.readers:
                describe(name)
        limits = (self.quality.spike.limits, self.quality.speckle.limits, self.quality.absurd.limits)
        for names in (self.regrid, *limits):
            for name in names:
                if name not in DEFAULT_METHODS:
                    describe(name)

    def totals_of(self, reader: str) -> frozenset[str]:
        """The variables that this reader gives as sums that run on, to be differenced; `*`: every amount."""
        differenced = {name for name, policy in self.policy.items() if isinstance(policy, Difference)}
        return frozenset({"*"} if reader in differenced else differenced - set(self.readers))

    def reader_of(self, role: str, variable: str) -> str:
        """The name of the reader that supplies this variable of this role."""
        named = {"state": self.state, "background": self.background, "static": self.static, **self.groups}
        chosen = named.get(role, self.state)
        reader = chosen.get(variable, chosen.get("*"))
        if reader is None:
            raise RequestError(
                f"source={self.name} names no reader for the {role} variable '{variable}' (only for "
                f"{', '.join(sorted(chosen)) or 'none'}); add source.{role}.{variable}=READER"
            )
        return reader

    def policy_of(self, role: str, variable: Variable) -> Rule:
        """How a value of this variable at a time is made: by the variable's name, else by its reader, else
        exactly.
        """
        name = variable.name
        found = self.policy.get(name) or self.policy.get(self.reader_of(role, name)) or EXACT
        return fitting(found, variable)

    def method_of(self, variable: Variable) -> Method:
        """How this variable is regridded: by its name, else by its kind, else the default of its kind."""
        kind = variable.kind
        return self.regrid.get(variable.name) or self.regrid.get(kind) or DEFAULT_METHODS[kind]
