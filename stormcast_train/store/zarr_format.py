"""The part of the Zarr v3 format that a store uses: metadata documents, whole arrays in one chunk, shards and
their index.

Written by hand so that a shard is one sequential file that one process writes and renames, and so that a
reader can `pread` from it; any Zarr v3 library reads the result. Specification: zarr-specs v3 core, and its
codec `sharding_indexed`.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from crc32c import crc32c
from numcodecs.zstd import Zstd  # type: ignore[import-untyped]
from numpy.typing import NDArray

from stormcast_train.base.errors import FailedError
from stormcast_train.base.files import read_json, write_bytes, write_json

ABSENT = 2**64 - 1  # offset and length of a chunk that a shard does not hold
DATA_TYPES = {
    "f4": "float32",
    "f8": "float64",
    "i2": "int16",
    "i8": "int64",
    "u1": "uint8",
    "u4": "uint32",
    "u8": "uint64",
    "b1": "bool",
}
LITTLE: dict[str, Any] = {"name": "bytes", "configuration": {"endian": "little"}}
ZSTD: dict[str, Any] = {"name": "zstd", "configuration": {"level": 1, "checksum": False}}
REPEAT = "Repeat preprocess, which writes it again"
CRC: dict[str, Any] = {"name": "crc32c"}
_zstd = Zstd(level=1)


def group_document(attributes: dict[str, Any] | None = None) -> dict[str, Any]:
    """`zarr.json` of a group."""
    return {"zarr_format": 3, "node_type": "group", "attributes": attributes or {}}


def array_document(
    dtype: str,
    shape: tuple[int, ...],
    chunk: tuple[int, ...],
    dimensions: tuple[str, ...],
    codecs: list[dict[str, Any]],
    fill: Any,
    attributes: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """`zarr.json` of an array; `dtype` is a numpy code such as `f4`, or `string`."""
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": DATA_TYPES.get(dtype, dtype),
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunk)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": fill,
        "codecs": codecs,
        "dimension_names": list(dimensions),
        "attributes": attributes or {},
        "storage_transformers": [],
    }


def sharding(inner: tuple[int, ...], codecs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The codec chain of a sharded array: inner chunks through `codecs`, the index (with its crc32c) at the
    end.
    """
    configuration = {
        "chunk_shape": list(inner),
        "codecs": codecs,
        "index_codecs": [LITTLE, CRC],
        "index_location": "end",
    }
    return [{"name": "sharding_indexed", "configuration": configuration}]


def chunk_path(folder: Path, *indices: int) -> Path:
    """The file of a chunk."""
    return folder.joinpath("c", *map(str, indices))


def compress(content: bytes) -> bytes:
    """zstd, then crc32c: what the codecs [ZSTD, CRC] give."""
    packed = bytes(_zstd.encode(content))
    return packed + struct.pack("<I", crc32c(packed))


def decompress(content: bytes, where: Path, advice: str = REPEAT) -> bytes:
    """The inverse of `compress`; FailedError, which ends with the advice, when the checksum is wrong."""
    body, stored = content[:-4], content[-4:]
    if len(content) < 5 or struct.pack("<I", crc32c(body)) != stored:
        raise FailedError(f"{where} is damaged: its checksum is wrong. {advice}", path=str(where))
    return bytes(_zstd.decode(body))


