from __future__ import annotations

from omegaconf import OmegaConf

from stormcast_train.base.yaml_file import read_yaml

TEXT = """
rate: 1e-05
rates: [2.0e-3, -1.5, .5, 3E+2, .inf, 12, -7]
from: 2021-06-01
until: 2021-06-01T00:00:00
times: 12:30
names: [1.2.3, 1e, e5, "1e-05", ncdr]
flags: {a: true, b: null, c: off}
"""


def test_a_document_is_read_as_omegaconf_reads_it(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(TEXT)
    found = read_yaml(path)
    assert found == OmegaConf.to_container(OmegaConf.load(path))
    assert found["rate"] == 1e-5
    assert found["from"] == "2021-06-01"
