"""What a person sees goes to stderr, at each tenth in a log file, and the answer alone to stdout."""

from __future__ import annotations

import pytest

from stormcast_train.base.console import Console


def lines(capsys: pytest.CaptureFixture[str]) -> tuple[list[str], list[str]]:
    """What was written to stdout and to stderr since the last look."""
    found = capsys.readouterr()
    return found.out.splitlines(), found.err.splitlines()


def test_in_a_log_file_a_line_appears_with_the_first_unit_and_at_each_tenth(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Console().progress("shards", 25) as advance:
        for n in range(25):
            advance(1, f"day {n}")
    # tenths of 25 are passed at 3, 5, 8, 10, 13, 15, 18, 20, 23, 25
    out, err = lines(capsys)
    assert out == []
    assert [line.split()[1] for line in err] == [f"{n}/25" for n in (1, 3, 5, 8, 10, 13, 15, 18, 20, 23, 25)]
    assert err[1] == "shards: 3/25 day 2"


def test_several_units_at_once_are_one_line_and_nothing_to_do_is_none(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Console().progress("rows", 100) as advance:
        advance(35)
        advance(4)
        advance(1)
    with Console().progress("nothing", 0) as advance:
        advance()
    assert lines(capsys)[1] == ["rows: 35/100", "rows: 40/100"]


def test_an_answer_is_on_stdout_unless_an_object_is_and_sentences_never_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for console, answered in ((Console(), True), (Console(json=True), False)):
        console.say("a [b] sentence")
        console.show("the answer")
        assert lines(capsys) == (
            (["the answer"], ["a [b] sentence"]) if answered else ([], ["a [b] sentence", "the answer"])
        )
    Console(quiet=True).say("nothing")
    assert lines(capsys) == ([], [])
