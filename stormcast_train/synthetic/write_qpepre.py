"""QPEPRE text, byte for byte: `%6d%10.4f%10.4f%9.2f` lines, longitude fastest, south to north; a cut of
QPESUMS.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

COLUMNS, ROWS, STEP = 162, 275, 0.0125
WEST, SOUTH = 120.0, 21.8875
WIDTH = 36  # 35 characters and a line feed
VALUE = slice(26, 35)

lon = np.round(WEST + STEP * np.arange(COLUMNS), 4)
lat = np.round(SOUTH + STEP * np.arange(ROWS), 4)


def template(lat: NDArray[np.floating] = lat, lon: NDArray[np.floating] = lon) -> NDArray[np.uint8]:
    """All lines with the value `0.00`: characters [rows * columns, 36]."""
    points = enumerate(product(lat, lon), start=1)
    lines = [f"{number:6d}{x:10.4f}{y:10.4f}{0:9.2f}\n" for number, (y, x) in points]
    characters = np.frombuffer("".join(lines).encode("ascii"), np.uint8)
    return characters.reshape(-1, WIDTH).copy()


def text_file(rain_mm: NDArray[np.floating], lines: NDArray[np.uint8]) -> bytes:
    """The file for mm [rows, columns] from `template()`; only the lines with rain are formatted."""
    values = np.ravel(rain_mm)
    assert len(values) == len(lines), (values.shape, lines.shape)
    if not np.isfinite(values).all():
        raise ValueError("QPEPRE has no code for a missing value")
    hundredths = np.rint(values * 100).astype(np.int64)
    wet = np.flatnonzero(hundredths)
    filled = lines.copy()
    distinct, which = np.unique(hundredths[wet], return_inverse=True)
    words = "".join(f"{value / 100:9.2f}" for value in distinct).encode("ascii")
    filled[wet, VALUE] = np.frombuffer(words, np.uint8).reshape(-1, 9)[which]
    return filled.tobytes()


def file_name(time: np.datetime64) -> str:
    """`qpepre_202106010200-202106010300_1_h.txt` for the hour that ends at `time` (UTC)."""
    return f"qpepre_{_minute(time - np.timedelta64(1, 'h'))}-{_minute(time)}_1_h.txt"


def _minute(time: np.datetime64) -> str:
    return str(time.astype("datetime64[m]")).translate(str.maketrans("", "", "-T:"))
