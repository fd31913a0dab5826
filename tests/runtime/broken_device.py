"""`quillrt` with a device that breaks: once the file that BROKEN names says so, a run ``fails``, or it ``hangs``."""

import os
import time
from pathlib import Path

from quillrt.cli.main import main
from quillrt.runtime import select
from quillrt.runtime.errors import BackendUnavailable
from quillrt.runtime.session import Session


class Broken(Session):
    """A session that breaks; then it cannot be closed either."""

    def __init__(self, session):
        self._session, self._switch = session, Path(os.environ["BROKEN"])

    @property
    def spec(self):
        return self._session.spec

    def run(self, batch):
        how = self._switch.read_text() if self._switch.exists() else ""
        if how == "fails":
            raise BackendUnavailable("CUDA failed:\nan illegal address")
        if how == "hangs":
            time.sleep(3600)
        return self._session.run(batch)

    def close(self):
        time.sleep(3600)


def open_breaking(*arguments):
    session, entry, chosen = opened(*arguments)
    return Broken(session), entry, chosen


if __name__ == "__main__":
    opened, select.open_fitting = select.open_fitting, open_breaking
    main()