def stored(path: Path, advice: str = REPEAT) -> bytes:
    """The bytes of a file that must exist; FailedError, which ends with the advice, where it is gone."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise FailedError(f"{path} is gone. {advice}", path=str(path)) from error


def write_array(
    folder: Path,
    values: NDArray[Any],
    dimensions: tuple[str, ...],
    attributes: dict[str, Any] | None = None,
    growing: int | None = None,
) -> None:
    """A whole array, of any shape, as one compressed chunk; with `growing`, the chunk's first axis is a
    multiple of that
    length.

    The chunk is written before the metadata, so a reader sees the old length or the new.
    """
    if values.dtype.kind in "US":
        content = _strings(values)
        codecs: list[dict[str, Any]] = [{"name": "vlen-utf8"}, ZSTD, CRC]
        document = array_document("string", values.shape, values.shape, dimensions, codecs, "", attributes)
    else:
        code = values.dtype.kind + str(values.dtype.itemsize)
        chunk = _chunk_shape(values.shape, growing)
        padded = np.zeros(chunk, dtype=np.dtype(code).newbyteorder("<"))
        padded[tuple(slice(0, n) for n in values.shape)] = values
        content = padded.tobytes()
        codecs, fill = [LITTLE, ZSTD, CRC], False if code == "b1" else 0
        document = array_document(code, values.shape, chunk, dimensions, codecs, fill, attributes)
    write_bytes(chunk_path(folder, *([0] * values.ndim)), compress(content))
    write_json(folder / "zarr.json", document)


def _chunk_shape(shape: tuple[int, ...], growing: int | None) -> tuple[int, ...]:
    """The shape, or with `growing` one whose first axis is the next multiple of it."""
    if not shape or not growing:
        return shape
    return (-(-shape[0] // growing) * growing, *shape[1:])


def _strings(values: NDArray[Any]) -> bytes:
    words = [str(v).encode() for v in values]
    return struct.pack("<I", len(words)) + b"".join(struct.pack("<I", len(w)) + w for w in words)


def read_array(folder: Path) -> NDArray[Any]:
    """An array that `write_array` wrote."""
    if not (folder / "zarr.json").is_file():
        raise FailedError(f"{folder / 'zarr.json'} is gone. {REPEAT}", path=str(folder))
    document = read_json(folder / "zarr.json")
    shape = tuple(document["shape"])
    where = chunk_path(folder, *([0] * len(shape)))
    content = decompress(stored(where), where)
    if document["data_type"] == "string":
        return _read_strings(content)
    chunk = tuple(document["chunk_grid"]["configuration"]["chunk_shape"])
    whole = np.frombuffer(content, dtype=np.dtype(document["data_type"]).newbyteorder("<")).reshape(chunk)
    return whole[tuple(slice(0, n) for n in shape)].astype(whole.dtype.newbyteorder("="))


def _read_strings(content: bytes) -> NDArray[Any]:
    words, at = [], 4
    for _ in range(struct.unpack_from("<I", content)[0]):
        (size,) = struct.unpack_from("<I", content, at)
        words.append(content[at + 4 : at + 4 + size].decode())
        at += 4 + size
    return np.array(words, dtype=np.str_)


class ShardWriter:
    """Appends the chunks of one shard to an open file; `finish` writes the index and its crc32c."""

    def __init__(self, handle: BinaryIO, chunks: int) -> None:
        self._handle = handle
        self._index = np.full((chunks, 2), ABSENT, dtype="<u8")
        self._at = 0

    def append(self, number: int, content: bytes | memoryview) -> None:
        """The chunk `number` of the shard."""
        self._handle.write(content)
        self._index[number] = (self._at, len(content))
        self._at += len(content)

    def finish(self) -> None:
        """The index follows the last chunk."""
        index = self._index.tobytes()
        self._handle.write(index + struct.pack("<I", crc32c(index)))
        self._handle.flush()


class ShardFile:
    """An open shard: its index, parsed once, and `pread`s. Closed when the last thread lets go of it."""

    def __init__(self, path: Path, chunks: int, advice: str = "`inspect --verify` reports more") -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDONLY)
        size = os.fstat(self._fd).st_size
        tail = os.pread(self._fd, 16 * chunks + 4, max(0, size - 16 * chunks - 4))
        if len(tail) != 16 * chunks + 4 or struct.pack("<I", crc32c(tail[:-4])) != tail[-4:]:
            raise FailedError(f"{path} is damaged: its index is cut or changed. {advice}", path=str(path))
        self.index = np.frombuffer(tail[:-4], dtype="<u8").reshape(chunks, 2)
        # As a list: a number out of an array costs as much as a small read.
        self._offsets: list[int] = self.index[:, 0].tolist()

    def __del__(self) -> None:
        if hasattr(self, "_fd"):
            os.close(self._fd)

    @property
    def descriptor(self) -> int:
        """The open file, for as long as this object lives."""
        return self._fd

    def has(self, number: int) -> bool:
        """Whether the shard holds this chunk; one that it does not hold is all fill value."""
        return self._offsets[number] != ABSENT

    def chunk(self, number: int) -> bytes:
        """The chunk's bytes."""
        offset, length = (int(v) for v in self.index[number])
        content = os.pread(self._fd, length, offset)
        if len(content) != length:
            raise FailedError(
                f"{self.path} is cut: chunk {number} should have {length} bytes", path=str(self.path)
            )
        return content

    def read_into(self, number: int, start: int, buffer: memoryview) -> None:
        """Bytes of a chunk from `start` straight into `buffer`."""
        offset, left = self._offsets[number] + start, buffer
        while left:
            got = os.preadv(self._fd, [left], offset)
            if got == 0:
                raise FailedError(f"{self.path} is cut in chunk {number}", path=str(self.path))
            offset, left = offset + got, left[got:]
