from __future__ import annotations

import subprocess
import sys

WARNS = """
import sys, warnings
from stormcast_train.base import quiet
import stormcast_train
quiet.hide_library_warnings()
for where in (warnings.__file__,
              stormcast_train.__file__, "/home/someone/my_site/mosaic.py"):
    warnings.warn_explicit(f"said at {where}", FutureWarning, where, 1)
"""


def said(*options: str) -> str:
    return subprocess.run([sys.executable, *options, "-c", WARNS], capture_output=True, text=True).stderr


def test_libraries_warn_nobody_and_a_persons_own_modules_do():
    lines = [line for line in said().splitlines() if "said at" in line]
    assert len(lines) == 1
    assert "said at /home/someone/my_site/mosaic.py" in lines[0]


def test_who_asks_for_warnings_sees_them_all():
    assert said("-W", "always").count("FutureWarning") >= 3
