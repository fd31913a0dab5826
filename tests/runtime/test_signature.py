"""Signatures against cryptography's own and openssl's."""

import shutil
import subprocess
import zipfile

import pytest

import quillrt.runtime as qr
from quillrt.runtime.bundle import Bundle
from quillrt.runtime.bundle_writer import sign_bundle
from quillrt.runtime.errors import BundleError, ConfigError
from quillrt.runtime.signature import REQUIRED, SIGNATURE

pytest.importorskip("cryptography")
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519


def private_pem(key, password=None):
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def public_pem(key):
    public = key.public_key()
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture
def keys(tmp_path):
    """A private key, its public key, and another's."""
    ours, theirs = (ed25519.Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2))
    paths = tmp_path / "key.pem", tmp_path / "pub.pem", tmp_path / "other.pem"
    for path, pem in zip(paths, (private_pem(ours), public_pem(ours), public_pem(theirs)), strict=True):
        path.write_bytes(pem)
    return paths


@pytest.fixture
def signed(quadrants_bundle, keys):
    sign_bundle(quadrants_bundle, keys[0])
    return quadrants_bundle


def content(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_a_signature_changes_nothing_but_that_it_is_there(quadrants_bundle, keys):
    before, files = Bundle.open(quadrants_bundle), content(quadrants_bundle)

    sign_bundle(quadrants_bundle, keys[0])

    after = Bundle.open(quadrants_bundle, keys[1])
    assert (before.is_signed, after.is_signed) == (False, True)
    assert (after.sha256, after.manifest, after.files) == (before.sha256, before.manifest, before.files)
    assert content(quadrants_bundle) == {**files, SIGNATURE: content(quadrants_bundle)[SIGNATURE]}


def test_the_signature_is_ed25519_of_the_manifest(signed, keys):
    files = content(signed)

    serialization.load_pem_public_key(keys[1].read_bytes()).verify(files[SIGNATURE], files["manifest.json"])
    assert len(files[SIGNATURE]) == 64


def test_signing_again_gives_the_same_bytes(signed, keys):
    before = signed.read_bytes()

    sign_bundle(signed, keys[0])

    assert signed.read_bytes() == before


def test_a_copy_under_another_name_is_signed_too(signed, keys, tmp_path):
    copy = shutil.copy(signed, tmp_path / "elsewhere.quill")

    assert Bundle.open(copy, keys[1]).is_signed


def test_without_a_key_a_signature_is_not_asked_for(signed):
    assert Bundle.open(signed).is_signed


def rewritten(path, **changes):
    files = {name: changes.get(name.replace(".", "_"), data) for name, data in content(path).items()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            if data is not None:
                archive.writestr(zipfile.ZipInfo(name), data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda files: {"manifest_json_sig": None}, "has no signature; get the signed one"),
        (lambda files: {"manifest_json_sig": b""}, "was signed by another key or changed since"),
        (lambda files: {"manifest_json_sig": bytes(64)}, "was signed by another key or changed since"),
        (lambda files: {"manifest_json_sig": files[SIGNATURE] * 2}, "was signed by another key or changed since"),
        (lambda files: {"manifest_json": files["manifest.json"] + b" "}, "was signed by another key or changed since"),
        (lambda files: {"manifest_json": b"{"}, "was signed by another key or changed since"),
        (lambda files: {"model_fp32_onnx": files["model.fp32.onnx"] + b"\0"}, "model.fp32.onnx should have sha256"),
    ],
)
def test_what_is_not_signed_or_was_changed_is_refused_unopened(signed, keys, monkeypatch, change, message):
    rewritten(signed, **change(content(signed)))
    opened = []
    monkeypatch.setattr("quillrt.runtime.recognizer.open_fitting", lambda *all_: opened.append(all_))
    if "sha256" not in message:
        monkeypatch.setattr("quillrt.runtime.bundle.read_manifest", lambda data: opened.append(data))

    for open_it in (lambda: Bundle.open(signed, keys[1]), lambda: qr.open(signed, signature_key=str(keys[1]))):
        with pytest.raises(BundleError, match=message):
            open_it()
    assert opened == []


def test_another_key_is_refused(signed, keys):
    with pytest.raises(BundleError, match=r"expected a bundle signed for .*other\.pem, but .* by another key"):
        Bundle.open(signed, keys[2])


