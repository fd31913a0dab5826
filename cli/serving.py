"""The verb serve."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from quillrt.cli.console import error_line, note, phase_bars
from quillrt.cli.model_files import BundleFile
from quillrt.cli.options import (
    Backend,
    Cached,
    Config,
    CudaGraph,
    Debug,
    Device,
    PrecisionName,
    PreprocessingWay,
    ProviderOption,
    RequireSignature,
    Threads,
    cache_of,
    precision_of,
    provider_options,
)


def serve(
    bundle: BundleFile,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; one that the network reaches wants a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any that is free.")] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", help="File with the token that clients must send. Default: QUILLRT_TOKEN."),
    ] = None,
    backend: Backend = None,
    precision: PrecisionName = None,
    preprocessing: PreprocessingWay = "auto",
    top_k: Annotated[int, typer.Option("--top-k", min=1, help="How many labels, where a request does not say.")] = 1,
    min_confidence: Annotated[
        float, typer.Option("--min-confidence", min=0, max=1, help="Answer 'unsure' below this probability.")
    ] = 0.0,
    reject: Annotated[
        bool, typer.Option("--reject/--no-reject", help="Answer 'no character' where the bundle's threshold says so.")
    ] = True,
    max_batch: Annotated[int, typer.Option("--max-batch", min=1, max=65536, help="Images per query.")] = 64,
    max_delay_ms: Annotated[
        float,
        typer.Option("--max-delay-ms", min=0, help="An image waits this long for others that are being decoded."),
    ] = 2.0,
    max_queue: Annotated[
        int, typer.Option("--max-queue", min=1, help="Images accepted and not yet answered; more get 429.")
    ] = 1024,
    max_images: Annotated[int, typer.Option("--max-images", min=1, help="Images in one request.")] = 64,
    max_bytes: Annotated[int, typer.Option("--max-bytes", min=1, help="Bytes of one request.")] = 10_000_000,
    max_pixels: Annotated[int, typer.Option("--max-pixels", min=1, help="Pixels of one image.")] = 16_000_000,
    max_connections: Annotated[int, typer.Option("--max-connections", min=1, help="Open at a time.")] = 512,
    receive_seconds: Annotated[
        float,
        typer.Option("--receive-seconds", min=0.1, help="How long a request may take to come; a large one has longer."),
    ] = 10.0,
    stop_seconds: Annotated[
        int, typer.Option("--stop-seconds", min=1, max=3600, help="How long a stop waits for what was accepted.")
    ] = 60,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Threads that decode images. Default: one a core.")
    ] = None,
    threads: Threads = None,
    provider_option: ProviderOption = None,
    device: Device = 0,
    cuda_graph: CudaGraph = False,
    require_signature: RequireSignature = None,
    cached: Cached = True,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON for programs: a line at the start, one at the end.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No notes and no access log on stderr.")] = False,
    config: Config = None,
    debug: Debug = False,
) -> None:
    """Serve a bundle by HTTP: POST /predict, a page to draw on at /, the API at /docs, /metrics for Prometheus."""
    from quillrt.runtime.batching import Batching
    from quillrt.runtime.bundle import Bundle
    from quillrt.runtime.device import cores
    from quillrt.runtime.errors import ConfigError
    from quillrt.runtime.http_answers import Answers
    from quillrt.runtime.http_app import application
    from quillrt.runtime.http_front import Tally
    from quillrt.runtime.http_log import Log
    from quillrt.runtime.http_request import Limits
    from quillrt.runtime.http_server import Connections, ServerFailed, bind, check_installed, url_of
    from quillrt.runtime.http_server import serve as run_server
    from quillrt.runtime.http_token import find_token
    from quillrt.runtime.ort_options import for_batch
    from quillrt.runtime.prepare import check_way
    from quillrt.runtime.select import open_fitting
    from quillrt.runtime.serving import warm_up
    from quillrt.runtime.session import SessionOptions

    def tell(value: Mapping[str, object], line: str) -> None:
        with contextlib.suppress(OSError):
            sys.stdout.write((json.dumps(value) if as_json else line) + "\n")
            sys.stdout.flush()

    if not all(map(math.isfinite, (min_confidence, max_delay_ms, receive_seconds, stop_seconds))):
        raise ConfigError(
            "expected finite --min-confidence, --max-delay-ms, --receive-seconds and --stop-seconds, found "
            f"{min_confidence}, {max_delay_ms}, {receive_seconds} and {stop_seconds}"
        )
    if max_images > max_queue:
        raise ConfigError(f"expected --max-images of at most --max-queue, found {max_images} and {max_queue}")
    check_installed()
    check_way(preprocessing)
    token = find_token(token_file)
    given = provider_options(provider_option)
    tied = for_batch(backend, given, max_batch) if backend and cuda_graph else given
    options = SessionOptions(threads, device, tied, cuda_graph=cuda_graph, batch_sizes=(1, max_batch))
    batching = Batching(max_batch, max_delay_ms, max_queue, workers or cores())
    limits = Limits(max_bytes, max_bytes + _OTHER_BODIES, max_images, max_pixels, receive_seconds)
    opened = Bundle.open(bundle.path, require_signature)
    with contextlib.closing(bind(host, port, token)) as bound:
        with phase_bars(quiet) as phases:
            session, entry, chosen = open_fitting(
                opened,
                backend,
                precision_of(precision),
                options,
                cache_of(cached),
                phases,
                lambda line: note(line, quiet),
            )
        with session:
            warm_up(session, max_batch)
            about = entry.path, chosen, bundle.path.name, opened.sha256
            answers = Answers(*about, top_k, min_confidence, reject, preprocessing)
            tally, lines = Tally(), Log(_STDERR)

            def log(line: str) -> None:
                if not quiet:
                    lines(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {line}")

            app = application(session, opened.manifest.confidence, answers, batching, limits, tally, token, log)
            url = url_of(bound)
            started = {"url": url, "bundle": str(bundle), "file": entry.path, "backend": chosen}
            connections = Connections(max_connections, receive_seconds, stop_seconds=stop_seconds)
            try:
                run_server(app, bound, tally, connections, lambda: tell(started, f"{entry.path} on {chosen}: {url}"))
            except ServerFailed as error:
                lines(error_line(str(error)))
                lines.close()
                os._exit(1)  # a device that failed, or an engine that hangs, may hold up any other end
    lines.close()
    tell(
        {"accepted": tally.accepted, "answered": tally.answered},
        f"stopped: answered {tally.answered:,} of {tally.accepted:,} requests accepted",
    )


_STDERR = 2
_OTHER_BODIES = 64_000_000  # bytes that all requests besides one of the largest may hold
