"""QPESUMS native binary mosaics (COMPREF, MREF3D21L, CB_GC_PCP_1H_RAD, qpfqpe_060min): the header decides
grid, scale, codes.

Little-endian stream, raw or gzip (recognised by its first bytes); row 0 is the south although the header
names the north-west corner. Stamps are UTC and, for accumulations, the end of the interval; a nowcast's stamp
is its reference time.
"""

from __future__ import annotations

import gzip
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from stormcast_train.base.errors import RequestError, UnreadableError
from stormcast_train.fields.times import Period, iso, parse_duration, seconds
from stormcast_train.fields.units import normalised
from stormcast_train.fields.variables import Variable, describe
from stormcast_train.sources.config import QpesumsReader
from stormcast_train.sources.file_search import find_files
from stormcast_train.sources.opened import reading
from stormcast_train.sources.source import Clock, Record, Refusal, Source, dataset, own_units

NO_ECHO_CODE = -99.0  # dBZ: covered, nothing seen
_STAMP = re.compile(
    r"^(?P<product>.+?)\.(?P<day>\d{8})\.(?P<minute>\d{4})(?:\d{2})?(?:\.gz)?$", re.IGNORECASE
)
_HEADER_VARIABLES = (
    ("1h", "mm", "rain1h"),
    ("10m", "mm", "rain10m"),
    ("cref", "dbz", "refc"),
    ("composite refl", "dbz", "refc"),
)
_NO_VALUE = np.int16(-32768)
_MAX_CELLS = 1 << 28


@dataclass(frozen=True)
class QpesumsHeader:
    """The contents of a header; `missing` in physical units, `data_at` the offset of the values, `size` the
    whole file's bytes.
    """

    time: np.datetime64
    shape: tuple[int, int, int]
    lat: NDArray[np.float64]
    lon: NDArray[np.float64]
    heights: tuple[float, ...]
    product: str
    units: str
    scale: int
    missing: int
    radars: tuple[str, ...]
    data_at: int

    @property
    def size(self) -> int:
        nz, ny, nx = self.shape
        return self.data_at + 2 * nz * ny * nx


def recognised(head: bytes) -> bool:
    """Whether a file that begins so (unpacked) has a date and a shape where a QPESUMS binary has them."""
    if len(head) < 36:
        return False
    year, month, day, hour, minute, second, nx, ny, nz = struct.unpack_from("<9i", head, 0)
    dated = 1980 <= year <= 2100 and 1 <= month <= 12 and 1 <= day <= 31 and 0 <= hour <= 24
    return dated and 0 <= minute <= 60 and 0 <= second <= 60 and min(nx, ny, nz) >= 0


def parse_header(content: bytes) -> QpesumsHeader:
    """The header of an uncompressed file; ValueError or struct.error where it makes no sense."""
    when = struct.unpack_from("<6i", content, 0)
    nx, ny, nz = struct.unpack_from("<3i", content, 24)
    if min(nx, ny, nz) < 1 or nx * ny * nz > _MAX_CELLS:
        raise ValueError(f"its header gives nx={nx} ny={ny} nz={nz}: this is no QPESUMS binary")
    projection = _text(content[36:40])
    if projection not in ("LL", ""):
        raise ValueError(f"its projection is '{projection}'; only latitude-longitude (LL) is read")
    map_scale, _, _, _, west, north, _, dx, dy, dxy_scale = struct.unpack_from("<10i", content, 40)
    heights = struct.unpack_from(f"<{nz}i", content, 80)
    after = 80 + 4 * nz
    (z_scale,) = struct.unpack_from("<i", content, after)
    scale, missing, radar_count = struct.unpack_from("<3i", content, after + 70)
    if map_scale <= 0 or dxy_scale <= 0 or scale <= 0 or not 0 <= radar_count <= 1000:
        raise ValueError(
            f"its header gives map_scale={map_scale} dxy_scale={dxy_scale} var_scale={scale} "
            f"nradar={radar_count}: this is no QPESUMS binary"
        )
    radars_at = after + 82
    names = [_text(content[radars_at + 4 * i : radars_at + 4 * i + 4]) for i in range(radar_count)]
    lat = np.round(north / map_scale - np.arange(ny - 1, -1, -1) * (dy / dxy_scale), 9)
    return QpesumsHeader(
        time=np.datetime64(
            f"{when[0]:04d}-{when[1]:02d}-{when[2]:02d}T{when[3]:02d}:{when[4]:02d}:{when[5]:02d}", "s"
        ),
        shape=(nz, ny, nx),
        lat=lat,
        lon=np.round(west / map_scale + np.arange(nx) * (dx / dxy_scale), 9),
        heights=tuple(h / (z_scale or 1) for h in heights),
        product=_text(content[after + 44 : after + 64]),
        units=_text(content[after + 64 : after + 70]),
        scale=scale,
        missing=missing,
        radars=tuple(n for n in names if n),
        data_at=radars_at + 4 * radar_count,
    )


