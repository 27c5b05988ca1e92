"""What a machine with accelerators would be asked: torch's own answers about them are stood in for."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from stormcast_train.base.errors import RequestError
from stormcast_train.distributed import collectives
from stormcast_train.distributed.ranks import Ranks
from stormcast_train.training.run.rank_device import choose_device, refuse_shared_device
from stormcast_train.training.validation.evaluation import evaluating


@pytest.fixture
def accelerators(monkeypatch):
    def have(count):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return have


def rank(local_rank, world=8):
    return Ranks(local_rank, world, local_rank, "srun", "node1", 29500)


def test_where_every_rank_sees_all_accelerators_it_takes_that_of_its_local_rank(accelerators):
    accelerators(8)
    assert [choose_device(None, rank(local)) for local in range(8)] == [
        torch.device("cuda", local) for local in range(8)
    ]
    accelerators(4)
    with pytest.raises(RequestError, match=r"local rank 4 finds 4 accelerator\(s\): start at most 4 ranks"):
        choose_device(None, rank(4))


def test_where_every_rank_sees_its_own_alone_that_is_number_0_for_all(accelerators):
    accelerators(1)  # srun --gpus-per-task=1
    assert [choose_device(None, rank(local)) for local in range(8)] == [torch.device("cuda", 0)] * 8


def test_without_accelerators_or_on_request_it_is_the_cpu(accelerators):
    accelerators(0)
    assert choose_device(None, rank(3)) == torch.device("cpu")
    accelerators(8)
    assert choose_device("cpu", rank(3)) == torch.device("cpu")


@pytest.mark.parametrize(("uuids", "refused"), [(("a", "b"), False), (("a", "a"), True)])
def test_two_ranks_on_one_accelerator_are_told_apart_by_its_uuid_and_refused(monkeypatch, uuids, refused):
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid=uuids[0]))
    monkeypatch.setattr(collectives, "gather", lambda mine: [(mine[0], uuid) for uuid in uuids])
    if refused:
        with pytest.raises(
            RequestError, match=r"ranks 0 and 1 work on the same accelerator \(a of .*--gpus-per-task=1"
        ):
            refuse_shared_device(torch.device("cuda", 0))
    else:
        refuse_shared_device(torch.device("cuda", 0))
    monkeypatch.setattr(collectives, "gather", lambda mine: [None, None])
    refuse_shared_device(torch.device("cpu"))


@pytest.mark.filterwarnings(
    "ignore:for .* copying from a non-meta parameter"
)  # torch's meta device stands for an accelerator
def test_an_evaluated_network_is_on_the_readers_device_wherever_the_weights_were_gathered():
    """fsdp2 gathers whole weights on the host; the network that validates works on the accelerator all the
    same.
    """
    network = nn.Conv2d(2, 2, 3, device="meta")
    gathered = {name: torch.zeros(value.shape) for name, value in network.state_dict().items()}
    twin = evaluating(network, gathered, torch.device("meta"))
    assert {parameter.device.type for parameter in twin.parameters()} == {"meta"}
    assert twin(torch.empty(1, 2, 4, 4, device="meta")).device.type == "meta"
