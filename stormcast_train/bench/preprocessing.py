"""`bench preprocess`: what preprocessing costs above the bare decode of the same bytes, with one worker and
with several.

Every number comes from processes of their own that take turns. CPU is user and system time of all processes
together.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from stormcast_train.base.errors import FailedError
from stormcast_train.base.files import plain
from stormcast_train.bench.bench_archive import VARIABLES, days, make
from stormcast_train.bench.config import PreprocessSizes
from stormcast_train.bench.result_rows import Measured
from stormcast_train.bench.scaling import predict
from stormcast_train.fields.grid import NativeDomain, RegularDomain
from stormcast_train.sources.config import SourceConfig

ROLES = ("state", "background")
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
MEGABYTE = 1e6
Report = Callable[[str], None]  # a sentence for the person
Answer = dict[str, Any]


@dataclass(frozen=True)
class Bench:
    """What is measured, and where."""

    archive: Path
    scratch: Path
    domain: RegularDomain | NativeDomain
    source: SourceConfig
    sizes: PreprocessSizes

    def task(self, kind: str, **more: Any) -> Answer:
        """A child's task on this archive."""
        about = {"domain": self.domain, "variables": VARIABLES, "source": self.source}
        models = {key: model.model_dump(mode="json") for key, model in about.items()}
        return {"kind": kind, "archive": self.archive, "start": self.sizes.start, **models, **more}

    def preprocess(self, workers: int, count: int, warm_up: int = 1, **more: Any) -> Answer:
        """A fresh store by a fresh process; the store is thrown away."""
        with TemporaryDirectory(prefix="store_", dir=self.scratch) as folder:
            task = self.task(
                "preprocess",
                store=Path(folder) / "store",
                workers=workers,
                days=count,
                warm_up=warm_up,
                **more,
            )
            return together([task])[0]

    def decode(self, processes: int, count: int) -> list[Answer]:
        """The bare decode of all these days in each of so many processes, which begin together."""
        return together([self.task("decode", days=count)] * processes)


@dataclass
class Repeats:
    """What the repeats of one run gave."""

    one: list[Answer] = field(default_factory=list)
    many: list[Answer] = field(default_factory=list)
    bare_one: list[Answer] = field(default_factory=list)
    bare_many: list[list[Answer]] = field(default_factory=list)
    spin_one: list[float] = field(default_factory=list)
    spin_many: list[float] = field(default_factory=list)


