"""Changes to a file that a reader has to stand: in its bytes, or in a part of it with all sums put right."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from random import Random
from typing import Any

_NUMBERS = (0, 1, -1, 0.5, 2**31, 2**63, 2**64 - 1, -(2**63), 10**30, 1e300, True, False)
_TEXTS = ("", "a", "../x", "/etc/passwd", "a\0b", "\x1b[2J", "\ud800", "é" * 300, "NaN", "1", "fp32", "module:factory")
_VALUES: tuple[Any, ...] = (*_NUMBERS, *_TEXTS, None, [], {}, [[]], {"a": {}}, float("nan"), float("inf"))
_BYTES = (b"", b"\0", b"\xff", b"\x7f\xff\xff\xff", b"\xff" * 4, b"\xff" * 8, b"\0" * 8, b"[" * 64, b"9" * 64, b"%n")
Mutation = Callable[[Random, bytes], bytes]


def in_bytes(random: Random, data: bytes) -> bytes:
    """Change some bytes: flipped, replaced, cut out, repeated, moved."""
    content = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 4, 8))):
        place, size = random.randrange(len(content) + 1), random.choice((0, 1, 1, 1, 2, 4, 8, 64))
        part = bytes(content[place : place + size])
        kind = random.randrange(5)
        if kind == 0:
            content[place : place + 1] = bytes([random.randrange(256)])
        elif kind == 1:
            content[place : place + size] = random.choice(_BYTES)
        elif kind == 2:
            content[place : place + size] = b""
        elif kind == 3:
            content[place:place] = part * random.choice((1, 2, 50))
        else:
            other = random.randrange(len(content) + 1)
            content[other : other + size] = part
    return bytes(content)


def in_json(random: Random, data: bytes) -> bytes:
    """Change a value or a name in a JSON file, or bytes where it is none."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return in_bytes(random, data)
    places: list[tuple[Any, Any]] = []
    level = [value]
    while level:
        each = level.pop()
        keys = list(each) if isinstance(each, dict) else range(len(each)) if isinstance(each, list) else ()
        places += [(each, key) for key in keys]
        level += [each[key] for key in keys]
    for _ in range(random.choice((1, 1, 2, 3))):
        if not places:
            break
        holder, key = random.choice(places)
        kind = random.randrange(6)
        if kind == 0 and isinstance(holder, dict):
            holder.pop(key, None)
        elif kind == 1 and isinstance(holder, dict):
            holder[random.choice(_TEXTS)] = random.choice(_VALUES)
        elif kind == 2:
            other, name = random.choice(places)
            if isinstance(other, dict) and name in other and isinstance(holder, dict):
                holder[key] = json.loads(json.dumps(other[name]))
        elif isinstance(holder, dict) or key < len(holder):
            holder[key] = random.choice(_VALUES)
    try:
        return json.dumps(value).encode()
    except (ValueError, RecursionError):
        return data


def in_bundle(random: Random, data: bytes) -> bytes:
    """Change a file in a bundle and put its sha256 and size right, or change the zip that holds them."""
    if random.random() < 0.3:
        return in_bytes(random, data)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            files = {info.filename: archive.read(info) for info in archive.infolist()}
        name = random.choice(list(files))
        files[name] = (in_json if name.endswith(".json") else in_bytes)(random, files[name])
        manifest = json.loads(files["manifest.json"])
        if name != "manifest.json":
            for entry in manifest["entries"]:
                if entry["path"] == name:
                    entry |= {"sha256": hashlib.sha256(files[name]).hexdigest(), "size": len(files[name])}
            files["manifest.json"] = json.dumps(manifest).encode()
    except Exception:  # noqa: BLE001 - what was changed before may be no bundle at all
        return in_bytes(random, data)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for each, content in files.items():
            info = zipfile.ZipInfo(each or "x")
            if random.random() < 0.05:
                info.external_attr = random.choice((0o120777, 0o040755, 0o100644)) << 16
                info.compress_type = random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
            archive.writestr(info, content)
    return made.getvalue()


def in_safetensors(random: Random, data: bytes) -> bytes:
    """Change the header of a checkpoint, its own JSON or that in its metadata, and put its length right."""
    try:
        (length,) = struct.unpack_from("<Q", data)
        header = json.loads(data[8 : 8 + length])
        if random.random() < 0.6:
            meaning = header["__metadata__"]["quillrt"]
            header["__metadata__"]["quillrt"] = in_json(random, meaning.encode()).decode()
            text = json.dumps(header).encode()
        else:
            text = in_json(random, json.dumps(header).encode())
        return struct.pack("<Q", len(text)) + text + data[8 + length :]
    except Exception:  # noqa: BLE001 - what was changed before may be no checkpoint at all
        return in_bytes(random, data)


def in_image(random: Random, data: bytes) -> bytes:
    """Change a chunk of a PNG and put its length and CRC right, or a tag of a TIFF, or bytes of any other image."""
    try:
        change = {b"\x89PNG": _in_png, b"II*\0": _in_tiff}[data[:4]]
        return change(random, data)
    except (KeyError, ValueError, struct.error):  # another kind, or what was changed before may be no image at all
        return in_bytes(random, data)


def _in_png(random: Random, data: bytes) -> bytes:
    chunks, place = [], 8
    while place < len(data):
        (length,) = struct.unpack_from(">I", data, place)
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
    changed = random.randrange(len(chunks))
    kind, content = chunks[changed]
    cut = content[: random.randrange(len(content) + 1)]
    chunks[changed] = (kind, cut if random.random() < 0.3 else in_bytes(random, content))
    return data[:8] + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


def _in_tiff(random: Random, data: bytes) -> bytes:
    content = bytearray(data)
    (first,) = struct.unpack_from("<I", data, 4)
    (tags,) = struct.unpack_from("<H", data, first)
    for _ in range(random.choice((1, 1, 2))):
        place = first + 2 + 12 * random.randrange(tags)
        tag, kind, count, value = struct.unpack_from("<HHII", data, place)
        part = random.randrange(4)
        changed = (
            random.randrange(250, 340) if part == 0 else tag,
            random.randrange(14) if part == 1 else kind,  # 1 to 12 have a meaning
            random.choice((0, 1, 2, 9, 2**31, 2**32 - 1)) if part == 2 else count,
            random.choice((0, 1, 8, len(data), 2**31, 2**32 - 1)) if part == 3 else value,
        )
        struct.pack_into("<HHII", content, place, *changed)
    return bytes(content)


MUTATIONS: dict[str, Mutation] = {
    "bundle": in_bundle,
    "manifest": in_json,
    "image": in_image,
    "photograph": in_image,
    "table": in_json,
    "result": in_json,
    "checkpoint": in_safetensors,
}


def mutate(reader: str, random: Random, data: bytes) -> bytes:
    """Return ``data`` changed in a way that suits the reader, or in its bytes."""
    change = MUTATIONS.get(reader, in_bytes) if random.random() < 0.8 else in_bytes
    return change(random, data)
