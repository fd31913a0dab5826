import numpy as np

from quillrt.benchmarks.memory import device_memory_bytes, output_of, peak_rss_bytes, usage


def test_the_peak_is_the_kernels(tmp_path):
    status = tmp_path / "status"
    status.write_text("Name:\tx\nVmPeak:\t  9 kB\nVmHWM:\t   2048 kB\nVmRSS:\t 1 kB\n")
    assert peak_rss_bytes(status) == 2 * 2**20
    assert peak_rss_bytes(tmp_path / "none") is None


def test_the_peak_grows_with_what_is_touched():
    before = peak_rss_bytes()
    block = np.ones(2**27, np.uint8)  # 128 MB, more than any slack
    assert peak_rss_bytes() >= before
    assert peak_rss_bytes() >= block.nbytes


def test_images_are_left_out_but_not_what_was_there_before():
    peak = peak_rss_bytes()
    assert usage(0, 10 * 2**20).peak_rss_bytes >= peak - 10 * 2**20
    assert usage(peak, 2**40).peak_rss_bytes == peak


def test_a_gpus_memory_is_that_of_this_process_on_all_of_them():
    table = "17, 300\n99, 512\n99, 12\n199, 7\n"
    assert device_memory_bytes(99, lambda command: table) == 524 * 2**20
    assert device_memory_bytes(5, lambda command: table) is None
    assert device_memory_bytes(99, lambda command: "") is None


def test_a_program_that_is_missing_or_fails_says_nothing():
    assert output_of(["echo", "word"]) == "word\n"
    assert output_of(["no-such-program"]) == ""
    assert output_of(["false"]) == ""
