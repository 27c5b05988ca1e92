from __future__ import annotations

import pytest
import torch
from safetensors import SafetensorError

from stormcast_train.base.errors import RequestError
from stormcast_train.training.run import checkpoint as checkpoints
from stormcast_train.training.run.checkpoint import (
    Checkpoint,
    Keep,
    checkpoint_folders,
    newest_whole,
    read_checkpoint,
    refuse_foreign,
    set_aside_after,
    write_checkpoint,
)
from stormcast_train.training.run.writing_thread import Background


def checkpoint(samples: int) -> Checkpoint:
    optim = {"average/w": torch.ones(3), "step/w": torch.tensor(4.0)}
    return Checkpoint({"w": torch.full((3,), float(samples))}, optim, {"samples": samples})


def test_what_is_written_is_read(tmp_path):
    write_checkpoint(tmp_path, checkpoint(16))
    found, damaged = newest_whole(tmp_path)
    read = read_checkpoint(found)
    assert damaged == []
    assert read.facts["samples"] == 16
    assert torch.equal(read.weights["w"], torch.full((3,), 16.0))
    assert read.optim["step/w"].shape == ()


def test_the_newest_k_are_kept_in_order_of_samples(tmp_path):
    for samples in (8, 16, 104):
        write_checkpoint(tmp_path, checkpoint(samples), Keep(2))
    assert [int(p.name) for p in checkpoint_folders(tmp_path)] == [16, 104]


@pytest.mark.parametrize("harm", ["truncate", "flip", "remove", "no facts", "half facts"])
def test_a_damaged_newest_one_is_passed_over_and_named(tmp_path, harm):
    write_checkpoint(tmp_path, checkpoint(8))
    write_checkpoint(tmp_path, checkpoint(16))
    newest = checkpoint_folders(tmp_path)[-1]
    weights = newest / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    if harm == "truncate":
        weights.write_bytes(content[:-4])
    elif harm == "flip":
        content[-1] ^= 1
        weights.write_bytes(content)
    elif harm == "remove":
        weights.unlink()
    elif harm == "no facts":
        (newest / "checkpoint.json").unlink()
    else:
        (newest / "checkpoint.json").write_text('{"samples": 16, "sha')
    found, damaged = newest_whole(tmp_path)
    assert int(found.name) == 8
    assert len(damaged) == 1
    assert "at 16 samples" in damaged[0]


def test_what_a_crash_left_half_written_is_never_read_and_goes_with_the_next_one(tmp_path):
    debris = tmp_path / ".000000000024.123"
    debris.mkdir()
    (debris / "weights.safetensors").write_bytes(b"half")
    assert newest_whole(tmp_path) == (None, [])
    write_checkpoint(tmp_path, checkpoint(32))
    assert not debris.exists()


FULL = [
    OSError(28, "No space left on device"),
    SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
]


@pytest.mark.parametrize("error", FULL)
def test_a_full_disk_surfaces_as_the_systems_error_and_leaves_nothing_half_written(
    tmp_path, monkeypatch, error
):
    def full(tensors, path) -> None:
        path.write_bytes(b"half")
        raise error

    monkeypatch.setattr(checkpoints, "save_file", full)
    disk = Background()
    disk.submit(lambda: write_checkpoint(tmp_path, checkpoint(8)))
    with pytest.raises(OSError, match="No space left on device") as caught:
        disk.wait()
    disk.close()
    assert caught.value.errno == 28
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_older_checkpoint_as_it_was(tmp_path, monkeypatch):
    write_checkpoint(tmp_path, checkpoint(8))

    def full(tensors, path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "save_file", full)
    for samples in (8, 16):  # also where the very same checkpoint is written once more
        with pytest.raises(OSError, match="No space left"):
            write_checkpoint(tmp_path, checkpoint(samples), Keep(1))
        assert newest_whole(tmp_path) == (tmp_path / "000000000008", [])
    assert [path.name for path in tmp_path.iterdir()] == ["000000000008"]


def test_an_empty_folder_is_passed_over(tmp_path):
    write_checkpoint(tmp_path, checkpoint(8))
    (tmp_path / "000000000016").mkdir()
    found, damaged = newest_whole(tmp_path)
    assert (int(found.name), len(damaged)) == (8, 1)


def test_the_first_at_or_past_every_multiple_stays_for_good(tmp_path):
    for samples in range(8, 97, 8):
        write_checkpoint(tmp_path, checkpoint(samples), Keep(last=2, every=30))
    # multiples 30, 60 and 90 are passed at 32, 64 and 96; 88 and 96 are the last two
    assert [int(p.name) for p in checkpoint_folders(tmp_path)] == [32, 64, 88, 96]


def test_the_newest_that_was_the_best_by_the_named_metric_stays(tmp_path):
    for samples, best_of in ((8, "a"), (16, "a"), (24, "b"), (32, None), (40, None)):
        marked = checkpoint(samples)
        marked.facts["best_of"] = best_of
        write_checkpoint(tmp_path, marked, Keep(last=1, best="a"))
    assert [int(p.name) for p in checkpoint_folders(tmp_path)] == [16, 40]


def test_what_is_newer_than_the_newest_whole_one_is_set_aside_and_does_not_count(tmp_path):
    for samples in (8, 16):
        write_checkpoint(tmp_path, checkpoint(samples))
    (tmp_path / "000000000016" / "weights.safetensors").unlink()
    found, _ = newest_whole(tmp_path)
    set_aside_after(tmp_path, found)
    write_checkpoint(tmp_path, checkpoint(12), Keep(2))
    assert [int(p.name) for p in checkpoint_folders(tmp_path)] == [8, 12]
    assert (tmp_path / "damaged-000000000016").is_dir()


def test_a_checkpoint_of_another_experiment_is_refused_and_an_older_format_is_taken(tmp_path):
    mine = {"science_fingerprint": "a" * 64, "data_fingerprint": "b" * 64}
    write_checkpoint(tmp_path, Checkpoint({"w": torch.ones(3)}, {"v": torch.ones(3)}, {"samples": 8, **mine}))
    write_checkpoint(tmp_path, checkpoint(16))
    newest = tmp_path / "000000000008"
    refuse_foreign(newest, mine)
    with pytest.raises(RequestError, match="other data"):
        refuse_foreign(newest, {**mine, "data_fingerprint": "c" * 64})
    with pytest.raises(RequestError, match="another experiment"):
        refuse_foreign(newest, {**mine, "science_fingerprint": "c" * 64})
    refuse_foreign(tmp_path / "000000000016", mine)


def test_whoever_may_list_a_checkpoint_may_read_its_tensors(tmp_path):
    write_checkpoint(tmp_path, checkpoint(16))
    (folder,) = checkpoint_folders(tmp_path)
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {folder.stat().st_mode & 0o666}
    assert folder.stat().st_mode & 0o044
