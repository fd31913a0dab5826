"""Who may ask: anyone on this machine, and from the network whoever knows the token."""

from __future__ import annotations

import hmac
import ipaddress
import os
import socket
from pathlib import Path

from .errors import ConfigError
from .files import read_bounded

VARIABLE = "QUILLRT_TOKEN"
_MOST_BYTES = 4096
_LEAST = 16  # characters: 64 bits where they are hexadecimal


def find_token(file: Path | None) -> str | None:
    """Return the token out of ``file``, else out of the environment, ``None`` where neither is given.

    Raises:
        ConfigError: the file cannot be read, or what is given is too short or holds what a header cannot.
    """
    if file is not None:
        try:
            given, source = read_bounded(file, _MOST_BYTES).decode("ascii").strip(), str(file)
        except OSError as error:
            raise ConfigError(f"expected a token in {file}, but {error.strerror}; check the path") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"expected a token of plain characters in {file}, found others; make another") from error
    else:
        if VARIABLE not in os.environ:
            return None
        given, source = os.environ[VARIABLE], VARIABLE
    if len(given) < _LEAST or not given.isascii() or not given.isprintable() or " " in given:
        raise ConfigError(
            f"expected a token of at least {_LEAST} plain characters without spaces in {source}, found {len(given)} "
            "characters or others; make one with: openssl rand -hex 32"
        )
    return given


def address_of(host: str, token: str | None) -> tuple[socket.AddressFamily, str]:
    """Return family and address to listen on for ``host``, one of IPv4 where it has several.

    Raises:
        ConfigError: it is no address, or the network could ask there without a token.
    """
    try:
        found = socket.getaddrinfo(host or None, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"expected an address of this machine as --host, found {host!r}: {error}") from error
    family, _, _, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
    plain = str(address[0])
    if token is None and not ipaddress.ip_address(plain).is_loopback:
        raise ConfigError(
            f"expected a token for --host {host}, which the network can reach, found none; give --token-file FILE or "
            f"set {VARIABLE}"
        )
    return family, plain


def is_bearer(header: str, token: str) -> bool:
    """Tell whether an Authorization header bears the token, in a time that does not tell how much of it is right."""
    kind, _, given = header.partition(" ")
    return kind.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())
