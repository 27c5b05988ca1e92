"""`stormcast verify`: scores of a forecast against a store, with baselines, as a table, maps and one page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from stormcast_train.base.console import Console
from stormcast_train.base.errors import RequestError
from stormcast_train.base.files import read_json, write_json
from stormcast_train.base.fingerprint import digest
from stormcast_train.base.frozen import Frozen
from stormcast_train.base.provenance import code_fingerprint, version
from stormcast_train.base.seeds import generator
from stormcast_train.fields.times import Times, iso, seconds
from stormcast_train.verification.config import ScoreConfig

if TYPE_CHECKING:
    import xarray as xr

    from stormcast_train.products.score_page import Case
    from stormcast_train.recipes._baseline_inputs import BaselineInputs
    from stormcast_train.store.reader import Store
    from stormcast_train.verification.best_baseline import Against
    from stormcast_train.verification.cases import Analysis
    from stormcast_train.verification.table import Scoring

EXAMPLE = "stormcast verify forecast=forecast.nc store=stores/taiwan_tiny out=scores"
POSITIONAL: tuple[str, ...] = ()
RECORD = "verify.json"


class Config(Frozen):
    """Keys of `verify`."""

    score: ScoreConfig
    forecast: str
    store: str
    out: str
    run: str | None = None
    training_store: str | None = None
    error_starts: int = Field(24, ge=1)
    maps: int = Field(1, ge=1, le=20)


@dataclass(frozen=True, eq=False)
class Question:
    """What is to be scored, checked: the forecast fits the store, and every time it needs is there."""

    forecast: xr.Dataset
    store: Store
    analysis: Analysis
    run: str
    starts: Times
    lead_steps: tuple[int, ...]
    request: str

    def valid_times(self, start: np.datetime64) -> Times:
        return start + np.array(self.lead_steps) * self.analysis.step


def plan(config: Config) -> dict[str, Any]:
    """What would be scored, without torch."""
    question = ask(config)
    if done_before(config, question.request) is not None:
        return {"would": [f"do nothing: {config.out} holds these scores"], "done": True}
    members = question.forecast.sizes["realization"]
    size = f"{len(question.starts)} start(s), {len(question.lead_steps)} lead(s), {members} member(s)"
    names = ", ".join(question.analysis.variables)
    what = f"score {config.forecast} ({size}) in {names} against {config.store}"
    return {"would": [what, f"write scores and report into {config.out}"], "done": False}


def run(config: Config, console: Console) -> dict[str, Any]:
    """Score, draw, and write, unless it is done already."""
    import stormcast_train.base.load_order  # noqa: F401
    from stormcast_train.recipes._baseline_inputs import Asked, prepare

    question = ask(config)
    before = done_before(config, question.request)
    if before is not None:
        same_code = before["code"] == code_fingerprint()
        other = "" if same_code else " (made by other code than this; for new ones choose another out=)"
        page = Path(config.out) / "report.html"
        console.say(f"done already: {config.out} holds these scores{other}; see {page}")
        return {**before["result"], "done": True}
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / RECORD, {"request": question.request, "state": "begun"})
    asked = Asked(
        question.run,
        question.analysis,
        question.starts,
        question.lead_steps,
        config.score,
        config.training_store,
        config.error_starts,
    )
    inputs = prepare(asked, console)
    scoring, cases = score(config, question, inputs, console)
    result = publish(config, question, inputs, scoring, cases, console)
    write_json(
        out / RECORD,
        {"request": question.request, "state": "done", "code": code_fingerprint(), "result": result},
    )
    return {**result, "done": False}


def ask(config: Config) -> Question:
    """Open forecast and store and refuse what does not fit."""
    from stormcast_train.fields.grid import Grid
    from stormcast_train.forecast.forecast_file import open_forecast
    from stormcast_train.store.reader import open_store
    from stormcast_train.verification.cases import Analysis

    forecast, store = open_forecast(Path(config.forecast)), open_store(Path(config.store))
    names = tuple(str(name) for name in forecast.data_vars)
    analysis = Analysis(store, names, config.score.derived)
    config.score.check_names([*names, *config.score.derived])
    grid = Grid(
        np.asarray(forecast["lat"].values, np.float64), np.asarray(forecast["lon"].values, np.float64)
    )
    if grid.shape != analysis.grid.shape or not np.allclose(grid.bounds(), analysis.grid.bounds(), atol=1e-4):
        raise RequestError(
            f"the forecast {config.forecast} has a grid of {_box(grid)}, the store {config.store} one of "
            f"{_box(analysis.grid)}; verify against a store of the forecast's domain"
        )
    run = config.run or forecast.attrs.get("run")
    if not run:
        raise RequestError(
            f"the forecast {config.forecast} names no run: name the one to compare with, run=RUN"
        )
    starts = forecast["forecast_reference_time"].values.astype("datetime64[s]")
    lead_steps = _lead_steps(forecast, analysis.step)
    analysis.check(
        np.unique(np.concatenate([starts, (starts[:, None] + np.array(lead_steps) * analysis.step).ravel()]))
    )
    return Question(
        forecast, store, analysis, str(run), starts, lead_steps, _request(config, forecast, store, str(run))
    )


def _box(grid: Any) -> str:
    south, north, west, east = grid.bounds()
    return f"{grid.shape[0]} x {grid.shape[1]} points in {south:.4g}..{north:.4g} N, {west:.4g}..{east:.4g} E"


def _lead_steps(forecast: xr.Dataset, step: np.timedelta64) -> tuple[int, ...]:
    leads = forecast["forecast_period"].values.astype("timedelta64[s]")
    steps = leads / step
    if (steps != np.round(steps)).any() or (steps < 1).any():
        listed = ", ".join(str(lead) for lead in leads)
        raise RequestError(
            f"the forecast's leads ({listed}) are not whole steps of the store's {seconds(step)} s: verify "
            "against a store with the forecast's step"
        )
    return tuple(int(s) for s in steps)


def _request(config: Config, forecast: xr.Dataset, store: Store, run: str) -> str:
    """Digest of all that determines the scores."""
    from stormcast_train.forecast.chosen import open_header

    values = forecast.attrs.get("request") or digest(*(forecast[name].values for name in forecast.data_vars))
    asked = config.model_dump(mode="json", exclude={"out", "forecast", "store", "run"})
    return digest(values, store.fingerprint, open_header(run).fingerprint, asked)


def done_before(config: Config, request: str) -> dict[str, Any] | None:
    """The record of the same request, finished; another request's is a RequestError."""
    out, record = Path(config.out), Path(config.out) / RECORD
    if not record.is_file():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise RequestError(f"out={config.out} holds something else; choose another out=")
        return None
    held = read_json(record)
    if held["request"] != request:
        other = "another forecast, store, run or score config"
        raise RequestError(f"out={config.out} holds other scores ({other}); choose another out= or remove it")
    return dict(held) if held["state"] == "done" else None


