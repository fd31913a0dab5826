"""The server's pages: files that lie beside this one, and the headers that keep them from loading anything else."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

_INLINE = re.compile(rb"<(script|style)>(.*?)</\1>", re.DOTALL)


def static_file(name: str) -> tuple[bytes, dict[str, str]]:
    """Return a file's content and headers.

    A page may run the script and the style that stand in it, by their hashes, and ask this server; nothing else (W3C,
    "Content Security Policy Level 3").
    """
    content = Path(__file__).with_name(name).read_bytes()
    headers = {"Content-Type": "application/json", "Cache-Control": "no-cache"}
    if name.endswith(".html"):
        hashes = {
            tag.decode(): base64.b64encode(hashlib.sha256(text).digest()).decode()
            for tag, text in _INLINE.findall(content)
        }
        headers |= {
            "Content-Type": "text/html; charset=utf-8",
            "Content-Security-Policy": (
                f"default-src 'none'; script-src 'sha256-{hashes['script']}'; "
                f"style-src 'sha256-{hashes['style']}'; img-src data:; connect-src 'self'; "
                "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
            ),
            "Referrer-Policy": "no-referrer",
        }
    return content, headers
