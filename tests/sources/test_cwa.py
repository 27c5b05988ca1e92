"""CWA open data grids: three generations of XML and JSON, built here byte for byte, and the traps of their
clocks.
"""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path

import numpy as np
import pytest

from stormcast_train.base.errors import RequestError, UnreadableError
from stormcast_train.fields.times import Period
from stormcast_train.sources import cwa, detect
from stormcast_train.sources.config import CwaReader, SourceConfig
from stormcast_train.sources.source import build_sources

FORMS = [(generation, form) for generation in ("2018", "2022", "2024") for form in ("xml", "json")]
RADARS = "五分山、花蓮、墾丁、樹林、南屯、林園雷達"
DBZ = np.full((4, 5), -99.0)  # [y, x], row 0 south: no echo, but for three cells
DBZ[1, 3], DBZ[0, 0], DBZ[3, 4] = 47.1, -999.0, -0.4
MM = np.zeros((4, 5))
MM[1, 3], MM[0, 0] = 76.25, -1.0
RAIN = {"data_id": "O-B0045-001", "units": "mm"}
AT = "2024-06-01T11:00:00+08:00"  # 03:00 UTC


def facts(
    values: np.ndarray,
    generation: str = "2024",
    at: str = AT,
    data_id: str = "O-A0059-001",
    units: str = "dBZ",
    corner: tuple[float, float] = (118.0, 20.0),  # lon, lat
    description: str = "雷達資料",
    sent: str | None = None,
) -> dict:
    """A file below its root as CWA's JSON has it; the XML has the same names."""
    ny, nx = values.shape
    west, south = corner
    content = ",".join(f"{v:.3E}" for v in values.ravel())
    if generation == "2024":
        quantity = "Reflectivity" if units == "dBZ" else "Precipitation"
        parameters: dict = {
            "StartPointLongitude": str(west),
            "StartPointLatitude": str(south),
            "GridResolution": "0.0125",
            "DateTime": at,
            "GridDimensionX": str(nx),
            "GridDimensionY": str(ny),
            quantity: units,
        }
    else:
        old = generation == "2018"
        stamp = at[:16].translate(str.maketrans("", "", "-:T")) if old else at
        named = {
            "左下角": f"{west},{south}",
            "解析度": "0.0125",
            "時間(世界標準時，yyyymmddHHMM)" if old else "時間": stamp,
            "維度(nx*ny)": f"{nx}*{ny}",
            "單位": units,
        }
        radars = (
            [{"parameterName": "整合雷達名", "radarName": RADARS}]
            if generation == "2022" and units == "dBZ"
            else []
        )
        parameters = {
            "parameter": [*radars, *({"parameterName": k, "parameterValue": v} for k, v in named.items())]
        }
    return {
        "sent": sent or at[:14] + "06:44" + "+08:00",
        "dataid": data_id,
        "source": "MSC",
        "dataset": {
            "datasetInfo": {"datasetDescription": description, "parameterSet": parameters},
            "contents": {
                "contentDescription": "資料無效值為-99。使用之座標系統為TWD67。",
                "content": content,
            },
        },
    }


def root(generation: str) -> tuple[str, str]:
    office = "cwa" if generation == "2024" else "cwb"
    return f"{office}opendata", f"urn:{office}:gov:tw:{office}common:0.1"


def as_xml(name: str, value: object) -> str:
    if isinstance(value, dict):
        return f"<{name}>{''.join(as_xml(k, v) for k, v in value.items())}</{name}>\n"
    if isinstance(value, list):
        return "".join(as_xml(name, v) for v in value)
    return f"<{name}>{value}</{name}>"


def encode(tree: dict, generation: str = "2024", form: str = "xml") -> bytes:
    name, space = root(generation)
    if form == "json":
        return json.dumps({name: {"@xmlns": space, **tree}}, ensure_ascii=False).encode()
    body = "".join(as_xml(k, v) for k, v in tree.items())
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<{name} xmlns="{space}">\n{body}</{name}>\n'.encode()


