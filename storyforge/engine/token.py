"""What members of a cluster show each other: one file with a certificate and its key.

Dask's connections carry what Python would run. With a token every one of them is encrypted, and
whoever does not have the file is turned away before a word is read.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from storyforge.errors import EnvironmentProblem, StoryForgeError
from storyforge.store.shared import write_private

if TYPE_CHECKING:
    from distributed.security import Security

VALID: Final = timedelta(days=365)
"""How long a token opens doors."""


def new_token(path: Path) -> None:
    """Write a new token to a file that only its owner reads.

    Raises StoryForgeError for a file that is there already, EnvironmentProblem without the package.
    """
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError as exc:
        raise lacking("cryptography") from exc
    if path.exists():
        raise StoryForgeError(f"`{path}` is there already", hint="name a new file")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "storyforge")])
    now = datetime.now(UTC)
    built = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    built = built.public_key(key.public_key()).serial_number(x509.random_serial_number())
    built = built.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + VALID)
    built = built.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    form, kind = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    secret = key.private_bytes(form, kind, serialization.NoEncryption())
    write_private(path, built.sign(key, hashes.SHA256()).public_bytes(form) + secret)


def security_of(token: Path | None) -> Security | None:
    """How connections are made with a token; None without one.

    Raises EnvironmentProblem for a file that is no token.
    """
    if token is None:
        return None
    import ssl

    from distributed.security import Security

    file = str(token.absolute())
    try:
        ssl.create_default_context(cafile=file).load_cert_chain(file)
    except (OSError, ValueError) as exc:
        hint = "`storyforge worker --new-token FILE` makes one"
        raise EnvironmentProblem(f"no token in `{token}`: {exc}", hint=hint) from exc
    parts = {f"tls_{who}_{what}": file for who in _WHO for what in ("cert", "key")}
    return Security(tls_ca_file=file, require_encryption=True, **parts)


def own_security() -> Security:
    """How members are connected that are all of one run: by a token that is in no file.

    Without it every user of this machine could let them run anything.
    """
    from distributed.security import Security

    try:
        return Security.temporary()
    except ImportError as exc:
        raise lacking("cryptography") from exc


def comm_settings(token: Path) -> dict[str, object]:
    """The same as settings of Dask's, for members that are started with these alone.

    The token is to lie at the same path on their machines.
    """
    file, tls = str(token.absolute()), "distributed.comm.tls"
    parts = {f"{tls}.{who}.{what}": file for who in _WHO for what in ("cert", "key")}
    return {"distributed.comm.require-encryption": True, f"{tls}.ca-file": file, **parts}


_WHO: Final = ("client", "scheduler", "worker")


def lacking(
    package: str, what: str = "work on other machines", extra: str = "cluster"
) -> EnvironmentProblem:
    """What to say where a package is not installed that something needs; `extra` brings it."""
    hint = f"pip install 'storyforge[{extra}]'"
    return EnvironmentProblem(f"{what} needs the package `{package}`", hint=hint)


def check_dask() -> None:
    """Raise EnvironmentProblem without Dask."""
    from importlib.util import find_spec

    if find_spec("distributed") is None:
        raise lacking("distributed")
