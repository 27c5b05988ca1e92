"""CWA open data grids (O-A0059-001 composite reflectivity, O-B0045-001 past hour's rain), XML or JSON, raw or
gzip.

One line of comma-separated numbers, x fastest, from the south-west point, beside a head that came in three
generations: `cwbopendata` with Chinese parameter names (2018; its time is labelled UTC and is local), the
same list with ISO times and the radars (2021-23), and `cwaopendata` with named keys (2024 on). Everything
that CWA stamps is Taipei time: it becomes UTC.
"""

from __future__ import annotations

import gzip
import json
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from stormcast_train.base.errors import RequestError, UnreadableError
from stormcast_train.fields.times import Period, iso, parse_duration, seconds
from stormcast_train.fields.variables import describe
from stormcast_train.sources.config import CwaReader
from stormcast_train.sources.memory import FileContents, Held
from stormcast_train.sources.opened import reading
from stormcast_train.sources.qpesums import NO_ECHO_CODE, radar_set
from stormcast_train.sources.source import Clock, Record, Refusal, Source, dataset, find_files
from stormcast_train.sources.units import normalised

OUTSIDE_CODE = -999.0  # dBZ: out of every radar's range, or removed by CWA's quality control
_ROOTS = ("cwbopendata", "cwaopendata")
_HISTORY = re.compile(r"^(?P<stamp>\d{12})[._-]?(?P<stem>\D.*?)\.(?:xml|json)(?:\.gz)?$", re.IGNORECASE)
_DATA_ID = re.compile(r"[A-Z]\d{4}(?:-\d{3})?")
_LABELS = {"左下角": "corner", "解析度": "spacing", "時間": "time", "維度": "shape", "單位": "units"}
_FORECAST = "預報"
_HEAD_BYTES = 1 << 14
_MAX_CELLS = 1 << 28


@dataclass(frozen=True)
class Head:
    """What stands around the numbers: valid time (UTC), (rows, columns), the south-west point and spacing in
    degrees.
    """

    time: np.datetime64
    shape: tuple[int, int]
    south: float
    west: float
    spacing: float
    units: str
    data_id: str
    description: str
    radars: tuple[str, ...]


def recognised(head: bytes) -> bool:
    """Whether a file that begins so (unpacked) is a CWA open data file."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    return start.startswith((b"<", b"{")) and any(root.encode() in start for root in _ROOTS)


def read(
    path: Path | str, variable: str | None = None, no_echo_dbz: float = 0.0, reader: CwaReader | None = None
) -> xr.Dataset:
    """One file on its own grid: `refc` dBZ or `rain1h` mm [y, x], the contributing radars (where told) in
    `attrs["radars"]`.

    variable: told by the data id, else by the file name, else by the unit. Reflectivity -99 (covered, nothing
    seen) becomes `no_echo_dbz`, -999 and any negative rain NaN; other negative reflectivities are data.
    Raises UnreadableError for a truncated file, a count of numbers other than nx * ny, another product, or a
    time other than the name's.
    """
    path, reader = Path(path), reader or CwaReader()
    named = _stamp(path, reader)
    with reading(path):
        tree = parse(_unpacked(path))
        head = parse_head(tree, reader.utc_offset)
        values = _numbers(_at(tree, "dataset", "contents", "content"), head.shape)
    name = _variable(path, head, variable, reader.products)
    if named is not None and named != head.time:
        said = f"{path} is named for {iso(named)} and holds {iso(head.time)} (UTC, the name taken as UTC{reader.name_offset:+g})"
        raise UnreadableError(f"{said}. Where names are on another clock, set name_offset", path=str(path))
    lat = np.round(head.south + head.spacing * np.arange(head.shape[0]), 9) + reader.shift_degrees[0]
    lon = np.round(head.west + head.spacing * np.arange(head.shape[1]), 9) + reader.shift_degrees[1]
    product = head.data_id or name
    version = f"CWA {product} {head.shape[1]}x{head.shape[0]}{radar_set(head.radars)}"
    attrs = {"radars": ",".join(head.radars), "product": product}
    return dataset({name: _physical(values, name, no_echo_dbz)}, lat, lon, head.time, version, attrs)


def _unpacked(path: Path) -> bytes:
    content = path.read_bytes()
    return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content


def parse(content: bytes) -> Mapping[str, Any]:
    """A whole file below its root element, XML in the shape of JSON: names without namespace, repeated ones
    as a list.

    Raises ValueError where it is cut, is neither XML nor JSON, or has another root.
    """
    content = content.removeprefix(b"\xef\xbb\xbf").lstrip()
    if content.startswith(b"{"):
        tree = json.loads(content)
        root = next((r for r in _ROOTS if r in tree), None)
        if root is None:
            raise ValueError(f"its JSON holds {', '.join(tree) or 'nothing'}, not {' or '.join(_ROOTS)}")
        found: Mapping[str, Any] = tree[root]
        return found
    if not content.startswith(b"<"):
        raise ValueError("it is neither XML nor JSON")
    try:
        element = ET.fromstring(content)
    except ET.ParseError as error:
        raise ValueError(f"its XML is cut or malformed ({error})") from error
    return _below_root(element)


def _below_root(element: ET.Element) -> Mapping[str, Any]:
    if _local(element) not in _ROOTS:
        raise ValueError(f"its XML holds '{_local(element)}', not {' or '.join(_ROOTS)}")
    plain = _plain(element)
    return plain if isinstance(plain, dict) else {}


def _local(element: ET.Element) -> str:
    return element.tag.rsplit("}", 1)[-1]


def _plain(element: ET.Element) -> Any:
    """A leaf's text, or its children by name."""
    if not len(element):
        return element.text or ""
    found: dict[str, Any] = {}
    for child in element:
        name, value = _local(child), _plain(child)
        if name not in found:
            found[name] = value
        elif isinstance(found[name], list):
            found[name].append(value)
        else:
            found[name] = [found[name], value]
    return found


