"""QPESUMS native binary, byte for byte: a header, then int16 values with row 0 in the south; gzip with no
time and no name.
"""

from __future__ import annotations

import gzip
import struct
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

GZIP_LEVEL = 1
NO_ECHO_DBZ = -99
RADARS = (b"RCWF", b"RCHL", b"RCCG", b"RCKT")


@dataclass(frozen=True)
class MosaicHeader:
    """Every field of the header as it stands in the file (scaled integers, names with the garbage after their
    NUL).
    """

    stamp: tuple[int, ...]  # year month day hour minute second, UTC, the end of an accumulation
    nx: int
    ny: int
    nz: int
    projection: bytes
    geometry: tuple[
        int, ...
    ]  # map_scale, 3 true latitudes/longitude, west, north, xy_scale, dx, dy, dxy_scale
    heights: tuple[int, ...]
    tail: tuple[int, ...]  # z_scale, i_bb_mode, nine unused
    name: bytes  # 20 bytes
    unit: bytes  # 6 bytes
    scale: int
    missing: int  # in physical units
    radars: tuple[bytes, ...]

    def at(self, time: np.datetime64) -> MosaicHeader:
        """The same header with the stamp of `time` (UTC)."""
        text = str(time.astype("datetime64[s]"))
        date, clock = text.split("T")
        return replace(self, stamp=(*map(int, date.split("-")), *map(int, clock.split(":"))))

    @property
    def lat(self) -> NDArray[np.floating]:
        """Latitudes of the rows, south to north."""
        north, dy = self.geometry[5] / self.geometry[0], self.geometry[8] / self.geometry[9]
        return np.round(north - np.arange(self.ny - 1, -1, -1) * dy, 9)

    @property
    def lon(self) -> NDArray[np.floating]:
        """Longitudes of the columns, west to east."""
        west, dx = self.geometry[4] / self.geometry[0], self.geometry[7] / self.geometry[9]
        return np.round(west + np.arange(self.nx) * dx, 9)


NOWHEN = (1970, 1, 1, 0, 0, 0)
RAIN_1H = MosaicHeader(
    NOWHEN, 441, 561, 1, b"LL  ", (100, 3000, 6000, 12075, 11800, 2700, 100, 1250, 1250, 100000),
    (0,), (1, *[0] * 10), b"CB_1H_GC Acc".ljust(20, b"\0"), b"mm\x001H\0", 4, -1, (b"none",),
)  # fmt: skip
COMPREF = MosaicHeader(
    NOWHEN, 921, 881, 1, b"LL  ", (1000, 30000, 60000, 120750, 115000, 29000, 1000, 1250, 1250, 100000),
    (0,), (1, *[0] * 10), b"CREF".ljust(20, b"\0"), b"dBZ".ljust(6, b"\0"), 10, -999, RADARS,
)  # fmt: skip


def encode(header: MosaicHeader, raw: NDArray[np.int16]) -> bytes:
    """The whole uncompressed file; `raw` int16 [nz, ny, nx], row 0 in the south."""
    assert raw.shape == (header.nz, header.ny, header.nx), (raw.shape, header)
    parts = [
        struct.pack("<9i", *header.stamp, header.nx, header.ny, header.nz),
        header.projection,
        struct.pack("<10i", *header.geometry),
        struct.pack(f"<{header.nz}i", *header.heights),
        struct.pack("<11i", *header.tail),
        header.name,
        header.unit,
        struct.pack("<3i", header.scale, header.missing, len(header.radars)),
        b"".join(header.radars),
        np.ascontiguousarray(raw, dtype="<i2").tobytes(),
    ]
    return b"".join(parts)


def decode(content: bytes) -> tuple[MosaicHeader, NDArray[np.int16]]:
    """Header and raw values of an uncompressed file, nothing lost: `encode(*decode(x)) == x`."""
    numbers = struct.unpack_from("<9i", content, 0)
    nx, ny, nz = numbers[6:]
    after = 80 + 4 * nz
    scale, missing, count = struct.unpack_from("<3i", content, after + 70)
    at = after + 82
    header = MosaicHeader(
        numbers[:6], nx, ny, nz, content[36:40], struct.unpack_from("<10i", content, 40),
        struct.unpack_from(f"<{nz}i", content, 80), struct.unpack_from("<11i", content, after),
        content[after + 44 : after + 64], content[after + 64 : after + 70], scale, missing,
        tuple(content[at + 4 * i : at + 4 * i + 4] for i in range(count)),
    )  # fmt: skip
    raw = np.frombuffer(content, "<i2", offset=at + 4 * count).reshape(nz, ny, nx)
    return header, raw


def packed(content: bytes) -> bytes:
    """Gzip as the real files have it: no name, modification time 0."""
    return gzip.compress(content, GZIP_LEVEL, mtime=0)


def rain_raw(rain_mm: NDArray[np.floating]) -> NDArray[np.int16]:
    """Quarter millimetres [1, y, x]; NaN becomes the missing code (-1 mm)."""
    missing = RAIN_1H.missing * RAIN_1H.scale
    values = np.rint(np.nan_to_num(rain_mm, nan=RAIN_1H.missing) * RAIN_1H.scale)
    return np.where(np.isnan(rain_mm), missing, values).astype(np.int16)[None]


def reflectivity_raw(dbz: NDArray[np.floating]) -> NDArray[np.int16]:
    """Tenths of dBZ [1, y, x]; NaN is outside coverage (-999), minus infinity covered without echo (-99)."""
    outside, nothing = COMPREF.missing * COMPREF.scale, NO_ECHO_DBZ * COMPREF.scale
    finite = np.rint(np.where(np.isfinite(dbz), dbz, 0.0) * COMPREF.scale)
    raw = np.where(np.isnan(dbz), outside, np.where(np.isneginf(dbz), nothing, finite))
    return raw.astype(np.int16)[None]


def rain_file(rain_mm: NDArray[np.floating], time: np.datetime64) -> bytes:
    """A `CB_GC_PCP_1H_RAD` file: mm [561, 441] of the hour that ends at
    `time`, NaN where nothing is known.
    """
    return packed(encode(RAIN_1H.at(time), rain_raw(rain_mm)))


def reflectivity_file(dbz: NDArray[np.floating], time: np.datetime64) -> bytes:
    """A `COMPREF` file: dBZ [881, 921] at `time`, NaN outside coverage, minus infinity without echo."""
    return packed(encode(COMPREF.at(time), reflectivity_raw(dbz)))


def file_name(product: str, time: np.datetime64) -> str:
    """`CB_GC_PCP_1H_RAD.20210601.0300.gz`."""
    text = str(time.astype("datetime64[m]"))
    return f"{product}.{text[:10].replace('-', '')}.{text[11:].replace(':', '')}.gz"
