"""`stormcast inspect`: what a raw file, archive, store, run, package or
forecast holds. Never imports torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from stormcast_train.base.console import Console
from stormcast_train.base.errors import RequestError
from stormcast_train.base.files import read_json
from stormcast_train.base.frozen import Frozen
from stormcast_train.fields.times import Period
from stormcast_train.sources.config import SourceConfig

EXAMPLE = "stormcast inspect stores/taiwan_tiny --verify"
POSITIONAL: tuple[str, ...] = ("path",)
Kind = Literal["store", "run", "package", "forecast", "archive", "file"]
SHOWN = 12  # gaps, refusals and times listed before "and N more"


class Config(Frozen):
    """Keys of `inspect`; `source` says how to read an archive."""

    path: str
    source: SourceConfig
    verify: bool = False
    clock: bool = False
    period: str | None = None
    clock_hours: int = Field(default=240, ge=72)
    report: bool = False


def plan(config: Config) -> dict[str, Any]:
    """What would be looked at."""
    kind = kind_of(Path(config.path).expanduser())
    _check(config, kind)
    more = ""
    if config.verify:
        more += " and recompute its checksums"
    if config.clock:
        more += " and compare the clocks in it"
    if config.report:
        more += " and write its report.html"
    return {"would": [f"describe the {kind} {config.path}{more}"], "kind": kind}


def run(config: Config, console: Console) -> dict[str, Any]:
    """Describe the path; with `verify`, recompute a store's checksums; with `clock`, compare the clocks in
    it.
    """
    path = Path(config.path).expanduser()
    kind = kind_of(path)
    _check(config, kind)
    described = describe(path, kind, config.source)
    if config.verify:
        described |= _verify(path, console)
    for line in sentences(described):
        console.show(line)
    if config.clock:
        described |= _clock(path, kind, config, console)
    if config.report:
        described |= {"reports": _reports(path, kind, console)}
    return described


def _check(config: Config, kind: Kind) -> None:
    if config.verify and kind != "store":
        raise RequestError(
            f"--verify recomputes the checksums of a store, and {config.path} is a {kind}: leave it out"
        )
    if config.clock and kind not in ("archive", "store"):
        raise RequestError(
            f"--clock compares the sources of an archive or the roles of a store, and {config.path} is a "
            f"{kind}: leave it out"
        )
    if config.report and kind not in ("store", "run"):
        raise RequestError(
            f"report=true writes the page of a store or a run, and {config.path} is a {kind}: leave it out"
        )
    if config.period and not config.clock:
        raise RequestError("period= belongs to --clock: give both, or neither")


def kind_of(path: Path) -> Kind:
    """What lies at the path, judged by what it holds; RequestError where there is nothing."""
    from stormcast_train.runs.run import is_run
    from stormcast_train.store.describe_store import is_store

    if not path.exists():
        raise RequestError(f"{path} does not exist: check the path", path=str(path))
    if path.is_file():
        return "forecast" if _netcdf_forecast(path) else "file"
    if is_store(path):
        return "store"
    if is_run(path):
        return "run"
    if (path / "package.json").is_file():
        return "package"
    if (path / "forecast_reference_time").is_dir():
        return "forecast"
    return "file" if (path / "zarr.json").is_file() or (path / ".zgroup").is_file() else "archive"


def _netcdf_forecast(path: Path) -> bool:
    if path.suffix != ".nc":
        return False
    from netCDF4 import Dataset

    import stormcast_train.base.load_order  # noqa: F401

    try:
        with Dataset(path) as opened:
            return "forecast_reference_time" in opened.variables
    except OSError:
        return False  # the reader of raw files reports what is wrong with it


def describe(path: Path, kind: Kind, source: SourceConfig) -> dict[str, Any]:
    """The facts of what lies at the path."""
    if kind == "store":
        from stormcast_train.store.describe_store import describe_store

        return describe_store(path)
    if kind == "run":
        from stormcast_train.runs.run import describe_run

        return {"kind": "run", **describe_run(path)}
    if kind == "package":
        return {"kind": "package", "path": str(path), **read_json(path / "package.json")}
    if kind == "forecast":
        from stormcast_train.forecast.forecast_file import describe_forecast

        return {"path": str(path), **describe_forecast(path)}
    from stormcast_train.audit.describe_files import describe_archive, describe_file

    return describe_file(path) if kind == "file" else describe_archive(path, source)


def _verify(path: Path, console: Console) -> dict[str, Any]:
    from stormcast_train.store.describe_store import rows_of, verify_store
    from stormcast_train.store.reader import open_store

    store = open_store(path)
    with console.progress(f"verify {path}", rows_of(store)) as advance:
        found = verify_store(path, advance)
    console.say(f"all {found['planes']} planes have the checksums they were written with")
    return found


def _reports(path: Path, kind: Kind, console: Console) -> list[str]:
    """Write the page of the store or of the run, of both stages where it has both."""
    from stormcast_train.products.run_page import write_run_report
    from stormcast_train.products.store_page import write_store_report
    from stormcast_train.runs.run import RunDirectory, stages_in
    from stormcast_train.store.reader import open_store

    if kind == "store":
        written = [write_store_report(open_store(path), path)]
    else:
        places = (path, *(path / name for name in stages_in(path)))
        written = [write_run_report(place, every=True) for place in places if RunDirectory(place).exists]
    for page in written:
        console.say(f"wrote {page}")
    return [str(page) for page in written]


def _clock(path: Path, kind: Kind, config: Config, console: Console) -> dict[str, Any]:
    from stormcast_train.audit import clock_report

    period = Period.parse(config.period) if config.period else None
    compared = clock_report.compare_clocks(
        path, kind, config.source, period, config.clock_hours, console.progress
    )
    for line in clock_report.sentences(compared):
        console.show(line)
    return compared


def sentences(described: dict[str, Any]) -> Iterator[str]:
    """The description for a person."""
    of = f", fingerprint {described['fingerprint']}" if described.get("fingerprint") else ""
    yield f"{described.get('path')}: {described['kind']}{of}"
    if described["kind"] == "store":
        yield from _of_store(described)
    elif described["kind"] == "archive":
        yield from _of_archive(described)
    elif described["kind"].endswith("file"):
        yield from _of_file(described)
    else:
        for key, value in described.items():
            if key not in ("kind", "path", "fingerprint") and isinstance(value, str | int | float | bool):
                yield f"  {key}: {value}"
        yield from _of_residual(described)


def _of_residual(described: dict[str, Any]) -> Iterator[str]:
    """How the residual that a diffusion learns compares with that of held-out hours."""
    facts = described.get("facts") or described.get("packages", {}).get("last") or {}
    sampler = facts.get("sampler")
    if sampler:
        ratios = _ratios(sampler["variance_ratio"])
        yield f"  sampler: variance of draws over that with four times the steps: {ratios}"
    residual = facts.get("residual")
    if residual:
        ratios = _ratios(residual["ratio"])
        yield f"  residual's variance on training over held-out hours ({residual['from']}): {ratios}"


def _ratios(by_variable: dict[str, float]) -> str:
    return ", ".join(f"{name} {ratio:.3f}" for name, ratio in by_variable.items())


def _of_store(described: dict[str, Any]) -> Iterator[str]:
    from stormcast_train.store.layout import in_order

    yield f"  {described['bytes'] / 1e6:.1f} MB"
    for role in in_order(described["groups"]):
        yield from _of_role(role, described["groups"][role])
    yield from _refused(described.get("refused", {}))


def _of_role(role: str, group: dict[str, Any]) -> Iterator[str]:
    """Its grid and clock, its variables, its gaps."""
    times, when = group["times"], ""
    if role != "static":
        span = f"{times['count']} times {times['first']} to {times['last']}"
        when = f", {span} every {times['step_seconds']} s"
    yield f"  {role}: {_box(group['grid'])}{when}"
    for name in group["channels"]:
        facts = group["variables"][name]
        level = _level(group["moments"][name]["value"])
        rows, columns = group["grid"]["shape"]
        values = max(1, facts["times_available"] * rows * columns)
        present = (group["moments"][name]["value"].get("count") or 0) / values
        have = f"at {facts['times_available']} times, {_share(facts['covered_fraction'], present)}"
        yield f"    {name:<8} {facts['units']:<8} {level}; {have}"
    for gap in group["gaps"][:SHOWN]:
        until = "" if gap["last"] == gap["first"] else f" to {gap['last']}"
        detail = f" ({gap['details'][0]})" if gap["details"] else ""
        why = f"{', '.join(gap['variables'])}: {', '.join(gap['reasons'])}{detail}"
        yield f"    gap {gap['first']}{until}: {why}"
    yield from _more(group["gaps"], "gaps")


def _share(covered: float, present: float) -> str:
    """How much is there: of the cells at some time, and of all values where that is less (moving nests)."""
    cells = f"{100 * covered:.1f} % of the cells"
    return cells if present > covered - 5e-4 else f"{cells} at some time, {100 * present:.1f} % of the values"


def _box(grid: dict[str, Any]) -> str:
    (rows, columns), (south, north, west, east) = grid["shape"], grid["bounds"]
    return f"{rows} x {columns} points, {south:.3f}..{north:.3f} N {west:.3f}..{east:.3f} E"


def _level(facts: dict[str, Any]) -> str:
    """Mean and extremes; `nothing` where no value is there."""
    if facts.get("mean") is None:
        return "nothing"
    return f"mean {facts['mean']:.6g}, {facts['minimum']:.6g}..{facts['maximum']:.6g}"


def _of_archive(described: dict[str, Any]) -> Iterator[str]:
    for name, reader in described["readers"].items():
        yield f"  {name}: {reader['files']} files"
        for variable, span in reader["variables"].items():
            missing = ""
            if span["missing"]:
                missing = f", {len(span['missing'])} missing ({', '.join(span['missing'][:3])} ...)"
            yield f"    {variable:<8} {span['count']} times {span['first']} to {span['last']}{missing}"
        yield from _refused(reader["refused"])


def _of_file(described: dict[str, Any]) -> Iterator[str]:
    spacing = " x ".join(f"{s / 1000:.2f}" for s in described["grid"]["spacing_m"])
    yield f"  {_box(described['grid'])}, {spacing} km apart"
    yield f"  times: {', '.join(described['times'][:SHOWN]) or 'none'}"
    yield from _more(described["times"], "times")
    for name, facts in described["variables"].items():
        missing = f"{100 * facts['missing_fraction']:.1f} % missing"
        yield f"    {name:<8} {facts['units']:<8} {_level(facts)}; {missing}"


def _refused(refused: dict[str, str]) -> Iterator[str]:
    for name, reason in list(refused.items())[:SHOWN]:
        yield f"    refused {name}: {reason}"
    yield from _more(list(refused), "refused files")


def _more(items: list[Any], what: str) -> Iterator[str]:
    if len(items) > SHOWN:
        yield f"    and {len(items) - SHOWN} more {what}"
