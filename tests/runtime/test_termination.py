"""Signals while a library is being imported: they wait, and then do what they would have done."""

import signal
import threading

import pytest

from quillrt.runtime.termination import TERMINATED, exit_on_sigterm, signals_held


@pytest.fixture
def handlers():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    exit_on_sigterm()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_waits_for_the_end_of_the_block_and_then_counts(handlers, number, raised):
    done = []

    def imported():
        with signals_held():
            signal.raise_signal(number)
            done.append("the import")

    with pytest.raises(raised) as caught:
        imported()

    assert done == ["the import"]
    assert raised is KeyboardInterrupt or caught.value.code == TERMINATED


def test_handlers_are_as_before_where_no_signal_came_or_the_block_failed(handlers):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(ImportError), signals_held():
        raise ImportError
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_another_thread_may_hold_nothing_and_is_let_through():
    found = []

    def work():
        with signals_held():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGINT)]