def grid(values: np.ndarray = DBZ, generation: str = "2024", form: str = "xml", **more) -> bytes:
    return encode(facts(values, generation, **more), generation, form)


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(("generation", "form"), FORMS)
def test_the_one_strong_echo_lies_where_its_latitude_and_longitude_say(tmp_path, generation, form):
    # 5 x 4 points every 0.0125 degrees from 118 E 20 N: row 1 column 3 is 20.0125 N 118.0375 E; flipped rows
    # give 20.025 N, flipped columns 118.0125 E, and [x, y] another shape.
    field = cwa.read(put(tmp_path / f"O-A0059-001.{form}", grid(generation=generation, form=form)))
    assert field.refc.shape == (4, 5)
    np.testing.assert_allclose(field.lat, [20.0, 20.0125, 20.025, 20.0375])
    np.testing.assert_allclose(field.lon, [118.0, 118.0125, 118.025, 118.0375, 118.05])
    strongest = field.refc.where(field.refc > 1)
    assert int(strongest.count()) == 1
    assert float(strongest.set_index(y="lat", x="lon").sel(y=20.0125, x=118.0375)) == pytest.approx(47.1)
    assert field.refc.attrs["units"] == "dBZ"


@pytest.mark.parametrize(("generation", "form"), FORMS)
def test_local_time_becomes_utc_in_every_generation(tmp_path, generation, form):
    """The 2018 label says UTC; the value is local, as the real file's moment of sending shows."""
    field = cwa.read(put(tmp_path / f"a.{form}", grid(generation=generation, form=form)))
    assert field.valid_time.values == np.datetime64("2024-06-01T03:00")
    early = grid(generation=generation, form=form, at="2024-06-01T00:30:00+08:00")
    assert cwa.read(put(tmp_path / f"a.{form}", early)).valid_time.values == np.datetime64(
        "2024-05-31T16:30"
    ), "over midnight"


def test_the_2018_time_of_the_real_file_is_eight_hours_before_its_label(tmp_path):
    at = {"generation": "2018", "at": "2018-03-28T04:00:00+08:00"}
    path = put(tmp_path / "a.xml", grid(MM, **at, sent="2018-03-28T04:15:19+08:00", **RAIN))
    assert (
        "時間(世界標準時，yyyymmddHHMM)</parameterName><parameterValue>201803280400<"
        in path.read_text().replace("\n", "")
    )
    assert cwa.read(path).valid_time.values == np.datetime64("2018-03-27T20:00")
    assert cwa.read(path, reader=CwaReader(utc_offset=0.0)).valid_time.values == np.datetime64(
        "2018-03-28T04:00"
    )


def test_an_offset_in_the_time_itself_is_taken_at_its_word(tmp_path):
    path = put(tmp_path / "a.xml", grid(at="2024-06-01T03:00:00Z", sent="2024-06-01T11:06:44+08:00"))
    assert cwa.read(path, reader=CwaReader(utc_offset=5.0)).valid_time.values == np.datetime64(
        "2024-06-01T03:00"
    )


def test_no_echo_becomes_the_floor_and_no_coverage_nan_and_weak_echo_stays(tmp_path):
    path = put(tmp_path / "a.xml", grid())
    field = cwa.read(path).refc.values
    assert np.isnan(field[0, 0])
    assert field[3, 4] == pytest.approx(-0.4)
    assert np.sum(field == 0) == 4 * 5 - 3
    floor = cwa.read(path, no_echo_dbz=-10.0).refc.values
    assert np.sum(floor == -10) == 4 * 5 - 3
    assert np.sum(np.isnan(floor)) == 1


@pytest.mark.parametrize(("generation", "form"), FORMS)
def test_missing_rain_is_nan_and_no_rain_is_zero(tmp_path, generation, form):
    field = cwa.read(put(tmp_path / f"a.{form}", grid(MM, generation, form, **RAIN)))
    assert list(field) == ["rain1h"]
    assert float(field.rain1h[1, 3]) == 76.25
    assert np.isnan(field.rain1h[0, 0])
    assert float(field.rain1h.sum()) == 76.25
    assert field.rain1h.attrs["units"] == "mm"


