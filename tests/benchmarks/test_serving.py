"""The load on a server: a real one bears it, also a stop under it; one that errs or cuts is found out."""

import asyncio
import json

import numpy as np
import pytest

from quillrt.benchmarks.serving import Question, is_well, load, main, questions_of
from quillrt.runtime.errors import DataError, QuillError
from quillrt.runtime.imageset import ImageSet

for package in ("onnxruntime", "uvicorn", "starlette", "prometheus_client", "sklearn"):
    pytest.importorskip(package)


def test_a_stop_under_load_loses_no_answer(script, tmp_path):
    output = tmp_path / "serving.json"
    options = ("--clients", 40, "--seconds", 0.7, "--dataset", "digits", "--images", 60, "--output", output)
    done = script(main, "models:digits", *options, "--", "--max-batch", 8)
    assert done.exit_code == 0, done.output
    found = json.loads(output.read_text())
    assert (found["wrong"], found["lost"], found["options"]) == (0, 0, ["--max-batch", "8"])
    assert set(found["codes"]) == {"200"}
    assert found["server"] == {"exit_code": 0, "accepted": found["codes"]["200"], "answered": found["codes"]["200"]}
    assert found["answers"] + found["after_stop"] == found["codes"]["200"]
    assert found["after_stop"] > 0
    assert found["environment"]["packages"]["uvicorn"]
    assert f"{found['answers']:,} answers" in done.stdout


QUESTIONS = [Question(b"first", "a", 0.9), Question(b"second", "b", 0.8)]
RIGHT = {b"first": ("a", 0.9), b"second": ("b", 0.8)}


def record_of(answers, cut=False):
    """Return the record of two clients of a server that answers by ``answers``, or cuts them ``cut`` in half."""

    stopping = []

    async def serve(reader, writer):
        try:
            while head := await reader.readline():
                while (line := await reader.readline()) != b"\r\n":
                    head += line
                label, probability = answers[await reader.readexactly(int(head.split(b"Length: ")[1]))]
                body = json.dumps({"predictions": [{"label": label, "probability": probability}]}).encode()
                last = b"Connection: close\r\n" if stopping else b""
                writer.write(
                    b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n%b"
                    % (last, len(body), body[: -5 if cut else None])
                )
                if cut:
                    return
                await asyncio.sleep(0.001)
        finally:
            writer.close()

    async def play():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)

        def stop():
            stopping.append(True)
            server.close()

        return await load(server.sockets[0].getsockname()[1], QUESTIONS, 2, 0.1, stop)

    return asyncio.run(play())


def test_answers_that_are_right_are_none_of_them_wrong():
    record = record_of(RIGHT)
    assert record.wrong == 0
    assert record.codes[200] == len(record.latencies_ms) + record.after_stop > 0


@pytest.mark.parametrize("wrong", [{b"first": ("b", 0.9)}, {b"first": ("a", 0.8)}])
def test_answers_of_another_image_are_found_out_by_label_or_probability(wrong):
    record = record_of({**RIGHT, **wrong})
    assert 0 < record.wrong < record.codes[200]


def test_answers_that_end_halfway_are_lost():
    record = record_of(RIGHT, cut=True)
    assert record.lost > 0
    assert record.codes[200] == 0


@pytest.mark.parametrize(
    "change",
    [{"wrong": 1}, {"lost": 1}, {"codes": {"200": 4, "500": 1}}, {"server": {"exit_code": 1}}, {"codes": {"200": 4}}],
)
def test_whatever_is_not_well_is_said(change):
    well = {"wrong": 0, "lost": 0, "codes": {"200": 5}, "server": {"exit_code": 0, "accepted": 5, "answered": 5}}
    assert is_well(well)
    assert not is_well({**well, **change, "server": {**well["server"], **change.get("server", {})}})


def test_a_model_that_reads_no_image_rightly_cannot_be_measured():
    blank = ImageSet(np.zeros((3, 28, 28), np.uint8), np.array([0, 1, 2]), tuple("xyz"))
    with pytest.raises(DataError, match="reads rightly, found none"):
        questions_of("models:digits", blank, 3)


def test_a_server_that_does_not_start_is_told(script):
    done = script(main, "models:digits", "--dataset", "digits", "--images", 5, "--", "--backend", "abacus")
    assert isinstance(done.exception, QuillError)
    assert "it did not start" in str(done.exception)
