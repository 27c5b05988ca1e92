from __future__ import annotations

import pytest

from stormcast_train.base.errors import RequestError
from stormcast_train.distributed.ranks import Ranks, must_launch, ranks_from_environment
from stormcast_train.distributed.slurm_query import first_host

SRUN = {
    "SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
}  # fmt: skip
TORCHRUN = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "node1", "MASTER_PORT": "1234"}


def test_a_process_alone_is_rank_0_of_1():
    assert ranks_from_environment({}) == Ranks()
    assert Ranks().is_first


def test_srun_gives_rank_and_meeting_place():
    ranks = ranks_from_environment(SRUN)
    assert (ranks.rank, ranks.world, ranks.local_rank, ranks.launcher) == (3, 4, 1, "srun")
    assert (ranks.address, ranks.port) == ("gpu07", 20000 + 7 * 31)


def test_steps_of_one_job_meet_at_different_ports():
    assert ranks_from_environment(SRUN).port != ranks_from_environment({**SRUN, "SLURM_STEP_ID": "1"}).port


def test_a_batch_script_is_not_a_step():
    batch = {
        "SLURM_JOB_ID": "7",
        "SLURM_PROCID": "0",
        "SLURM_NTASKS": "4",
        "SLURM_JOB_NODELIST": "gpu[07-08]",
    }
    assert ranks_from_environment(batch) == Ranks()


def test_torchrun_wins_over_srun():
    assert ranks_from_environment({**SRUN, **TORCHRUN}) == Ranks(1, 2, 1, "torchrun", "node1", 1234)


@pytest.mark.parametrize(
    ("nodelist", "host"),
    [
        ("gpu07", "gpu07"),
        ("gpu[07-09,12]", "gpu07"),
        ("gpu[3,5]", "gpu3"),
        ("a1,b[1-2]", "a1"),
        ("n[1-2]-ib", "n1-ib"),
        ("n[1-2],m[3-4]", "n1"),
    ],
)
def test_the_first_host_of_a_node_list(nodelist, host):
    assert first_host(nodelist) == host


def test_processes_are_started_here_only_where_nobody_else_started_them():
    assert must_launch(2, Ranks())
    assert not must_launch(1, Ranks())
    assert not must_launch(1, Ranks(0, 4, launcher="srun"))
    assert not must_launch(4, Ranks(0, 4, launcher="srun"))
    with pytest.raises(RequestError, match="srun started 4 ranks"):
        must_launch(2, Ranks(0, 4, launcher="srun"))
