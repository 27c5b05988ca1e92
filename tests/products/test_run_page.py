"""`report.html` of a run: what its events and kept cases say, in one page that opens offline."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stormcast_train.base.errors import RequestError
from stormcast_train.base.files import write_json
from stormcast_train.fields.grid import Grid
from stormcast_train.fields.variables import describe
from stormcast_train.products import run_details
from stormcast_train.products.holders import open_holder
from stormcast_train.products.run_facts import RunFacts, sentences, verdicts
from stormcast_train.products.run_page import write_run_report
from stormcast_train.runs.events import EventLog
from stormcast_train.runs.run import RunDirectory
from stormcast_train.sources.config import SourceConfig
from stormcast_train.training.validation.case_fields import CaseFields, case_path, write_case

GRID = Grid(np.linspace(22, 25, 8), np.linspace(120, 122, 6))
START = np.datetime64("2021-06-01T00", "s")
HOUR = np.timedelta64(3600, "s")
SOURCE = SourceConfig.model_validate({"name": "none", "readers": {}, "state": {}})


def case(start: np.datetime64, shift: float) -> CaseFields:
    """Four members, two of them kept, at +1 and +2 h; a member is the truth plus `shift`, a tenth of its
    number and no rain in the corner.
    """
    rng = np.random.default_rng(0)
    truth = {"rain1h": rng.gamma(1, 3, (2, 8, 6)), "t2m": 290 + rng.normal(size=(2, 8, 6))}
    members = {name: np.stack([field + shift + 0.1 * m for m in range(2)]) for name, field in truth.items()}
    variables = (describe("rain1h"), describe("t2m"))
    mean = {name: field + shift + 0.15 for name, field in truth.items()}
    return CaseFields(start, start + HOUR * np.arange(1, 3), GRID, variables, truth, mean, members, 4)


def validation(samples: int) -> dict[str, float]:
    quality = samples / 400
    found = {
        "diffusion/psd_ratio/t2m:20km": 0.4 * quality,
        "diffusion/fss/rain1h:5mm:20km": 0.3 * quality,
        "diffusion/frequency_bias/rain1h:20mm": 0.5,
    }
    for name in ("t2m", "rain1h"):
        found |= {
            f"diffusion/{q}/{name}": v
            for q, v in (
                ("denoising_loss", 1 - 0.4 * quality),
                ("crps_fair", 2 - quality),
                ("rmse", 3 - quality),
            )
        }
        found |= {
            f"diffusion/crps_skill/{name}": 0.4 * quality - 0.1,
            f"diffusion/spread_skill/{name}": 0.5 + 0.4 * quality,
        }
        found |= {
            f"diffusion/rmse/{name}@2h": 4 - quality,
            f"diffusion/inflow_rmse/{name}:0-20km": 3.5 - quality,
        }
    return found


@pytest.fixture
def run(tmp_path: Path) -> Path:
    path = tmp_path / "runs" / "mine"
    identity = {"fingerprint": "f" * 64, "stage": "diffusion", "total_samples": 400}
    RunDirectory(path).record(identity, {"science": {"seed": 0}, "site": {"store": "stores/tiny"}}, {})
    log = EventLog(path, 1)
    for samples in range(8, 401, 8):
        loss = 1 / np.sqrt(samples)
        facts = {"loss": loss, "loss/t2m": loss, "loss/rain1h": 2 * loss, "grad_norm": 0.3, "lr": 1e-3}
        log.write("train", samples, **facts, samples_per_second=80.0, data_wait_fraction=0.02)
        if samples % 200 == 0:
            broken = (
                [
                    "diffusion/spread_skill/t2m = 0.7 is outside 0.75..1.4 (train.veto "
                    "diffusion/spread_skill/*)"
                ]
                if samples == 200
                else []
            )
            log.write("validate", samples, **validation(samples), seconds=1.5, best=True, vetoes=broken)
            for day in range(2):
                start = START + 24 * day * HOUR
                write_case(case_path(path, samples, start), case(start, 400 / samples), {"samples": samples})
    log.write("done", 400)
    facts = {"samples": 400, "criterion": "diffusion/crps_skill", "value": 0.3, "vetoes": []}
    write_json(path / "package" / "best" / "package.json", {"facts": facts})
    return path


def test_the_page_holds_curves_maps_and_verdicts_in_one_file(run: Path) -> None:
    page = write_run_report(run).read_text()
    assert (run / "report.html").is_file()
    # training, validation, details; the newest map of two cases, and of the first a strip for each of two
    # variables
    assert len(re.findall(r'src="data:image/png;base64,', page)) == 3 + 2 + 2
    assert not re.search(r'src="(?!data:)|href=', page)
    assert "State: done, 400 of 400 samples" in page
    assert "Best package: at 400 samples, by diffusion/crps_skill = 0.3." in page
    assert "diffusion/spread_skill/t2m = 0.7 is outside 0.75..1.4" in page
    assert page.count('<td class="good">') >= 4


def test_the_maps_stay_beside_their_fields_and_are_drawn_once(run: Path) -> None:
    write_run_report(run)
    assert [p.parent.name for p in run.glob("validation/*/*.png")] == [
        "000000000400"
    ] * 2  # of the newest validation
    write_run_report(run, every=True)
    pictures = sorted(run.glob("validation/*/*.png"))
    assert [str(p.relative_to(run / "validation")) for p in pictures] == [
        f"{samples:012d}/2021-06-0{day}T0000.png" for samples in (200, 400) for day in (1, 2)
    ]
    before = [p.stat().st_mtime_ns for p in pictures]
    write_run_report(run, every=True)
    assert [p.stat().st_mtime_ns for p in pictures] == before


def test_the_verdict_says_what_is_well_and_what_is_not(run: Path) -> None:
    facts = RunFacts.of(run)
    told = {what: (value, good) for what, value, good in verdicts(facts, "t2m")}
    assert told["CRPS skill over the MAE of the deterministic forecast"] == (pytest.approx(0.3), True)
    assert told["spread-skill ratio"] == (pytest.approx(0.9), True)
    assert told["power over the truth's, worst octave"] == (pytest.approx(0.4), False)
    assert facts.newest("rmse", "t2m") == {"": 2.0, "@2h": 3.0}
    (speed,) = (s for s in sentences(facts) if "samples a second" in s)
    assert speed.startswith("Speed: 80 samples a second")


def test_a_run_that_has_not_validated_has_a_page_too(run: Path) -> None:
    shutil.rmtree(run / "validation")
    lines = [line for line in (run / "events.jsonl").read_text().splitlines() if '"validate"' not in line]
    (run / "events.jsonl").write_text("\n".join(lines[:3]) + "\n")
    shutil.rmtree(run / "package")
    page = write_run_report(run).read_text()
    assert "There was none yet" in page
    assert "No package has been chosen yet" in page


def test_a_runs_kept_cases_are_drawn_like_any_other_field(run: Path) -> None:
    holder = open_holder(run, SOURCE)
    assert holder.variables() == ("rain1h", "t2m")
    assert len(holder.times("t2m")) == 4
    shown = holder.at("t2m", START + 2 * HOUR)
    assert [s.title for s in shown] == ["truth", "mean of 4 members", "member 0", "member 1"]
    # of the newest validation: shift 400 / 400, and a tenth for member 1
    np.testing.assert_allclose(shown[3].values - shown[0].values, 1.1, atol=1e-4)
    assert [s.title for s in open_holder(run, SOURCE, member=1).at("t2m", START + HOUR)][1:] == [
        "mean of 4 members",
        "member 1",
    ]
    with pytest.raises(RequestError, match="it has 2021-06-01T00:00:00, 2021-06-02T00:00:00"):
        open_holder(run, SOURCE, start=START + HOUR)
    with pytest.raises(RequestError, match=r"keeps 2 member\(s\), not number 2"):
        open_holder(run, SOURCE, member=2)


def test_the_page_needs_no_torch(run: Path) -> None:
    code = f"import sys; from stormcast_train.products.run_page import write_run_report; write_run_report({str(run)!r}); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_inspect_writes_the_page(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from stormcast_train.cli import main

    assert main(["inspect", str(run), "report=true", "--json"]) == 0
    assert str(run / "report.html") in capsys.readouterr().out
    assert main(["inspect", str(run / "package" / "best"), "report=true"]) == 2


def facts_of(run: Path, keep) -> RunFacts:
    """The run's facts with the metrics of its newest validation that `keep` takes."""
    facts = RunFacts.of(run)
    newest = {k: v for k, v in facts.validated[-1].items() if "/" not in k or keep(k)}
    trained = [{k: v for k, v in e.items() if k != "loss/rain1h"} for e in facts.trained]
    return replace(facts, validated=[newest], trained=trained)


