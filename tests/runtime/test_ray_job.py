"""`run --on ray` on a Ray of this machine: one cluster for all tests."""

import json
import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from quillrt.runtime import ray_job
from quillrt.runtime.bundle import Bundle
from quillrt.runtime.errors import ConfigError, ImageError
from quillrt.runtime.session import SessionOptions

pytest.importorskip("onnxruntime")
pytest.importorskip("pyarrow")
ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'quillrt[ray]'")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def cluster():
    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False, logging_level="CRITICAL")
    yield
    ray.shutdown()


@pytest.fixture
def pictures(tmp_path, draw):
    """Images whose names other readers skip or cannot spell, in folders, and files that are none."""
    folder = tmp_path / "in"
    for n, name in enumerate(("b/1.png", "b/_2.png", "b/.3.PNG", ".c/4.png", "a-b/5.png", "a/6.png", "caf\udce9.png")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        draw(folder / name, n % 4)
    (folder / "b" / "0.png").write_text("dear reader")
    (folder / "b" / "empty.png").touch()
    return folder


def plain(quillrt, bundle, images, folder, *options):
    quillrt("run", "-q", bundle, images, "-o", folder / "plain.parquet", *options)
    return read(folder / "plain.parquet")


def read(path):
    from pyarrow import parquet

    rows = parquet.read_table(path)
    if "index" in rows.column_names:
        rows = rows.sort_by("index")
        assert rows["index"].to_pylist() == list(range(len(rows)))
        rows = rows.drop_columns("index")
    return rows


def test_the_rows_are_those_of_the_plain_run(cluster, quillrt, quadrants_bundle, pictures, tmp_path):
    options = ("--top-k", 2, "--min-confidence", 0.9, "--batch-size", 2)

    code, out, err = quillrt(
        "run", quadrants_bundle, "--on", "ray", "-o", tmp_path / "out", pictures, "--json", *options
    )

    assert code == 3
    assert err.splitlines()[-1] == "2 of 9 images could not be read; their rows say why"
    assert json.loads(out) == {
        "output": str(tmp_path / "out"),
        "file": "model.fp32.onnx",
        "backend": "onnxruntime-cpu",
        "images": 9,
        "failed": 2,
    }
    assert read(tmp_path / "out").equals(plain(quillrt, quadrants_bundle, pictures, tmp_path, *options))


def children(pid):
    with suppress(FileNotFoundError, ProcessLookupError):
        return [
            int(pid) for task in Path(f"/proc/{pid}/task").iterdir() for pid in (task / "children").read_text().split()
        ]
    return []


def actors_at_work():
    """Processes that Ray calls so: it starts them from a child of this one."""
    found = []
    for pid in [grandchild for child in children(os.getpid()) for grandchild in children(child)]:
        with suppress(FileNotFoundError, ProcessLookupError):
            title = Path(f"/proc/{pid}/cmdline").read_bytes()
            if title.startswith(b"ray::MapWorker") and b".submit" in title:
                found.append(pid)
    return found


def test_a_killed_actor_changes_nothing(cluster, quillrt, quadrants_bundle, draw, tmp_path):
    folder, killed, ended = tmp_path / "many", [], threading.Event()
    folder.mkdir()
    for n in range(4):
        draw(folder / f"{n:04}.png", n)
    for n in range(4, 1500):
        os.link(folder / f"{n % 4:04}.png", folder / f"{n:04}.png")

    def kill_one():
        while not killed and not ended.wait(0.02):
            for pid in actors_at_work()[:1]:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

    killer = threading.Thread(target=kill_one)
    killer.start()
    options = ("--batch-size", 4)
    code, _, _ = quillrt(
        "run", "-q", quadrants_bundle, "--on", "ray", "--workers", 2, "-o", tmp_path / "out", folder, *options
    )
    ended.set()
    killer.join()

    assert code == 0
    assert len(killed) == 1
    assert read(tmp_path / "out").equals(plain(quillrt, quadrants_bundle, folder, tmp_path, *options))


def test_what_cannot_be_is_said_in_words_of_ours(cluster, quadrants_bundle, pictures, tmp_path):
    from quillrt.runtime.ray_job import Model, run

    bundle = Bundle.open(quadrants_bundle)

    def attempt(images=pictures, workers=1, **model):
        run(bundle, Model(**model), [str(images)], str(tmp_path / "out"), workers, 64, progress=False)

    with pytest.raises(ConfigError, match="expected a backend out of tensorrt"):
        attempt(backend="abacus")
    with pytest.raises(ConfigError, match=r"expected fewer workers than the cluster has cores \(3\), found 3"):
        attempt(workers=3)
    with pytest.raises(ImageError, match=r"expected images at file:///.*, but "):
        attempt(images=f"file://{tmp_path}/nowhere")
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


def test_at_an_address_a_mark_comes_last_and_only_of_a_whole(
    cluster, quillrt, quadrants_bundle, pictures, tmp_path, monkeypatch
):
    def attempt(output):
        return quillrt("run", "-q", quadrants_bundle, pictures, "--on", "ray", "-o", f"file://{tmp_path / output}")[0]

    assert attempt("whole") == 3
    assert (tmp_path / "whole" / ray_job.DONE).exists()
    assert read(tmp_path / "whole").equals(plain(quillrt, quadrants_bundle, pictures, tmp_path))

    def broken(*_):
        raise ray.exceptions.RayError("lost")

    monkeypatch.setattr(ray.data.Dataset, "write_parquet", broken)
    assert attempt("part") == 1
    assert not (tmp_path / "part" / ray_job.DONE).exists()


@pytest.mark.parametrize("error", [ValueError("no num_cpus\nthere"), ConnectionError("no cluster")])
@pytest.mark.parametrize("address", ["10.1.2.3:6379", ""])
def test_a_ray_that_cannot_be_had_is_one_line_and_no_cluster_is_looked_for(
    quillrt, quadrants_bundle, pictures, tmp_path, monkeypatch, error, address
):
    asked = []

    def init(address=None, **_):
        asked.append(address)
        raise error

    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)

    code, out, err = quillrt("run", "-q", quadrants_bundle, pictures, "--on", "ray", "-o", tmp_path / "out")

    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "RAY_ADDRESS" in err
    assert asked == [None if address else "local"]  # without one Ray takes RAY_ADDRESS


