from __future__ import annotations

import threading
import time
from dataclasses import replace

from stormcast_train.forecast import package as packages


def test_a_package_that_is_saved_again_and_again_is_always_there_and_whole(trained, tmp_path):
    package, folder = packages.load(trained["diffusion"]), tmp_path / "last"
    both = [package, replace(package, weights={name: value + 1 for name, value in package.weights.items()})]
    packages.save(package, folder)
    over, seen, wrong = threading.Event(), set(), []

    def hammer() -> None:
        while not over.is_set():
            try:
                read = packages.load(folder)
                if read.computed_fingerprint() != read.fingerprint or not (folder / "package.json").is_file():
                    wrong.append(read.fingerprint)
                seen.add(read.fingerprint)
                packages.load_header(folder)
            except Exception as error:
                wrong.append(error)
                return

    reader = threading.Thread(target=hammer)
    reader.start()
    until, saves = time.monotonic() + 4.0, 0
    while time.monotonic() < until:
        packages.save(both[saves % 2], folder)
        saves += 1
    over.set()
    reader.join()
    assert wrong == []
    assert saves > 10
    assert len(seen) == 2
