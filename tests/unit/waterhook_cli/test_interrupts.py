"""Signals during the work and the clean-up of a command."""

import os
import signal

import pytest

from tests.fakes.clock import Clock
from waterhook_cli.interrupts import PATIENCE_S, Interrupts

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def send(signum: signal.Signals) -> None:
    os.kill(os.getpid(), signum)


@pytest.mark.parametrize("signum", SIGNALS, ids=lambda signum: signum.name)
def test_a_signal_interrupts_only_what_may_be_interrupted(signum: signal.Signals) -> None:
    before = [signal.getsignal(each) for each in SIGNALS]
    with Interrupts() as interrupts:
        with pytest.raises(KeyboardInterrupt), interrupts.allowed():
            send(signum)
        send(signum)
        with pytest.raises(KeyboardInterrupt), interrupts.allowed():
            pytest.fail("not interrupted")
        with interrupts.allowed():
            pass
    assert [signal.getsignal(each) for each in SIGNALS] == before


def test_signals_do_not_interrupt_a_clean_up_unless_it_takes_long() -> None:
    clock = Clock()
    with Interrupts(clock) as interrupts:
        with interrupts.cleaning_up():
            for signum in SIGNALS:
                send(signum)
            clock.advance(PATIENCE_S + 1)
            with pytest.raises(KeyboardInterrupt):
                send(signal.SIGINT)
        send(signal.SIGINT)


def test_under_nohup_a_hangup_stays_ignored() -> None:
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts, interrupts.allowed():
            send(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, previous)