def _text(raw: bytes) -> str:
    """Up to the first NUL: garbage may follow it."""
    return raw.split(b"\0", 1)[0].decode("ascii", "replace").strip()


def read(
    path: Path | str,
    variable: str | None = None,
    no_echo_dbz: float = 0.0,
    reader: QpesumsReader | None = None,
    own: Mapping[str, Variable] | None = None,
) -> xr.Dataset:
    """One file on its own grid: `rain1h` mm or `refc` dBZ [y, x], the contributing radars in
    `attrs["radars"]`.

    variable: by default by the file name, else by the header. own: the variables that the config defines.
    Missing and uncovered cells are NaN; covered cells without echo become `no_echo_dbz`; all other values, weak negative echoes among them, are data.
    Several heights become the maximum of the column. A nowcast carries its stamp in
    `attrs["reference_time"]`. Raises UnreadableError for a truncated file or one whose header contradicts its
    name.
    """
    path, reader = Path(path), reader or QpesumsReader()
    with reading(path):
        content = path.read_bytes()
        content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
        header = parse_header(content)
        if len(content) != header.size:
            raise ValueError(f"its header asks for {header.size} bytes and it has {len(content)}")
        raw = np.frombuffer(content, "<i2", offset=header.data_at).reshape(header.shape)
    described = _variable(path, header, variable, reader, own)
    name = described.name
    stamped = _stamped(path, header, reader)
    with reading(path):
        values = _physical(raw, header, described, no_echo_dbz)
    lat, lon = header.lat + reader.shift_degrees[0], header.lon + reader.shift_degrees[1]
    attrs = {"radars": ",".join(header.radars), "product": header.product}
    lead = _lead(path, reader)
    if lead:
        attrs["reference_time"] = iso(stamped)
    units = own_units([name], own)
    return dataset({name: values}, lat, lon, stamped + lead, _version(header), attrs, units)


def _stamped(path: Path, header: QpesumsHeader, reader: QpesumsReader) -> np.datetime64:
    """The header's time in UTC; UnreadableError where the file is named for another."""
    stamped, named = header.time - _offset(reader), _stamp(path, reader)
    if named is not None and named != stamped:
        raise UnreadableError(
            f"{path} is named for {iso(named)}, and its header holds {iso(stamped)} (both in UTC)",
            path=str(path),
        )
    return stamped


def _version(header: QpesumsHeader) -> str:
    _, ny, nx = header.shape
    return f"QPESUMS {header.product} {nx}x{ny}{radar_set(header.radars)}"


def radar_set(radars: Sequence[str]) -> str:
    """The part of a source's version that names its radars: sorted, each once, empty where none is named."""
    names = sorted({r for r in radars if r.lower() != "none"})
    return f" radars {'+'.join(names)}" if names else ""


def _physical(
    raw: NDArray[np.int16], header: QpesumsHeader, variable: Variable, no_echo_dbz: float
) -> NDArray[np.float32]:
    """[y, x] in the variable's unit. Several heights become the column's strongest echo (reflectivity only).

    The maximum is taken of the codes as stored: dBZ grow with the linear reflectivity, so it is the same cell
    either way. A column has no echo where some height is covered and none has an echo.
    """
    reflectivity = variable.kind == "reflectivity"
    if len(raw) > 1 and not reflectivity:
        raise ValueError(
            f"it holds '{variable.name}' at {len(raw)} heights; only reflectivity may have several"
        )
    nothing = (raw == round(NO_ECHO_CODE * header.scale)) & reflectivity
    column = np.where(nothing | (raw == header.missing * header.scale), _NO_VALUE, raw).max(axis=0)
    values: NDArray[np.float32] = (column / np.float64(header.scale)).astype(np.float32)
    values[column == _NO_VALUE] = np.nan
    values[(column == _NO_VALUE) & nothing.any(axis=0)] = no_echo_dbz
    return values


