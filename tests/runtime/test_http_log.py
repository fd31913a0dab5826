"""The log, on pipes that somebody reads or nobody does."""

import fcntl
import os
import threading
import time

import pytest

from quillrt.runtime.http_log import Log


@pytest.fixture
def pipe():
    ends = os.pipe()
    fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, 4096)
    yield ends
    for end in ends:
        os.close(end)


def test_lines_are_written_in_their_order(pipe):
    log = Log(pipe[1])
    for k in range(20):
        log(f"line {k}, \udc80")
    log.close()
    assert os.read(pipe[0], 4096).decode().splitlines() == [f"line {k}, \\udc80" for k in range(20)]


def test_what_nobody_reads_is_dropped_and_counted(pipe):
    log, line, got = Log(pipe[1], most_lines=3), "x" * 999, []
    for _ in range(100):  # 4 fill the pipe, 1 is being written, 3 wait; this would not end if it were waited for
        log(line)

    def read():
        while not got or not got[-1].endswith("last\n"):
            got.append(reader.readline())

    with os.fdopen(os.dup(pipe[0])) as reader:
        reading = threading.Thread(target=read)
        reading.start()
        while log._lines.qsize():  # now somebody reads
            time.sleep(0.001)
        log("last")
        reading.join(30)
    log.close()
    (told,) = (each for each in got if "dropped" in each)
    assert int(told.split()[0]) + got.count(line + "\n") == 100


def test_a_reader_that_has_gone_is_no_error():
    unread, end = os.pipe()
    os.close(unread)
    log = Log(end)
    log("a line")
    log("another")
    log.close()
    os.close(end)
