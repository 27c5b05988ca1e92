"""A YAML document as plain data, read without Hydra and its 0.2 s."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

FLOAT = r"[-+]?(\d+\.\d*|\.\d+)([eE][-+]?\d+)?|[-+]?\d+[eE][-+]?\d+|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"


def read_yaml(path: Path) -> Any:
    """What the document holds, as OmegaConf reads it: `1e-05` is a number and a date is text, against YAML
    1.1.
    """
    return _loader()(path.read_bytes()).get_single_data()


@cache
def _loader() -> Any:
    import yaml

    class Plain(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        """Without the resolvers of dates and of YAML 1.1's numbers."""

    Plain.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in found if not tag.endswith((":timestamp", ":float"))]
        for first, found in Plain.yaml_implicit_resolvers.items()
    }
    Plain.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(f"^(?:{FLOAT})$"), list("-+0123456789.")
    )
    return Plain
