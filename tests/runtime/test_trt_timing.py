"""The timing cache's file: shared by processes, tolerant of damage, refused where it cannot be written."""

import multiprocessing
import types

import pytest

from quillrt.runtime import trt_timing
from quillrt.runtime.device import Gpu
from quillrt.runtime.errors import ConfigError
from quillrt.runtime.tensorrt_api import Log, TensorRT
from quillrt.runtime.trt_timing import TimingCache, default_path

FULL = TensorRT("tensorrt", types.SimpleNamespace(), "10.3.0", Log(), None)
ORIN = Gpu("Orin", "8.7", "12.6", 8 << 30)
MAGIC = b"timings:"


class Timings:
    """An ITimingCache that is a set of names."""

    def __init__(self, names):
        self.names = set(names)

    def combine(self, input_cache, ignore_mismatch):
        self.names |= input_cache.names
        return True

    def serialize(self):
        return MAGIC + b",".join(sorted(self.names))


class Config:
    """An IBuilderConfig with a timing cache; what is none is refused as TensorRT does."""

    def create_timing_cache(self, serialized):
        if serialized and not serialized.startswith(MAGIC):
            return None
        return Timings(filter(None, serialized.removeprefix(MAGIC).split(b",")))

    def set_timing_cache(self, cache, ignore_mismatch):
        self.cache = cache
        return True

    def get_timing_cache(self):
        return self.cache


def build(path, name, barrier=None):
    """Do as a build that times one kernel."""
    config = Config()
    cache = TimingCache(path, FULL, config)
    if barrier is not None:
        barrier.wait(30)
    config.cache.names.add(name)
    cache.keep()
    return config


def test_what_one_build_timed_the_next_knows(tmp_path):
    path = tmp_path / "new" / "t.cache"
    path.parent.mkdir()
    build(path, b"first")
    assert path.read_bytes() == MAGIC + b"first"
    assert build(path, b"second").cache.names == {b"first", b"second"}


def test_processes_that_build_at_once_lose_nothing(tmp_path):
    path, names = tmp_path / "t.cache", [f"kernel{n}".encode() for n in range(8)]
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(len(names))  # all have read the file before any writes it
    processes = [context.Process(target=build, args=(path, name, barrier)) for name in names]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * len(names)
    assert path.read_bytes() == MAGIC + b",".join(sorted(names))


@pytest.mark.parametrize("content", [b"garbage", b"tim"])
def test_a_damaged_file_is_begun_anew(tmp_path, content):
    path = tmp_path / "t.cache"
    path.write_bytes(content)
    build(path, b"kernel")
    assert path.read_bytes() == MAGIC + b"kernel"


def test_a_file_that_cannot_be_written_is_refused_before_the_build(tmp_path):
    with pytest.raises(ConfigError, match=r"expected a timing cache .* at .*missing.*; give another --timing-cache"):
        TimingCache(tmp_path / "missing" / "t.cache", FULL, Config())


def test_a_disk_that_becomes_full_costs_the_timings_and_not_the_engine(tmp_path, monkeypatch):
    def full(path, data):
        raise OSError(28, "No space left on device", str(path))

    build(tmp_path / "t.cache", b"kernel")
    monkeypatch.setattr(trt_timing, "write_bytes", full)
    build(tmp_path / "t.cache", b"other")
    assert (tmp_path / "t.cache").read_bytes() == MAGIC + b"kernel"


def test_each_gpu_driver_and_version_has_its_own(tmp_path):
    others = [
        default_path(tmp_path, FULL, Gpu("Orin", "8.7", "12.7", 8 << 30)),
        default_path(tmp_path, FULL, Gpu("H100", "9.0", "12.6", 8 << 30)),
        default_path(tmp_path, TensorRT("tensorrt", None, "11.4.0", Log(), None), ORIN),
    ]
    assert len({default_path(tmp_path, FULL, ORIN), *others}) == 4


def test_a_default_file_that_cannot_be_locked_or_read_is_done_without(monkeypatch, tmp_path):
    path = default_path(tmp_path, FULL, ORIN)
    build(path, b"kernel")
    assert default_path(tmp_path, FULL, ORIN) == path

    def no_locks(file, how):
        raise OSError(37, "No locks available")

    with monkeypatch.context() as patch:
        patch.setattr(trt_timing.fcntl, "flock", no_locks)
        assert default_path(tmp_path, FULL, ORIN) is None
    path.unlink()
    path.mkdir()
    assert default_path(tmp_path, FULL, ORIN) is None


def test_no_folder_no_timings(tmp_path):
    (tmp_path / "file").write_text("")
    assert default_path(tmp_path / "file", FULL, ORIN) is None
