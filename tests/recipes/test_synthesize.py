"""`stormcast synthesize` from the command line: all formats, resumed,
extended, refused, spoiled, continued.
"""

from __future__ import annotations

import json
from pathlib import Path

import netCDF4
import numpy as np
import pytest

from stormcast_train.base.errors import UnreadableError
from stormcast_train.base.files import read_json, write_json
from stormcast_train.cli import main
from stormcast_train.sources import era5, qpepre, qpesums, rwrp

COARSE = ["domain=taiwan_tiny", "domain.shape=[20,12]"]
DAY = "period=2021-06-02T00/2021-06-02T03"


def synthesize(*words: str) -> int:
    return main(["synthesize", *words])


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synthetic") / "archive"
    assert synthesize(f"out={out}", *COARSE, DAY) == 0
    return out


def files_of(folder: Path) -> dict[str, int]:
    return {
        p.relative_to(folder).as_posix(): p.stat().st_mtime_ns
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def test_it_leaves_four_folders_that_the_readers_read(archive: Path) -> None:
    assert sorted(p.name for p in archive.iterdir() if p.is_dir()) == ["era5", "qpepre", "qpesums", "rwrf"]
    state = rwrp.read(archive / "rwrf/2021-06-02_02/wrfout_d01_2021-06-02_02_interp")
    assert set(state.data_vars) == {"t2m", "u10m", "v10m"}
    assert state.valid_time.values == np.datetime64("2021-06-02T02")
    assert 270 < float(state.t2m.mean()) < 310
    rain = qpesums.read(archive / "qpesums/20210602/CB_GC_PCP_1H_RAD.20210602.0200.gz").rain1h
    assert 0 < float(np.isnan(rain).mean()) < 0.3
    text = qpepre.read(archive / "qpepre/2021/qpepre_202106020100-202106020200_1_h.txt").rain1h
    np.testing.assert_allclose(text, rain.sel(y=slice(151, 426), x=slice(160, 322)), atol=0.005)
    single = era5.read(archive / "era5/era5_202106_single-levels.zip")
    assert set(single.data_vars) == {"t2m", "u10m", "v10m", "msl", "rain1h"}
    assert single.lat.values.min() <= 11.6
    assert single.lon.values.max() >= 132.25
    levels = era5.read(archive / "era5/era5_202106_pressure-levels.nc", ["z500", "q850", "t250", "u1000"])
    assert 56500 < float(levels.z500.mean()) < 58500
    assert 0.004 < float(levels.q850.mean()) < 0.016


def test_rain_seen_by_the_radars_is_where_the_world_has_it(archive: Path) -> None:
    from stormcast_train.fields.grid import RegularDomain
    from stormcast_train.synthetic.lattice import lattice_for
    from stormcast_train.synthetic.world import World

    lattice = lattice_for(
        RegularDomain(name="taiwan_tiny", south=21.6, north=25.6, west=119.75, east=122.25, shape=(20, 12))
    )
    state = World(0, lattice).at(int(np.datetime64("2021-06-02T02", "h").astype(int)))
    row, column = np.unravel_index(
        np.argmax(state.rain_mm[lattice.inner]), state.rain_mm[lattice.inner].shape
    )
    lat, lon = (c[lattice.inner][row, column] for c in lattice.coordinates)
    seen = qpesums.read(archive / "qpesums/20210602/CB_GC_PCP_1H_RAD.20210602.0200.gz").rain1h
    y, x = round((lat - 20.0) / 0.0125), round((lon - 118.0) / 0.0125)
    assert float(seen[y, x]) == pytest.approx(float(state.rain_mm[lattice.inner].max()), rel=0.1, abs=0.25)


def test_a_second_call_writes_nothing(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files_of(archive)
    assert synthesize(f"out={archive}", *COARSE, DAY, "--json") == 0
    assert json.loads(capsys.readouterr().out)["done"] is True
    assert files_of(archive) == before


def test_a_lost_file_comes_back_with_the_same_bytes(archive: Path) -> None:
    lost = archive / "qpesums/20210602/CB_GC_PCP_1H_RAD.20210602.0100.gz"
    content = lost.read_bytes()
    lost.unlink()
    assert synthesize(f"out={archive}", *COARSE, DAY) == 0
    assert lost.read_bytes() == content


def test_another_period_of_the_same_world_has_the_same_values(archive: Path, tmp_path: Path) -> None:
    assert (
        synthesize(f"out={tmp_path / 'other'}", *COARSE, "period=2021-06-02T02/2021-06-02T04", "qpepre=false")
        == 0
    )
    name = "rwrf/2021-06-02_02/wrfout_d01_2021-06-02_02_interp"
    a, b = (rwrp.read(root / name) for root in (archive, tmp_path / "other"))
    np.testing.assert_array_equal(a.t2m, b.t2m)
    name = "qpesums/20210602/CB_GC_PCP_1H_RAD.20210602.0200.gz"
    assert (archive / name).read_bytes() == (tmp_path / "other" / name).read_bytes()
    one, two = (
        era5.read(root / "era5/era5_202106_pressure-levels.nc", ["u850"], "2021-06-02T02")
        for root in (archive, tmp_path / "other")
    )
    np.testing.assert_array_equal(one.u850, two.u850)


@pytest.mark.parametrize(
    "words", [["seed=1"], ["domain.shape=[24,14]"], ["variables=rwrf_surface"], ["faults=true"]]
)
def test_another_world_in_the_same_folder_is_refused(
    archive: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert synthesize(f"out={archive}", *COARSE, DAY, *words) == 2
    assert "choose another out=" in capsys.readouterr().err


def test_a_longer_period_extends_the_archive_and_its_driver(tmp_path: Path) -> None:
    out = f"out={tmp_path / 'a'}"
    assert synthesize(out, *COARSE, "period=2021-06-02T02/2021-06-02T03", "qpepre=false") == 0
    assert synthesize(out, *COARSE, "period=2021-06-02T00/2021-06-02T02", "qpepre=false") == 0
    with netCDF4.Dataset(tmp_path / "a/era5/era5_202106_pressure-levels.nc") as file:
        assert len(file["valid_time"]) == 3
    assert len(list((tmp_path / "a/rwrf").iterdir())) == 3


def test_wrong_requests_end_with_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = f"out={tmp_path / 'a'}"
    for words, hint in (
        ([], "period="),
        (["period=2021-06-02T00/2021-06-01T00"], "empty"),
        ([DAY, "variables=knmi_rain"], "5min"),
        ([DAY, "oracle=2"], "start="),
        (["period=2021-06-02T00:10/2021-06-02T00:50"], "no whole hour"),
        (["oracle=2", "start=[2021-06-02T00,2021-06-02T02]", "hours=3"], "overlap"),
        ([DAY, "workers=0"], "workers=0"),
    ):
        assert synthesize(out, *COARSE, *words) == 2, words
        assert hint in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


def test_a_folder_with_files_of_other_origin_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    assert synthesize(f"out={tmp_path}", *COARSE, DAY) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["precious.txt"]


def test_an_archive_of_another_generator_is_complete_as_it_is_and_never_extended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"out={tmp_path / 'a'}", *COARSE, "variables=rwrf_surface"]
    assert synthesize(*words, "period=2021-06-02T00/2021-06-02T01") == 0
    record = tmp_path / "a" / "world.json"
    write_json(record, read_json(record) | {"code": "older"})
    assert synthesize(*words, "period=2021-06-02T00/2021-06-02T01") == 0
    assert synthesize(*words, "period=2021-06-02T00/2021-06-02T02") == 2
    assert "another version of the generator" in capsys.readouterr().err


def test_a_dry_run_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert synthesize(f"out={tmp_path / 'a'}", *COARSE, DAY, "--dry-run") == 0
    assert "3 hours" in capsys.readouterr().out
    assert not (tmp_path / "a").exists()


def test_faults_are_listed_and_are_what_they_say(tmp_path: Path) -> None:
    out = tmp_path / "faulty"
    assert (
        synthesize(
            f"out={out}", *COARSE, "period=2021-06-02T00/2021-06-05T00", "faults=true", "variables=ncdr"
        )
        == 0
    )
    listed = read_json(out / "faults.json")
    radar = {"missing", "truncated", "negative rain"}
    model = {"missing", "truncated", "absurd temperature", "NaN stripe", "wrong time inside"}
    kinds = {"rwrf": model, "qpesums": radar, "qpepre": radar}
    assert {(entry["source"], entry["fault"]) for entry in listed} == {
        (source, kind) for source in kinds for kind in kinds[source]
    }
    read = {"rwrf": rwrp.read, "qpesums": qpesums.read, "qpepre": qpepre.read}
    for entry in listed:
        path = out / entry["path"]
        if entry["fault"] == "missing":
            assert not path.exists()
        elif entry["fault"] in ("truncated", "wrong time inside"):
            with pytest.raises(UnreadableError, match=path.name):
                read[entry["source"]](path)
        elif entry["fault"] == "absurd temperature":
            assert float(rwrp.read(path).t2m.max()) == 9999.0
        elif entry["fault"] == "NaN stripe":
            assert 0 < int(np.isnan(rwrp.read(path).t2m).sum()) < rwrp.read(path).t2m.size
        else:
            assert entry["fault"] == "negative rain"
            rain = read[entry["source"]](path).rain1h
            if entry["source"] == "qpesums":
                assert float(rain.min()) == -10.0
            else:  # QPEPRE has no code for a missing value: its reader takes a negative for one
                assert int(np.isnan(rain).sum()) == 1
    assert synthesize(f"out={out}", *COARSE, "period=2021-06-02T00/2021-06-05T00", "faults=true") == 0


def test_the_oracle_writes_futures_of_the_same_world(tmp_path: Path) -> None:
    out = tmp_path / "a"
    words = [f"out={out}", *COARSE, "oracle=2", "start=[2021-06-02T05,2021-06-02T09]", "hours=2"]
    assert synthesize(*words) == 0
    fields = [
        [
            rwrp.read(
                out / f"oracle/{m:03d}/rwrf/2021-06-02_{h:02d}/wrfout_d01_2021-06-02_{h:02d}_interp"
            ).t2m.values
            for h in (6, 7, 10, 11)
        ]
        for m in (0, 1)
    ]
    for a, b in zip(*fields, strict=True):
        assert 0.01 < np.abs(a - b).mean() < 1.5
    assert len(list((out / "oracle/001/qpesums/20210602").iterdir())) == 4
    before = files_of(out)
    assert synthesize(*words) == 0
    assert files_of(out / "oracle/000") == {
        k.removeprefix("oracle/000/"): v for k, v in before.items() if k.startswith("oracle/000/")
    }


def test_pressure_levels_and_reflectivity_are_written_where_the_variables_read_them(tmp_path: Path) -> None:
    out = tmp_path / "a"
    words = ["period=2021-06-02T06/2021-06-02T07", "qpepre=false", "variables=multilevel"]
    assert synthesize(f"out={out}", *COARSE, *words) == 0
    path = out / "rwrf/2021-06-02_06/wrfout_d01_2021-06-02_06_interp"
    state = rwrp.read(path, ["z500", "q850", "t925", "u300", "msl"])
    assert 56000 < float(state.z500.mean()) < 58500
    assert 99000 < float(state.msl.mean()) < 103000
    with netCDF4.Dataset(path) as file:
        assert list(file["pres_levels"][:]) == [925, 850, 500, 300]
    echo = qpesums.read(out / "qpesums/20210602/COMPREF.20210602.0600.gz", no_echo_dbz=0.0).refc
    assert echo.shape == (881, 921)
    assert 20 < float(echo.max()) < 70


def test_a_set_that_needs_only_rwrf_gets_only_rwrf(tmp_path: Path) -> None:
    assert (
        synthesize(
            f"out={tmp_path / 'a'}", *COARSE, "period=2021-06-02T00/2021-06-02T01", "variables=rwrf_surface"
        )
        == 0
    )
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["rwrf", "world.json"]


def test_two_workers_write_the_same_bytes_as_one(tmp_path: Path) -> None:
    period = "period=2021-06-01T22/2021-06-02T02"  # a segment ends with the first of June
    for name, workers in (("one", 1), ("two", 2)):
        assert (
            synthesize(f"out={tmp_path / name}", *COARSE, period, f"workers={workers}", "qpepre=false") == 0
        )
    names = [p for p in files_of(tmp_path / "one") if p.startswith("qpesums")]
    assert names
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_native_domain_gets_a_square_grid_at_any_spacing(tmp_path: Path) -> None:
    words = [
        "domain=taiwan_rwrf",
        "domain.shape=[54,54]",
        "spacing_m=16000",
        "period=2021-06-02T00/2021-06-02T01",
        "variables=rwrf_surface",
    ]
    assert synthesize(f"out={tmp_path / 'a'}", *words) == 0
    state = rwrp.read(tmp_path / "a/rwrf/2021-06-02_00/wrfout_d01_2021-06-02_00_interp")
    assert state.t2m.shape == (56, 56)
