"""A model behind a queue answers as the same model opened for a program."""

import asyncio
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from quillrt.runtime.backends import open_session
from quillrt.runtime.batching import Batching
from quillrt.runtime.confidence import Confidence
from quillrt.runtime.errors import ConfigError, ImageError
from quillrt.runtime.images import MAX_PIXELS
from quillrt.runtime.recognizer import open_recognizer
from quillrt.runtime.serving import Service, warm_up
from quillrt.runtime.session import Session
from quillrt.runtime.spec import TensorSpec

pytest.importorskip("onnxruntime")


@pytest.fixture
def images():
    """PNG files of 40 different images of different sizes."""
    random = np.random.default_rng(0)
    files = [BytesIO() for _ in range(40)]
    for k, file in enumerate(files):
        Image.fromarray(random.integers(0, 256, (8 + k, 16), np.uint8)).save(file, "PNG")
    return [file.getvalue() for file in files]


@pytest.fixture
def session(quadrants):
    with open_session("onnxruntime-cpu", quadrants.onnx, quadrants.spec) as session:
        yield session


def test_many_at_once_get_what_a_program_gets_one_by_one(quadrants_bundle, session, images):
    sizes = []

    async def play():
        batching = Batching(max_batch=7)
        async with Service(session, Confidence(), batching, MAX_PIXELS, lambda n, _: sizes.append(n)) as service:
            return await asyncio.gather(*(service.recognize(images[k : k + 2]) for k in range(0, 40, 2)))

    served = [each for pair in asyncio.run(play()) for each in pair]
    with open_recognizer(quadrants_bundle) as model:
        alone = model.predict(images, top_k=2)
    for got, expected in zip(served, alone, strict=True):
        assert [label for label, _ in got.top(2).top] == [label for label, _ in expected.top]
        assert got.prediction.probability == pytest.approx(expected.probability, abs=1e-6)
        assert len(got.prediction.top) == 4
        assert got.fitted.shape == (8, 8)
    assert sum(sizes) == 40
    assert max(sizes) <= 7


def test_an_image_that_is_none_is_named_and_its_neighbours_are_not_run(session, images):
    sizes = []

    async def play():
        async with Service(session, Confidence(), Batching(), MAX_PIXELS, lambda n, _: sizes.append(n)) as service:
            with pytest.raises(ImageError, match="but image 1 is none"):
                await service.recognize([images[0], b"garbage", images[1]])
            while service.held:  # a neighbour that is being prepared is held until it is
                await asyncio.sleep(0.001)

    asyncio.run(play())
    assert sizes == []


class OnlyOne(Session):
    """An engine built for single images."""

    def __init__(self, session):
        self.spec_, self._session = session.spec, session

    @property
    def spec(self):
        return self.spec_

    def run(self, batch):
        TensorSpec("image", "float32", (1, 1, 8, 8)).check(batch)
        return self._session.run(batch)

    def close(self):
        pass


def test_an_engine_that_does_not_take_the_batch_is_told_before_it_serves(session):
    warm_up(session, 64)
    warm_up(OnlyOne(session), 1)
    told = r"expected an engine that takes 2 images at a time, but .* of shape \(2, 1, 8, 8\); lower --max-batch"
    with pytest.raises(ConfigError, match=told):
        warm_up(OnlyOne(session), 2)