def score(
    config: Config, question: Question, inputs: BaselineInputs, console: Console
) -> tuple[Scoring, list[Case]]:
    """Score every start; keep the fields of the starts that are drawn: those
    with most rain, else the first.
    """
    from stormcast_train.verification.aggregate import Aggregate
    from stormcast_train.verification.case_sums import measures
    from stormcast_train.verification.cases import score_start
    from stormcast_train.verification.compare import resampling
    from stormcast_train.verification.table import Facts, Scoring

    variables = question.analysis.variables
    measured = {
        name: measures(variable, question.analysis.grid, config.score) for name, variable in variables.items()
    }
    regions = _regions(config, question)
    aggregate = Aggregate(tuple(k * seconds(question.analysis.step) for k in question.lead_steps))
    drawn: list[tuple[float, Case]] = []
    with console.progress("verify", len(question.starts)) as advance:
        for number, start in enumerate(question.starts):
            case = fields_of(config, question, inputs, number)
            aggregate.add(
                start, score_start(start, case.truth, case.forecasts, measured, regions, config.score.seed)
            )
            drawn.append((_interest(case, question), case))
            drawn = sorted(drawn, key=lambda pair: -pair[0])[: config.maps]
            advance(1, iso(start))
    facts = Facts(inputs.driver_name, "hindcast", inputs.split)
    resampled = resampling(aggregate.times(), config.score.bootstrap, config.score.seed)
    return Scoring(aggregate, measured, resampled, facts), [case for _, case in drawn]


