from __future__ import annotations

import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from stormcast_train.base.errors import UnreadableError
from stormcast_train.base.files import read_json, write_json
from stormcast_train.forecast import package as packages


@pytest.fixture
def copied(trained, tmp_path):
    return shutil.copytree(trained["diffusion"], tmp_path / "package")


def change_json(folder, change):
    described = read_json(folder / "package.json")
    change(described)
    write_json(folder / "package.json", described)


@pytest.mark.parametrize(
    "change",
    [
        lambda described: described["conditions"].update(history=2),
        lambda described: described["residual_std"].update(t2m=9.0),
        lambda described: described.update(store_fingerprint="0" * 64),
    ],
    ids=["a condition", "a scale", "the store"],
)
def test_a_package_whose_description_was_edited_is_refused(copied, change):
    packages.load(copied)
    change_json(copied, change)
    with pytest.raises(UnreadableError, match="was changed after it was written: it states the fingerprint"):
        packages.load(copied)


def test_a_package_with_the_weights_of_another_is_refused(copied):
    weights = load_file(copied / "weights.safetensors")
    name = sorted(weights)[0]
    save_file({**weights, name: np.nextafter(weights[name], np.float32(1))}, copied / "weights.safetensors")
    with pytest.raises(UnreadableError, match="was changed after it was written"):
        packages.load(copied)


def test_the_regression_inside_a_diffusion_is_checked_too(copied):
    change_json(copied / packages.FOLDER_BENEATH, lambda described: described.update(target="state"))
    with pytest.raises(UnreadableError, match="was changed after it was written"):
        packages.load(copied)


def test_facts_may_be_added_to_a_package(copied):
    change_json(copied, lambda described: described["facts"].update(remark="checked by hand"))
    assert packages.load(copied).facts["remark"] == "checked by hand"


def test_whoever_may_read_the_folder_may_read_the_weights(trained, tmp_path):
    folder = tmp_path / "shared"
    package = packages.load(trained["diffusion"])
    packages.save(package, folder)
    assert {path.stat().st_mode & 0o777 for path in folder.rglob("*.safetensors")} == {
        folder.stat().st_mode & 0o666
    }
    assert folder.stat().st_mode & 0o044
