"""One reader under atheris (libFuzzer for Python), or one file read and measured.

python tests/fuzz/target.py fuzz READER CORPUS [libFuzzer's options]
python tests/fuzz/target.py replay READER FILE
"""

from __future__ import annotations

import json
import logging
import resource
import sys
import time
import warnings
from pathlib import Path
from random import Random

FOLDER = Path(__file__).parent


def fuzz(name: str, corpus: Path, options: list[str]) -> None:
    """Fuzz until libFuzzer has enough; it ends the process."""
    import atheris

    with atheris.instrument_imports(include=["quillrt"]):
        from mutations import mutate
        from readers import READERS

        from quillrt.runtime.errors import QuillError

        for number, seed in enumerate(READERS[name].seeds()):
            (corpus / f"seed-{number}").write_bytes(seed)
            try:
                READERS[name].read(seed)  # it imports what it needs
            except QuillError:
                continue
    read = READERS[name].read

    def test_one_input(data: bytes) -> None:
        try:
            read(data)
        except QuillError as error:
            if "\n" in str(error):
                raise AssertionError(f"an error of several lines: {error}") from error

    def mutated(data: bytes, most: int, seed: int) -> bytes:
        random = Random(seed)
        changed = mutate(name, random, data) if random.random() < 0.7 else atheris.Mutate(data, most)
        return changed[:most]

    atheris.Setup([sys.argv[0], str(corpus), *options], test_one_input, custom_mutator=mutated)
    atheris.Fuzz()


def replay(name: str, file: Path) -> dict[str, object]:
    """Read ``file``; return what came out, and what it took beyond what the reader's own seeds take."""
    from readers import READERS

    from quillrt.runtime.errors import QuillError

    reader, data = READERS[name], file.read_bytes()
    for seed in reader.seeds():
        try:
            reader.read(seed)
        except QuillError:
            continue
    before_kib, started, came = _peak_kib(), time.process_time(), "was read"
    try:
        reader.read(data)
    except QuillError as error:
        came = f"was refused: {error}"
    except BaseException as error:  # noqa: BLE001 - whatever else comes out is the finding
        return {"finding": True, "came": f"raised {type(error).__name__}: {error}"[:300]}
    seconds, mib = time.process_time() - started, (_peak_kib() - before_kib) // 1024
    return {"finding": seconds > 1 or mib > 500 or "\n" in came, "came": came[:300], "seconds": seconds, "mib": mib}


def _peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    sys.path.insert(0, str(FOLDER))
    logging.disable()
    warnings.simplefilter("ignore")
    what, name, path, *options = sys.argv[1:]
    if what == "fuzz":
        fuzz(name, Path(path), options)
    else:
        sys.stdout.write(json.dumps(replay(name, Path(path))) + "\n")
