"""A written archive: read back through the sources' readers, resumed, spoiled on purpose, continued by an
oracle.
"""

from __future__ import annotations

import numpy as np

from stormcast_train.fields.times import Period
from stormcast_train.synthetic.faults import KINDS, fault_of
from stormcast_train.synthetic.hours import segments
from stormcast_train.synthetic.lattice import lattice_for
from stormcast_train.synthetic.months import months_of, trimmed
from stormcast_train.synthetic.observe import Sampler
from tests.synthetic.test_world import COARSE


def test_cubic_sampling_gives_a_plane_exactly_and_nothing_beyond_the_lattice() -> None:
    lattice = lattice_for(COARSE)
    lat, lon = np.array([22.0, 23.0, 40.0]), np.array([120.5, 121.5])
    y, x = np.indices(lattice.shape)
    row, column = lattice.locate(*np.meshgrid(lat, lon, indexing="ij"))
    sampled = Sampler(lattice, lat, lon)(2.0 * y + 3.0 * x)
    np.testing.assert_allclose(sampled[:2], (2 * row + 3 * column)[:2], rtol=1e-5)
    assert np.isnan(sampled[2]).all()


def test_hours_are_cut_where_segments_meet_and_months_where_months_do() -> None:
    assert segments([70, 71, 72, 150]) == [(70, 71), (72,), (150,)]
    parts = months_of(Period.parse("2021-06-29T00/2021-08-01T00"))
    assert [str(p) for p in parts] == [
        "2021-06-29T00:00:00/2021-07-01T00:00:00",
        "2021-07-01T00:00:00/2021-08-01T00:00:00",
    ]


def test_trimming_changes_values_by_less_than_their_precision() -> None:
    values = np.array([300.123456, -7.654321, 0.0, 57000.9], np.float32)
    np.testing.assert_allclose(trimmed(values), values, rtol=2.0**-13)
    assert (trimmed(values).view(np.uint32) & 0x3FF == 0).all()


def test_every_kind_of_fault_comes_within_three_days() -> None:
    times = np.datetime64("2021-06-01T00", "s") + np.arange(72) * np.timedelta64(3600, "s")
    for folder, kinds in KINDS.items():
        found = [fault_of(5, folder, t) for t in times]
        assert set(filter(None, found)) == set(kinds)
        assert found == [fault_of(5, folder, t) for t in times]
