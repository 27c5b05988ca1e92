"""The name of a device in a config. Torch-free."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator


def _known(name: str) -> str:
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise ValueError("write cpu, cuda or cuda:0, or null for an accelerator where there is one")
    return name


Device = Annotated[str, AfterValidator(_known)]