def test_gzip_is_told_by_its_first_bytes(tmp_path):
    plain = cwa.read(put(tmp_path / "a.xml.gz", grid()))
    packed = cwa.read(put(tmp_path / "a.xml", gzip.compress(grid(), mtime=0)))
    marked = cwa.read(put(tmp_path / "b.json", b"\xef\xbb\xbf" + grid(form="json")))
    assert plain.identical(packed)
    assert plain.identical(marked)


def test_the_version_names_product_grid_and_radars_and_changes_with_them_alone(tmp_path):
    whole = facts(DBZ, "2022")
    first = cwa.read(put(tmp_path / "a.xml", encode(whole, "2022")))
    assert first.attrs["radars"] == "五分山,花蓮,墾丁,樹林,南屯,林園"
    assert first.attrs["source_version"] == "CWA O-A0059-001 5x4 radars 五分山+南屯+墾丁+林園+樹林+花蓮"
    entry = whole["dataset"]["datasetInfo"]["parameterSet"]["parameter"][0]
    entry["radarName"] = "花蓮、五分山、墾丁、樹林、南屯、林園雷達"
    turned = cwa.read(put(tmp_path / "a.xml", encode(whole, "2022")))
    assert turned.attrs["source_version"] == first.attrs["source_version"], "the order is no change"
    entry["radarName"] = "五分山、花蓮雷達"
    fewer = cwa.read(put(tmp_path / "a.xml", encode(whole, "2022")))
    assert fewer.attrs["source_version"] == "CWA O-A0059-001 5x4 radars 五分山+花蓮"
    assert cwa.read(put(tmp_path / "a.xml", grid())).attrs["source_version"] == "CWA O-A0059-001 5x4"


def test_parameters_without_a_known_name_are_told_by_their_place(tmp_path):
    whole = facts(DBZ, "2022")
    for entry in whole["dataset"]["datasetInfo"]["parameterSet"]["parameter"]:
        entry["parameterName"] = "?"
    path = put(tmp_path / "a.json", encode(whole, "2022", "json"))
    assert float(cwa.read(path).refc[1, 3]) == pytest.approx(47.1)
    assert cwa.read(path).valid_time.values == np.datetime64("2024-06-01T03:00")


@pytest.mark.parametrize(("generation", "form"), FORMS)
def test_a_cut_file_is_unreadable_with_the_reason(tmp_path, generation, form):
    content = grid(generation=generation, form=form)
    for size in (len(content) // 4, content.index(b"E+") + 2, len(content) - 12, 0):
        with pytest.raises(
            UnreadableError,
            match=r"cannot be read: .*(cut or malformed|Unterminated|Expecting|neither|empty)",
        ):
            cwa.read(put(tmp_path / f"a.{form}", content[:size]))
    with pytest.raises(UnreadableError, match="Compressed file ended"):
        cwa.read(put(tmp_path / "a.gz", gzip.compress(content)[:-20]))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("4.710E+01,", ""), "5 x 4 = 20 numbers and it holds 19"),
        (("4.710E+01,", "4.710E+01,1.000E+00,"), "20 numbers and it holds 21"),
        (("4.710E+01", "n/a"), "not a list of numbers"),
        (("<GridDimensionX>5<", "<GridDimensionX>-5<"), "-5 x 4|says -5"),
        (("<GridResolution>0.0125</GridResolution>", ""), "no GridResolution"),
        (("<Reflectivity>dBZ</Reflectivity>", ""), "no unit"),
        (("<Reflectivity>dBZ<", "<Precipitation>mm<"), "malformed"),
        (("2024-06-01T11:00:00+08:00</DateTime>", "yesterday</DateTime>"), "yesterday"),
        (("cwaopendata", "Error"), "'Error', not cwbopendata"),
    ],
)
def test_what_contradicts_itself_is_unreadable(tmp_path, change, complaint):
    content = grid().decode().replace(*change).encode()
    with pytest.raises(UnreadableError, match=complaint):
        cwa.read(put(tmp_path / "a.xml", content))


