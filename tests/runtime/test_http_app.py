"""The server's routes, called as an ASGI server calls them, on the classifier of tests/conftest.py."""

import asyncio
import base64
import json
import re
import threading
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from quillrt.runtime import http_app
from quillrt.runtime.batching import Batching
from quillrt.runtime.confidence import Confidence
from quillrt.runtime.errors import AccuracyError, BackendUnavailable
from quillrt.runtime.http_answers import Answers
from quillrt.runtime.http_app import application
from quillrt.runtime.http_front import Tally
from quillrt.runtime.http_request import Limits
from quillrt.runtime.session import Session

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")

BRIGHT = 0.998995  # 1 / (1 + 3 exp(-8)): what the classifier gives the white quadrant
OPENAPI = json.loads(Path(http_app.__file__).with_name("openapi.json").read_text())
TOKEN = "0123456789abcdef"
MODEL = ("model.onnx", "quadrants", "quadrants.quill", "5" * 64)
DEFAULTS = {
    "confidence": Confidence(),
    "answers": Answers(*MODEL),
    "batching": Batching(),
    "limits": Limits(),
}


class QuadrantSession(Session):
    """Answers as the classifier does, without an engine library; ``go`` holds it back."""

    def __init__(self, quadrants):
        self.spec_, self._logits, self.go, self.fails = quadrants.spec, quadrants.logits, threading.Event(), None
        self.go.set()
        self.batches = []

    @property
    def spec(self):
        return self.spec_

    def run(self, batch):
        self.batches.append(len(batch))
        assert self.go.wait(30)
        if self.fails:
            raise self.fails
        return self._logits(batch)

    def close(self):
        raise AssertionError("it is its owner's to close")


class Asked:
    """A server as a function: ``await asked("POST", "/predict", body, kind)``; answers are held to openapi.json."""

    def __init__(self, app, log, tally):
        self.app, self.log, self.tally = app, log, tally

    async def __call__(self, method, target, body=b"", kind=None, *, headers=(), leaves=False, gone=None):
        path, _, query = target.partition("?")
        chunks = [{"type": "http.request", "body": body, "more_body": leaves}, {"type": "http.disconnect"}]
        sent = []

        async def receive():
            if len(chunks) == 1 and not leaves:
                await (gone or asyncio.Event()).wait()
            return chunks.pop(0)

        async def send(message):
            sent.append(message)

        given = [*headers, *([("content-type", kind)] if kind else [])]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "scheme": "http",
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in given],
            "client": ("192.0.2.1", 5),
            "server": ("127.0.0.1", 80),
        }
        await self.app(scope, receive, send)
        start, *rest = sent
        answer_headers = {name.decode(): value.decode() for name, value in start["headers"]}
        content = b"".join(message.get("body", b"") for message in rest)
        check(method, path, start["status"], answer_headers, content)
        is_json = answer_headers.get("content-type") == "application/json" and path != "/openapi.json"
        return start["status"], answer_headers, json.loads(content) if is_json else content.decode()


def check(method, path, status, headers, content):
    """Hold an answer against what openapi.json says of it, by another library."""
    jsonschema = pytest.importorskip("jsonschema")
    operation = OPENAPI["paths"].get(path, {}).get(method.lower())
    if operation is None:
        assert status in (404, 405)
        schema = {"$ref": "#/components/schemas/Error"}
    elif status == 499:
        return
    else:
        ((kind, said),) = operation["responses"][str(status)]["content"].items()
        assert headers["content-type"].startswith(kind)
        schema = said["schema"]
    if headers["content-type"] == "application/json":
        jsonschema.Draft202012Validator({**schema, "components": OPENAPI["components"]}).validate(json.loads(content))


@pytest.fixture
def session(quadrants):
    return QuadrantSession(quadrants)


@pytest.fixture
def asking(session):
    """Run ``play(asked)`` on a server with these options."""

    def run(play, **given):
        log, tally = [], Tally()
        options = {**DEFAULTS, **given}
        app = application(session, tally=tally, log=log.append, **options)

        async def whole():
            async with living(app):
                return await play(Asked(app, log, tally))

        return asyncio.run(whole())

    return run


@asynccontextmanager
async def living(app):
    """Send an application the events of its life."""
    events, told = asyncio.Queue(), asyncio.Queue()
    task = asyncio.create_task(app({"type": "lifespan", "asgi": {"version": "3.0"}}, events.get, told.put))
    await events.put({"type": "lifespan.startup"})
    assert (await told.get())["type"] == "lifespan.startup.complete"
    yield
    await events.put({"type": "lifespan.shutdown"})
    assert (await told.get())["type"] == "lifespan.shutdown.complete"
    await task


@pytest.fixture
def png(draw, tmp_path):
    """The PNG file of an image whose quadrant ``k`` is white."""
    return lambda k: draw(tmp_path / f"{k}.png", k).read_bytes()


