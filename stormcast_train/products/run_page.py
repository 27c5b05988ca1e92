"""`report.html` of a run: how it went, how good it is on the held-out cases, what those look like, and what
it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from stormcast_train.products import run_details, run_pictures
from stormcast_train.products.maps import save
from stormcast_train.products.report import Cell, Section, write_report
from stormcast_train.products.run_facts import RunFacts, sentences, verdicts
from stormcast_train.training.validation.case_fields import CaseFields, kept_cases, read_case

PROVENANCE = ("path", "fingerprint", "stage", "store", "regression", "seed", "commit", "weights_sha256")


def write_run_report(path: str | Path, out: Path | None = None, every: bool = False) -> Path:
    """Write the page of a run, finished or not, to `out` (its own `report.html` by default), atomically.

    The cases' maps stay beside their fields, `validation/SAMPLES/START.png`: those of the newest validation
    (a second or two each), or of `every` one, where they are not drawn yet.
    """
    run = RunFacts.of(path)
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        sections = [
            _summary(run),
            *_curves(run, folder),
            *_cases(run, folder, every),
            *_validations(run),
            _provenance(run),
        ]
        lead = f"The {run.stage} in {run.path}, {run.described['samples']:,} samples."
        return write_report(out or run.path / "report.html", "How did the training go?", lead, sections)


def _summary(run: RunFacts) -> Section:
    table = {name: verdicts(run, name) for name in run.variables()} if run.validated else {}
    header = (
        ("variable, newest validation", *(what for what, _, _ in next(iter(table.values())))) if table else ()
    )
    rows = tuple(
        (Cell(name), *(_cell(value, good) for _, value, good in found)) for name, found in table.items()
    )
    return Section("In short", tuple(sentences(run)), header, rows)


def _cell(value: float | None, good: bool | None) -> Cell:
    return Cell("-") if value is None else Cell(f"{value:.3g}", good)


def _curves(run: RunFacts, folder: Path) -> Iterator[Section]:
    if run.trained:
        caption = (
            "Every logged step (thin) and a running mean over a fortieth of them; the first 200 steps are "
            "all logged."
        )
        yield Section(
            "Training", images=((save(run_pictures.training(run), folder / "training.png"), caption),)
        )
    if not run.validated:
        yield Section("Validation", ("There was none yet, or the mix left no validation case.",))
        return
    by_samples = save(run_pictures.validation(run), folder / "validation.png")
    shown = run.variables()
    more = (
        f" The first {run_pictures.LINES} of {len(shown)} variables."
        if len(shown) > run_pictures.LINES
        else ""
    )
    images = [
        (
            by_samples,
            "Averaged weights on the same held-out cases each time, one step ahead. Dashed: the best "
            f"package.{more}",
        )
    ]
    if run_details.shown(run):
        images.append((save(run_details.details(run), folder / "details.png"), run_details.caption(run)))
    yield Section("Validation", images=tuple(images))


def _cases(run: RunFacts, folder: Path, every: bool) -> Iterator[Section]:
    """The fixed cases: the newest maps, and of the first case one member after more and more samples."""
    by_case: dict[str, list[tuple[int, Path]]] = {}
    for samples, paths in draw_cases(run.path, every).items():
        for path in paths:
            by_case.setdefault(path.stem, []).append((samples, path))
    images: list[tuple[Path, str]] = []
    for number, (name, found) in enumerate(sorted(by_case.items())):
        samples, newest = found[-1]
        if newest.with_suffix(".png").is_file():
            images.append((newest.with_suffix(".png"), f"After {samples:,} samples. Grey: masked."))
        if number == 0 and len(found) > 1:
            images += _strips([(after, read_case(path)) for after, path in found], folder, name)
    if images:
        yield Section("The same cases each time", images=tuple(images))


def _strips(read: list[tuple[int, CaseFields]], folder: Path, name: str) -> list[tuple[Path, str]]:
    found = []
    for variable in read[-1][1].variables:
        path = save(run_pictures.draw_strip(read, variable.name), folder / f"{name}_{variable.name}.png")
        found.append((path, "The same noise in every validation, so what changes is the network."))
    return found


def draw_cases(run: Path, every: bool) -> dict[int, list[Path]]:
    """Draw the newest validation's kept cases (or every one's) that have no PNG yet; the kept fields' paths
    by samples.
    """
    kept = kept_cases(run)
    for samples, paths in kept.items():
        for path in paths if every or samples == max(kept) else ():
            picture = path.with_suffix(".png")
            if not picture.is_file() or picture.stat().st_mtime_ns < path.stat().st_mtime_ns:
                run_pictures.draw_case(read_case(path), samples, picture)
    return kept


def _validations(run: RunFacts) -> Iterator[Section]:
    if run.validated:
        rows = tuple(_validation_row(event) for event in run.validated)
        yield Section("Validations", header=("samples", "seconds", "best so far", "vetoes broken"), rows=rows)


def _validation_row(event: dict[str, Any]) -> tuple[Cell, ...]:
    broken = event.get("vetoes") or []
    seconds = event.get("seconds")
    return (
        Cell(f"{event['samples']:,}"),
        Cell("-" if seconds is None else f"{seconds:.3g}"),
        Cell("yes" if event.get("best") else ""),
        Cell("; ".join(broken), False if broken else None, words=True),
    )


def _provenance(run: RunFacts) -> Section:
    facts = {
        key.replace("_", " "): run.described.get(key)
        for key in PROVENANCE
        if run.described.get(key) is not None
    }
    changes = [f"attempt {c['attempt']} at {c['samples']} samples" for c in run.described["code_changes"]]
    return Section("Provenance", facts=facts | ({"code changed": ", ".join(changes)} if changes else {}))