def test_the_environment_asks_for_a_signature(signed, keys, monkeypatch):
    monkeypatch.setenv(REQUIRED, str(keys[2]))

    for open_it in (Bundle.open, qr.open):
        with pytest.raises(BundleError, match="by another key"):
            open_it(signed)
    assert Bundle.open(signed, keys[1]).is_signed  # who names a key has chosen
    assert Bundle.open(signed, made_here=True).is_signed
    monkeypatch.delenv(REQUIRED)
    assert Bundle.open(signed).is_signed


@pytest.mark.parametrize("absent", ["absent.pem", ""])
def test_a_key_that_is_not_there_opens_nothing(signed, tmp_path, absent):
    with pytest.raises(ConfigError, match=r"expected a key at .*, but (No such file|Is a directory)"):
        Bundle.open(signed, tmp_path / absent)


def test_other_kinds_of_keys_are_refused(signed, keys, tmp_path):
    key, public, _ = keys
    elliptic = ec.generate_private_key(ec.SECP256R1())
    for name, data in {
        "ec.pem": private_pem(elliptic),
        "ecpub.pem": public_pem(elliptic),
        "locked.pem": private_pem(ed25519.Ed25519PrivateKey.generate(), b"secret"),
        "text.pem": b"-----BEGIN NOTHING-----",
        "empty.pem": b"",
        "der.pem": bytes(32),
    }.items():
        (tmp_path / name).write_bytes(data)

    for name, found in (("ec.pem", "another kind"), ("locked.pem", "a password"), ("text.pem", "found none")):
        with pytest.raises(ConfigError, match=f"expected a private Ed25519 key in .*genpkey .*{found}"):
            sign_bundle(signed, tmp_path / name)
    for name, found in (("ecpub.pem", "another kind"), ("empty.pem", "found none"), ("der.pem", "found none")):
        with pytest.raises(ConfigError, match=f"expected a public Ed25519 key in .*-pubout .*{found}"):
            Bundle.open(signed, tmp_path / name)
    with pytest.raises(ConfigError, match="expected a public Ed25519 key"):
        Bundle.open(signed, key)
    with pytest.raises(ConfigError, match="expected a private Ed25519 key"):
        sign_bundle(signed, public)


def test_a_damaged_bundle_is_not_signed(quadrants_bundle, keys):
    quadrants_bundle.write_bytes(quadrants_bundle.read_bytes()[:-1])
    before = quadrants_bundle.read_bytes()

    with pytest.raises(BundleError):
        sign_bundle(quadrants_bundle, keys[0])
    assert quadrants_bundle.read_bytes() == before


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_keys_of_openssl_sign_and_openssl_checks(quadrants_bundle, tmp_path):
    """The commands of docs/security.md."""

    def openssl(*words):
        return subprocess.run(["openssl", *map(str, words)], capture_output=True, text=True, cwd=tmp_path)

    assert openssl("genpkey", "-algorithm", "ed25519", "-out", "KEY.pem").returncode == 0
    assert openssl("pkey", "-in", "KEY.pem", "-pubout", "-out", "PUB.pem").returncode == 0

    sign_bundle(quadrants_bundle, tmp_path / "KEY.pem")
    Bundle.open(quadrants_bundle, tmp_path / "PUB.pem")

    for name, data in content(quadrants_bundle).items():
        (tmp_path / name).write_bytes(data)
    check = (
        "pkeyutl",
        "-verify",
        "-pubin",
        "-inkey",
        "PUB.pem",
        "-rawin",
        "-in",
        "manifest.json",
        "-sigfile",
        SIGNATURE,
    )
    told = openssl(*check)
    assert (told.returncode, "Verified Successfully" in told.stdout) == (0, True), told.stderr
    (tmp_path / "manifest.json").write_bytes(b"{}")
    assert openssl(*check).returncode != 0


def test_a_requirement_that_names_no_key_is_no_requirement_of_none(monkeypatch, quadrants_bundle):
    monkeypatch.setenv(REQUIRED, "")
    with pytest.raises(ConfigError, match="found nothing; set or unset it"):
        Bundle.open(quadrants_bundle)


def test_signing_leaves_links_and_modes(tmp_path, quadrants_bundle, keys):
    link = tmp_path / "link.quill"
    link.symlink_to(quadrants_bundle)
    quadrants_bundle.chmod(0o600)
    sign_bundle(link, keys[0])
    assert (link.is_symlink(), Bundle.open(quadrants_bundle).is_signed) == (True, True)
    assert quadrants_bundle.stat().st_mode & 0o777 == 0o600
