"""Signed files: Content Credentials (C2PA) that say a trained model made the pictures.

The certificate and the key are the author's own; whether readers trust them is for those to say who
issued the certificate. Needs the extra `c2pa`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from storyforge import __version__
from storyforge.errors import EnvironmentProblem, StoryForgeError
from storyforge.provenance.xmp import DIGITAL_SOURCE
from storyforge.store import write_whole

SIGNABLE: Final = (".png", ".jpg", ".jpeg", ".pdf")
"""Endings of the files that can be signed."""

_CURVES: Final = {"secp256r1": b"es256", "secp384r1": b"es384", "secp521r1": b"es512"}


def sign(files: Sequence[Path], certificate: Path, key: Path) -> tuple[Path, ...]:
    """Write a signed copy beside each file: `fox.signed.pdf` beside `fox.pdf`.

    certificate  the author's certificate and those above it, in this order, as PEM
    key          its private key, as PEM, without a password

    Raises:
      EnvironmentProblem: if the extra `c2pa` is missing, or a file cannot be read.
      StoryForgeError: for files that cannot be signed, or with this certificate and key.
    """
    for file in files:
        if file.suffix.lower() not in SIGNABLE:
            hint = f"those that can be signed end in {', '.join(SIGNABLE)}"
            raise StoryForgeError(f"`{file}` cannot be signed", hint=hint)
    chain, secret = _read(certificate), _read(key)
    contents = [(file, _read(file)) for file in files]
    return tuple(_signed(file, data, chain, secret) for file, data in contents)


def _signed(file: Path, data: bytes, chain: bytes, secret: bytes) -> Path:
    """Sign one file; the copy is there whole or not at all."""
    try:
        from c2pa import Builder, C2paError, C2paSignerInfo, Signer
    except ImportError as exc:
        hint = "pip install c2pa-python"
        raise EnvironmentProblem("signing needs the extra `c2pa`", hint=hint) from exc
    info = C2paSignerInfo(alg=_algorithm(secret), sign_cert=chain, private_key=secret, ta_url=None)
    target = file.with_name(f"{file.stem}.signed{file.suffix}")
    with TemporaryDirectory(prefix="storyforge-") as folder:
        source, made = Path(folder) / f"in{file.suffix}", Path(folder) / f"out{file.suffix}"
        source.write_bytes(data)
        try:
            with Signer.from_info(info) as signer, Builder(manifest(file.name)) as builder:
                builder.sign_file(str(source), str(made), signer)
        except C2paError as exc:
            hint = "the certificate allows signatures, belongs to the key, and has another issuer"
            raise StoryForgeError(f"`{file}` could not be signed: {exc}", hint=hint) from exc
        write_whole(target, made.read_bytes())
    return target


def manifest(title: str) -> dict[str, object]:
    """What is signed: that storyforge made the file, its pictures with a trained model."""
    action = {
        "action": "c2pa.created",
        "digitalSourceType": DIGITAL_SOURCE,
        "softwareAgent": {"name": "storyforge", "version": __version__},
    }
    return {
        "claim_generator_info": [{"name": "storyforge", "version": __version__}],
        "title": title,
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [action]}}],
    }


def _algorithm(secret: bytes) -> bytes:
    """The kind of signature that the key makes, in C2PA's words."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(secret, password=None)
    except (ValueError, TypeError) as exc:
        hint = "it is a PEM file without a password"
        raise StoryForgeError("the private key cannot be read", hint=hint) from exc
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _CURVES:
        return _CURVES[key.curve.name]
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return b"ed25519"
    if isinstance(key, rsa.RSAPrivateKey):
        return b"ps256"
    hint = "take a key of the kind ECDSA (P-256, P-384, P-521), Ed25519 or RSA"
    raise StoryForgeError("this kind of private key cannot sign", hint=hint)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise EnvironmentProblem(f"cannot read `{path}`: {exc.strerror}") from exc
