import json
import sys

import pytest

from quillrt.runtime.bundle import Bundle
from quillrt.runtime.signature import REQUIRED


@pytest.fixture
def keys(tmp_path):
    """A private key and its public key."""
    pytest.importorskip("cryptography")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    key = Ed25519PrivateKey.generate()
    paths = tmp_path / "KEY.pem", tmp_path / "PUB.pem"
    paths[0].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    paths[1].write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return paths


def test_what_is_signed_runs_and_verifies(quillrt, quadrants_bundle, draw, keys, tmp_path):
    pytest.importorskip("onnxruntime")
    image, (key, public) = draw(tmp_path / "sw.png", 2), keys
    fingerprint = Bundle.open(quadrants_bundle).sha256

    code, out, err = quillrt("sign", quadrants_bundle, "--key", key)
    assert (code, out) == (0, "")
    assert "signed; quillrt run --require-signature PUB.pem" in err

    code, out, _ = quillrt("run", quadrants_bundle, image, "--require-signature", public)
    assert (code, out.split()[1]) == (0, "sw")
    code, out, _ = quillrt("verify", quadrants_bundle, "--key", public, "--signature-only", "--json")
    assert (code, json.loads(out)["sha256"]) == (0, fingerprint)
    code, out, err = quillrt("verify", quadrants_bundle, "--key", public, "--signature-only")
    assert (code, out) == (0, "")
    assert "and every file in it is as it was then" in err
    code, out, _ = quillrt("inspect", quadrants_bundle)
    assert "it carries a signature, which was not checked" in out
    code, out, _ = quillrt("inspect", quadrants_bundle, "--json")
    assert json.loads(out)["signed"] is True


def test_what_is_not_signed_is_refused_by_every_way_to_ask(
    quillrt, quadrants_bundle, draw, keys, monkeypatch, tmp_path
):
    image, (_, public) = draw(tmp_path / "sw.png", 2), keys

    for words in (
        ("run", quadrants_bundle, image, "--require-signature", public),
        ("verify", quadrants_bundle, "--key", public),
        ("verify", quadrants_bundle, "--key", public, "--signature-only"),
    ):
        code, out, err = quillrt(*words)
        assert (code, out) == (1, "")
        assert "has no signature; get the signed one" in err
    monkeypatch.setenv(REQUIRED, str(public))
    for words in (("run", quadrants_bundle, image), ("inspect", quadrants_bundle), ("bench", quadrants_bundle)):
        code, out, err = quillrt(*words)
        assert (code, out) == (1, "")
        assert "has no signature; get the signed one" in err


def test_a_signature_alone_wants_a_key(quillrt, quadrants_bundle):
    code, _, err = quillrt("verify", quadrants_bundle, "--signature-only")

    assert code == 1
    assert "expected --key PUB.pem beside --signature-only" in err


def test_a_signature_that_cannot_be_checked_for_want_of_the_package_opens_nothing(
    quillrt, quadrants_bundle, draw, monkeypatch, tmp_path
):
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    image = draw(tmp_path / "sw.png", 2)

    wanting = ("run", quadrants_bundle, image, "--require-signature", "PUB.pem")
    for words in (wanting, ("sign", quadrants_bundle, "--key", "KEY.pem")):
        code, out, err = quillrt(*words)
        assert (code, out) == (1, "")
        assert "signatures need the package cryptography: pip install 'quillrt[sign]'" in err


def test_nothing_is_served_that_is_not_signed(quillrt, quadrants_bundle, keys):
    for package in ("uvicorn", "starlette", "prometheus_client"):
        pytest.importorskip(package)
    code, out, err = quillrt("serve", quadrants_bundle, "--port", 0, "--require-signature", keys[1])
    assert (code, out) == (1, "")
    assert "has no signature; get the signed one" in err


def test_what_comes_with_quillrt_is_not_signed_in_its_place(quillrt, keys):
    code, out, err = quillrt("sign", "models:digits", "--key", keys[0])
    assert (code, out) == (1, "")
    assert "expected a bundle of yours to sign" in err


def test_signing_tells_programs_the_fingerprint(quillrt, quadrants_bundle, keys):
    code, out, _ = quillrt("sign", quadrants_bundle, "--key", keys[0], "--json", "--quiet")
    assert (code, json.loads(out)["sha256"]) == (0, Bundle.open(quadrants_bundle).sha256)
