from __future__ import annotations

import numpy as np
import torch

from stormcast_train.data.noise import normal, philox4x32, uniform
from stormcast_train.data.order import Order
from stormcast_train.fields import seeds

CPU = torch.device("cpu")


def test_torch_and_numpy_give_the_same_philox_integers():
    counter = np.random.default_rng(0).integers(0, 2**32, (50, 4), dtype=np.uint32)
    key = (0xDEADBEEF, 0xFFFFFFFF)
    ours = philox4x32(torch.from_numpy(counter.astype(np.int64)), key)
    assert (ours.numpy() == seeds.philox4x32(counter, key)).all()


def test_a_sample_draws_the_same_noise_in_any_batch():
    together = normal(3, ("noise",), [7, 8, 2**33], (2, 3, 5), CPU)
    alone = normal(3, ("noise",), [2**33], (2, 3, 5), CPU)
    assert torch.equal(together[2:], alone)


def test_seed_purpose_and_stream_index_each_change_the_noise():
    base = normal(0, ("noise",), [0], (8,), CPU)
    for other in (normal(1, ("noise",), [0], (8,), CPU), normal(0, ("sigma",), [0], (8,), CPU), normal(0, ("noise",), [1], (8,), CPU)):
        assert not torch.isclose(base, other).any()


def test_normals_have_mean_0_variance_1_and_uncorrelated_neighbours():
    drawn = normal(0, ("noise",), range(4), (50_000,), CPU).double()
    assert abs(drawn.mean()) < 0.01
    assert abs(drawn.var() - 1) < 0.02
    assert abs((drawn[:, 1:] * drawn[:, :-1]).mean()) < 0.01


def test_uniforms_lie_strictly_between_0_and_1():
    drawn = uniform(0, ("crop",), range(4), (10_000,), CPU)
    assert drawn.min() > 0
    assert drawn.max() <= 1
    assert abs(drawn.mean() - 0.5) < 0.01


def test_every_epoch_is_a_permutation_of_all_samples_and_epochs_differ():
    order = Order(10, seed=0)
    epochs = [[order.index(10 * e + i) for i in range(10)] for e in range(3)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_the_order_is_a_function_of_seed_and_position_alone():
    assert Order(100, 5).index(731) == Order(100, 5).index(731)
    assert [Order(100, 5).index(i) for i in range(20)] != [Order(100, 6).index(i) for i in range(20)]