def _partial(content: bytes) -> Mapping[str, Any]:
    """As `parse` for the first bytes of a file: what stands before the numbers. ValueError where that lies
    elsewhere.
    """
    content = content.removeprefix(b"\xef\xbb\xbf").lstrip()
    if content.startswith(b"{"):
        text = content.decode("utf-8", "ignore")
        info, _ = json.JSONDecoder().raw_decode(
            text[text.index(":", text.index('"datasetInfo"')) + 1 :].lstrip()
        )
        told = dict(re.findall(r'"(dataid)"\s*:\s*"([^"]*)"', text))
        return {**told, "dataset": {"datasetInfo": info}}
    parser: Any = ET.XMLPullParser(("start",))
    try:
        parser.feed(content)
        started = [element for _, element in parser.read_events()]
    except ET.ParseError as error:
        raise ValueError(f"its XML is malformed ({error})") from error
    if not started:
        raise ValueError("its XML has no element")
    return _below_root(started[0])


def _at(tree: Any, *keys: str) -> Any:
    for depth, key in enumerate(keys):
        if not isinstance(tree, Mapping) or key not in tree:
            raise ValueError(f"it holds no {'/'.join(keys[: depth + 1])}")
        tree = tree[key]
    return tree


def parse_head(tree: Mapping[str, Any], utc_offset: float = 8.0) -> Head:
    """The head of a parsed file of any generation. ValueError where it lacks something or makes no sense."""
    info = _at(tree, "dataset", "datasetInfo")
    parameters = _at(info, "parameterSet")
    facts = _listed(parameters["parameter"]) if "parameter" in parameters else _named(parameters)
    south, west, spacing = (float(facts[k]) for k in ("south", "west", "spacing"))
    ny, nx = int(facts["ny"]), int(facts["nx"])
    sensible = (
        min(ny, nx) > 0
        and ny * nx <= _MAX_CELLS
        and spacing > 0
        and -90 <= south <= 90
        and -180 <= west <= 360
    )
    if not sensible:
        raise ValueError(f"its head says {nx} x {ny} points every {spacing} degrees from {south} N {west} E")
    time = _utc(facts["time"], utc_offset)
    radars = tuple(r.removesuffix("雷達").strip() for r in re.split("[、,]", facts["radars"]) if r.strip())
    description = str(info.get("datasetDescription", ""))
    return Head(
        time,
        (ny, nx),
        south,
        west,
        spacing,
        normalised(facts["units"]),
        str(tree.get("dataid", "")),
        description,
        radars,
    )