def test_without_rain_there_are_no_axes_and_no_note_of_thresholds(run: Path) -> None:
    titles = [axis.get_title(loc="left") for axis in run_details.details(RunFacts.of(run)).axes]
    assert {"FSS by window", "Frequency bias", "RMSE by lead (1: first step)"} <= set(titles)
    assert "Thresholds are amounts" in run_details.caption(RunFacts.of(run))
    dry = facts_of(run, lambda name: "rain1h" not in name and "@" not in name)
    titles = [axis.get_title(loc="left") for axis in run_details.details(dry).axes if axis.axison]
    assert titles == ["Power over the truth's", "RMSE by distance from the inflow edge (1: all)"]
    assert "Thresholds" not in run_details.caption(dry)


def test_leads_in_minutes_are_told_in_minutes_in_order(run: Path) -> None:
    facts = facts_of(run, lambda name: name == "diffusion/rmse/t2m")
    newest = facts.validated[-1] | {"diffusion/rmse/t2m@1h": 6.0, "diffusion/rmse/t2m@30min": 4.0}
    (axis,) = run_details.details(replace(facts, validated=[newest])).axes
    assert [text.get_text() for text in axis.get_xticklabels()] == ["first", "30min", "60min"]
    assert axis.lines[0].get_ydata().tolist() == [1.0, 2.0, 3.0]  # over the first step's 2


def test_a_page_repeats_the_warnings_that_hold(run: Path) -> None:
    EventLog(run, 1).write("warning", 400, message="the network has learned nothing: ...", about="learning")
    EventLog(run, 1).write("done", 400)
    assert "Warning: the network has learned nothing" in write_run_report(run).read_text()
