"""The server's routes, as an ASGI application of Starlette."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from .batching import Batching, QueueFull
from .confidence import Confidence
from .errors import ImageError, QuillError
from .http_files import static_file
from .http_front import ACCEPTED, ID, Application, Front, Tally
from .http_metrics import Metrics
from .http_request import Bodies, ClientGone, Limits, Refusal, busy, images_of
from .http_token import is_bearer
from .prepare import AUTO
from .serving import Served, Service
from .session import Session

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import Response


@dataclass(frozen=True)
class Answers:
    """What answers say.

    Attributes:
        file: the file of the bundle that runs.
        backend: what runs it.
        top_k: labels of each image, where the request does not say.
        min_confidence: below this probability an image is unsure.
        reject: what is not taken for a character gets no answer.
        preprocessing: how images are prepared, as for ``prepare.prepare``.
    """

    file: str
    backend: str
    top_k: int = 1
    min_confidence: float = 0.0
    reject: bool = True
    preprocessing: str = AUTO


def application(
    session: Session,
    confidence: Confidence,
    answers: Answers,
    batching: Batching,
    limits: Limits,
    tally: Tally,
    token: str | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> Application:
    """Return the server of a model: whoever knows ``token`` may ask it, or all if there is none.

    Args:
        session: what runs; it is open, and stays the caller's to close.
        confidence: the bundle's.
        answers: what answers say.
        batching: how batches form.
        limits: what a request may hold.
        tally: is kept.
        token: as above.
        log: is told a line for each request.
    """
    metrics = Metrics({"file": answers.file, "backend": answers.backend}, lambda: service.held)
    service = Service(session, confidence, batching, limits.max_pixels, metrics.batch, answers.preprocessing)
    routes = Routes(service, metrics, answers, limits, tally, token)
    return Front(routes.application(), metrics, tally, log)


class Routes:
    """What each route answers."""

    def __init__(
        self,
        service: Service,
        metrics: Metrics,
        answers: Answers,
        limits: Limits,
        tally: Tally,
        token: str | None,
    ) -> None:
        self._token = token
        self._service, self._metrics, self._answers, self._tally = service, metrics, answers, tally
        self._limits, self._bodies = limits, Bodies(limits)

    def application(self) -> Starlette:
        """Return the routes as an application, whose lifespan opens and drains the service."""
        from starlette.applications import Starlette
        from starlette.exceptions import HTTPException
        from starlette.routing import Route

        @asynccontextmanager
        async def lifespan(app: Starlette) -> AsyncIterator[None]:
            async with self._service:
                yield

        handlers: dict[Any, Any] = {
            Refusal: _refused,
            HTTPException: _unrouted,
            ClientGone: _gone,
            Exception: _failed,
        }
        return Starlette(
            routes=[
                Route("/predict", self.predict, methods=["POST"]),
                Route("/healthz", self.healthz),
                Route("/readyz", self.readyz),
                Route("/metrics", self.metrics),
                Route("/", _file("page.html")),
                Route("/docs", _file("api.html")),
                Route("/openapi.json", _file("openapi.json")),
            ],
            exception_handlers=handlers,
            lifespan=lifespan,
        )

    async def predict(self, request: Request) -> Response:
        """Recognize the images in the body."""
        from starlette.responses import JSONResponse

        self._check_token(request)
        top_k = self._top_k(request)
        async with self._bodies.read(request.receive, request.headers) as body:
            self._tally.accepted += 1
            request.scope[ACCEPTED] = True
            started = time.perf_counter()
            served = await self._recognized(request, body)
            latency_ms = (time.perf_counter() - started) * 1000
        answers = self._answers
        predictions = [each.top(top_k).to_json(answers.min_confidence, reject=answers.reject) for each in served]
        self._metrics.predictions(each["doubt"] for each in predictions)
        if request.query_params.get("input") == "1":
            for prediction, each in zip(predictions, served, strict=True):
                prediction["input"] = _pixels(each)
        return JSONResponse(
            {
                "request_id": request.scope[ID],
                "file": answers.file,
                "backend": answers.backend,
                "latency_ms": round(latency_ms, 3),
                "predictions": predictions,
            }
        )

    async def _recognized(self, request: Request, body: bytes) -> list[Served]:
        kind = request.headers.get("content-type", "")
        images = (
            await asyncio.to_thread(images_of, kind, body, self._limits.max_images)  # JSON of megabytes takes a while
            if "json" in kind.lower()
            else images_of(kind, body, self._limits.max_images)
        )
        try:
            return await self._service.recognize(images)
        except QueueFull:
            raise busy("expected room in the queue, found it full; send it again after a second") from None
        except ImageError as error:
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from error
        except QuillError as error:
            raise Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, str(error)) from error

    def _check_token(self, request: Request) -> None:
        if self._token is not None and not is_bearer(request.headers.get("authorization", ""), self._token):
            raise _UNKNOWN

    def _top_k(self, request: Request) -> int:
        given = request.query_params.get("top_k", str(self._answers.top_k))
        if not (given.isascii() and given.isdecimal() and 0 < len(given) < 6 and int(given) > 0):
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, f"expected top_k of 1 or more, found {given[:40]!r}")
        return int(given)

    async def healthz(self, request: Request) -> Response:
        """Say that the process lives."""
        from starlette.responses import JSONResponse

        return JSONResponse({"alive": True})

    async def readyz(self, request: Request) -> Response:
        """Say whether requests are taken: no more once the server stops."""
        from starlette.responses import JSONResponse

        is_ready = not self._tally.stopping
        return JSONResponse({"ready": is_ready}, HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE)

    async def metrics(self, request: Request) -> Response:
        """Return what Prometheus reads."""
        from starlette.responses import Response

        self._check_token(request)
        text, kind = self._metrics.text()
        return Response(text, headers={"Content-Type": kind})


_UNKNOWN = Refusal(
    HTTPStatus.UNAUTHORIZED,
    "expected the server's token, found none or another; send Authorization: Bearer TOKEN",
    {"WWW-Authenticate": "Bearer"},
)
_GONE = 499  # nginx's code, for the log: nobody is left to get it


def _error(request: Request, status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    from starlette.responses import JSONResponse

    value = {"request_id": request.scope[ID], "error": " ".join(message.split())}
    return JSONResponse(value, status, headers)


async def _refused(request: Request, refusal: Refusal) -> Response:
    return _error(request, refusal.status, str(refusal), refusal.headers)


async def _unrouted(request: Request, error: HTTPException) -> Response:
    path = request.url.path[:100]
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = (error.headers or {}).get("Allow", "")
        message = f"expected {allowed} at {path}, found {request.method}; GET /docs tells how to ask"
    else:
        message = f"expected a route of this server, found {path!r}; GET /docs lists them"
    return _error(request, error.status_code, message, error.headers)


async def _gone(request: Request, error: ClientGone) -> Response:
    from starlette.responses import Response

    return Response(status_code=_GONE)


async def _failed(request: Request, error: Exception) -> Response:
    return _error(request, HTTPStatus.INTERNAL_SERVER_ERROR, f"this request failed: {type(error).__name__}")


def _pixels(served: Served) -> dict[str, Any]:
    """Return the network's input as plain JSON values: grey levels row by row, in base64."""
    height, width = served.fitted.shape
    return {"height": height, "width": width, "grey": base64.b64encode(served.fitted.tobytes()).decode()}


def _file(name: str) -> Callable[[Request], Awaitable[Response]]:
    """Return the endpoint of a file that lies beside this one."""
    content, headers = static_file(name)

    async def endpoint(request: Request) -> Response:
        from starlette.responses import Response

        return Response(content, headers=headers)

    return endpoint
