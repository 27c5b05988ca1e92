from __future__ import annotations

import numpy as np
import torch

from stormcast_train.base import seeds
from stormcast_train.data.keyed_random import normal, philox4x32, uniform, words
from stormcast_train.data.order import Order

CPU = torch.device("cpu")


def test_torch_and_numpy_give_the_same_philox_integers():
    counter = np.random.default_rng(0).integers(0, 2**32, (50, 4), dtype=np.uint32)
    key = (0xDEADBEEF, 0xFFFFFFFF)
    ours = philox4x32(torch.from_numpy(counter.astype(np.int64)), key)
    assert (ours.numpy() == seeds.philox4x32(counter, key)).all()


def test_a_cpu_draws_the_integers_of_the_accelerator():
    stream, key = 5 + 2**33, (0xDEADBEEF, 0xFFFFFFFF)
    counter = torch.tensor([[block, 0, 5, 2] for block in range(7)])  # 2**33 is 2 in the high word
    assert torch.equal(words([stream], 7, key, CPU)[0].long(), philox4x32(counter, key))


def test_a_draw_leaves_its_words_to_box_and_muller():
    index, shape = 11, (2, 3)
    unit = (
        words([index], 2, seeds.derive_key(4, "noise"), CPU).double().numpy()[0] + 0.5
    ) / 2**32  # two blocks of four words
    radius, angle = np.sqrt(-2 * np.log(unit[:, 0::2])), 2 * np.pi * unit[:, 1::2]
    expected = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1).ravel()[:6]
    np.testing.assert_allclose(
        normal(4, ("noise",), [index], shape, CPU).numpy().ravel(), expected, rtol=1e-6
    )
    np.testing.assert_array_equal(
        uniform(4, ("noise",), [index], shape, CPU).numpy().ravel(), unit.ravel()[:6].astype(np.float32)
    )


def test_a_sample_draws_the_same_noise_in_any_batch():
    together = normal(3, ("noise",), [7, 8, 2**33], (2, 3, 5), CPU)
    alone = normal(3, ("noise",), [2**33], (2, 3, 5), CPU)
    assert torch.equal(together[2:], alone)


def test_seed_purpose_and_stream_index_each_change_the_noise():
    base = normal(0, ("noise",), [0], (8,), CPU)
    for other in (
        normal(1, ("noise",), [0], (8,), CPU),
        normal(0, ("sigma",), [0], (8,), CPU),
        normal(0, ("noise",), [1], (8,), CPU),
    ):
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
