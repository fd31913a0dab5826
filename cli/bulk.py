"""What `run --output` does: any number of images into rows, in a file or, on Ray, in a folder."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from quillrt.cli.console import note, print_json, tracker
from quillrt.cli.options import check_output, config_beside, save_config
from quillrt.runtime.counting import counted
from quillrt.runtime.errors import ConfigError
from quillrt.runtime.progress import no_progress

if TYPE_CHECKING:
    from quillrt.runtime.bundle import Bundle
    from quillrt.runtime.ray_job import Model
    from quillrt.runtime.rows import Choices
    from quillrt.runtime.session import Session

SOME_FAILED = 3  # the exit code of a run that is done, but for images that could not be read


@dataclass(frozen=True)
class Bulk:
    """What a run into rows was asked for.

    Attributes:
        images: files and folders; on Ray addresses, too.
        output: the file of rows; on Ray the folder.
        resume: go on with the file that is there.
        overwrite: make it anew.
        workers: processes that read images; on Ray actors.
        batch_size: images per query.
        as_json: say in JSON how it went.
        quiet: no progress and no notes.
    """

    images: list[str]
    output: str
    resume: bool
    overwrite: bool
    workers: int | None
    batch_size: int
    as_json: bool
    quiet: bool

    def check(self) -> None:
        """Raise now, rather than in the middle of the work, unless a file can be written and there are images.

        Raises:
            ConfigError: ``output`` cannot be, or is there and neither to be resumed nor overwritten, or stdin is to be
                read.
            ImageError: a folder holds no image.
        """
        from quillrt.runtime.images import find_images
        from quillrt.runtime.row_files import check_new, check_rows

        output = Path(self.output)
        check_rows(output)
        check_output(output, output.suffix)
        if not self.resume and not self.overwrite:
            check_new(output)
        if "-" in self.images:
            raise ConfigError("expected files or folders with --output, found - for stdin; leave one of them out")
        for image in self.images:
            next(find_images([Path(image)]))

    def names(self) -> Iterator[str]:
        """Yield the path of each image."""
        from quillrt.runtime.images import find_images

        return map(str, find_images(map(Path, self.images)))


def run_into_file(
    ctx: typer.Context, bulk: Bulk, session: Session, bundle: Bundle, made_by: dict[str, str], choices: Choices
) -> None:
    """Write the rows; ``made_by`` names the file of the bundle and the backend that run.

    Raises:
        QuillError: as ``open_rows``, ``RowFile.skip_done`` and ``recognize_files``.
        Exit: with code 3, when images could not be read.
    """
    from quillrt.runtime.bulk import recognize_files
    from quillrt.runtime.row_files import has_rows, open_rows

    output = Path(bulk.output)
    inputs = hashlib.sha256("\0".join(bulk.images).encode(errors="surrogateescape")).hexdigest()
    same = {"bundle": bundle.sha256[:12], **made_by, **asdict(choices), "images": inputs[:12]}
    if bulk.resume and not has_rows(output):
        note(f"nothing to resume at {output}: running from the start", bulk.quiet)
    with open_rows(output, same, resume=bulk.resume, overwrite=bulk.overwrite) as rows:
        files, done = rows.skip_done(bulk.names()), rows.count
        save_config(ctx, config_beside(output))
        if done:
            note(f"{output} has {counted(done, 'row')} already", bulk.quiet)
        track, start = tracker(bulk.quiet), time.perf_counter()
        total = None if track is no_progress else sum(1 for _ in bulk.names()) - done
        confidence, workers = bundle.manifest.confidence, bulk.workers or 1
        try:
            recognize_files(session, confidence, files, choices, rows.append, workers, bulk.batch_size, track, total)
        except KeyboardInterrupt:
            note(f"interrupted after {counted(rows.count, 'row')}; the same command with --resume goes on")
            raise
        rows.finish()
    seconds, new = time.perf_counter() - start, rows.count - done
    note(f"{output}: {counted(rows.count, 'row')}; {new:,} of them now, {new / seconds:,.0f} a second", bulk.quiet)
    _report({"output": bulk.output, **made_by}, rows.count, rows.failed, as_json=bulk.as_json)


def run_on_ray(ctx: typer.Context, bulk: Bulk, bundle: Bundle, model: Model) -> None:
    """Write the rows into a folder, by Ray.

    Raises:
        QuillError: as ``ray_job.run``; or a run is to be resumed or overwritten.
        Exit: with code 3, when images could not be read.
    """
    from quillrt.runtime.ray_job import run
    from quillrt.runtime.remote_files import is_remote

    if bulk.resume or bulk.overwrite:
        raise ConfigError("expected no --resume or --overwrite with --on ray, which fills a new folder; leave it out")
    progress, start = tracker(bulk.quiet) is not no_progress, time.perf_counter()
    made_by, images, failed = run(
        bundle, model, bulk.images, bulk.output, bulk.workers, bulk.batch_size, progress=progress
    )
    if not is_remote(bulk.output):
        save_config(ctx, config_beside(Path(bulk.output)))
    note(f"{made_by['file']} on {made_by['backend']}", bulk.quiet)
    note(f"{bulk.output}: {counted(images, 'row')}, {images / (time.perf_counter() - start):,.0f} a second", bulk.quiet)
    _report({"output": bulk.output, **made_by}, images, failed, as_json=bulk.as_json)


def _report(what: dict[str, str], images: int, failed: int, *, as_json: bool) -> None:
    """Say how a run ended.

    Raises:
        Exit: with code 3, when images could not be read.
    """
    if as_json:
        print_json({**what, "images": images, "failed": failed})
    if failed:
        note(f"{failed:,} of {images:,} images could not be read; their rows say why")
        raise typer.Exit(SOME_FAILED)