def _variable(
    path: Path,
    header: QpesumsHeader,
    asked: str | None,
    reader: QpesumsReader,
    own: Mapping[str, Variable] | None,
) -> Variable:
    """The variable: as asked, else by the file name, else by the header. The unit must agree."""
    found = _STAMP.match(path.name)
    name = asked or reader.products.get(found["product"] if found else "")
    text, units = header.product.lower(), header.units.lower()
    if "qpf" in text and not _lead(path, reader):
        raise UnreadableError(
            f"{path} holds the nowcast '{header.product}', valid after its stamp, so its name must be of a "
            f"product among leads: {', '.join(reader.leads)}",
            path=str(path),
        )
    if name is None and header.shape[0] > 1 and units.startswith("dbz"):
        name = "refc"
    if name is None:
        name = next(
            (v for word, unit, v in _HEADER_VARIABLES if word in text and units.startswith(unit)), None
        )
    if name is None:
        raise UnreadableError(
            f"{path} holds '{header.product}' in '{header.units}', which is none of the reader's products: "
            f"{', '.join(reader.products)}",
            path=str(path),
        )
    variable = describe(name, own=own)
    if not (units.startswith(variable.units.lower()) or normalised(units) == variable.units):
        raise UnreadableError(
            f"{path} should hold {name} ({variable.units}), and its header gives the unit '{header.units}'",
            path=str(path),
        )
    return variable


def _offset(reader: QpesumsReader) -> np.timedelta64:
    return np.timedelta64(round(reader.utc_offset * 3600), "s")


def _lead(path: Path, reader: QpesumsReader) -> np.timedelta64:
    """How far the valid time lies after the stamp; zero for all but nowcasts."""
    found = _STAMP.match(path.name)
    return parse_duration(reader.leads.get(found["product"], "0h") if found else "0h")


def _stamp(path: Path, reader: QpesumsReader) -> np.datetime64 | None:
    """The UTC time in a file's name; None where it holds none. ValueError for a stamp that is no time."""
    found = _STAMP.match(path.name)
    if not found:
        return None
    day, minute = found["day"], found["minute"]
    with reading(path):
        return np.datetime64(f"{day[:4]}-{day[4:6]}-{day[6:]}T{minute[:2]}:{minute[2:]}", "s") - _offset(
            reader
        )


class Qpesums(Source):
    """The mosaics of an archive, found by their names; the header is checked against the name when a file is
    read.
    """

    def __init__(
        self, name: str, archive: Path, reader: QpesumsReader | None = None, no_echo_dbz: float = 0.0
    ) -> None:
        self.reader = reader or QpesumsReader()
        super().__init__(name, self.reader.role, Clock(self.reader.utc_offset, "end"))
        self.archive = archive
        self.no_echo_dbz = no_echo_dbz

    def scan(self, period: Period | None = None) -> tuple[list[Record], list[Refusal]]:
        step = seconds(parse_duration(self.reader.every)) if self.reader.every else 1
        ranks = {product: rank for rank, product in enumerate(self.reader.products)}
        found: list[tuple[np.datetime64, int, str, Record]] = []
        refusals: list[Refusal] = []
        for path in find_files(self.archive, self.reader.root, self.reader.pattern):
            try:
                product, record = self._identified(path)
            except UnreadableError as error:
                refusals.append(Refusal(path, str(error)))
                continue
            if int(record.time.astype(int)) % step == 0 and (period is None or record.time in period):
                found.append((record.time, ranks[product], str(path), record))
        return [record for *_, record in sorted(found, key=lambda f: f[:3])], refusals

    def _identified(self, path: Path) -> tuple[str, Record]:
        """(product, record) by the file's name. UnreadableError for another name, or a product of the other
        role.
        """
        stamp, found = _stamp(path, self.reader), _STAMP.match(path.name)
        if found is None or stamp is None or found["product"] not in self.reader.products:
            known = ", ".join(sorted(self.reader.products))
            raise UnreadableError(
                f"its name is not PRODUCT.YYYYMMDD.HHMM[.gz] of a product among {known}", path=str(path)
            )
        lead = _lead(path, self.reader)
        if bool(lead) != (self.role == "forecast"):
            kind, role = ("a nowcast", "forecast") if lead else ("no nowcast", "analysis")
            raise UnreadableError(f"{found['product']} is {kind}: read it with role: {role}", path=str(path))
        product = found["product"]
        return product, Record(stamp + lead, path, (self.reader.products[product],), stamp if lead else None)

    def read(self, record: Record, names: Sequence[str]) -> xr.Dataset:
        unknown = [n for n in names if n not in record.names]
        if unknown:
            raise RequestError(f"{record.path} holds {', '.join(record.names)}, not {', '.join(unknown)}")
        return read(record.path, record.names[0], self.no_echo_dbz, self.reader, self.own_variables)
