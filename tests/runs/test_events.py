from __future__ import annotations

import json

from stormcast_train.runs.events import EventLog, latest, read_events


def test_a_line_has_event_time_samples_and_attempt(tmp_path):
    EventLog(tmp_path, 3).write("train", 16, loss=0.5)
    line = json.loads((tmp_path / "events.jsonl").read_text())
    assert (line["event"], line["samples"], line["attempt"], line["loss"]) == ("train", 16, 3, 0.5)
    assert line["time"].endswith("Z")


def test_what_json_cannot_hold_is_null(tmp_path):
    EventLog(tmp_path, 1).write("validate", 16, **{"a/b/c": float("nan"), "d": {"e": float("inf")}})
    line = json.loads((tmp_path / "events.jsonl").read_text(), parse_constant=lambda text: 1 / 0)
    assert line["a/b/c"] is None
    assert line["d"] == {"e": None}


def test_a_line_cut_short_is_not_read_and_spoils_no_later_one(tmp_path):
    EventLog(tmp_path, 1).write("train", 8, loss=1.0)
    with open(tmp_path / "events.jsonl", "a") as handle:
        handle.write('{"event": "train", "samp')
    EventLog(tmp_path, 2).write("train", 16, loss=0.5)
    assert [event["samples"] for event in read_events(tmp_path)] == [8, 16]


def test_of_two_attempts_the_latest_counts(tmp_path):
    first, second = EventLog(tmp_path, 1), EventLog(tmp_path, 2)
    for samples in (8, 16, 24):
        first.write("train", samples, loss=1.0)
    for samples in (16, 24):
        second.write("train", samples, loss=2.0)
    first.write("validate", 16)
    assert [(event["samples"], event["loss"]) for event in latest(read_events(tmp_path), "train")] == [
        (8, 1.0),
        (16, 2.0),
        (24, 2.0),
    ]


def test_a_line_of_an_older_attempt_does_not_replace_a_newer_ones_though_it_was_written_later(tmp_path):
    first, second = EventLog(tmp_path, 1), EventLog(tmp_path, 2)
    second.write("train", 8, loss=2.0)
    first.write("train", 8, loss=1.0)
    second.write("train", 16, loss=3.0)
    second.write("train", 16, loss=4.0)  # the same attempt said it twice: the last word
    assert [event["loss"] for event in latest(read_events(tmp_path), "train")] == [2.0, 4.0]


def test_a_run_without_events_has_none(tmp_path):
    assert read_events(tmp_path) == []
