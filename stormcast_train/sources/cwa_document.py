"""The document around a CWA grid: XML or JSON, its head of any generation, and its one line of numbers.

Three generations: `cwbopendata` with Chinese parameter names (2018; its time is labelled UTC and is local),
the same list with ISO times and the radars (2021-23), and `cwaopendata` with named keys (2024 on).
"""

from __future__ import annotations

import json
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormcast_train.fields.units import normalised

ROOTS = ("cwbopendata", "cwaopendata")
_LABELS = {"左下角": "corner", "解析度": "spacing", "時間": "time", "維度": "shape", "單位": "units"}
_KEYS = {
    "south": "StartPointLatitude",
    "west": "StartPointLongitude",
    "spacing": "GridResolution",
    "time": "DateTime",
    "nx": "GridDimensionX",
    "ny": "GridDimensionY",
}
_COMPACT_TIME = re.compile(r"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)?")
_MAX_CELLS = 1 << 28


@dataclass(frozen=True)
class CwaHead:
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


def parse(content: bytes) -> Mapping[str, Any]:
    """A whole file below its root element, XML in the shape of JSON: names without namespace, repeated ones
    as a list.

    Raises ValueError where it is cut, is neither XML nor JSON, or has another root.
    """
    content = content.removeprefix(b"\xef\xbb\xbf").lstrip()
    if content.startswith(b"{"):
        tree = json.loads(content)
        root = next((r for r in ROOTS if r in tree), None)
        if root is None:
            raise ValueError(f"its JSON holds {', '.join(tree) or 'nothing'}, not {' or '.join(ROOTS)}")
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
    if _local(element) not in ROOTS:
        raise ValueError(f"its XML holds '{_local(element)}', not {' or '.join(ROOTS)}")
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


def parse_beginning(content: bytes) -> Mapping[str, Any]:
    """As `parse`, for the first bytes of a file: what stands before the numbers. ValueError where the head is
    not among them.
    """
    content = content.removeprefix(b"\xef\xbb\xbf").lstrip()
    if content.startswith(b"{"):
        text = content.decode("utf-8", "ignore")
        value_from = text.index(":", text.index('"datasetInfo"')) + 1
        info, _ = json.JSONDecoder().raw_decode(text[value_from:].lstrip())
        data_id = dict(re.findall(r'"(dataid)"\s*:\s*"([^"]*)"', text))
        return {**data_id, "dataset": {"datasetInfo": info}}
    parser: Any = ET.XMLPullParser(("start",))
    try:
        parser.feed(content)
        started = [element for _, element in parser.read_events()]
    except ET.ParseError as error:
        raise ValueError(f"its XML is malformed ({error})") from error
    if not started:
        raise ValueError("its XML has no element")
    return _below_root(started[0])


def value_at(tree: Any, *keys: str) -> Any:
    """The value below these keys of a parsed file; ValueError names the one that is missing."""
    for depth, key in enumerate(keys):
        if not isinstance(tree, Mapping) or key not in tree:
            raise ValueError(f"it holds no {'/'.join(keys[: depth + 1])}")
        tree = tree[key]
    return tree


def parse_head(tree: Mapping[str, Any], utc_offset: float = 8.0) -> CwaHead:
    """The head of a parsed file of any generation. ValueError where a part is missing or makes no sense."""
    info = value_at(tree, "dataset", "datasetInfo")
    parameters = value_at(info, "parameterSet")
    facts = _listed(parameters["parameter"]) if "parameter" in parameters else _named(parameters)
    south, west, spacing = (float(facts[k]) for k in ("south", "west", "spacing"))
    ny, nx = int(facts["ny"]), int(facts["nx"])
    sensible_size = min(ny, nx) > 0 and ny * nx <= _MAX_CELLS and spacing > 0
    if not (sensible_size and -90 <= south <= 90 and -180 <= west <= 360):
        raise ValueError(
            f"its head gives {nx} x {ny} points every {spacing} degrees from {south} N {west} E, which is no "
            "grid on the earth"
        )
    time = utc_time(facts["time"], utc_offset)
    radars = tuple(r.removesuffix("雷達").strip() for r in re.split("[、,]", facts["radars"]) if r.strip())
    description = str(info.get("datasetDescription", ""))
    return CwaHead(
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
    facts = {fact: str(value_at(parameters, key)) for fact, key in _KEYS.items()}
    others = [value for key, value in parameters.items() if key not in _KEYS.values()]
    units = next((value for value in others if normalised(value) in ("dBZ", "mm")), None)
    if units is None:
        raise ValueError(f"its parameterSet names no unit dBZ or mm; it holds {dict(parameters)}")
    return {**facts, "units": units, "radars": str(parameters.get("RadarName", ""))}


def _listed(parameters: Any) -> dict[str, str]:
    """The facts of 2018 to 2023: by the beginning of their Chinese name, else by their place in the list."""
    entries = parameters if isinstance(parameters, list) else [parameters]
    if not all(isinstance(e, Mapping) for e in entries):
        raise ValueError(f"its parameters are {entries}, not pairs of names and values")
    radars = [e.get("radarName") or e.get("parameterValue", "") for e in entries if _of_radars(e)]
    facts: dict[str, str] = {}
    for place, entry in enumerate(e for e in entries if not _of_radars(e)):
        label = str(entry.get("parameterName", ""))
        by_place = tuple(_LABELS.values())[place] if place < len(_LABELS) else label
        fact = next((fact for word, fact in _LABELS.items() if label.startswith(word)), by_place)
        facts[fact] = str(entry.get("parameterValue", ""))
    missing = [fact for fact in _LABELS.values() if not facts.get(fact)]
    if missing:
        raise ValueError(f"its parameters do not give {', '.join(missing)}; they hold {facts}")
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


def utc_time(text: str, offset_h: float) -> np.datetime64:
    """UTC of an ISO time with its own offset, or of a local one (ISO or YYYYMMDDHHMM) that is `offset_h`
    ahead of UTC.
    """
    text = text.strip()
    compact = _COMPACT_TIME.fullmatch(text)
    if compact:
        year, month, day, hour, minute, second = (int(digits or 0) for digits in compact.groups())
        moment = datetime(year, month, day, hour, minute, second)
    else:
        moment = datetime.fromisoformat(text)
    if moment.tzinfo is not None:
        return np.datetime64(moment.astimezone(UTC).replace(tzinfo=None), "s")
    return np.datetime64(moment, "s") - np.timedelta64(round(offset_h * 3600), "s")


def parse_numbers(text: Any, shape: tuple[int, int]) -> NDArray[np.float64]:
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
