"""Who may ask."""

import socket

import pytest

from quillrt.runtime.errors import ConfigError
from quillrt.runtime.http_token import VARIABLE, address_of, find_token, is_bearer

TOKEN = "0123456789abcdef"


@pytest.fixture(autouse=True)
def no_token(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)


def test_a_token_comes_from_the_file_before_the_environment(tmp_path, monkeypatch):
    assert find_token(None) is None
    monkeypatch.setenv(VARIABLE, "f" * 16)
    assert find_token(None) == "f" * 16
    (tmp_path / "token").write_text(TOKEN + "\n")
    assert find_token(tmp_path / "token") == TOKEN


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"short", b"0123456789 abcdef", "0123456789abcdeé".encode(), b"\0" * 20]
)
def test_a_token_that_cannot_be_one_is_refused_without_showing_it(tmp_path, content):
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match="expected a token of") as refused:
        find_token(file)
    assert "012345" not in str(refused.value)


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ConfigError, match="No such file or directory; check the path"):
        find_token(tmp_path / "token")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "::1"])
def test_this_machine_needs_no_token(host):
    family, address = address_of(host, None)
    assert (family, address)[1] in (host, "127.0.0.1", "::1")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.7"])
def test_the_network_needs_one(host):
    with pytest.raises(ConfigError, match="which the network can reach, found none; give --token-file FILE or set"):
        address_of(host, None)
    assert address_of(host, TOKEN)[0] in (socket.AF_INET, socket.AF_INET6)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "300.1.2.3", "a" * 300, "\udcff"])
def test_a_host_that_is_none_is_told(host):
    with pytest.raises(ConfigError, match="expected an address of this machine as --host"):
        address_of(host, TOKEN)


@pytest.mark.parametrize(
    ("header", "is_right"),
    [
        (f"Bearer {TOKEN}", True),
        (f"bearer  {TOKEN} ", True),
        (TOKEN, False),
        (f"Basic {TOKEN}", False),
        (f"Bearer {TOKEN}0", False),
        (f"Bearer {TOKEN[:-1]}", False),
        ("Bearer ü", False),
        ("", False),
    ],
)
def test_only_the_token_itself_is_right(header, is_right):
    assert is_bearer(header, TOKEN) is is_right