def test_one_image_is_answered_as_run_answers_it(asking, png):
    async def play(asked):
        return await asked("POST", "/predict?top_k=2", png(2), "image/png", headers=[("x-request-id", "my-1")])

    status, headers, value = asking(play)
    assert (status, headers["x-request-id"], value["request_id"]) == (200, "my-1", "my-1")
    assert (value["file"], value["backend"]) == ("model.onnx", "quadrants")
    (found,) = value["predictions"]
    best, second = found.pop("top")
    assert best == {"label": "sw", "probability": pytest.approx(BRIGHT, abs=1e-6)}
    assert second["probability"] == pytest.approx((1 - BRIGHT) / 3, abs=1e-6)
    assert found == {
        "image": "0",
        "answer": "sw",
        "doubt": "",
        "label": "sw",
        "probability": best["probability"],
        "is_character": True,
        "unsure": False,
        "preprocessing": "as-is",
        "because": "the model wants images whole",
    }


def test_several_images_are_answered_in_their_order_with_what_the_network_got(asking, png):
    body = json.dumps({"images": [base64.b64encode(png(k)).decode() for k in (3, 0, 1)]}).encode()

    async def play(asked):
        return await asked("POST", "/predict?input=1", body, "application/json")

    _, _, value = asking(play)
    assert [(each["image"], each["answer"]) for each in value["predictions"]] == [("0", "se"), ("1", "nw"), ("2", "ne")]
    got = value["predictions"][2]["input"]
    white = np.frombuffer(base64.b64decode(got["grey"]), np.uint8).reshape(got["height"], got["width"])
    assert (white[:4, 4:] == 255).all()
    assert white.sum() == 16 * 255


def test_doubts_are_the_bundles_and_the_options(asking, png):
    """Logits 4 and -4, divided by 8: a share of 1 / (1 + 3 exp(-1)) = 0.475; their energy, 4.001, is under 5."""

    async def play(asked):
        return (await asked("POST", "/predict", png(1), "image/png"))[2]["predictions"][0]

    unsure = Answers(*MODEL, min_confidence=0.6)
    found = asking(play, confidence=Confidence(8.0), answers=unsure)
    assert (found["answer"], found["doubt"], found["label"], found["unsure"]) == (None, "unsure", "ne", True)
    assert found["probability"] == pytest.approx(0.47537, abs=1e-5)
    found = asking(play, confidence=Confidence(8.0, 5.0))
    assert (found["answer"], found["doubt"], found["is_character"]) == (None, "no character", False)
    taken = Answers(*MODEL, reject=False)
    found = asking(play, confidence=Confidence(8.0, 5.0), answers=taken)
    assert (found["answer"], found["doubt"], found["is_character"]) == ("ne", "", False)


@pytest.mark.parametrize(
    ("method", "target", "body", "kind", "status", "message"),
    [
        ("POST", "/predict", b"garbage", "image/png", 422, "image 0 is none; give a PNG or JPEG"),
        ("POST", "/predict", b"", "image/png", 400, "found an empty body"),
        ("POST", "/predict", b"x", "text/plain", 415, "found 'text/plain'"),
        ("POST", "/predict", b"{", "application/json", 400, "the body cannot be read"),
        ("POST", "/predict", b"x" * 201, "image/png", 413, "at most 200 bytes"),
        ("POST", "/predict?top_k=0", b"x", "image/png", 422, "expected top_k of 1 or more, found '0'"),
        ("POST", "/predict?topk=3", b"x", "image/png", 422, "expected top_k and input once each at most, found 'topk'"),
        ("POST", "/predict?top_k=1&top_k=2", b"x", "image/png", 422, "once each at most, found 'top_k'"),
        ("POST", "/predict?top_k=%0a%F0", b"x", "image/png", 422, "expected top_k of 1 or more"),
        ("GET", "/predict", b"", None, 405, "expected POST at /predict, found GET"),
        ("GET", "/%0d%0aevil", b"", None, 404, "expected a route of this server, found"),
    ],
)
def test_what_cannot_be_answered_is_told_in_one_line(asking, method, target, body, kind, status, message):
    async def play(asked):
        return (await asked(method, target, body, kind)), asked.log

    (got, headers, value), log = asking(play, limits=Limits(max_bytes=200))
    assert got == status
    assert message in value["error"]
    assert "\n" not in value["error"] + "".join(log)
    assert f" {status} " in log[0]
    assert log[0].endswith(headers["x-request-id"])
    assert headers.get("allow") == ("POST" if status == 405 else None)


def test_too_many_pixels_are_refused_before_they_are_decoded(asking, png):
    async def play(asked):
        return await asked("POST", "/predict", png(0), "image/png")

    status, _, value = asking(play, limits=Limits(max_pixels=63))
    assert (status, value["error"][:30]) == (422, "expected at most 63 pixels, bu")


