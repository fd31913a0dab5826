"""Bodies as they come, and what is in them."""

import asyncio
import base64
import json

import pytest

from quillrt.runtime.http_request import Bodies, ClientGone, Limits, Refusal, images_of

LIMITS = Limits(max_bytes=100, max_held_bytes=150, body_seconds=0.05)


def coming(*chunks, ends=True):
    """Return an ASGI ``receive`` that brings ``chunks``, and then the end, nothing, or the client's leaving."""
    messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    if ends:
        messages.append({"type": "http.request", "body": b"", "more_body": False})
    elif ends is None:
        messages.append({"type": "http.disconnect"})

    async def receive():
        if not messages:
            await asyncio.sleep(3600)
        return messages.pop(0)

    return receive


def read(receive, headers=None, bodies=None):
    async def play():
        async with (bodies or Bodies(LIMITS)).read(receive, headers or {}) as body:
            return body

    return asyncio.run(play())


def test_a_body_is_put_together():
    assert read(coming(b"a", b"", b"bc")) == b"abc"
    assert read(coming(b"x" * 100)) == b"x" * 100


@pytest.mark.parametrize(
    ("receive", "headers", "status", "closes", "message"),
    [
        (coming(b"x" * 60, b"x" * 41), {}, 413, False, "expected a body of at most 100 bytes, found a larger one"),
        (coming(b"x" * 60, b"x" * 60), {"content-length": "120"}, 413, False, "at most 100 bytes"),
        (coming(ends=False), {"content-length": "120", "expect": "100-continue"}, 413, True, "at most 100 bytes"),
        (coming(b"x", ends=False), {}, 408, True, "expected the whole body within 0.05 s or at 20,000 bytes a second"),
        (coming(b"x"), {"content-encoding": "gzip"}, 415, False, "found Content-Encoding 'gzip'; leave"),
    ],
)
def test_what_is_too_large_too_slow_or_encoded_is_refused(receive, headers, status, closes, message):
    with pytest.raises(Refusal, match="expected") as refused:
        read(receive, headers)
    assert refused.value.status == status
    assert (refused.value.headers.get("Connection") == "close") == closes
    assert message in str(refused.value)


