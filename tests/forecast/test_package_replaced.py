from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace

from stormcast_train.forecast import package as packages


def test_a_package_that_is_saved_again_and_again_is_always_there_and_whole(trained, tmp_path):
    package, folder = packages.load(trained["diffusion"]), tmp_path / "last"
    both = [package, replace(package, weights={name: value + 1 for name, value in package.weights.items()})]
    packages.save(package, folder)
    over, seen, wrong = threading.Event(), Counter(), []
    fingerprints = [made.computed_fingerprint() for made in both]

    def each_read_often() -> bool:
        return min(seen[name] for name in fingerprints) >= 50

    def hammer() -> None:
        while not over.is_set():
            try:
                read = packages.load(folder)
                if read.computed_fingerprint() != read.fingerprint or not (folder / "package.json").is_file():
                    wrong.append(read.fingerprint)
                seen[read.fingerprint] += 1
                packages.load_header(folder)
            except Exception as error:
                wrong.append(error)
                return

    reader = threading.Thread(target=hammer)
    reader.start()
    saves = 0
    while not wrong and (saves < 20 or not each_read_often()):  # however fast this machine is
        saves += 1
        packages.save(both[saves % 2], folder)
    over.set()
    reader.join()
    assert wrong == []
    assert set(seen) == set(fingerprints)


def test_a_package_that_is_replaced_between_two_of_its_files_is_read_again(trained, tmp_path, monkeypatch):
    package, folder = packages.load(trained["regression"]), tmp_path / "last"
    newer = replace(package, weights={name: value + 1 for name, value in package.weights.items()})
    packages.save(package, folder)
    read, opened = packages.load_arrays, []

    def load_arrays(path):
        opened.append(path.name)
        if len(opened) == 2:
            packages.save(newer, folder)
        return read(path)

    monkeypatch.setattr(packages, "load_arrays", load_arrays)
    found = packages.load(folder)
    assert len(set(opened)) == 2
    assert found.fingerprint == found.computed_fingerprint() == newer.computed_fingerprint()