def test_a_full_queue_is_429_and_what_was_accepted_is_answered(asking, session, png):
    session.go.clear()

    async def play(asked):
        first = asyncio.create_task(asked("POST", "/predict", png(0), "image/png"))
        await asyncio.sleep(0)
        status, headers, value = await asked("POST", "/predict", png(1), "image/png")
        assert (status, headers["retry-after"]) == (429, "1")
        assert "found it full" in value["error"]
        session.go.set()
        return (await first)[2]["predictions"][0]["answer"], asked.tally

    answer, tally = asking(play, batching=Batching(max_waiting=1))
    assert answer == "nw"
    assert (tally.accepted, tally.answered) == (2, 2)


@pytest.mark.parametrize("error", [AccuracyError("expected finite logits,\nfound NaN"), RuntimeError("a bug\nof ours")])
def test_a_failing_batch_is_500_in_one_line_and_the_next_request_is_answered(asking, session, png, error):
    async def play(asked):
        session.fails = error
        failed = await asked("POST", "/predict", png(0), "image/png")
        session.fails = None
        return failed, await asked("POST", "/predict", png(0), "image/png"), asked.log

    failed, (status, _, _), log = asking(play)
    assert (failed[0], status) == (500, 200)
    if isinstance(error, AccuracyError):
        assert failed[2]["error"] == "expected finite logits, found NaN"
    else:
        assert failed[2]["error"] == "this request failed: RuntimeError"
        assert re.search(r"failed at run, line \d+: RuntimeError: a bug of ours$", log[0])
    assert "\n" not in "".join(log)


def test_a_device_that_failed_is_503_once_for_all_and_the_server_is_ready_no_more(asking, session, png):
    body = json.dumps({"images": [base64.b64encode(png(k % 4)).decode() for k in range(64)]}).encode()

    async def play(asked):
        session.fails = BackendUnavailable("CUDA failed:\nan illegal address")
        failed = await asked("POST", "/predict", body, "application/json")
        session.fails = None  # it is not tried again
        return failed, await asked("POST", "/predict", png(0), "image/png"), await asked("GET", "/readyz"), asked.tally

    failed, later, ready, tally = asking(play)
    assert (failed[0], later[0], ready[0]) == (503, 503, 503)
    assert failed[2]["error"] == later[2]["error"] == "CUDA failed: an illegal address"
    assert (ready[2], later[1]["connection"]) == ({"ready": False}, "close")
    assert session.batches == [64]
    assert tally.failure == "CUDA failed:\nan illegal address"


def test_a_server_whose_engine_hangs_is_told_dead(asking, session, png, monkeypatch):
    session.go.clear()

    async def play(asked):
        waiting = asyncio.create_task(asked("POST", "/predict", png(0), "image/png"))
        while not session.batches:
            await asyncio.sleep(0.001)
        busy = await asked("GET", "/healthz")
        monkeypatch.setattr(http_app, "_LONGEST_BATCH_SECONDS", 0)
        hangs = await asked("GET", "/healthz")
        session.go.set()
        return busy, hangs, await waiting

    busy, hangs, answered = asking(play)
    assert (busy[0], busy[2]) == (200, {"alive": True})
    assert (hangs[0], hangs[2]) == (503, {"alive": False})
    assert answered[0] == 200


def test_images_of_a_client_that_hangs_up_while_they_wait_are_not_run(asking, session, png):
    session.go.clear()

    async def play(asked):
        first = asyncio.create_task(asked("POST", "/predict", png(0), "image/png"))
        while not session.batches:
            await asyncio.sleep(0.001)
        gone = asyncio.Event()
        waiting = [asyncio.create_task(asked("POST", "/predict", png(1), "image/png", gone=gone)) for _ in range(40)]
        await asyncio.sleep(0.05)
        gone.set()
        codes = [(await each)[0] for each in waiting]
        session.go.set()
        return codes, (await first)[0], asked.tally

    codes, first, tally = asking(play)
    assert (set(codes), first) == ({499}, 200)
    assert session.batches == [1]
    assert tally.accepted == tally.answered == 41


def test_a_client_that_hangs_up_costs_no_error(asking):
    async def play(asked):
        return (await asked("POST", "/predict", b"x", "image/png", leaves=True))[0], asked.log, asked.tally

    status, (line,), tally = asking(play)
    assert status == 499
    assert " POST /predict 499 " in line
    assert tally.accepted == 0


