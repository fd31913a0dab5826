"""The server's routes, as an ASGI application of Starlette."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from .batching import Batching, QueueFull
from .confidence import Confidence
from .errors import BackendUnavailable, ImageError, QuillError
from .http_answers import Answers
from .http_files import static_file
from .http_front import ACCEPTED, ID, Application, Front, Tally
from .http_metrics import Metrics
from .http_request import Bodies, ClientGone, Limits, Refusal, busy, images_of, unless_gone
from .http_token import is_bearer
from .serving import Served, Service
from .session import Session
from .spec import ModelSpec

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import Response


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
    runs = {"file": answers.file, "backend": answers.backend, "bundle": answers.bundle, "sha256": answers.sha256}
    metrics = Metrics(runs, lambda: service.held)
    way = answers.preprocessing
    service = Service(session, confidence, batching, limits.max_pixels, metrics.batch, way, tally.fail)
    routes = Routes(session.spec, service, metrics, answers, limits, tally, token)
    return Front(routes.application(), metrics, tally, log)


class Routes:
    """What each route answers."""

    def __init__(
        self,
        spec: ModelSpec,
        service: Service,
        metrics: Metrics,
        answers: Answers,
        limits: Limits,
        tally: Tally,
        token: str | None,
    ) -> None:
        self._spec, self._token = spec, token
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
        app = Starlette(
            routes=[
                Route("/predict", self.predict, methods=["POST"]),
                Route("/model", self.model),
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
        app.router.redirect_slashes = False  # it would lead to wherever the client's Host header says
        return app

    async def predict(self, request: Request) -> Response:
        """Recognize the images in the body."""
        from starlette.responses import JSONResponse

        self._check_token(request)
        if self._tally.failure:
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, self._tally.failure)
        top_k = self._top_k(request)
        async with self._bodies.read(request.receive, request.headers) as body:
            self._tally.accepted += 1
            request.scope[ACCEPTED] = True
            started = time.perf_counter()
            served = await unless_gone(request.receive, self._recognized(request, body))
            latency_ms = (time.perf_counter() - started) * 1000
        answers = self._answers
        predictions = answers.predictions(served, top_k, inputs=request.query_params.get("input") == "1")
        self._metrics.predictions(each["doubt"] for each in predictions)
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
        except BackendUnavailable as error:
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, str(error)) from error
        except QuillError as error:
            raise Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, str(error)) from error

    def _check_token(self, request: Request) -> None:
        if self._token is not None and not is_bearer(request.headers.get("authorization", ""), self._token):
            raise _UNKNOWN

    def _top_k(self, request: Request) -> int:
        names = [name for name, _ in request.query_params.multi_items()]
        if strange := sorted(set(names) - {"top_k", "input"}) or [name for name in names if names.count(name) > 1]:
            said = f"expected top_k and input once each at most, found {strange[0][:40]!r}"
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, said)
        given = request.query_params.get("top_k", str(self._answers.top_k))
        if not (given.isascii() and given.isdecimal() and 0 < len(given) < 6 and int(given) > 0):
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, f"expected top_k of 1 or more, found {given[:40]!r}")
        return int(given)

    async def model(self, request: Request) -> Response:
        """Say what runs and what it wants."""
        from starlette.responses import JSONResponse

        self._check_token(request)
        return JSONResponse(self._answers.model(self._spec))

    async def healthz(self, request: Request) -> Response:
        """Say whether the process lives: not if the engine hangs, for nothing but its end helps then."""
        from starlette.responses import JSONResponse

        is_alive = self._service.busy_seconds < _LONGEST_BATCH_SECONDS
        return JSONResponse({"alive": is_alive}, HTTPStatus.OK if is_alive else HTTPStatus.SERVICE_UNAVAILABLE)

    async def readyz(self, request: Request) -> Response:
        """Say whether requests are taken: no more once the server stops or the device failed."""
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
_LONGEST_BATCH_SECONDS = 120.0  # after that an engine is taken to hang
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


def _file(name: str) -> Callable[[Request], Awaitable[Response]]:
    """Return the endpoint of a file that lies beside this one."""
    content, headers = static_file(name)

    async def endpoint(request: Request) -> Response:
        from starlette.responses import Response

        return Response(content, headers=headers)

    return endpoint
