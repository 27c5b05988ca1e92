"""Atomic files: a reader sees the old content or the new, never half of it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stormcast_train.base.errors import FailedError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is fsynced and
    renamed over `path`, else removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(
        f".{path.name}.{socket.gethostname()}.{os.getpid()}.tmp"
    )  # parts write from several machines
    try:
        yield temporary
        with open(temporary, "rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def permit_like_folder(path: Path) -> None:
    """Let those read and write a file who may its folder: safetensors writes files for their owner alone,
    whatever the umask.
    """
    path.chmod(path.parent.stat().st_mode & 0o666)


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, value: Any) -> None:
    """Write JSON (sorted keys, two spaces) atomically; numpy numbers and arrays, paths and times are
    accepted.
    """
    text = json.dumps(value, indent=2, sort_keys=True, default=plain, ensure_ascii=False)
    write_bytes(path, (text + "\n").encode())


def read_json(path: Path, advice: str = "") -> Any:
    """The JSON in `path`; FailedError, which ends with the advice, where its bytes are no JSON."""
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise FailedError(
            f"{path} is damaged: it is not JSON ({error}){advice and f'. {advice}'}", path=str(path)
        ) from error


def plain(value: Any) -> Any:
    """A JSON value for a numpy scalar or array; text for anything else."""
    import numpy as np  # here: most verbs that write JSON do without its 0.1 s

    if isinstance(value, np.generic):
        return value.item() if value.dtype.kind in "biuf" else str(value)
    if isinstance(value, np.ndarray):
        return value.tolist()
    return str(value)
