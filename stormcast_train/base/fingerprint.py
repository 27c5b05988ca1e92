"""Fingerprints: SHA-256 over canonical JSON and over arrays, the same on every machine."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def canonical(value: Any) -> str:
    """JSON with sorted keys, no spaces and exact floats: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str, ensure_ascii=False)


def digest(*parts: Any) -> str:
    """Hex SHA-256 of the parts in order: bytes as they are, arrays with dtype and shape, the rest as
    canonical JSON.
    """
    hasher = hashlib.sha256()
    for part in parts:
        if isinstance(part, bytes):
            hasher.update(part)
        elif isinstance(part, np.ndarray):
            _update_with_array(hasher, part)
        else:
            hasher.update(canonical(part).encode())
        hasher.update(b"\x00")
    return hasher.hexdigest()


def _update_with_array(hasher: Any, array: NDArray[Any]) -> None:
    if array.dtype.kind == "M":
        array = array.astype("datetime64[s]").astype("<i8")
    little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
    hasher.update(f"{little.dtype.str}{little.shape}".encode())
    hasher.update(little.tobytes())


def digest_files(root: Path, pattern: str = "**/*.py") -> str:
    """Hex SHA-256 over the files below `root` that match, by relative name and content."""
    hasher = hashlib.sha256()
    for path in sorted(root.glob(pattern)):
        if "__pycache__" not in path.parts:
            hasher.update(path.relative_to(root).as_posix().encode() + b"\x00")
            hasher.update(hashlib.sha256(path.read_bytes()).digest())
    return hasher.hexdigest()
