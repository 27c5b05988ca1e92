"""Which files of an archive supply which valid time: names, folders, several times in a file, leads,
duplicates.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from stormcast_train.base.errors import RequestError, UnreadableError
from stormcast_train.fields.times import Period
from stormcast_train.sources import rwrp, wrf_archive
from stormcast_train.sources.config import RwrpReader
from stormcast_train.sources.wrf_file import parse_name

sys.path.insert(0, str(Path(__file__).resolve().parent))
import raw_wrf
from raw_wrf import SHAPE, rain

DAY = "2025-12-03"


def write(
    folder: Path,
    hours: list[int],
    start: int | None = None,
    t2m: float = 290.0,
    name: str | None = None,
    **more,
) -> Path:
    times = [f"{DAY}_{h:02d}:00:00" for h in hours]
    fields = {"T2": ("yx", np.full(SHAPE, t2m)), **more}
    return raw_wrf.write(
        folder / (name or f"wrfout_d02_{times[0]}"),
        fields,
        times,
        None if start is None else f"{DAY}_{start:02d}:00:00",
    )


def table(records) -> list[tuple[str, str, str]]:
    return [(str(r.time)[11:13], str(r.reference_time)[11:13], r.path.parent.name) for r in records]


def forecast(archive: Path, **more) -> rwrp.Rwrp:
    return rwrp.Rwrp("f", archive, RwrpReader(role="forecast", **more))


@pytest.mark.parametrize(
    ("name", "time", "kind"),
    [
        ("wrfout_d01_2021-06-01_00_interp", "2021-06-01T00:00:00", "interp"),
        ("wrfout_d02_2025-12-03_06:30:00", "2025-12-03T06:30:00", "wrfout"),
        ("wrfout_d02_2025-12-03_06_30_00", "2025-12-03T06:30:00", "wrfout"),
        ("wrfout_d02_2025-12-03_06%3A30%3A00", "2025-12-03T06:30:00", "wrfout"),
        ("wrfinput_d02_2025-12-03_06-30-00.nc", "2025-12-03T06:30:00", "wrfinput"),
        ("RWRP_2021-06-01_03_interp.nc4", "2021-06-01T03:00:00", "interp"),
        ("rwrf_d01_2021-06-01_03", "2021-06-01T03:00:00", "wrfout"),
    ],
)
def test_a_name_tells_time_and_kind(name, time, kind):
    named = parse_name(Path(name))
    assert named is not None
    assert (str(named.stamp), named.kind) == (time, kind)


def test_each_time_of_a_file_is_a_record_also_between_files_of_one_time(tmp_path):
    folder = tmp_path / "RWRF"
    write(folder, [0])
    write(folder, [1, 2, 3, 4])
    write(folder, [5])
    source = rwrp.Rwrp("r", tmp_path)
    records, refusals = source.scan()
    assert [str(r.time)[11:13] for r in records] == ["00", "01", "02", "03", "04", "05"]
    assert not refusals
    assert str(source.read(records[3], ["t2m"]).valid_time.values)[:13] == f"{DAY}T03"
    inside, _ = source.scan(Period.parse(f"{DAY}T02/{DAY}T04"))
    assert [str(r.time)[11:13] for r in inside] == ["02", "03"], (
        "a file that begins before the period reaches into it"
    )


def headers_opened(archive: Path, monkeypatch) -> list[str]:
    opened: list[str] = []
    plain = wrf_archive.read_header
    monkeypatch.setattr(
        wrf_archive,
        "read_header",
        lambda path, levels: opened.append(path.name[22:24]) or plain(path, levels),
    )
    assert len(rwrp.Rwrp("r", archive).scan()[0]) == 8
    return opened


def test_of_interp_files_only_the_first_and_last_header_is_opened(tmp_path, monkeypatch):
    for hour in range(8):
        write(tmp_path / "rwrf", [hour], name=f"wrfout_d02_{DAY}_{hour:02d}_interp")
    assert headers_opened(tmp_path, monkeypatch) == ["00", "07"]


def test_of_raw_files_those_that_are_larger_than_one_time_are_opened_too(tmp_path, monkeypatch):
    for hour in (0, 1, 2, 6, 7):
        write(tmp_path / "rwrf", [hour])
    several = write(tmp_path / "rwrf", [3, 4, 5])
    monkeypatch.setattr(
        wrf_archive, "_size", lambda path: 29_000_000 if path == several else 10_000_000
    )  # as large as real ones
    assert headers_opened(tmp_path, monkeypatch) == ["00", "07", "03"]


def test_the_name_is_the_first_time_of_its_file(tmp_path):
    write(tmp_path / "rwrf", [2, 3, 4], name=f"wrfout_d02_{DAY}_03:00:00")
    source = rwrp.Rwrp("r", tmp_path)
    (record,), _ = source.scan()
    with pytest.raises(UnreadableError, match=r"named for 2025-12-03T03:00:00.*02:00:00"):
        source.read(record, ["t2m"])
    with pytest.raises(UnreadableError, match="named for"):
        rwrp.read(record.path, ["t2m"])


def test_files_of_one_time_are_used_in_the_documented_order(tmp_path):
    folder = tmp_path / "rwrf"
    write(folder / "2025120300", [3])
    write(folder / "2025120303", [3])
    write(folder / "2025120303", [3], name=f"wrfinput_d02_{DAY}_03:00:00")
    write(folder / "2025120302", [3], name=f"wrfout_d02_{DAY}_03_interp")
    records, _ = rwrp.Rwrp("r", tmp_path).scan()
    assert [(r.path.parent.name[-2:], r.path.name[:8] + r.path.name[-6:]) for r in records] == [
        ("02", "wrfout_d" + "interp"),
        ("03", "wrfout_d" + ":00:00"),
        ("00", "wrfout_d" + ":00:00"),
        ("03", "wrfinput" + ":00:00"),
    ]


def test_a_forecast_takes_the_shortest_lead_of_each_time(tmp_path):
    for start in (0, 3):
        for hour in (3, 4, 5):
            write(tmp_path / "RWRF" / f"20251203{start:02d}", [hour], start)
    assert table(forecast(tmp_path).scan()[0]) == [
        ("03", "03", "2025120303"),
        ("03", "00", "2025120300"),
        ("04", "03", "2025120303"),
        ("04", "00", "2025120300"),
        ("05", "03", "2025120303"),
        ("05", "00", "2025120300"),
    ]
    chosen, _ = forecast(tmp_path, lead_from="1h", lead_to="4h").scan()
    assert table(chosen) == [
        ("03", "00", "2025120300"),
        ("04", "03", "2025120303"),
        ("04", "00", "2025120300"),
        ("05", "03", "2025120303"),
    ]


def test_a_forecast_without_a_start_in_the_file_takes_that_of_its_folder(tmp_path):
    write(tmp_path / "RWRF" / "2025120300", [6])
    write(tmp_path / "RWRF" / "new", [7])
    write(tmp_path / "RWRF" / "2025120309", [8])
    records, refusals = forecast(tmp_path).scan()
    assert table(records) == [("06", "00", "2025120300")]
    assert {r.path.parent.name: r.reason.split(" reference time")[0] for r in refusals} == {
        "new": "it has no",
        "2025120309": "its time lies before its own",
    }


def test_several_leads_in_one_file_have_one_reference_time(tmp_path):
    write(tmp_path / "RWRF", [0, 1, 2], 0)
    records, _ = forecast(tmp_path, lead_from="1h").scan()
    assert table(records) == [("01", "00", "RWRF"), ("02", "00", "RWRF")]
    assert forecast(tmp_path).role == "forecast"


def test_the_rain_of_a_forecast_needs_the_hour_before_of_the_same_run(tmp_path):
    write(tmp_path / "RWRF" / "2025120300", [3], 0, **rain(9.0))
    write(tmp_path / "RWRF" / "2025120300", [4], 0, **rain(10.0))
    write(tmp_path / "RWRF" / "2025120304", [4], 4, **rain(0.0))
    write(tmp_path / "RWRF" / "2025120304", [5], 4, **rain(2.0))
    source = forecast(tmp_path)
    records = [r for r in source.scan()[0] if "rain1h" in r.names]
    assert table(records) == [("04", "00", "2025120300"), ("05", "04", "2025120304")], (
        "a run's first time has no hour before"
    )
    assert [float(source.read(r, ["rain1h"]).rain1h[0, 0]) for r in records] == [1.0, 2.0]
    later, _ = forecast(tmp_path, lead_from="4h").scan()
    assert [t for t in table(later) if t[0] == "04"] == [("04", "00", "2025120300")] * 2, (
        "fields, and rain from a lead not chosen"
    )


def test_a_lead_of_an_analysis_is_refused_for_forecasts(tmp_path):
    with pytest.raises(RequestError, match=r"lead_from"):
        forecast(tmp_path, lead="1h")
    with pytest.raises(RequestError, match="duration"):
        forecast(tmp_path, lead_to="soon")
    with pytest.raises(RequestError, match="lead_to=1h is shorter"):
        forecast(tmp_path, lead_from="2h", lead_to="1h")


def test_an_unreadable_forecast_file_is_refused_with_a_reason(tmp_path):
    write(tmp_path / "RWRF", [0], 0)
    path = write(tmp_path / "RWRF", [1], 0)
    path.write_bytes(path.read_bytes()[:3000])
    records, refusals = forecast(tmp_path).scan()
    assert len(records) == 1
    assert [r.path for r in refusals] == [path]
