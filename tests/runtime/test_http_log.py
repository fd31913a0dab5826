"""The log, on pipes that somebody reads or nobody does."""

import fcntl
import os

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
    log = Log(pipe[1], most_lines=3)
    line = "x" * 999
    for _ in range(100):  # 4 fill the pipe, 1 is being written, 3 wait; this would not end if it were waited for
        log(line)
    log.close(0.01)
    lines = []
    while len(lines) < 5:  # what waited
        lines += os.read(pipe[0], 65536).decode().splitlines()
    while "end" not in lines:
        log("end")
        lines += os.read(pipe[0], 65536).decode().splitlines()
    (told,) = (each for each in lines if "dropped" in each)
    assert int(told.split()[0]) + sum(each == line for each in lines) == 100


def test_a_reader_that_has_gone_is_no_error():
    unread, end = os.pipe()
    os.close(unread)
    log = Log(end)
    log("a line")
    log("another")
    log.close()
    os.close(end)
