"""Whose clock is wrong: the fewest shifted series that explain every comparison."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product

from stormcast_train.audit.clock import Comparison

SUN = "sun"
MOST = 2  # sources that may be wrong at once
Shifts = tuple[tuple[str, float], ...]  # (source or source.variables, hours its stamps are late)


@dataclass(frozen=True)
class Culprit:
    """A source (`qpesums`), or a part of it (`qpesums.rain1h`), whose stamps are `lag_h` hours late
    (negative: early).
    """

    who: str
    lag_h: float


@dataclass(frozen=True)
class Finding:
    """What the comparisons say together.

    alternatives: sets of culprits that explain them equally well; empty where all agree. contradicted:
    comparisons that even those do not explain.
    """

    alternatives: tuple[tuple[Culprit, ...], ...]
    contradicted: int
    told: frozenset[str]

    def offsets(self) -> dict[str, float | None]:
        """By source that could be judged: hours its stamps are late; None where it may or may not be the
        culprit.
        """
        found: dict[str, float | None] = {}
        for source in sorted(self.told):
            said = {_of(source, alternative) for alternative in self.alternatives} or {0.0}
            found[source] = said.pop() if len(said) == 1 and not self.contradicted else None
        return found


def _of(source: str, culprits: Sequence[Culprit]) -> float:
    return next((c.lag_h for c in culprits if c.who == source or c.who.startswith(f"{source}.")), 0.0)


def culprits(comparisons: Sequence[Comparison]) -> Finding:
    """Who must be shifted for the comparisons that could tell to hold; the sun never is."""
    edges = [c for c in comparisons if c.verdict != "cannot tell"]
    nodes = {n for c in edges for n in (c.first, c.second)} - {SUN}
    told = frozenset(source_of(n) for n in nodes)
    wrong = [c for c in edges if c.verdict == "shifted"]
    if not wrong:
        return Finding((), 0, told)
    ranked: dict[tuple[int, int], list[tuple[float, Shifts]]] = {}
    for shifts in _hypotheses(
        sorted(nodes), sorted({sign * c.lag.step_h for c in wrong if c.lag for sign in (1, -1)})
    ):
        unexplained, misfit = _against(edges, dict(shifts))
        ranked.setdefault((unexplained, len(shifts)), []).append((misfit, shifts))
    unexplained, size = min(ranked)
    if unexplained >= len(wrong) or size == 0:
        return Finding((), len(wrong), told)
    return Finding(_distinct(ranked[unexplained, size]), unexplained, told)


def source_of(node: str) -> str:
    """`qpesums` of `qpesums.rain1h`."""
    return node.rsplit(".", 1)[0]


def _hypotheses(nodes: Sequence[str], shifts: Sequence[float]) -> Iterator[Shifts]:
    """Every choice of up to two sources, or parts of them, each with a shift."""
    sources = {source_of(n) for n in nodes}
    several = {s for s in sources if sum(source_of(n) == s for n in nodes) > 1}
    units = [*sorted(sources), *(n for n in nodes if source_of(n) in several)]
    yield ()
    for count in range(1, MOST + 1):
        for chosen in combinations(units, count):
            if len({source_of(u) if u not in sources else u for u in chosen}) == count:
                for hours in product(shifts, repeat=count):
                    yield tuple(zip(chosen, hours, strict=True))


def _against(edges: Sequence[Comparison], shifts: Mapping[str, float]) -> tuple[int, float]:
    """How many comparisons contradict these shifts, and by how many tolerances all miss them on average."""
    unexplained, misfit = 0, 0.0
    for edge in edges:
        assert edge.lag is not None
        first, second = (shifts.get(n, shifts.get(source_of(n), 0.0)) for n in (edge.first, edge.second))
        expected, slack = first - second, edge.tolerance_h
        unexplained += not edge.lag.low_h - slack <= expected <= edge.lag.high_h + slack
        misfit += abs(edge.lag.lag_h - expected) / slack
    return unexplained, misfit / len(edges)


def _distinct(found: Sequence[tuple[float, Shifts]]) -> tuple[tuple[Culprit, ...], ...]:
    """The best shift of each set of culprits; a whole source rather than the part of it that could be
    compared.
    """
    best: dict[tuple[str, ...], tuple[float, Shifts]] = {}
    for misfit, shifts in found:
        key = tuple(who for who, _ in shifts)
        if key not in best or misfit < best[key][0]:
            best[key] = (misfit, shifts)
    whole = [key for key in best if all("." not in who for who in key)]
    kept = [
        key
        for key in best
        if key in whole or not any(tuple(source_of(who) for who in key) == w for w in whole)
    ]
    ordered = sorted(kept, key=lambda key: best[key][0])
    return tuple(
        tuple(Culprit(who, hours) for who, hours in best[key][1]) for key in _plausible(ordered, best)
    )


def _plausible(
    keys: Sequence[tuple[str, ...]], best: Mapping[tuple[str, ...], tuple[float, Shifts]]
) -> Sequence[tuple[str, ...]]:
    """Where rain and reflectivity of one source disagree by an hour, the rain is stamped at the start of its
    hour.
    """
    for key in keys:
        ((who, hours), *rest) = best[key][1]
        same = {source_of(w) for k in keys for w in k} == {source_of(who)}
        if (
            not rest
            and len(keys) > 1
            and same
            and who.endswith((".rain1h", ".rain10m", ".rain5m"))
            and hours < 0
        ):
            return [key]
    return keys
