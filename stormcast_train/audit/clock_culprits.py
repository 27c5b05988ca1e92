"""Whose clock is wrong: the fewest shifted series that explain every comparison."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, product

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
    """What the comparisons show together.

    alternatives: sets of culprits that explain them equally well; empty where all agree. contradicted:
    comparisons that even those do not explain. judged: the sources in a comparison with a verdict.
    """

    alternatives: tuple[tuple[Culprit, ...], ...]
    contradicted: int
    judged: frozenset[str]

    def offsets(self) -> dict[str, float | None]:
        """By source that could be judged: hours its stamps are late; None where it may or may not be the
        culprit.
        """
        found: dict[str, float | None] = {}
        for source in sorted(self.judged):
            lags_h = {_of(source, alternative) for alternative in self.alternatives} or {0.0}
            found[source] = lags_h.pop() if len(lags_h) == 1 and not self.contradicted else None
        return found


def _of(source: str, culprits: Sequence[Culprit]) -> float:
    return next((c.lag_h for c in culprits if c.who == source or c.who.startswith(f"{source}.")), 0.0)


def culprits(comparisons: Sequence[Comparison]) -> Finding:
    """Who must be shifted for the comparisons with a verdict to hold; the sun never is."""
    edges = [c for c in comparisons if c.verdict != "cannot tell"]
    nodes = ({c.first for c in edges} | {c.second for c in edges}) - {SUN}
    judged = frozenset(source_of(n) for n in nodes)
    wrong = [c for c in edges if c.verdict == "shifted"]
    if not wrong:
        return Finding((), 0, judged)
    ranked: dict[tuple[int, int], list[tuple[float, Shifts]]] = {}
    lags_h = {c.lag.step_h for c in wrong if c.lag}
    for shifts in _hypotheses(sorted(nodes), sorted(lags_h | {-lag_h for lag_h in lags_h})):
        unexplained, misfit = _against(edges, dict(shifts))
        ranked.setdefault((unexplained, len(shifts)), []).append((misfit, shifts))
    unexplained, size = min(ranked)
    if unexplained >= len(wrong) or size == 0:
        return Finding((), len(wrong), judged)
    return Finding(_distinct(ranked[unexplained, size]), unexplained, judged)


def source_of(node: str) -> str:
    """`qpesums` of `qpesums.rain1h`."""
    return node.rsplit(".", 1)[0]


def _hypotheses(nodes: Sequence[str], shifts: Sequence[float]) -> Iterator[Shifts]:
    """Every choice of up to two sources, or parts of them, each with a shift."""
    sources = {source_of(n) for n in nodes}
    count_of = Counter(source_of(n) for n in nodes)
    several = {source for source in sources if count_of[source] > 1}
    units = [*sorted(sources), *(n for n in nodes if source_of(n) in several)]
    yield ()
    for count in range(1, MOST + 1):
        for chosen in combinations(units, count):
            owners = {unit if unit in sources else source_of(unit) for unit in chosen}
            if len(owners) == count:
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
    whole = {key for key in best if not any("." in who for who in key)}
    kept = [key for key in best if key in whole or tuple(map(source_of, key)) not in whole]
    ordered = sorted(kept, key=lambda key: best[key][0])
    return tuple(_culprits_of(best[key][1]) for key in _plausible(ordered, best))


def _culprits_of(shifts: Shifts) -> tuple[Culprit, ...]:
    return tuple(Culprit(who, hours) for who, hours in shifts)


def _plausible(
    keys: Sequence[tuple[str, ...]], best: Mapping[tuple[str, ...], tuple[float, Shifts]]
) -> Sequence[tuple[str, ...]]:
    """Where rain and reflectivity of one source disagree by an hour, the rain is stamped at the start of its
    hour.
    """
    sources = set(map(source_of, chain.from_iterable(keys)))
    if len(keys) < 2 or len(sources) != 1:
        return keys
    for key in keys:
        ((who, hours), *rest) = best[key][1]
        if not rest and hours < 0 and who.endswith((".rain1h", ".rain10m", ".rain5m")):
            return [key]
    return keys