def test_parameters_of_another_shape_are_unreadable(tmp_path):
    for broken in (
        "",
        [],
        ["a"],
        {"parameterName": "左下角"},
        [{"parameterName": "維度(nx*ny)", "parameterValue": "5*4*1"}],
    ):
        whole = facts(DBZ, "2022")
        whole["dataset"]["datasetInfo"]["parameterSet"] = {"parameter": broken}
        with pytest.raises(UnreadableError, match="parameters"):
            cwa.read(put(tmp_path / "a.json", encode(whole, "2022", "json")))


def test_other_products_are_refused_by_data_id_unit_or_description(tmp_path):
    for more, complaint in (
        ({"data_id": "F-B0046-001", "units": "mm"}, "F-B0046-001.*none of the reader's products"),
        ({"data_id": "O-A0059-002"}, "O-A0059-002"),
        ({"data_id": "O-B0045-001"}, "should hold rain1h .mm. .*dBZ"),
        (
            {"data_id": "QPF", "units": "mm", "description": "QPESUMS 1小時定量降雨預報"},
            "none of the reader's",
        ),
    ):
        with pytest.raises(UnreadableError, match=complaint):
            cwa.read(put(tmp_path / "a.xml", grid(**more)))
    assert list(cwa.read(put(tmp_path / "a.xml", grid(data_id="CWB_A0059")))) == ["refc"]
    assert list(cwa.read(put(tmp_path / "a.xml", grid(MM, data_id="", units="mm")))) == ["rain1h"]


def test_a_history_name_is_taipei_time_and_must_agree_with_the_file(tmp_path):
    right = put(tmp_path / "202406011100compref_mosaic.xml", grid())
    assert cwa.read(right).valid_time.values == np.datetime64("2024-06-01T03:00")
    wrong = put(tmp_path / "202406010300compref_mosaic.xml", grid())
    with pytest.raises(UnreadableError, match="named for 2024-05-31T19:00:00 and holds 2024-06-01T03:00:00"):
        cwa.read(wrong)
    assert cwa.read(wrong, reader=CwaReader(name_offset=0.0)).valid_time.values == np.datetime64(
        "2024-06-01T03:00"
    )
    with pytest.raises(UnreadableError, match="month"):
        cwa.read(put(tmp_path / "202413010300compref_mosaic.xml", grid()))


def archive(folder: Path) -> cwa.Cwa:
    for at in ("2024-06-01T07:50", "2024-06-01T08:00", "2024-06-01T08:10", "2024-06-01T09:00"):
        name = at.translate(str.maketrans("", "", "-:T")) + "compref_mosaic.xml"
        put(folder / "cwa" / "history" / name, grid(at=f"{at}:00+08:00"))
    put(folder / "cwa" / "rain_0.json", grid(MM, form="json", at="2024-06-01T08:00:00+08:00", **RAIN))
    put(
        folder / "cwa" / "rain_1.xml", gzip.compress(grid(MM, "2018", at="2024-06-01T09:00:00+08:00", **RAIN))
    )
    put(
        folder / "cwa" / "stations.xml",
        b"<cwaopendata><dataid>O-A0002-001</dataid><dataset><Station/></dataset></cwaopendata>",
    )
    put(folder / "cwa" / "202406010900.QPESUMS_GAUGE.10M.xml", b"<html>")
    return cwa.Cwa("c", folder, no_echo_dbz=-5.0)


def test_a_scan_takes_whole_hours_of_utc_and_refuses_other_files_with_a_reason(tmp_path):
    records, refusals = archive(tmp_path).scan()
    assert [(str(r.time), r.names, r.path.name) for r in records] == [
        ("2024-06-01T00:00:00", ("refc",), "202406010800compref_mosaic.xml"),
        ("2024-06-01T00:00:00", ("rain1h",), "rain_0.json"),
        ("2024-06-01T01:00:00", ("refc",), "202406010900compref_mosaic.xml"),
        ("2024-06-01T01:00:00", ("rain1h",), "rain_1.xml"),
    ]
    why = {r.path.name: r.reason for r in refusals}
    assert sorted(why) == ["202406010900.QPESUMS_GAUGE.10M.xml", "stations.xml"]
    assert "it holds no dataset/datasetInfo" in why["stations.xml"]
    assert "its XML is cut or malformed" in why["202406010900.QPESUMS_GAUGE.10M.xml"]
    within, _ = archive(tmp_path).scan(Period.parse("2024-06-01T00/2024-06-01T01"))
    assert len(within) == 2, "the end of a period is exclusive"
    every, _ = cwa.Cwa("c", tmp_path, CwaReader(every=None)).scan()
    assert len(every) == 6