def together(tasks: Sequence[Answer]) -> list[Answer]:
    """Run the tasks in processes that wait for each other before they begin; FailedError where one
    dies.
    """
    environment = {**os.environ, **dict.fromkeys(ONE_THREAD, "1")}
    command = [sys.executable, "-c", "from stormcast_train.bench.child import main; main()"]
    started = [
        subprocess.Popen(
            [*command, json.dumps(task, default=plain)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for task in tasks
    ]
    try:
        for child in started:
            assert child.stdout is not None
            child.stdout.readline()
        answers = [_go(child) for child in started]
        return [_answer(child, read()) for child, read in zip(started, answers, strict=True)]
    finally:
        for child in started:
            child.kill()
            child.communicate()


def _go(child: subprocess.Popen[str]) -> Callable[[], str]:
    assert child.stdin is not None
    assert child.stdout is not None
    if child.poll() is None:
        child.stdin.write("go\n")
        child.stdin.flush()
    return child.stdout.read


def _answer(child: subprocess.Popen[str], printed: str) -> Answer:
    if child.wait():
        raise FailedError(
            f"a measuring process ended with exit code {child.returncode}; its message is above"
        )
    answer: Answer = json.loads(printed.splitlines()[-1])
    return answer


def measure(bench: Bench, report: Report) -> list[Measured]:
    """All cases."""
    sizes = bench.sizes
    whole = days(sizes.start, 1 + max(sizes.days, sizes.days_of_many))
    report(f"archive {bench.archive}: {whole}")
    stored = make(bench.archive, whole, sizes.spacing_m, sizes.workers)
    hours = int((whole.end - whole.start).astype("timedelta64[h]").astype(int))
    found = Repeats()
    for number in range(sizes.repeats):
        report(f"repeat {number + 1} of {sizes.repeats}")
        found.bare_one.append(bench.decode(1, sizes.days)[0])
        found.one.append(bench.preprocess(1, sizes.days))
        found.bare_many.append(bench.decode(sizes.workers, sizes.days_of_many))
        found.many.append(bench.preprocess(sizes.workers, sizes.days_of_many, hand_out=True))
        spin = {"kind": "spin", "seconds": sizes.spin_s}
        found.spin_one.append(together([spin])[0]["rate"])
        found.spin_many.append(sum(a["rate"] for a in together([spin] * sizes.workers)))
    lengths = sorted({1, sizes.days_of_many - 1, sizes.days_of_many + 1}) if sizes.days_of_many > 1 else ()
    peaks: dict[int, float] = {}
    for count in lengths:
        report(f"memory of {count} days")
        peaks[count] = bench.preprocess(1, count, warm_up=0)["peak_mib"]
    measured = [*_cost(found, sizes), *_of_many(found, sizes), *_memory(found, peaks)]
    measured += _node(found, sizes, sum(stored.values()) / hours)
    return [
        Measured(f"preprocess/{bench.domain.name}/{m.case}", m.value, m.unit, m.limit, m.sense, m.details)
        for m in measured
    ]


def _cost(found: Repeats, sizes: PreprocessSizes) -> list[Measured]:
    """One worker over the bare decode."""
    ours, bare = median(a["cpu"] for a in found.one), median(a["cpu"] for a in found.bare_one)
    by_role = {
        key: {r: _units(answers, r) for r in _roles(answers)}
        for key, answers in (("ours", found.one), ("bare", found.bare_one))
    }
    details = {
        "cpu_s": ours, "bare_cpu_s": bare, "wall_s": median(a["wall"] for a in found.one),
        "hours": 24 * sizes.days,
        "bare_wall_s": median(a["wall"] for a in found.bare_one), "cpu_s_a_day": by_role,
        "decoded_mb": sum(u["bytes"] for u in found.bare_one[0]["units"]) / MEGABYTE,
    }  # fmt: skip
    start_up = median(a["start_up_cpu"] for a in found.one) - ours / sizes.days
    return [
        Measured("CPU of 1 worker over the bare decode", ours / bare, "x", 1.5, "<=", details),
        Measured(
            "left out of it: imports, scan and weights",
            start_up,
            "s CPU",
            details={"with_warm_up_day_s": start_up + ours / sizes.days},
        ),
    ]


def _of_many(found: Repeats, sizes: PreprocessSizes) -> list[Measured]:
    """Several workers: CPU of a unit against that of the decode in as many processes; the clock beside pure
    arithmetic.
    """
    bare_many = [a for answers in found.bare_many for a in answers]
    ours, bare = [_day(found.one), _day(found.many, begun=True)], [_day(found.bare_one), _day(bare_many)]
    value = (ours[1] / bare[1]) / (ours[0] / bare[0])
    n = sizes.workers
    per_day = {
        "one": [_per_day(a, sizes.days) for a in found.one],
        "many": [_per_day(a, sizes.days_of_many) for a in found.many],
    }
    wall = {key: median(values) for key, values in per_day.items()}
    bare_wall = (
        median(_per_day(a, sizes.days) for a in found.bare_one),
        median(max(a["wall"] for a in answers) / (sizes.days_of_many * n) for answers in found.bare_many),
    )
    faster = {
        "pure arithmetic": median(found.spin_many) / median(found.spin_one),
        "bare decode": bare_wall[0] / bare_wall[1],
        "preprocess": wall["one"] / wall["many"],
    }
    details = {"cpu_s_a_day": {"ours": ours, "bare": bare}, "ratios": [ours[0] / bare[0], ours[1] / bare[1]]}
    walls = [
        Measured(f"{n} processes over 1, by the clock: {name}", times, "x faster")
        for name, times in faster.items()
    ]
    return [
        Measured(
            f"CPU of a unit with {n} workers over the decode's, in terms of 1 worker's",
            value,
            "x",
            1.05,
            "<=",
            details,
        ),
        *walls,
    ]


def _per_day(answer: Answer, count: int) -> float:
    return float(answer["wall"]) / count


def _units(answers: Sequence[Answer], role: str, begun: bool = False) -> float:
    """Median CPU of a unit of a role; `begun`: without the first of every process, which opens files and
    weights.
    """
    kept: list[float] = []
    every: list[float] = []
    for answer in answers:
        seen: set[int] = set()
        for unit in (u for u in answer["units"] if u["role"] == role):
            every.append(unit["cpu"])
            if not begun or unit["pid"] in seen:
                kept.append(unit["cpu"])
            seen.add(unit["pid"])
    return median(kept or every)


def _roles(answers: Sequence[Answer]) -> list[str]:
    """The kinds of units: a role's, and those of later passes over it."""
    return list(dict.fromkeys(u["role"] for a in answers for u in a["units"]))


def _day(answers: Sequence[Answer], begun: bool = False) -> float:
    """CPU of one unit of each role; what later passes do depends on what they find, and is in the whole."""
    return sum(_units(answers, role, begun) for role in ROLES)


def _every_unit(answers: Sequence[Answer], counted: int, wanted: int) -> list[float]:
    """The units of `wanted` days, each kind as often as in the `counted` days of every answer."""
    found: list[float] = []
    for role in _roles(answers):
        per_day = sum(u["role"] == role for a in answers for u in a["units"]) / (len(answers) * counted)
        found += [_units(answers, role)] * round(per_day * wanted)
    return found


def _memory(found: Repeats, peaks: Mapping[int, float]) -> list[Measured]:
    """Of a worker; and of one process by the days of its period, each from its start: once caches are full it
    grows no more.
    """
    peak = max(u["peak_mib"] for a in found.many for u in a["units"]) * 2**20 / MEGABYTE
    measured = [Measured("peak memory of a worker", peak, "MB", 1000.0)]
    if len(peaks) > 1:
        half, whole = sorted(peaks)[-2:]
        details = {f"mib_of_{count}_days": mib for count, mib in peaks.items()}
        measured.append(
            Measured(
                f"peak memory, {whole} days over {half}", peaks[whole] / peaks[half], "x", 1.05, "<=", details
            )
        )
    return measured


def _node(found: Repeats, sizes: PreprocessSizes, bytes_an_hour: float) -> list[Measured]:
    """What a node would do: from the cost of a unit, of handing it out, and of what one process does before
    and after.
    """
    count = round(365.25 * sizes.years)
    hand_out = median(a["hand_out_s"] for a in found.many)
    units = _every_unit(found.one, sizes.days, count)
    ours = predict(units, hand_out, sizes.processors)
    serial = median((a["cpu"] - sum(u["cpu"] for u in a["units"])) / sizes.days for a in found.one) * count
    seconds, total = ours.seconds + serial, bytes_an_hour * 24 * count
    details = {
        "units_s": ours.seconds, "before_and_after_s": serial, "archive_gb": total / 1e9,
        "needs_gb_per_s": total / 1e9 / seconds,
        "needs_gb_per_s_for_10_minutes": total / 1e9 / 600,
        "assumed_second_thread": _two_threads(units, hand_out, serial, sizes),
    }  # fmt: skip
    return [
        Measured("handing out a shard", 1e3 * hand_out, "ms CPU"),
        Measured(
            f"predicted efficiency on {sizes.processors} cores",
            ours.efficiency,
            "",
            0.95,
            ">=",
            {"units": len(units)},
        ),
        Measured(
            f"predicted for {sizes.years:g} years on {sizes.processors} cores",
            seconds / 60,
            "minutes",
            10.0,
            "<=",
            details,
        ),
    ]


def _two_threads(
    units: Sequence[float], hand_out: float, serial: float, sizes: PreprocessSizes
) -> dict[str, Any]:
    """The same with two hardware threads of a core at work, at an assumed gain, and how to measure that."""
    slower = [unit * 2 / sizes.threads_gain for unit in units]
    threads = predict(slower, hand_out, 2 * sizes.processors)
    command = (
        f"stormcast bench preprocess preprocess.workers={sizes.processors}, again with "
        f"preprocess.workers={2 * sizes.processors}: the second's row 'by the clock: bare decode' over the "
        "first's"
    )
    return {"gain": sizes.threads_gain, "seconds": threads.seconds + serial, "measure_with": command}