def _named(parameters: Mapping[str, str]) -> dict[str, str]:
    """The facts of 2024 and later, by key; the unit stands under the name of the quantity."""
    keys = {
        "south": "StartPointLatitude",
        "west": "StartPointLongitude",
        "spacing": "GridResolution",
        "time": "DateTime",
        "nx": "GridDimensionX",
        "ny": "GridDimensionY",
    }
    facts = {fact: str(_at(parameters, key)) for fact, key in keys.items()}
    units = next(
        (v for k, v in parameters.items() if k not in keys.values() and normalised(v) in ("dBZ", "mm")), None
    )
    if units is None:
        raise ValueError(f"its parameterSet names no unit dBZ or mm; it holds {dict(parameters)}")
    return {**facts, "units": units, "radars": str(parameters.get("RadarName", ""))}


def _listed(parameters: Any) -> dict[str, str]:
    """The facts of 2018 to 2023: by the beginning of their Chinese name, else by their place in the list."""
    entries = parameters if isinstance(parameters, list) else [parameters]
    if not all(isinstance(e, Mapping) for e in entries):
        raise ValueError(f"its parameters are not names and values but {entries}")
    radars = [e.get("radarName") or e.get("parameterValue", "") for e in entries if _of_radars(e)]
    facts: dict[str, str] = {}
    for place, entry in enumerate(e for e in entries if not _of_radars(e)):
        label = str(entry.get("parameterName", ""))
        by_place = tuple(_LABELS.values())[place] if place < len(_LABELS) else label
        facts[next((v for word, v in _LABELS.items() if label.startswith(word)), by_place)] = str(
            entry.get("parameterValue", "")
        )
    lacking = [f for f in _LABELS.values() if not facts.get(f)]
    if lacking:
        raise ValueError(f"its parameters lack {', '.join(lacking)}; they hold {facts}")
    west, south = facts["corner"].split(",")
    nx, ny = re.split(r"\s*[*xX]\s*", facts["shape"])
    return {
        **facts,
        "west": west,
        "south": south,
        "nx": nx,
        "ny": ny,
        "radars": str(radars[0]) if radars else "",
    }


def _of_radars(entry: Mapping[str, str]) -> bool:
    return "radarName" in entry or "雷達名" in str(entry.get("parameterName", ""))


def _utc(text: str, offset_h: float) -> np.datetime64:
    """UTC of an ISO time with its own offset, or of a local one (ISO or YYYYMMDDHHMM) that is `offset_h`
    ahead of UTC.
    """
    text = text.strip()
    compact = re.fullmatch(r"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)?", text)
    moment = datetime(*(int(p or 0) for p in compact.groups())) if compact else datetime.fromisoformat(text)  # type: ignore[arg-type]
    if moment.tzinfo is not None:
        return np.datetime64(moment.astimezone(UTC).replace(tzinfo=None), "s")
    return np.datetime64(moment, "s") - np.timedelta64(round(offset_h * 3600), "s")


def _numbers(text: Any, shape: tuple[int, int]) -> NDArray[np.float64]:
    """[ny, nx] of the one line of numbers; ValueError where a word is no number or the count is another."""
    line = str(text).strip().rstrip(",")
    count = shape[0] * shape[1]
    if not line:
        raise ValueError(f"its content is empty; it should hold {count} numbers")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            values = np.fromstring(line, sep=",")
        except (DeprecationWarning, ValueError) as error:
            raise ValueError(f"its content is not a list of numbers ({error})") from error
    if values.size != count:
        raise ValueError(
            f"its head asks for {shape[1]} x {shape[0]} = {count} numbers and it holds {values.size}"
        )
    return values.reshape(shape)


def _physical(values: NDArray[np.float64], name: str, no_echo_dbz: float) -> NDArray[np.float32]:
    """[y, x] in the variable's unit; codes replaced."""
    if describe(name).kind == "reflectivity":
        values[values == NO_ECHO_CODE] = no_echo_dbz
        values[values == OUTSIDE_CODE] = np.nan
    else:
        values[values < 0] = np.nan
    return values.astype(np.float32)