def test_a_source_reads_a_record_with_its_floor_and_refuses_other_names(tmp_path):
    source = archive(tmp_path)
    records, _ = source.scan()
    field = source.read(records[0], ["refc"])
    assert (float(field.refc[0, 1]), float(field.refc[1, 3])) == (-5.0, pytest.approx(47.1))
    with pytest.raises(RequestError, match="rain1h"):
        source.read(records[0], ["rain1h"])


def test_a_config_builds_the_reader(tmp_path):
    config = SourceConfig(
        name="s",
        readers={"radar": {"kind": "cwa", "utc_offset": 7.0}},
        state={"*": "radar"},
        no_echo_dbz=-7.5,
    )
    source = build_sources(config, tmp_path)["radar"]
    assert isinstance(source, cwa.Cwa)
    assert (source.reader.utc_offset, source.clock.utc_offset_h, source.no_echo_dbz) == (7.0, 7.0, -7.5)


def test_a_head_behind_its_numbers_is_found(tmp_path):
    tree = facts(MM, "2024", **RAIN)
    tree["dataset"] = dict(reversed(tree["dataset"].items()))
    tree["dataset"]["contents"]["content"] = ",".join(
        ["0.000E+00"] * 20_000
    )  # the first 16 KiB are numbers only
    tree["dataset"]["datasetInfo"]["parameterSet"] |= {"GridDimensionX": "200", "GridDimensionY": "100"}
    for form in ("xml", "json"):
        put(tmp_path / "cwa" / f"a.{form}", encode(tree, form=form))
    records, refusals = cwa.Cwa("c", tmp_path).scan()
    assert [(str(r.time), r.names) for r in records] == [("2024-06-01T03:00:00", ("rain1h",))] * 2
    assert not refusals


@pytest.mark.parametrize(("generation", "form"), FORMS)
def test_its_kind_is_told_by_the_content(tmp_path, generation, form):
    path = put(tmp_path / "anything", gzip.compress(grid(generation=generation, form=form)))
    assert detect.detect(path) == "cwa"
    assert float(detect.read(path).refc[1, 3]) == pytest.approx(47.1)
    with pytest.raises(UnreadableError, match=r"page\.html cannot be read: it is a web page"):
        detect.detect(put(tmp_path / "page.html", b"<html><body>not found</body></html>"))


def test_the_datum_can_be_shifted(tmp_path):
    field = cwa.read(put(tmp_path / "a.xml", grid()), reader=CwaReader(shift_degrees=(-0.0018, 0.0082)))
    np.testing.assert_allclose([field.lat[0], field.lon[0]], [19.9982, 118.0082])


def test_a_whole_frame_costs_little_more_than_the_parsing_of_its_numbers(tmp_path):
    """921 x 881 numbers as CWA has them; `numpy.fromstring` of the same line is the measure, in CPU time."""
    values = np.full((881, 921), -99.0)
    values[::3] = np.random.default_rng(0).integers(-300, 600, values[::3].shape) / 10
    content = grid(values, corner=(115.0, 18.0))
    path = put(tmp_path / "202406011100compref_mosaic.xml", content)
    line = facts(values)["dataset"]["contents"]["content"]

    def cost(action) -> float:
        times = []
        for _ in range(3):
            start = time.process_time()
            action()
            times.append(time.process_time() - start)
        return min(times)

    assert cost(lambda: cwa.read(path)) < 2.5 * cost(lambda: np.fromstring(line, sep=","))
    field = cwa.read(path)
    assert (float(field.lat[-1]), float(field.lon[-1])) == (29.0, 126.5)
    np.testing.assert_allclose(field.refc.values[::3], values[::3], atol=1e-4)