class Jumping(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to whatever is due next."""

    def __init__(self):
        super().__init__()
        self.now, self.select = 0.0, self._selector.select
        self._selector.select = self.jump

    def jump(self, timeout=None):
        self.now += timeout or 0.0
        return self.select(0)

    def time(self):
        return self.now


def read_by_the_clock(pieces, gap, limits):
    """Return what reading ``pieces``, each ``gap`` seconds after the last, ends with, and when."""
    pieces = list(pieces)

    async def receive():
        await asyncio.sleep(gap)
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    async def play():
        async with Bodies(limits).read(receive, {}) as body:
            return body

    loop = Jumping()
    try:
        return loop.run_until_complete(play()), loop.now
    except Refusal as refusal:
        return refusal, loop.now
    finally:
        loop.close()


def test_a_large_body_that_comes_fast_has_longer():
    """40 pieces of 20,000 bytes, one a second: 40 s, though a body has 10."""
    body, seconds = read_by_the_clock([b"x" * 20_000] * 40, 1.0, Limits(body_seconds=10))
    assert len(body) == 800_000
    assert seconds == pytest.approx(40)


def test_a_burst_earns_no_time_to_dawdle():
    """8 MB, then a byte every 9 s: 400 s of credit were it without bound."""
    refusal, seconds = read_by_the_clock([b"x" * 8_000_000] + [b"y"] * 100, 9.0, Limits(body_seconds=10))
    assert refusal.status == 408
    assert seconds < 9 + 10 + 1


def test_a_body_without_end_is_read_on_for_a_while_and_then_hung_up_on():
    taken = []

    async def receive():
        taken.append(60)
        return {"type": "http.request", "body": b"x" * 60, "more_body": True}

    with pytest.raises(Refusal, match="at most 100 bytes") as refused:
        read(receive)
    assert (refused.value.status, refused.value.headers) == (413, {"Connection": "close"})
    assert sum(taken) < 12 * 100


def test_a_client_that_left_is_told_apart():
    with pytest.raises(ClientGone):
        read(coming(b"x", ends=None))


def test_all_bodies_together_are_bounded_and_what_is_read_is_given_back():
    bodies = Bodies(LIMITS)

    async def play():
        async with bodies.read(coming(b"x" * 100), {}):
            with pytest.raises(Refusal, match="at most 150 bytes of all requests at a time") as refused:
                async with bodies.read(coming(b"x" * 51), {}):
                    pass
            assert (refused.value.status, refused.value.headers) == (429, {"Retry-After": "1"})
            async with bodies.read(coming(b"x" * 50), {}) as body:
                return len(body)

    assert asyncio.run(play()) == 50
    for spoiled in (coming(b"x" * 120), coming(b"x" * 90, ends=None), coming(b"x" * 90, ends=False)):
        with pytest.raises((Refusal, ClientGone)):
            read(spoiled, bodies=bodies)
    assert bodies._held == 0


def encoded(*images):
    return json.dumps({"images": [base64.b64encode(each).decode() for each in images]}).encode()


@pytest.mark.parametrize("kind", ["", "image/png", "image/x-odd; q=1", "IMAGE/JPEG", "application/octet-stream"])
def test_a_body_that_is_no_json_is_one_image(kind):
    assert images_of(kind, b"{}", 2) == [b"{}"]


def test_json_may_be_as_large_as_any_body():
    image = bytes(7_000_000)
    assert images_of("application/json", encoded(image), 1) == [image]  # 9.3 MB of JSON


def test_json_holds_one_image_or_several():
    assert images_of("application/json; charset=utf-8", b'{"image": "AP8="}', 1) == [b"\x00\xff"]
    assert images_of("application/json", encoded(b"one", b"two"), 2) == [b"one", b"two"]


@pytest.mark.parametrize(
    ("kind", "body", "status", "message"),
    [
        ("text/plain", b"x", 415, "found 'text/plain'; with curl give -H"),
        ("application/x-www-form-urlencoded", b"x", 415, "with curl give -H 'Content-Type: image/png'"),
        ("multipart/form-data; boundary=x", b"x", 415, "found 'multipart/form-data'"),
        ("image/png", b"", 400, "found an empty body"),
        ("application/json", b"", 400, "found an empty body"),
        ("application/json", b'{"image": ', 400, "expected JSON, but the body cannot be read: Expecting value"),
        ("application/json", b"\xff\xfe\xff", 400, "expected JSON, but the body cannot be read"),
        ("application/json", b"[" * 100_000, 400, "expected JSON, but the body cannot be read"),
        ("application/json", b"9" * 10_000, 400, "expected JSON, but the body cannot be read"),
        ("application/json", b'{"image": "AP8=", "image": "AA=="}', 400, "expected each name once"),
        ("application/json", b"[]", 422, "found list"),
        ("application/json", b"{}", 422, "found keys none"),
        ("application/json", b'{"image": "", "top_k": 1}', 422, "found keys 'image', 'top_k'"),
        ("application/json", b'{"images": "AP8="}', 422, "found keys 'images'"),
        ("application/json", b'{"images": []}', 422, "expected 1 to 2 images in a request, found 0"),
        ("application/json", encoded(b"1", b"2", b"3"), 413, "expected 1 to 2 images in a request, found 3"),
        ("application/json", b'{"images": ["AP8=", 5]}', 422, "expected a string of base64 as image 1, found int"),
        ("application/json", b'{"image": "AP8"}', 422, "expected base64 as image 0, but it is none"),
        ("application/json", b'{"image": "data:image/png;base64,AP8="}', 422, "without a data: prefix"),
    ],
)
def test_what_is_something_else_is_told_in_one_line(kind, body, status, message):
    with pytest.raises(Refusal) as refused:
        images_of(kind, body, 2)
    assert refused.value.status == status
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