def _variable(path: Path, head: Head, asked: str | None, products: Mapping[str, str]) -> str:
    """The canonical name: by the data id, else by the name's stem, else by the unit; its unit must be the
    head's.
    """
    found, history = _DATA_ID.search(head.data_id), _HISTORY.match(path.name)
    told = next((v for key, v in products.items() if found and found[0] in key), None)
    if told is None and (found or _FORECAST in head.description):
        known = f"no product known here: {', '.join(products)}"
        raise UnreadableError(
            f"{path} holds '{head.data_id}' ({head.description or 'undescribed'}), {known}", path=str(path)
        )
    by_unit = next((v for v in products.values() if describe(v).units == head.units), None)
    name = asked or told or products.get(history["stem"] if history else "") or by_unit
    if name is None or describe(name).units != head.units or (told and told != name):
        wanted = f"{name} ({describe(name).units})" if name else "a product known here"
        raise UnreadableError(
            f"{path} should hold {wanted} and holds '{head.data_id}' in '{head.units}'", path=str(path)
        )
    return name


def _stamp(path: Path, reader: CwaReader) -> np.datetime64 | None:
    """The UTC time in a history name; None for any other name.
    UnreadableError for a stamp that is no time.
    """
    found = _HISTORY.match(path.name)
    if not found:
        return None
    with reading(path):
        return _utc(found["stamp"], reader.name_offset)


class Cwa(Source):
    """The files of an archive: history names tell time and product, the heads of all others are read."""

    def __init__(
        self, name: str, archive: Path, reader: CwaReader | None = None, no_echo_dbz: float = 0.0
    ) -> None:
        self.reader = reader or CwaReader()
        super().__init__(name, clock=Clock(self.reader.utc_offset, "end"))
        self.archive = archive
        self.no_echo_dbz = no_echo_dbz

    def scan(self, period: Period | None = None) -> tuple[list[Record], list[Refusal]]:
        step = seconds(parse_duration(self.reader.every)) if self.reader.every else 1
        records: list[Record] = []
        refusals: list[Refusal] = []
        for path in find_files(self.archive, self.reader.root, self.reader.pattern):
            try:
                time, variable = self._told(path)
            except UnreadableError as error:
                refusals.append(Refusal(path, str(error)))
                continue
            if int(time.astype(int)) % step == 0 and (period is None or time in period):
                records.append(Record(time, path, (variable,)))
        return sorted(records, key=lambda r: (r.time, str(r.path))), refusals

    def _told(self, path: Path) -> tuple[np.datetime64, str]:
        """(valid time, variable) by the name, else by the head."""
        stamp, history = _stamp(path, self.reader), _HISTORY.match(path.name)
        variable = self.reader.products.get(history["stem"]) if history else None
        if stamp is not None and variable is not None:
            return stamp, variable
        (held,) = self.contents(path, self._look).held
        return held.times[0], held.names[0]

    def _look(self, path: Path) -> FileContents:
        with reading(path):
            head = self._head(path)
        name = _variable(path, head, None, self.reader.products)
        return FileContents((Held((name,), np.array([head.time], "datetime64[s]")),))

    def _head(self, path: Path) -> Head:
        """From the first bytes of a file; from all of it where its head lies elsewhere."""
        with open(path, "rb") as handle:
            first = handle.read(_HEAD_BYTES)
        if first[:2] == b"\x1f\x8b":
            with gzip.open(path) as unpacked:
                first = unpacked.read(_HEAD_BYTES)
        try:
            return parse_head(_partial(first), self.reader.utc_offset)
        except (ValueError, LookupError):
            return parse_head(parse(_unpacked(path)), self.reader.utc_offset)

    def read(self, record: Record, names: Sequence[str]) -> xr.Dataset:
        unknown = [n for n in names if n not in record.names]
        if unknown:
            raise RequestError(f"{record.path} holds {', '.join(record.names)}, not {', '.join(unknown)}")
        return read(record.path, record.names[0], self.no_echo_dbz, self.reader)
