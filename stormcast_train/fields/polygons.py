"""Areas of many polygons in a plane at once: their own, and what each shares with a convex window.

Shapes: N polygons, V vertices, K vertices of a window; the last axis is (x, y).
"""

from __future__ import annotations

import numpy as np

from stormcast_train.fields.locate import Flags, Floats


def signed_area(polygons: Floats) -> Floats:
    """The signed area [N] of polygons [N, V, 2], positive counter-clockwise."""
    local = polygons - polygons[:, :1]
    x, y = local[..., 0], local[..., 1]
    return np.asarray((x[:, :-1] * y[:, 1:] - x[:, 1:] * y[:, :-1]).sum(axis=1) / 2)


def counter_clockwise(polygons: Floats) -> Floats:
    """The polygons [N, V, 2], reversed where they run clockwise."""
    return np.where((signed_area(polygons) < 0)[:, None, None], polygons[:, ::-1], polygons)


def is_convex(polygons: Floats) -> Flags:
    """Whether each polygon [N, V, 2], counter-clockwise, turns left (or goes straight on) at every vertex."""
    edge = np.roll(polygons, -1, axis=1) - polygons
    after = np.roll(edge, -1, axis=1)
    turn = edge[..., 0] * after[..., 1] - edge[..., 1] * after[..., 0]
    return np.asarray((turn >= -1e-9 * np.abs(turn).max(axis=1, keepdims=True)).all(axis=1))


def shared_area(subjects: Floats, windows: Floats) -> Floats:
    """The area [N] that each polygon [N, V, 2] shares with a convex window [N, K, 2], both counter-clockwise.

    Sutherland and Hodgman 1974, all pairs at once. Coordinates must be small beside the windows' sizes, or
    the areas round.
    """
    polygons = subjects
    for k in range(windows.shape[1]):
        polygons = _left_of(polygons, windows[:, k], windows[:, (k + 1) % windows.shape[1]])
    return np.maximum(signed_area(polygons), 0.0)


def _left_of(polygons: Floats, start: Floats, end: Floats) -> Floats:
    """What of each polygon [N, V, 2] lies left of its line; short ones are filled up with their first vertex,
    lost ones with one point.
    """
    dx, dy = (end - start).T[..., None]
    side = dx * (polygons[..., 1] - start[:, 1:]) - dy * (polygons[..., 0] - start[:, :1])
    after, side_after = np.roll(polygons, -1, axis=1), np.roll(side, -1, axis=1)
    inside = side >= 0
    crossing = inside != (side_after >= 0)
    part = side / np.where(crossing, side - side_after, 1.0)
    cut = polygons + part[..., None] * (after - polygons)
    vertex = np.stack([polygons, cut], axis=2).reshape(len(polygons), 2 * side.shape[1], 2)
    kept = np.stack([inside, crossing], axis=2).reshape(side.shape[0], 2 * side.shape[1])
    width = int(kept.sum(axis=1).max(initial=1))
    first = vertex[np.arange(len(vertex)), kept.argmax(axis=1)]
    out = np.repeat(first[:, None, :], width, axis=1)
    n, v = np.nonzero(kept)
    out[n, (np.cumsum(kept, axis=1) - 1)[n, v]] = vertex[n, v]
    return out
