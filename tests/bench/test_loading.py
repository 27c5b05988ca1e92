"""Reading samples: ours, the bare pread and the peer's pattern hold the same values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stormcast_train.bench.config import LoadSizes
from stormcast_train.bench.loading import Loading, measure

SIZES = LoadSizes(grids=((12, 8),), hours=26, channels=4, batch=3, batches=1, repeats=1, peer_samples=3)


@pytest.fixture(scope="module")
def loading(tmp_path_factory: pytest.TempPathFactory) -> Loading:
    return Loading(tmp_path_factory.mktemp("load"), (12, 8), SIZES)


def test_the_bare_preads_leave_the_same_bytes_as_our_reader(loading: Loading) -> None:
    loading.read()
    state, background = loading.state_N.copy(), loading.background_B.copy()
    loading.state_N[...] = loading.background_B[...] = 0
    loading.bare()()
    np.testing.assert_array_equal(loading.state_N, state)
    np.testing.assert_array_equal(loading.background_B, background)


def test_every_other_channel_is_what_the_whole_row_holds_there(loading: Loading) -> None:
    loading.read()
    names = loading.state.channels
    loading.some(names[::2], loading.half_N)()
    np.testing.assert_array_equal(loading.half_N, loading.state_N[:, ::2])


def test_the_peers_pattern_ends_in_the_same_normalised_values(loading: Loading) -> None:
    state, driver = loading.check()
    assert state == 0.0
    assert 0.0 < driver < 1e-5  # float32 on our side, float64 on the peer's until the end
    spread = loading.state_N.std(axis=(0, 2, 3))
    assert (np.abs(spread - 1) < 0.5).all()  # a batch of normalised values


def test_another_driver_is_noticed(loading: Loading) -> None:
    means, stds = loading.peer.background_scale
    loading.peer.background_scale = (means + stds, stds)
    with pytest.raises(AssertionError, match="interpolated otherwise"):
        loading.check()
    loading.peer.background_scale = (means, stds)


def test_a_small_bench_gives_a_row_for_every_case() -> None:
    found = {m.case: m for m in measure(SIZES)}
    assert [m.limit for m in found.values()] == [1.3, 0.6, 0.6, 14.0]
    assert all(case.startswith("load/12x8/") for case in found)
    assert all(m.value > 0 and m.details["cpu_ms"] > 0 for m in found.values())


def test_a_reader_is_shared_by_threads(loading: Loading, tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    rows = np.arange(25)
    expected = loading.state.read(rows)
    with ThreadPoolExecutor(4) as pool:
        for got in pool.map(lambda _: loading.state.read(rows), range(16)):
            np.testing.assert_array_equal(got, expected)
