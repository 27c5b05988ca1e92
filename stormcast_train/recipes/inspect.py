"""`stormcast inspect`: what a raw file, archive, store, run, package or
forecast holds. Never imports torch.
"""

from __future__ import annotations

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
Kind = Literal["store", "run", "package", "packages", "forecast", "archive", "file"]


class Config(Frozen):
    """Keys of `inspect`; `source` says how to read an archive, null: as where no word is given."""

    path: str
    source: SourceConfig | None = None
    verify: bool = False
    clock: bool = False
    period: str | None = None
    clock_hours: int = Field(default=480, ge=72)
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
    from stormcast_train.recipes._inspect_sentences import sentences

    described = describe(path, kind, config)
    if config.verify:
        described |= _verify(path, console)
    for line in sentences(described):
        console.show(line)
    if config.clock:
        described |= _clock(path, kind, config, console)
    if config.report:
        described |= {"reports": _reports(path, kind, console)}
    return described


def _source(config: Config) -> SourceConfig:
    """The source that was given, else the default one: composed only where an archive is looked at."""
    if config.source is not None:
        return config.source
    from stormcast_train.base.config import compose
    from stormcast_train.base.typed import typed

    return typed(SourceConfig, compose("inspect", [])["source"])


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
    if not path.exists():
        raise RequestError(f"{path} does not exist: check the path", path=str(path))
    if path.is_file():
        return "forecast" if _netcdf_forecast(path) else "file"
    from stormcast_train.runs.run import is_run
    from stormcast_train.store.describe_store import is_store

    if is_store(path):
        return "store"
    if is_run(path):
        return "run"
    if (path / "package.json").is_file():
        return "package"
    if any((path / which / "package.json").is_file() for which in ("best", "last")):
        return "packages"
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
            return {"forecast_reference_time", "realization", "forecast_period"} <= set(opened.dimensions)
    except OSError:
        return False  # the reader of raw files reports what is wrong with it


def describe(path: Path, kind: Kind, config: Config) -> dict[str, Any]:
    """The facts of what lies at the path."""
    if kind == "store":
        from stormcast_train.store.describe_store import describe_store

        return describe_store(path)
    if kind == "run":
        from stormcast_train.runs.run import describe_run

        return {"kind": "run", **describe_run(path)}
    if kind == "package":
        return {"kind": "package", "path": str(path), **read_json(path / "package.json")}
    if kind == "packages":
        held = sorted(found.parent for found in path.glob("*/package.json"))
        facts = {folder.name: read_json(folder / "package.json") for folder in held}
        return {"kind": "packages", "path": str(path), "packages": facts}
    if kind == "forecast":
        from stormcast_train.forecast.forecast_file import describe_forecast

        return {"path": str(path), **describe_forecast(path)}
    from stormcast_train.audit.describe_files import describe_file
    from stormcast_train.audit.describe_folder import describe_folder

    return describe_file(path, config.source) if kind == "file" else describe_folder(path, _source(config))


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
        path, kind, _source(config), period, config.clock_hours, console.progress
    )
    for line in clock_report.sentences(compared):
        console.show(line)
    return compared