def test_an_actor_takes_the_gpu_that_ray_gives_it(quadrants_bundle, monkeypatch):
    bundle, opened = Bundle.open(quadrants_bundle), []

    def open_fitting(bundle, backend, precision, options, cache):
        opened.append(options)
        return None, bundle.manifest.entries[0], "onnxruntime-cuda"

    monkeypatch.setattr(ray_job, "open_fitting", open_fitting)
    monkeypatch.setattr(ray, "get", lambda content: content)

    options = SessionOptions(threads=2, device=3)
    ray_job.Actor([quadrants_bundle.read_bytes()], bundle.sha256, ray_job.Model(options=options))

    assert opened == [SessionOptions(threads=2, device=0)]


def test_without_ray_the_extra_is_named(quillrt, quadrants_bundle, pictures, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray.data", None)
    code, out, err = quillrt("run", quadrants_bundle, pictures, "--on", "ray", "-o", tmp_path / "out")
    assert (code, out) == (1, "")
    assert err == "quillrt: error: --on ray needs the package ray: pip install 'quillrt[ray]'\n"


@pytest.mark.parametrize(
    ("options", "code", "phrase"),
    [
        (["--output", "taken"], 1, "expected a new or an empty folder, but taken is not empty"),
        (["--output", "file://{}/taken"], 1, "expected a new or an empty folder, but file:///"),
        (["--output", "foo://bar"], 1, "expected a folder at foo://bar, but "),
        (["--output", "gs://no such bucket/x"], 1, "expected a folder at gs://no such bucket/x, but "),
        (["--output", "out", "--resume"], 1, "expected no --resume or --overwrite with --on ray"),
        (["--output", "out", "--overwrite"], 1, "expected no --resume or --overwrite with --on ray"),
        ([], 2, "--on go with --output"),
    ],
)
def test_what_cannot_be_is_refused_before_ray_starts(
    quillrt, quadrants_bundle, pictures, tmp_path, monkeypatch, options, code, phrase
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ray, "init", None)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()

    options = [option.format(tmp_path) for option in options]

    found, out, err = quillrt("run", quadrants_bundle, pictures, "--on", "ray", *options)

    assert (found, out) == (code, "")
    assert phrase in " ".join(err.replace("│", "").split())