def _interest(case: Case, question: Question) -> float:
    amounts = [name for name, variable in question.analysis.variables.items() if variable.is_amount]
    return float(np.nanmean(np.nan_to_num(case.truth[amounts[0]]))) if amounts else 0.0


def _regions(config: Config, question: Question) -> dict[str, Any]:
    from stormcast_train.verification.stratify import region_masks

    static: dict[str, Any] = {}
    if "static" in question.store.roles:
        group = question.store.group("static")
        static = dict(zip(group.channels, group.read(np.array([0]))[0], strict=True))
    return region_masks(config.score.regions, static)


def fields_of(config: Config, question: Question, inputs: BaselineInputs, number: int) -> Case:
    """Truth, forecast and baselines of one start."""
    from stormcast_train.products.score_page import Case
    from stormcast_train.verification.cases import ensemble_forecasts
    from stormcast_train.verification.derived import with_derived

    start, analysis = question.starts[number], question.analysis
    valid = question.valid_times(start)
    values = question.forecast.isel(forecast_reference_time=number).load()
    members = {
        str(name): values[name].transpose("realization", "forecast_period", "y", "x").values
        for name in values.data_vars
    }
    forecasts = ensemble_forecasts(with_derived(members, config.score.derived), analysis.variables)
    size = values.sizes["realization"]
    forecasts |= inputs.baselines(start, valid, size, generator(config.score.seed, "dressing", iso(start)))
    return Case(start, valid, analysis.at(valid), forecasts)


def publish(
    config: Config,
    question: Question,
    inputs: BaselineInputs,
    scoring: Scoring,
    cases: list[Case],
    console: Console,
) -> dict[str, Any]:
    """Write scores.csv, scores.nc, the PNGs and report.html; returns the headline."""
    from stormcast_train.products import best_baseline_table, score_page
    from stormcast_train.verification import table
    from stormcast_train.verification.best_baseline import best_baselines
    from stormcast_train.verification.score_files import write_csv, write_netcdf

    out, scores, headline = Path(config.out), table.table(scoring), table.headline(scoring)
    provenance, against = _provenance(config, question), best_baselines(scoring)
    write_csv(scores, out / "scores.csv")
    write_netcdf(scores, out / "scores.nc", _attributes(provenance, inputs.notes))
    images = score_page.draw(scoring, scores, cases, question.analysis.grid, out)
    page = out / "report.html"
    score_page.write_page(page, scoring, headline, against, images, inputs.notes, provenance)
    intervals = len(scoring.resampling.weights) > 1
    for sentence in best_baseline_table.sentences(against):
        console.say(sentence)
    console.say(best_baseline_table.certainty(scoring.resampling.n_blocks, intervals))
    console.say(
        f"wrote {page} and {len(scores)} scores of {len(question.starts)} start(s) to {out / 'scores.csv'}"
    )
    return {
        "out": str(out), "report": str(page), "scores": str(out / "scores.csv"),
        "n_cases": len(question.starts),
        "n_blocks": scoring.resampling.n_blocks, "split": scoring.facts.split, "headline": headline,
        "baselines_ahead": [_ahead(one) for one in against if one.beaten],
    }  # fmt: skip


def _ahead(against: Against) -> dict[str, Any]:
    """For the JSON object, which has no infinity: the ratio is null where the baseline is perfect."""
    return {**vars(against), "ratio": against.ratio if np.isfinite(against.ratio) else None}


def _attributes(provenance: dict[str, str], notes: list[str]) -> dict[str, str]:
    """Attributes of scores.nc: what was scored, and what each baseline was made of."""
    from stormcast_train.verification.case_sums import WEIGHTING

    named = {key.replace(" ", "_"): str(value) for key, value in provenance.items()}
    return named | {"weighting": WEIGHTING, "how_it_was_scored": "\n".join(notes)}


def _provenance(config: Config, question: Question) -> dict[str, str]:
    """What was scored, by which code, and the command again."""
    return {
        "forecast": config.forecast, "store": config.store, "run": question.run,
        "package fingerprint": question.forecast.attrs.get("package_fingerprint", ""),
        "store fingerprint": question.store.fingerprint,
        "score": config.score.model_dump_json(), "stormcast-train": version(), "code": code_fingerprint(),
        "command": f"stormcast verify forecast={config.forecast} store={config.store} run={question.run} "
            f"out={config.out}",
    }  # fmt: skip
