"""The ledger as people read it: tables of runs that can be compared, a sheet of one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import wrap

from stormcast_train.base.columns import aligned
from stormcast_train.runs.account import Cost
from stormcast_train.runs.ledger import Entry, Score, common_scores, comparable, differing, same_cases

SHEET = (
    "path", "stage", "state", "samples", "total_samples", "attempts", "seed", "fingerprint", "store",
    "regression", "commit",
    "weights_sha256",
)  # fmt: skip
NONE = "-"
HARD = "\N{NO-BREAK SPACE}"
LONGEST = 60  # characters of a key's value
INDENT, LEAST = "    ", 40  # characters that a line may have on the narrowest terminal
Columns = list[tuple[str, str, list[str]]]  # (group, header, a cell for each run)


def tables(runs: Sequence[Entry], width: int | None = None) -> str:
    """A table for all runs that can be compared, or, where it is wider than `width` characters (None: any
    width will do), a paragraph a run; then the warnings in full.
    """
    parts = []
    for found in comparable(runs):
        columns = _columns(found)
        lines = _table(columns, len(found))
        if width is not None and max(map(len, lines)) > width:
            lines = _paragraphs(columns, len(found), max(width, LEAST))
        parts.append("\n".join([*_wrapped(_headline(found), width), *lines]))
    sentences = [f"{run.path}: {remark.sentence}" for run in runs for remark in run.remarks]
    if sentences:
        parts.append("\n".join(line for text in sentences for line in _told(text, width)))
    return "\n\n".join(parts)


def _headline(runs: Sequence[Entry]) -> str:
    """The kind of stage, where it was trained, and what its scores are."""
    counted = f"{len(runs)} {runs[0].stage} run{'s' if len(runs) > 1 else ''}"
    places = [run.data.place for run in runs if run.data]
    place = places[0] if places else f"store {runs[0].keys.get('store', 'not recorded')}"
    scores = common_scores(runs)
    if not scores:
        return f"{counted} ({place}): no variable was validated in {'common' if len(runs) > 1 else 'it'} yet"
    names = {"crps_fair": "fair CRPS", "rmse": "RMSE"}
    of = " and ".join(dict.fromkeys(names[score.quantity] for score in scores))
    told = f"{counted} ({place}); {of} of the best package one step ahead on held-out hours"
    same = same_cases([run for run in runs if run.scores])
    return told if same else f"{told}, which are not the same for all of them"


def _columns(runs: Sequence[Entry]) -> Columns:
    scores, keys = common_scores(runs), differing(runs)
    cost: Columns = [
        ("cost", "time", [duration(run.cost.seconds) for run in runs]),
        ("cost", "samples/s", [_number(run.cost.samples_per_second) for run in runs]),
    ]
    for unit in dict.fromkeys(run.cost.unit for run in runs if run.cost.hours is not None):
        cost.append(
            ("cost", unit, [_number(run.cost.hours) if run.cost.unit == unit else NONE for run in runs])
        )
    return [
        ("", "run", [run.path for run in runs]),
        ("", "state", [run.described["state"] for run in runs]),
        ("", "samples", [_progress(run) for run in runs]),
        *(("scores", _header(score), [_cell(run, score) for run in runs]) for score in scores),
        *(("keys", key, [_cut(run.keys.get(key, NONE)) for run in runs]) for key in keys),
        ("", "warnings", [", ".join(r.word for r in run.remarks) or NONE for run in runs]),
        *cost,
    ]


def _header(score: Score) -> str:
    return f"{score.variable}, {score.units}" if score.units else score.variable


def _cell(run: Entry, like: Score) -> str:
    kinds = {(s.variable, s.quantity, s.units): s.value for s in run.scores}
    return _number(kinds.get((like.variable, like.quantity, like.units)))


def _cut(value: str) -> str:
    """Enough of a value to see that it differs; `--json` has all of it."""
    return value if len(value) <= LONGEST or value.startswith("/") else f"{value[: LONGEST - 3]}..."


def _progress(run: Entry) -> str:
    samples, total = run.described["samples"], run.described["total_samples"]
    return f"{samples}" if samples == total else f"{samples} of {total}"


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:.4g}"


def duration(seconds: float) -> str:
    """`42 s`, `3.5 min`, `2.1 h`, `4.0 days`."""
    for unit, length in (("days", 86400 * 2), ("h", 5400), ("min", 90)):
        if seconds >= length:
            return f"{seconds / {'days': 86400, 'h': 3600, 'min': 60}[unit]:.1f} {unit}"
    return f"{seconds:.0f} s"


def _table(columns: Columns, count: int) -> list[str]:
    heads = [header for _, header, _ in columns]
    return aligned([heads, *([cells[row] for _, _, cells in columns] for row in range(count))])


def _paragraphs(columns: Columns, count: int, width: int) -> list[str]:
    """A run's path, then its facts in lines of at most `width` characters; a longer word stays whole."""
    lines: list[str] = []
    for i in range(count):
        cells = [(group, header, found[i]) for group, header, found in columns]
        path, state, samples = (cell for _, _, cell in cells[:3])
        warned = next(cell for _, header, cell in cells if header == "warnings")
        lines += [path, f"{INDENT}{state}, {samples} samples"]
        for group in ("scores", "keys", "cost"):
            facts = [_fact(*cell) for cell in cells if cell[0] == group and cell[2] != NONE]
            lines += _wrapped(f"{INDENT}{group}: {'; '.join(facts)}" if facts else "", width, INDENT * 2)
        lines += _wrapped(f"{INDENT}warnings: {warned}" if warned != NONE else "", width, INDENT * 2)
    return lines


