"""Files of three made-up sources (`.npz`), and the reader for them. Values say where and when they belong.

t2m = 280 + lat + 2 (lon - 120) + hour / 10 on a turned Lambert grid; rain1h = hour of the day where lon >
120.5, missing in the west; msl = 100000 + 10 lat + hour at quarter degrees; orog = 10 lon.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from stormcast_train.base.errors import RequestError, UnreadableError
from stormcast_train.fields.times import Period
from stormcast_train.sources.source import Record, Refusal, Source, dataset

NAMES = {"analysis": ("t2m",), "radar": ("rain1h",), "driver": ("msl",)}


def lambert() -> tuple[np.ndarray, np.ndarray]:
    import pyproj

    projection = pyproj.Proj(proj="lcc", lat_1=10, lat_2=40, lat_0=23.6, lon_0=115.0, R=6370000.0)
    x0, y0 = projection(121.0, 23.6)
    j, i = np.meshgrid(np.arange(-20, 21) * 4000.0, np.arange(-22, 23) * 4000.0)
    lon, lat = projection(x0 + j, y0 + i, inverse=True)
    return np.asarray(lat), np.asarray(lon)


def hours_of(time: np.datetime64) -> float:
    return float((time - np.datetime64("2021-06-01T00", "s")) / np.timedelta64(1, "h"))


def field(product: str, time: np.datetime64) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    hour = hours_of(time)
    if product == "analysis":
        lat, lon = lambert()
        return lat, lon, 280 + lat + 2 * (lon - 120) + hour / 10
    if product == "radar":
        lat, lon = np.arange(22.0, 26.0, 0.02), np.arange(119.0, 123.0, 0.02)
        rain = np.full((len(lat), len(lon)), hour % 24)
        rain[:, lon < 120.9] = np.nan
        return lat, lon, rain
    lat, lon = np.arange(20.0, 28.0, 0.25), np.arange(117.0, 125.0, 0.25)
    return lat, lon, np.broadcast_to(100000 + 10 * lat[:, None] + hour, (len(lat), len(lon)))


def path_of(archive: Path, product: str, time: np.datetime64) -> Path:
    return archive / product / f"{product}_{str(time)[:13].replace('-', '').replace('T', '_')}.npz"


def write_hour(archive: Path, product: str, time: np.datetime64) -> None:
    lat, lon, values = field(product, time)
    path_of(archive, product, time).parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        path_of(archive, product, time), lat=lat, lon=lon, values=values.astype(np.float32), time=str(time)
    )


def write(archive: Path, start: str, hours: int) -> None:
    for h in range(hours):
        for product in NAMES:
            write_hour(archive, product, np.datetime64(start, "s") + h * np.timedelta64(1, "h"))


class Tiny(Source):
    """Reads the files above."""

    def __init__(self, name: str, archive: Path, product: str) -> None:
        super().__init__(name)
        self.archive, self.product = archive, product

    def scan(self, period: Period | None = None) -> tuple[list[Record], list[Refusal]]:
        folder = self.archive / self.product
        if not folder.is_dir():
            raise RequestError(f"the archive {self.archive} has no folder '{self.product}'")
        records = []
        for path in sorted(folder.glob("*.npz")):
            day, hour = path.stem.split("_")[1:3]
            time = np.datetime64(f"{day[:4]}-{day[4:6]}-{day[6:]}T{hour[:2]}:{hour[2:4] or '00'}", "s")
            if period is None or time in period:
                records.append(Record(time, path, NAMES[self.product]))
        return records, []

    def read(self, record: Record, names: Sequence[str]) -> xr.Dataset:
        try:
            with np.load(record.path) as z:
                if np.datetime64(str(z["time"]), "s") != record.time:
                    raise UnreadableError(f"its name says {record.time}, it holds {z['time']}")
                return dataset({names[0]: z["values"]}, z["lat"], z["lon"], record.time, "tiny 1")
        except (OSError, ValueError, EOFError, KeyError) as error:
            raise UnreadableError(f"{record.path.name} is truncated: {error}") from error
        except Exception as error:
            if isinstance(error, UnreadableError):
                raise
            raise UnreadableError(f"{record.path.name} is broken: {error}") from error

    def read_static(self, names: Sequence[str]) -> xr.Dataset:
        lat, lon = lambert()
        return dataset({"orog": 10 * lon}, lat, lon, None, "tiny 1")


class Careful(Tiny):
    """Looks at a file before it offers it, as readers of headers do."""

    def scan(self, period: Period | None = None) -> tuple[list[Record], list[Refusal]]:
        records, _ = super().scan(period)
        empty = [r for r in records if not r.path.stat().st_size]
        return [r for r in records if r not in empty], [Refusal(r.path, "it is empty") for r in empty]
