"""Formats told by a file's first bytes: where a GRIB message begins, and those that are known and not read,
each with the way to one that is.
"""

from __future__ import annotations

import re

HEAD_BYTES = 4096  # WMO headings and their control characters are far shorter
NETCDF = (b"\x89HDF", b"CDF")
_UNPACK = "unpack it first ({})"
_PICTURE = "a picture, which holds colours and no values; ask for the data behind it"
_TIFF = (
    "a TIFF (a GeoTIFF?), which is not read; make NetCDF of it first, where its time is known: "
    "gdal_translate -of netCDF IN.tif OUT.nc, or rioxarray.open_rasterio in Python, and add a time axis"
)
_POLAR = "by azimuth and range of one radar, on no rows and columns; grid it first (wradlib or Py-ART)"
_TABLE = "which holds rows and no grid; grid it into NetCDF first (xarray)"
# (first bytes, what it is and what to do)
_BEGINNINGS: tuple[tuple[bytes, str], ...] = (
    *((magic, _TIFF) for magic in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    (b"\x89PNG", f"a PNG: {_PICTURE}"),
    (b"\xff\xd8\xff", f"a JPEG: {_PICTURE}"),
    (b"GIF8", f"a GIF: {_PICTURE}"),
    (b"%PDF", "a PDF: ask for the data behind it"),
    (b"\x0e\x03\x13\x01", "HDF4, which is not read; make NetCDF of it first (h4tonccf IN.hdf OUT.nc)"),
    (b"\x1f\x8b", f"packed by gzip; {_UNPACK.format('gunzip')}"),
    (b"BZh", f"packed by bzip2; {_UNPACK.format('bunzip2')}"),
    (b"\xfd7zXZ\0", f"packed by xz; {_UNPACK.format('unxz')}"),
    (b"\x28\xb5\x2f\xfd", f"packed by zstd; {_UNPACK.format('unzstd')}"),
    (b"\x1f\x9d", f"packed by compress; {_UNPACK.format('uncompress')}"),
    (b"7z\xbc\xaf\x27\x1c", f"a 7-Zip archive; {_UNPACK.format('7z x')}"),
    (b"Rar!", f"a RAR archive; {_UNPACK.format('unrar x')}"),
    (b"AR2V", f"NEXRAD Level II, {_POLAR}"),
    (b"ARCHIVE2", f"NEXRAD Level II, {_POLAR}"),
    (b"\x93NUMPY", "a NumPy array without coordinates; write it with latitude, longitude and time to NetCDF"),
    (b"PAR1", f"a Parquet table, {_TABLE}"),
    (b"version https://git-lfs", "the pointer that Git LFS left in the file's place; run git lfs pull"),
    (b"ncols", "an ESRI ASCII grid, which is not read; gdal_translate -of netCDF makes NetCDF of it"),
)
_BUFR = "BUFR, which holds reports or radar rays and no grid; decode and grid it first (pdbufr, xarray)"
_RADOLAN = re.compile(rb"^[A-Z][A-Z0-9]\d{15}BY")


def grib_at(head: bytes) -> int | None:
    """Where the first GRIB message begins in a file with these first bytes: 0, or after a heading of text
    (WMO's `TTAAii CCCC YYGGgg`, a gateway's lines of digits); None where there is none.
    """
    return _message_at(head, b"GRIB")


def _message_at(head: bytes, name: bytes) -> int | None:
    """Where a message of this name and an edition that exists begins after nothing but text."""
    at = head.find(name)
    if at <= 0:
        return at if at == 0 else None
    before, edition = head[:at], head[at + 7 : at + 8]
    return at if edition in (b"\1", b"\2", b"\3", b"\4") and _is_text(before) else None


def _is_text(content: bytes) -> bool:
    """ASCII with no other control characters than those that end lines or frame a bulletin (SOH, ETX)."""
    return all(32 <= byte < 127 or byte in b"\t\n\r\x01\x03" for byte in content)


def unread_format(head: bytes) -> str:
    """What a file with these first bytes is and what to do, where its format is known and not read; empty for
    any other.
    """
    for beginning, what in _BEGINNINGS:
        if head.startswith(beginning):
            return f"it is {what}"
    if head[257:262] == b"ustar":
        return f"it is a tar archive; {_UNPACK.format('tar xf')}"
    if _message_at(head, b"BUFR") is not None:
        return f"it is {_BUFR}"
    if _RADOLAN.match(head):
        return "it is a DWD RADOLAN composite, which is not read; make NetCDF of it first (wradlib, xradolan)"
    return _unread_text(head)


def _unread_text(head: bytes) -> str:
    """The same for files of text."""
    if not _is_text(head[:512].replace(b"\xef\xbb\xbf", b"")):
        return ""
    text = head.decode("ascii", "replace").lstrip()
    if text[:15].lower().startswith(("<!doctype html", "<html")):
        return "it is a web page, not the file: the download wants a login, or its address has changed"
    lines = [line.strip() for line in text.splitlines() if line.strip()][:2]
    if len(lines) < 2 or text.startswith(("<", "{", "[")):
        return ""
    for separator, name in ((",", "commas"), (";", "semicolons"), ("\t", "tabs")):
        columns = [cell.strip() for cell in lines[0].split(separator)]
        if 1 < len(columns) == len(lines[1].split(separator)):
            first = ", ".join(columns[:6])
            return f"it is a table of text (CSV, separated by {name}; its first line is {first}), {_TABLE}"
    return ""