def _fact(group: str, header: str, cell: str) -> str:
    """A cell without its column: `t2m 1.25 K`, `optim.lr 0.002`, `0.438 CPU-hours`. Its spaces break no line
    unless it is long.
    """
    name, _, units = header.partition(", ")
    said = f"{cell} {header}" if group == "cost" else f"{name} {cell} {units}".rstrip()
    said = cell if header == "time" else said
    return said.replace(" ", HARD) if len(said) < LEAST - 2 * len(INDENT) else said


def _wrapped(text: str, width: int | None, indent: str = "") -> list[str]:
    if width is None or not text:
        return [text] if text else []
    lines = wrap(
        text, max(width, LEAST), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return [line.replace(HARD, " ") for line in lines]


def _told(sentence: str, width: int | None) -> list[str]:
    """A warning in lines; the commands below it stay whole, so that they can be pasted."""
    first, *commands = sentence.split("\n")
    return [*_wrapped(first, width, INDENT), *commands]


def sheet(run: Entry) -> str:
    """Everything about one run: what it is, what was left out, what it reached, cost and warned of."""
    described = run.described
    lines = [f"{key:<16}{described[key]}" for key in SHEET if described.get(key) is not None]
    for which, facts in described["packages"].items():
        chosen = f", by {facts['criterion']} = {facts['value']:.4g}" if facts.get("criterion") else ""
        lines.append(f"{'package/' + which:<16}at {facts.get('samples')} samples{chosen}")
    lines += [
        f"code changed at {c['samples']} samples (attempt {c['attempt']})" for c in described["code_changes"]
    ]
    lines.append(f"{'cost':<16}{_spent(run.cost)}")
    if run.data is not None:
        lines += [f"{'data' if n == 0 else '':<16}{said}" for n, said in enumerate(run.data.sentences())]
    lines += [f"{'warning':<16}{remark.sentence}" for remark in run.remarks]
    return "\n".join([*lines, *_metrics(described["metrics"])])


def _spent(cost: Cost) -> str:
    parts = [duration(cost.seconds)]
    if cost.samples_per_second is not None:
        parts.append(f"{cost.samples_per_second:.4g} samples/s")
    if cost.hours is not None:
        parts.append(f"{cost.hours:.3g} {cost.unit} ({cost.ranks} rank{'s' if cost.ranks > 1 else ''})")
    return ", ".join(parts)


def _metrics(metrics: Mapping[str, float | None]) -> list[str]:
    known = {name: value for name, value in sorted(metrics.items()) if value is not None}
    lines = [f"  {name:<44}{value:.5g}" for name, value in known.items() if ":" not in name]
    detailed = sum(":" in name for name in known)
    if detailed:
        by = "threshold, window, wavelength and distance from the edge"
        lines.append(f"  and {detailed} more by {by}: events.jsonl")
    return lines