def test_the_token_guards_what_computes_and_counts_and_is_never_logged(asking, png):
    async def play(asked):
        codes = {}
        for name, header in [("none", []), ("wrong", [("authorization", "Bearer x")])]:
            asked_for = [("POST", "/predict"), *(("GET", path) for path in ("/metrics", "/model", "/readyz", "/"))]
            for method, path in asked_for:
                status, headers, _ = await asked(method, path, png(0), "image/png", headers=header)
                codes[name, path] = status
                assert (headers.get("www-authenticate") == "Bearer") == (status == 401)
        right = [("authorization", f"Bearer {TOKEN}")]
        assert (await asked("POST", f"/predict?token={TOKEN}", png(0), "image/png", headers=right))[0] == 422
        assert (await asked("GET", "/metrics", headers=right))[0] == 200
        return codes, asked.log

    codes, log = asking(play, token=TOKEN)
    assert set(codes.values()) == {401, 200}
    assert {path for (_, path), status in codes.items() if status == 401} == {"/predict", "/metrics", "/model"}
    assert TOKEN not in "".join(log)


@pytest.mark.parametrize("given", ["", "two words", "x" * 65, "\xff", "a\r\nb"])
def test_a_request_id_that_could_spoil_a_log_is_replaced(asking, given):
    async def play(asked):
        return await asked("GET", "/healthz", headers=[("x-request-id", given)])

    _, headers, _ = asking(play)
    assert re.fullmatch("[0-9a-f]{16}", headers["x-request-id"])


def test_a_server_that_stops_says_so_and_closes_connections(asking):
    async def play(asked):
        before = await asked("GET", "/readyz")
        asked.tally.stopping = True
        return before, await asked("GET", "/readyz"), await asked("GET", "/healthz")

    before, after, alive = asking(play)
    assert (before[0], before[2]) == (200, {"ready": True})
    assert "connection" not in before[1]
    assert (after[0], after[2], after[1]["connection"]) == (503, {"ready": False}, "close")
    assert alive[0] == 200


def test_the_metrics_are_what_happened_as_prometheus_reads_them(asking, png):
    parser = pytest.importorskip("prometheus_client.parser")
    body = json.dumps({"images": [base64.b64encode(png(k)).decode() for k in range(3)]}).encode()

    async def play(asked):
        await asked("POST", "/predict", body, "application/json")
        await asked("POST", "/predict", b"x", "text/plain")
        await asked("GET", "/nowhere")
        return await asked("GET", "/metrics")

    _, _, text = asking(play, answers=Answers(*MODEL, min_confidence=1.0))
    samples = {
        (sample.name, *(v for k, v in sorted(sample.labels.items()) if k != "le")): sample.value
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_bucket")
    }
    assert samples["quillrt_requests_total", "200", "/predict"] == 1
    assert samples["quillrt_requests_total", "415", "/predict"] == 1
    assert samples["quillrt_requests_total", "404", "other"] == 1
    assert samples["quillrt_batch_images_sum",] == 3
    assert samples["quillrt_predictions_total", "unsure"] == 3
    assert samples["quillrt_images_waiting",] == 0
    assert samples["quillrt_predict_seconds_count",] == 1
    assert samples["quillrt_model_info", "quadrants", "quadrants.quill", "model.onnx", "5" * 64] == 1


def test_the_model_says_what_it_is_and_wants(asking):
    async def play(asked):
        return (await asked("GET", "/model"))[2]

    assert asking(play, answers=Answers(*MODEL, preprocessing="photo")) == {
        "bundle": {"name": "quadrants.quill", "sha256": "5" * 64},
        "file": "model.onnx",
        "backend": "quadrants",
        "labels": ["nw", "ne", "sw", "se"],
        "input": {"channels": 1, "height": 8, "width": 8},
        "preprocessing": {
            "way": "photo",
            "recipe": {"height": 8, "width": 8, "mean": 0.5, "std": 0.5, "fit": "resize", "denoise": []},
        },
    }


def test_a_slash_too_many_leads_nowhere(asking):
    async def play(asked):
        return await asked("GET", "/docs/", headers=[("host", "evil.example")])

    status, headers, _ = asking(play)
    assert status == 404
    assert "location" not in headers


def test_the_pages_load_nothing_from_elsewhere(asking):
    async def play(asked):
        return [await asked("GET", path) for path in ("/", "/docs", "/openapi.json")]

    for status, headers, text in asking(play):
        assert status == 200
        assert not re.search(r"(?:src|href|url)\s*[=(]\s*[\"']?(?:https?:)?//", text)
        if headers["content-type"] == "text/html; charset=utf-8":
            assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'sha256-")
            assert "unsafe" not in headers["content-security-policy"]


def test_openapi_json_is_valid_and_has_every_route(session):
    validator = pytest.importorskip("openapi_spec_validator")
    validator.validate(OPENAPI)
    app = application(session, Confidence(), Answers(*MODEL), Batching(), Limits(), Tally())
    assert {route.path for route in app._app.routes} == set(OPENAPI["paths"])
