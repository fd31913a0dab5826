"""The page to draw on, in a real browser: by mouse on a desk, by finger on a phone."""

import base64
from io import BytesIO
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from quillrt.runtime.images import read_image
from quillrt.runtime.preprocessing import fit_image
from quillrt.runtime.recognizer import open_recognizer

from . import chromium
from .running_server import running

for package in ("onnxruntime", "uvicorn", "starlette", "prometheus_client"):
    pytest.importorskip(package)
if chromium.find() is None:
    pytest.skip("there is no Chromium here: apt install chromium", allow_module_level=True)

SEVEN = [(0.25, 0.22), (0.75, 0.22), (0.62, 0.45), (0.5, 0.62), (0.42, 0.85)]
ONE = [(0.52, 0.15), (0.5, 0.5), (0.48, 0.85)]
TOKEN = "0123456789abcdef"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with chromium.browsing(tmp_path_factory.mktemp("browser")) as page:
        yield page


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running("models:digits", tmp_path_factory.mktemp("server")) as server:
        yield server


def places(page, stroke):
    """Return a stroke's corners, shares of the paper, where they are on the screen; and what lies between them."""
    left, top, size = page.eval(
        "(b => [b.left, b.top, b.width])(document.getElementById('paper').getBoundingClientRect())"
    )
    corners = [(left + size * x, top + size * y) for x, y in stroke]
    dense = [tuple(np.add(a, np.subtract(b, a) * t / 5)) for a, b in pairwise(corners) for t in range(5)]
    return [*dense, corners[-1]]


def by_mouse(page, stroke):
    first, *rest = places(page, stroke)
    page.mouse("mousePressed", *first)
    for each in rest:
        page.mouse("mouseMoved", *each)
    page.mouse("mouseReleased", *rest[-1])


def by_finger(page, stroke):
    first, *rest = places(page, stroke)
    page.touch("touchStart", first)
    for each in rest:
        page.touch("touchMove", each)
    page.touch("touchEnd")


def text(page, name):
    return page.eval(f"document.getElementById('{name}').textContent")


def answer(page):
    return page.wait("document.getElementById('answer').textContent")


def image_of(page, name):
    data = page.eval(f"document.getElementById('{name}').toDataURL('image/png')")
    return base64.b64decode(data.partition(",")[2])


def test_a_digit_drawn_by_mouse_is_recognized_and_shown_as_the_network_got_it(page, server, tmp_path):
    page.open(server.started["url"])
    by_mouse(page, SEVEN)
    assert answer(page) == "7"
    page.shoot(tmp_path / "desk.png")
    drawn = image_of(page, "paper")
    with open_recognizer("models:digits") as model:
        found = model.predict(drawn, top_k=5)
        fitted = fit_image(read_image(drawn), model.spec.preprocessing)
    rows = page.eval(
        "[...document.querySelectorAll('.row')].map(r => [...r.querySelectorAll('span')].map(s => s.textContent))"
    )
    assert rows == [[label, f"{100 * share:.1f} %"] for label, share in found.top]
    shown = np.asarray(Image.open(BytesIO(image_of(page, "input"))).convert("L"))
    assert (shown == fitted).all()
    assert "28 x 28 as the network got it; model." in text(page, "facts")
    assert " ms in the server, " in text(page, "facts")
    page.eval("document.getElementById('clear').click()")
    assert text(page, "answer") == ""
    assert (read_image(image_of(page, "paper")) == 255).all()
    by_mouse(page, ONE)
    assert answer(page) == "1"
    assert page.complaints() == []


def test_a_finger_draws_on_a_phone_and_nothing_is_wider_than_it(page, server, tmp_path):
    page.call("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=3, mobile=True)
    page.call("Emulation.setTouchEmulationEnabled", enabled=True)
    try:
        page.open(server.started["url"])
        by_finger(page, SEVEN)
        assert answer(page) == "7"
        page.shoot(tmp_path / "phone.png")
        assert page.eval("document.documentElement.scrollWidth") == 360
        assert page.eval("window.scrollY") == 0  # the finger drew, and did not scroll
        assert page.complaints() == []
    finally:
        page.call("Emulation.clearDeviceMetricsOverride")
        page.call("Emulation.setTouchEmulationEnabled", enabled=False)


def test_the_token_is_asked_for_and_a_server_that_ended_is_told(page, tmp_path):
    with running("models:digits", tmp_path, QUILLRT_TOKEN=TOKEN) as guarded:
        page.open(guarded.started["url"])
        by_mouse(page, SEVEN)
        assert "expected the server's token" in page.wait("document.getElementById('error').textContent")
        page.eval(
            f"(t => {{ t.value = '{TOKEN}'; t.dispatchEvent(new Event('change')); }})(document.getElementById('token'))"
        )
        assert answer(page) == "7"
        assert text(page, "error") == ""
        guarded.stop()
    by_mouse(page, ONE)
    assert "is it running?" in page.wait("document.getElementById('error').textContent")


def test_the_page_of_the_api_shows_every_route(page, server, tmp_path):
    page.open(server.started["url"] + "docs")
    page.wait("document.querySelector('h2')")
    page.shoot(tmp_path / "api.png")
    assert page.eval("[...document.querySelectorAll('h2')].map(h => h.textContent)") == [
        "POST /predict",
        *(f"GET {path}" for path in ("/model", "/healthz", "/readyz", "/metrics", "/", "/docs", "/openapi.json")),
    ]
    assert "come again after Retry-After seconds" in page.eval("document.body.textContent")
    assert page.complaints() == []
