"""What made a file or a run: the code's fingerprint, its commit and patch, and the environment."""

from __future__ import annotations

import platform
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from stormcast_train.base.fingerprint import digest_files

PACKAGE = Path(__file__).resolve().parents[1]


@cache
def code_fingerprint() -> str:
    """SHA-256 over the package's .py files; equal from a checkout and from the wheel built from it."""
    return digest_files(PACKAGE)


def version() -> str:
    """The installed version of `stormcast-train`, or `unknown` when run from loose files."""
    try:
        return metadata.version("stormcast-train")
    except metadata.PackageNotFoundError:
        return "unknown"


def _git(*args: str) -> str | None:
    try:
        done = subprocess.run(["git", *args], cwd=PACKAGE, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def code_record() -> dict[str, Any]:
    """What `code.json` holds: version, fingerprint, commit and, if the checkout is dirty, the patch."""
    inside = (_git("rev-parse", "--show-toplevel") or "").strip()
    ours = bool(inside) and PACKAGE.parent == Path(inside)
    commit = (_git("rev-parse", "HEAD") or "").strip() or None if ours else None
    patch = (_git("diff", "HEAD", "--", ".") or None) if ours else None
    return {"version": version(), "fingerprint": code_fingerprint(), "commit": commit, "patch": patch}


def environment_record() -> dict[str, Any]:
    """What `environment.json` holds: interpreter, platform and the exact
    versions of all installed packages.
    """
    packages = {d.metadata["Name"]: d.version for d in metadata.distributions() if d.metadata["Name"]}
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "machine": platform.machine(),
        "packages": dict(sorted(packages.items())),
    }
