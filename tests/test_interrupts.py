"""Ctrl-C is held back while processes start, whichever thread the kernel hands it to."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from imgsynth.interrupts import held_back


@pytest.fixture(autouse=True)
def as_in_a_terminal():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt():
    """As Ctrl-C: to the process. A thread that does not block it takes it, and the main thread must answer."""
    os.kill(os.getpid(), signal.SIGINT)
    until = time.monotonic() + 0.2  # Python runs handlers between its instructions
    while time.monotonic() < until:
        pass


@pytest.mark.parametrize("others", [0, 3])
def test_it_comes_at_the_end_of_the_block(others):
    done, went_on = threading.Event(), False
    threads = [threading.Thread(target=done.wait) for _ in range(others)]
    for thread in threads:
        thread.start()
    try:
        with pytest.raises(KeyboardInterrupt), held_back():
            interrupt()
            went_on = True
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert went_on
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, set())
    with pytest.raises(KeyboardInterrupt):  # and as ever afterwards
        interrupt()


def test_a_block_without_one_changes_nothing():
    with held_back():
        pass
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, set())


def test_where_it_is_ignored_it_stays_so():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with held_back():
        interrupt()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_where_it_kills_it_does_so_at_the_end():
    code = """
import os, signal
from imgsynth.interrupts import held_back
signal.signal(signal.SIGINT, signal.SIG_DFL)
with held_back():
    os.kill(os.getpid(), signal.SIGINT)
    print("went on", flush=True)
print("never")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("went on\n", -signal.SIGINT)


def test_an_error_in_the_block_is_what_is_raised():
    with pytest.raises(ValueError, match="mine"), held_back():
        interrupt()
        raise ValueError("mine")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_processes_that_start_in_the_block_never_hear_of_it():
    with held_back():
        child = subprocess.Popen([sys.executable, "-c", "input(); print('finished')"], stdin=-1, stdout=-1)
    child.send_signal(signal.SIGINT)
    out, _ = child.communicate(b"\n", timeout=60)
    assert out.strip() == b"finished"
    assert child.returncode == 0


def test_other_threads_may_use_it():
    seen = []

    def work():
        with held_back():
            seen.append(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, set()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [True]
