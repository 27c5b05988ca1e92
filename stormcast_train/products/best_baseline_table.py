"""What a page and a terminal say of the best baselines: who beats whom, at which leads, how surely."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from stormcast_train.base.leads import lead_text
from stormcast_train.products.report import Cell, Section
from stormcast_train.verification.best_baseline import LEAST_SHARE, Against

NAMED = 6  # leads in one sentence
ROWS = 12  # leads of a variable in the table


def certainty(n_blocks: int, intervals: bool) -> str:
    """How sure the scores are, in a sentence."""
    if not intervals:
        return (
            f"The starts fall in {n_blocks} independent block(s) of dates: too few for intervals, so none "
            "are given."
        )
    return f"Intervals: 95 %, paired bootstrap over {n_blocks} blocks of start dates."


def sentences(found: Sequence[Against]) -> list[str]:
    """One sentence for every forecast of a variable that a baseline beats at some lead; one where none is."""
    said = []
    for (variable, forecast, score), group in groupby(found, lambda a: (a.variable, a.forecast, a.score)):
        leads = list(group)
        beaten = [against for against in leads if against.beaten]
        if beaten:
            listed = ", ".join(_won(against) for against in beaten[:NAMED])
            more = f" and {len(beaten) - NAMED} more" if len(beaten) > NAMED else ""
            said.append(
                f"{variable}: the best baseline beats the {forecast} ({score}) at {len(beaten)} of "
                f"{len(leads)} lead(s): {listed}{more}."
            )
    if found and not said:
        compared = ", ".join(dict.fromkeys(f"the {a.forecast} ({a.score})" for a in found))
        said.append(f"No baseline beats {compared} in any variable at any lead.")
    return said


def _won(against: Against) -> str:
    return f"{_lead(against.lead_seconds)} {against.baseline} ({_ratio(against)})"


def _lead(lead_seconds: int) -> str:
    return f"+{lead_text(lead_seconds, lead_seconds)}"


def _ratio(against: Against) -> str:
    ratio = f"{against.ratio:.2f}" if f"{against.ratio:.2f}" != "1.00" else f"{against.ratio:.4f}"
    if against.low is not None and against.high is not None:
        ratio += f" [{against.low:.2f}, {against.high:.2f}]"
    return ratio


def section(found: Sequence[Against], certain: str) -> Section:
    """The table by variable and lead: each forecast's score over the best baseline's, and whose that is."""
    columns = list(dict.fromkeys((a.forecast, a.score) for a in found))
    rows = [row for row in dict.fromkeys((a.variable, a.lead_seconds) for a in found) if row in _shown(found)]
    held = {(a.variable, a.lead_seconds, a.forecast, a.score): a for a in found}
    return Section(
        "Against the best baseline",
        (
            "Below 1 the forecast is better than the best baseline at that lead, above 1 the baseline wins; "
            "the baseline is named. Both are scored on the same starts and cells, and a share below 100 % is "
            f"that of the area on which both exist; with under {100 * LEAST_SHARE:.0f} % a baseline is not "
            "compared. An interval that holds 1 is not coloured. A single field's CRPS is its absolute error, "
            "so the dressed baselines are the ensemble's peers.",
            *sentences(found),
            certain,
        ),
        ("variable", "lead", *(f"{forecast} {score} / best baseline's" for forecast, score in columns)),
        tuple(
            (
                Cell(name),
                Cell(_lead(lead)),
                *(_cell(held.get((name, lead, *column))) for column in columns),
            )
            for name, lead in rows
        ),
    )


def _shown(found: Sequence[Against]) -> set[tuple[str, int]]:
    """At most ROWS leads of a variable, evenly spread, the first and the last among them."""
    shown: set[tuple[str, int]] = set()
    for variable in dict.fromkeys(a.variable for a in found):
        leads = sorted({a.lead_seconds for a in found if a.variable == variable})
        count = min(ROWS, len(leads))
        places = {round(i * (len(leads) - 1) / max(count - 1, 1)) for i in range(count)}
        shown |= {(variable, leads[place]) for place in places}
    return shown


def _cell(against: Against | None) -> Cell:
    if against is None:
        return Cell("-")
    share = f", {100 * against.share:.0f} % of the area" if against.share < 0.995 else ""
    open_question = against.low is not None and not against.certain
    return Cell(f"{_ratio(against)} {against.baseline}{share}", None if open_question else not against.beaten)
