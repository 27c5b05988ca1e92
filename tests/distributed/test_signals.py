from __future__ import annotations

import os
import signal

import pytest

from stormcast_train.distributed import signals
from stormcast_train.distributed.signals import StopRequest


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_is_remembered_and_handlers_are_put_back(number):
    before = signal.getsignal(number)
    with StopRequest().listening() as stop:
        assert not stop.asked
        os.kill(os.getpid(), number)
        assert stop.asked
    assert signal.getsignal(number) is before


def test_only_a_later_second_interrupt_interrupts(monkeypatch):
    with StopRequest().listening() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)  # the launcher passing on what the terminal has sent as well
        assert stop.asked
        monkeypatch.setattr(signals, "REPEAT_S", 0.0)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
