from __future__ import annotations

import time
from concurrent.futures import wait

import pytest
import torch

from stormcast_train.training.run.checkpoint import Checkpoint, write_checkpoint
from stormcast_train.training.run.writing_thread import Background, HostMemory

MEGABYTES = 132


def test_a_copy_does_not_change_and_what_two_groups_share_is_copied_once():
    weight, average = torch.ones(3), torch.zeros(3)
    (state, packed), buffers = HostMemory().copy({"w": weight, "a": average}, {"a/renamed": average})
    weight += 1
    average += 1
    assert torch.equal(state["w"], torch.ones(3))
    assert state["a"] is packed["a/renamed"]
    assert torch.equal(state["a"], torch.zeros(3))
    assert len(buffers) == 2


def test_names_of_one_group_have_memory_of_their_own():
    tied = torch.ones(3)
    (state,), _ = HostMemory().copy({"head": tied, "tail": tied})
    assert state["head"].data_ptr() != state["tail"].data_ptr()


def test_memory_that_was_given_back_is_used_again():
    memory, weight = HostMemory(), torch.ones(3, 5).T
    (first,), buffers = memory.copy({"w": weight})
    place = first["w"].data_ptr()
    (second,), _ = memory.copy({"w": weight})
    assert second["w"].data_ptr() != place
    memory.give_back(buffers)
    (third,), _ = memory.copy({"w": weight})
    assert third["w"].data_ptr() == place
    assert third["w"].is_contiguous()


def test_an_error_of_a_write_surfaces_at_the_next_call():
    disk = Background()

    def fail() -> None:
        raise OSError(28, "No space left on device")

    disk.submit(fail)
    wait(disk._pending)
    with pytest.raises(OSError, match="No space left"):
        disk.submit(lambda: None)
    disk.close()


@pytest.mark.slow
def test_training_waits_less_than_half_a_second_for_130_megabytes(tmp_path):
    """33 tensors of 4 MB in weights, two slots and an average; the longest pause between two steps while they
    are written, too.
    """
    shapes = MEGABYTES // 4 // 4
    parts = [
        {f"{slot}/{k}": torch.randn(1024, 1024) for k in range(shapes)}
        for slot in ("w", "exp_avg", "exp_avg_sq", "average")
    ]
    weights, optim, averaged = parts[0], parts[1] | parts[2] | parts[3], parts[3]
    memory, disk, stalls, pauses = HostMemory(), Background(), [], []
    disk.submit(lambda: memory.prepare(weights, optim, averaged))
    x = torch.randn(256, 256)
    for samples in (8, 16, 24):
        disk.wait()
        began = time.perf_counter()
        (held, moved, _), buffers = memory.copy(weights, optim, averaged)

        def write(held=held, moved=moved, samples=samples, buffers=buffers) -> None:
            write_checkpoint(tmp_path, Checkpoint(held, moved, {"samples": samples}))
            memory.give_back(buffers)

        disk.submit(write)
        last = time.perf_counter()
        stalls.append(last - began)
        for _ in range(200):
            x @ x
            now = time.perf_counter()
            pauses.append(now - last)
            last = now
    disk.wait()
    disk.close()
    print(
        f"stalls {[round(s, 3) for s in stalls]} s; longest pause {max(pauses):.3f} s; a write took "
        f"{disk.slowest_s:.2f} s"
    )
    assert max(stalls) < 0.5
    assert max(pauses) < 0.5
