"""Whether what a store holds is finite, by the moments of its rows: no value is read. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stormcast_train.base.errors import RequestError
from stormcast_train.fields.times import Times, iso
from stormcast_train.store import moments as m
from stormcast_train.store.group import Group
from stormcast_train.store.reader import Store


def not_finite(group: Group, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """[N, C]: planes of these rows that hold a value which is neither missing nor finite, before or after the
    variable's transform.
    """
    kinds = [m.KINDS.index("value"), m.KINDS.index("transformed")]
    moments_NCKQ = group.moments[rows][:, :, kinds]
    finite_NCK = np.isfinite(moments_NCKQ).all(axis=-1)
    bad_NCK = (moments_NCKQ[..., 0] > 0) & ~finite_NCK
    return np.asarray(bad_NCK.any(axis=-1), bool)


def refuse_not_finite(store: Store, role: str, names: Sequence[str], times: Times, of: str) -> None:
    """RequestError, with role, variable, first time and `of` (whose times [T] they are), where a plane is not
    finite.
    """
    group = store.group(role)
    rows = np.flatnonzero(np.isin(group.times, times)) if role != "static" else np.arange(len(group.times))
    bad_NC = not_finite(group, rows)
    for name in names:
        mine = rows[bad_NC[:, group.channels.index(name)]]
        if len(mine):
            raise RequestError(_text(store, group, name, mine, of), role=role, variable=name, of=of)


def _text(store: Store, group: Group, name: str, rows: NDArray[np.int64], of: str) -> str:
    when = "" if group.role == "static" else f" at {iso(group.times[rows[0]])}"
    more = f" and at {len(rows) - 1} more times" if len(rows) > 1 else ""
    words = {"state": f" (variables.drop=[{name}])", "background": f" (variables.drop_background=[{name}])"}
    return (
        f"the store {store.path} holds values of {group.role} {name} that are not finite (inf){when}{more}, "
        f"{of}: nothing can be computed with them. Make the store again with preprocess, which takes such "
        f"cells as missing, leave the variable out{words.get(group.role, '')}, or leave these times out"
    )
