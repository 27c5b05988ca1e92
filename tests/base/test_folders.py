from __future__ import annotations

import threading
import time

import pytest

from stormcast_train.base import folders
from stormcast_train.base.folders import exchange, read_folder, replace_folder


def write(folder, number: int) -> None:
    fresh = folder.with_name(".fresh")
    fresh.mkdir(parents=True)
    for name in ("first", "second"):
        (fresh / name).write_text(str(number))
    replace_folder(fresh, folder)


@pytest.fixture(params=["names change places", "a link moves"])
def way(request, monkeypatch):
    if request.param == "a link moves":
        monkeypatch.setattr(folders, "exchange", lambda first, second: False)  # a file system that cannot
    return request.param


def test_a_folder_is_replaced_whole_and_the_old_one_is_gone(tmp_path, way):
    folder = tmp_path / "package"
    for number in range(4):
        write(folder, number)
        assert (folder / "first").read_text() == (folder / "second").read_text() == str(number)
    beside = sorted(path.name for path in tmp_path.iterdir())
    assert beside == (["package"] if way == "names change places" else [".package.4", "package"])


def test_whoever_opens_the_path_always_finds_one_folder_whole(tmp_path, way):
    folder, over, seen, wrong = tmp_path / "package", threading.Event(), [], []
    write(folder, -2)
    write(folder, -1)  # from the second on, a link only moves

    def hammer() -> None:
        while not over.is_set():
            try:
                first, second = read_folder(
                    folder, lambda path: ((path / "first").read_text(), (path / "second").read_text())
                )
            except Exception as error:
                wrong.append(error)
                return
            seen.append(int(first))
            if first != second or not (folder / "first").exists():
                wrong.append((first, second))

    readers = [threading.Thread(target=hammer) for _ in range(2)]
    for reader in readers:
        reader.start()
    until, number = time.monotonic() + 3.0, 0
    while time.monotonic() < until and number < 400:
        write(folder, number)
        number += 1
    over.set()
    for reader in readers:
        reader.join()
    assert wrong == []
    assert len(set(seen)) > 5


def test_two_folders_change_places(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "name").write_text(name)
    if not exchange(tmp_path / "a", tmp_path / "b"):
        pytest.skip("this file system cannot exchange two names")
    assert ((tmp_path / "a" / "name").read_text(), (tmp_path / "b" / "name").read_text()) == ("b", "a")


def test_a_file_that_is_missing_is_told_and_not_read_for_ever(tmp_path):
    (tmp_path / "package").mkdir()
    with pytest.raises(FileNotFoundError):
        read_folder(tmp_path / "package", lambda path: (path / "first").read_text())
