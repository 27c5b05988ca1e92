"""An hour's rain of raw files: the difference within one run, and everything that must not be differenced."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from stormcast_train.base.errors import UnreadableError
from stormcast_train.sources import rwrp
from stormcast_train.sources.config import RwrpReader
from stormcast_train.sources.source import Record

sys.path.insert(0, str(Path(__file__).resolve().parent))
import raw_wrf
from raw_wrf import LAT, SHAPE, rain

RUN = "2021-06-01_00:00:00"


def name(hour: int) -> str:
    return f"wrfout_d02_2021-06-01_{hour:02d}:00:00"


def stamp(hour: int) -> str:
    return f"2021-06-01_{hour:02d}:00:00"


def hour_file(folder: Path, hour: int, mm: float, start: str | None = RUN, **more) -> Path:
    fields = {"T2": ("yx", np.full(SHAPE, 290.0)), **rain(mm), **more.pop("fields", {})}
    return raw_wrf.write(folder / name(hour), fields, [stamp(hour)], start, **more)


def rain_record(source: rwrp.Rwrp, hour: int) -> Record:
    (record,) = [
        r for r in source.scan()[0] if "rain1h" in r.names and str(r.time) == f"2021-06-01T{hour:02d}:00:00"
    ]
    return record


def rain_at(archive: Path, hour: int, reader: RwrpReader | None = None) -> np.ndarray:
    source = rwrp.Rwrp("r", archive, reader)
    return source.read(rain_record(source, hour), ["rain1h"]).rain1h.values


def test_rain_is_the_difference_of_an_hour_in_one_file(tmp_path):
    fields = {
        **rain(1.0, 3.5, 9.0),
        **rain(0.0, 0.25, 0.25, name="RAINC"),
        **rain(0.0, 0.0, 0.5, name="RAINSH"),
    }
    path = raw_wrf.write(tmp_path / "rwrf" / name(1), fields, [stamp(h) for h in (1, 2, 3)], RUN)
    np.testing.assert_allclose(rwrp.read(path, ["rain1h"], "2021-06-01T02").rain1h, 2.75)  # 2.5 + 0.25
    np.testing.assert_allclose(rain_at(tmp_path, 3), 6.0)  # 5.5 + 0 + 0.5
    with pytest.raises(UnreadableError, match="00:00:00"):
        rwrp.read(path, ["rain1h"], "2021-06-01T01")


def test_rain_is_the_difference_of_two_files_of_one_run(tmp_path):
    hour_file(tmp_path / "rwrf", 4, 2.0)
    path = hour_file(tmp_path / "rwrf", 5, 7.0)
    np.testing.assert_allclose(rain_at(tmp_path, 5), 5.0)
    np.testing.assert_allclose(rwrp.read(path, ["rain1h"]).rain1h, 5.0)


def test_the_hour_before_may_end_a_file_of_several_times(tmp_path):
    raw_wrf.write(tmp_path / "rwrf" / name(1), rain(0.0, 1.0, 4.0), [stamp(h) for h in (1, 2, 3)], RUN)
    hour_file(tmp_path / "rwrf", 4, 4.5)
    np.testing.assert_allclose(rain_at(tmp_path, 4), 0.5)


def test_the_hour_before_may_lie_in_another_folder(tmp_path):
    hour_file(tmp_path / "rwrf" / "2021-06-01_04", 4, 2.0)
    hour_file(tmp_path / "rwrf" / "2021-06-01_05", 5, 7.0)
    np.testing.assert_allclose(rain_at(tmp_path, 5), 5.0)


def test_buckets_are_counted(tmp_path):
    tips = {"I_RAINNC": ("yx", np.full(SHAPE, 2.0))}
    hour_file(tmp_path / "rwrf", 4, 90.0, fields={"I_RAINNC": ("yx", np.full(SHAPE, 1.0))}, BUCKET_MM=100.0)
    hour_file(tmp_path / "rwrf", 5, 5.0, fields=tips, BUCKET_MM=100.0)
    np.testing.assert_allclose(rain_at(tmp_path, 5), 15.0, rtol=1e-5)  # 205 - 190
    hour_file(tmp_path / "rwrf", 5, 95.0, BUCKET_MM=100.0)
    with pytest.raises(UnreadableError, match="I_RAINNC"):
        rain_at(tmp_path, 5)


def test_rain_of_different_cycles_is_never_differenced(tmp_path):
    hour_file(tmp_path / "rwrf" / "2021060104", 4, 2.0, "2021-06-01_04:00:00")
    hour_file(tmp_path / "rwrf" / "2021060105", 5, 7.0, "2021-06-01_05:00:00")
    with pytest.raises(UnreadableError, match=r"04:00:00.*not 2021-06-01T05:00:00.*across runs"):
        rain_at(tmp_path, 5)


def test_files_that_do_not_tell_their_run_are_not_differenced(tmp_path):
    hour_file(tmp_path / "rwrf", 4, 2.0, None)
    hour_file(tmp_path / "rwrf", 5, 7.0, None)
    with pytest.raises(UnreadableError, match="does not hold the start of its run"):
        rain_at(tmp_path, 5)


def test_a_refused_rain_does_not_cost_the_other_fields(tmp_path):
    hour_file(tmp_path / "rwrf", 4, 9.0)
    hour_file(tmp_path / "rwrf", 5, 7.0)
    source = rwrp.Rwrp("r", tmp_path)
    records = [r for r in source.scan()[0] if str(r.time) == "2021-06-01T05:00:00"]
    assert ["rain1h" in r.names for r in records] == [False, True]
    np.testing.assert_allclose(source.read(records[0], ["t2m"]).t2m, 290)
    with pytest.raises(UnreadableError, match=r"12 cells have less rain.*by 2 mm"):
        source.read(records[1], ["rain1h"])


def test_what_rounding_leaves_below_nothing_is_no_rain(tmp_path):
    hour_file(tmp_path / "rwrf", 4, 9.0)
    hour_file(tmp_path / "rwrf", 5, 8.9995)  # float32 accumulations: half a thousandth of a millimetre
    np.testing.assert_array_equal(rain_at(tmp_path, 5), 0)
    hour_file(tmp_path / "rwrf", 6, 8.998)
    with pytest.raises(UnreadableError, match="12 cells have less rain than an hour before"):
        rain_at(tmp_path, 6)


def test_rain_is_offered_only_where_the_archive_has_the_hour_before(tmp_path):
    for hour in (3, 4, 7):
        hour_file(tmp_path / "rwrf", hour, float(hour))
    offered = [str(r.time)[11:13] for r in rwrp.Rwrp("r", tmp_path).scan()[0] if "rain1h" in r.names]
    assert offered == ["04"]


def test_a_moving_nest_is_not_differenced(tmp_path):
    moved = {"XLAT": ("yx", np.stack([LAT, LAT + 0.02]))}
    path = raw_wrf.write(
        tmp_path / name(4), {**rain(1.0, 2.0), **moved}, [stamp(4), stamp(5)], RUN, fixed=("XLONG",)
    )
    with pytest.raises(UnreadableError, match="the nest moves"):
        rwrp.read(path, ["rain1h"], "2021-06-01T05")
    hour_file(tmp_path / "rwrf", 4, 1.0)
    hour_file(tmp_path / "rwrf", 5, 2.0, fields={"XLAT": ("yx", LAT + 0.02)})
    with pytest.raises(UnreadableError, match="the nest moves"):
        rain_at(tmp_path, 5)


def test_cycles_put_into_one_file_are_told_by_their_minutes(tmp_path):
    for minutes, fine in (((60.0, 120.0), True), ((0.0, 0.0), False)):
        fields = {**rain(1.0, 2.0), "XTIME": ("", np.array(minutes))}
        path = raw_wrf.write(tmp_path / name(4), fields, [stamp(4), stamp(5)], RUN)
        if fine:
            np.testing.assert_allclose(rwrp.read(path, ["rain1h"], "2021-06-01T05").rain1h, 1.0)
        else:
            with pytest.raises(UnreadableError, match="XTIME is 0 minutes and 0"):
                rwrp.read(path, ["rain1h"], "2021-06-01T05")


def test_two_kinds_of_accumulation_are_not_differenced(tmp_path):
    hour_file(tmp_path / "rwrf", 4, 2.0)
    hour_file(tmp_path / "rwrf", 5, 7.0, fields=rain(3.0, name="RAINC"))
    with pytest.raises(UnreadableError, match="different ones"):
        rain_at(tmp_path, 5)
