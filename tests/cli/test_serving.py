"""How `quillrt serve` refuses to start; running ones are in tests/runtime/test_http_server.py."""

import os
import socket
import sys

import pytest

from quillrt.runtime import batching, select
from quillrt.runtime.build_options import Profile
from quillrt.runtime.errors import ConfigError
from quillrt.runtime.ort_options import parse_options

for package in ("onnxruntime", "uvicorn", "starlette", "prometheus_client"):
    pytest.importorskip(package)


def one_line(result):
    code, out, err = result
    assert (code, out) == (1, "")
    assert err.startswith("quillrt: error: ")
    assert err.count("\n") == 1
    return err


def test_a_port_in_use_is_told(quillrt, quadrants_bundle):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        err = one_line(quillrt("serve", quadrants_bundle, "--port", port))
    assert f"expected port {port} of 127.0.0.1 to be free, found another program there; give another --port" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--host", "0.0.0.0"], "expected a token for --host 0.0.0.0, which the network can reach, found none"),
        (["--host", "192.0.2.1", "--token-file", "short"], "expected a token of at least 16 plain characters"),
        (["--token-file", "missing"], "expected a token in missing, but No such file or directory"),
        (["--host", "no.such.host.invalid"], "expected an address of this machine as --host"),
        (["--max-images", "2000"], "expected --max-images of at most --max-queue, found 2000 and 1024"),
        (["--port", "0", "--max-connections", "99999999"], "connections, for "),
        (["--backend", "abacus"], "expected a backend out of"),
    ],
)
def test_what_cannot_be_is_told_before_anything_listens(
    quillrt, quadrants_bundle, tmp_path, monkeypatch, options, message
):
    monkeypatch.delenv("QUILLRT_TOKEN", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short").write_text("secret")
    err = one_line(quillrt("serve", quadrants_bundle, *options))
    assert message in err
    assert "secret" not in err


def test_an_address_of_another_machine_is_told(quillrt, quadrants_bundle, monkeypatch):
    monkeypatch.setenv("QUILLRT_TOKEN", "0123456789abcdef")
    err = one_line(quillrt("serve", quadrants_bundle, "--host", "192.0.2.1"))  # for documentation: nobody has it
    assert "expected port 8000 of 192.0.2.1 to be had" in err


def test_a_bad_bundle_is_told(quillrt, tmp_path):
    (tmp_path / "bad.quill").write_bytes(b"no zip")
    assert "is no zip, truncated or damaged" in one_line(quillrt("serve", tmp_path / "bad.quill"))


@pytest.mark.parametrize("package", ["uvicorn", "starlette", "prometheus_client"])
def test_a_missing_package_names_the_extra(quillrt, quadrants_bundle, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    err = one_line(quillrt("serve", quadrants_bundle, "--port", 0))
    assert f"serve needs the package {package}: pip install 'quillrt[serve]'" in err


@pytest.fixture
def options_of(quillrt, quadrants_bundle, monkeypatch):
    """Return the session's options that ``serve`` makes of words."""

    def options_of(*words):
        found = []

        def refuse(bundle, backend, precision, options, *others):
            found.append(options)
            raise ConfigError("enough")

        monkeypatch.setattr(select, "open_fitting", refuse)
        assert "enough" in one_line(quillrt("serve", quadrants_bundle, "--port", 0, *words))
        return found[0]

    return options_of


def test_the_gpu_is_the_one_asked_for(options_of):
    assert (options_of().device, options_of("--device", 2).device) == (0, 2)


def test_a_cuda_graph_of_onnxruntimes_tensorrt_is_of_the_largest_batch(options_of):
    options = options_of("--backend", "onnxruntime-tensorrt", "--cuda-graph", "--max-batch", 16)
    tuning = parse_options("onnxruntime-tensorrt", {"trt_cuda_graph_enable": "1", **options.provider_options})
    assert (tuning.graph, tuning.batches) == (True, Profile((16,), (16,), (16,)))


def test_as_many_threads_decode_as_cores_may_be_used(options_of, monkeypatch):
    taken = []
    monkeypatch.setattr(batching, "Batching", lambda *given: taken.append(given[-1]))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {5, 6, 9})
    options_of()
    options_of("--workers", 2)
    assert taken == [3, 2]


@pytest.mark.parametrize("options", [["--port", "65536"], ["--max-batch", "0"], ["--min-confidence", "2"]])
def test_wrong_usage_is_code_2(quillrt, quadrants_bundle, options):
    assert quillrt("serve", quadrants_bundle, *options)[0] == 2


@pytest.mark.parametrize(
    ("option", "value"), [("--min-confidence", "nan"), ("--max-delay-ms", "inf"), ("--receive-seconds", "nan")]
)
def test_numbers_that_are_none_are_refused(quillrt, quadrants_bundle, option, value):
    code, out, err = quillrt("serve", quadrants_bundle, option, value)
    assert (code, out) == (1, "")
    assert "expected finite --min-confidence" in err
