"""A cache of products that many share: a folder, or whatever fsspec reaches, such as `s3://…`.

A key says what a product is made from, not what it is: whoever may write into a cache could put
anything under it. So every entry is signed, and only what somebody trusted has signed is taken;
who has no key of their own reads and never writes. What is damaged on the way is not taken either.
"""

from __future__ import annotations

import base64
import binascii
import logging
import re
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final

from storyforge.errors import EnvironmentProblem, StoryForgeError
from storyforge.store.durable import write_whole
from storyforge.store.parcels import Parcel, head_of, parcel_of
from storyforge.store.products import Shelf, Store

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from fsspec import AbstractFileSystem

SIGNER: Final = re.compile(r"ed25519:[A-Za-z0-9+/]{43}=")
"""How a public key is written."""

_KIND: Final = "ed25519:"

_SIGNED: Final = re.compile(rb"signed (ed25519:[A-Za-z0-9+/]{43}=) ([A-Za-z0-9+/]{86}==)\n")

_BUCKETS: Final = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss", "oci"})
"""Protocols of places without folders: making one there would make the bucket of a wrong name."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SharedCache:
    """Products in a place that others read, too.

    where    a folder, or a URL that fsspec knows
    trusted  public keys of those whose entries are taken
    own      signs what is put there; None for whoever only reads
    """

    where: str
    trusted: Collection[str]
    own: Ed25519PrivateKey | None = None

    def fetch(self, store: Store, shelf: Shelf, key: str) -> bool:
        """Take a product from the cache, if it is there and somebody trusted vouches for it.

        Raises EnvironmentProblem if the cache cannot be reached.
        """
        data = self._read(f"{shelf}/{key}")
        if data is None:
            return False
        try:
            parcel = self._vouched(data)
            if parcel.source != (shelf, key):
                raise StoryForgeError(f"it is {'/'.join(parcel.source)}")
            parcel.keep(store)
        except StoryForgeError as exc:
            _log.warning("not taken from the cache: %s/%s: %s", shelf, key, exc.message)
            return False
        return store.has(shelf, key)

    def offer(self, store: Store, shelf: Shelf, key: str) -> bool:
        """Put a product into the cache, signed; nothing happens without a key of one's own.

        Raises EnvironmentProblem if it cannot be written.
        """
        if self.own is None:
            return False
        data = parcel_of(store, shelf, key)
        mark = base64.b64encode(self.own.sign(head_of(data))).decode()
        self._write(f"{shelf}/{key}", f"signed {public_key(self.own)} {mark}\n".encode() + data)
        return True

    def _vouched(self, data: bytes) -> Parcel:
        """The parcel in an entry, if somebody trusted has signed it."""
        match = _SIGNED.match(data)
        if match is None:
            raise StoryForgeError("nobody has signed it")
        signer, parcelled = match[1].decode(), data[match.end() :]
        # What nobody trusted has signed is not read at all.
        if signer not in self.trusted:
            raise StoryForgeError(f"nobody trusts {signer}")
        if not _is_signed(signer, base64.b64decode(match[2]), head_of(parcelled)):
            raise StoryForgeError("its signature does not fit")
        return Parcel.read(parcelled)

    def _read(self, name: str) -> bytes | None:
        import fsspec

        with _reaching(self.where):
            files, root = fsspec.core.url_to_fs(self.where)
            try:
                return bytes(files.cat_file(f"{root}/{name}"))
            except FileNotFoundError:
                return None

    def _write(self, name: str, data: bytes) -> None:
        import fsspec

        with _reaching(self.where):
            files, root = fsspec.core.url_to_fs(self.where)
            if "file" in _protocols(files):
                # Whoever reads a folder meanwhile sees the whole entry or none.
                write_whole(Path(root) / name, data)
                return
            if not _BUCKETS.intersection(_protocols(files)):
                files.makedirs(f"{root}/{name}".rpartition("/")[0], exist_ok=True)
            files.pipe_file(f"{root}/{name}", data)


def _protocols(files: AbstractFileSystem) -> tuple[str, ...]:
    """All names of a file system's protocol."""
    return (files.protocol,) if isinstance(files.protocol, str) else tuple(files.protocol)


def shared_cache(where: str, trusted: Collection[str], key: Path | None) -> SharedCache:
    """The cache at a place, for whoever has this key's file, or none.

    Raises EnvironmentProblem for a key that cannot be read.
    """
    own = None if key is None else _private_key(key)
    mine = () if own is None else (public_key(own),)
    return SharedCache(where, frozenset((*trusted, *mine)), own)


def new_key(path: Path) -> str:
    """Write a new key to a file that only its owner reads; the public key that others trust.

    Raises StoryForgeError for a file that is there already.
    """
    if path.exists():
        raise StoryForgeError(f"`{path}` is there already", hint="name a new file")
    own = _signatures().Ed25519PrivateKey.generate()
    write_private(path, base64.b64encode(own.private_bytes_raw()) + b"\n")
    return public_key(own)


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only its owner reads."""
    write_whole(path, data, mode=0o600)


def public_key(own: Ed25519PrivateKey) -> str:
    """What others trust, in letters."""
    return _KIND + base64.b64encode(own.public_key().public_bytes_raw()).decode()


def _private_key(path: Path) -> Ed25519PrivateKey:
    kind: type[Ed25519PrivateKey] = _signatures().Ed25519PrivateKey
    try:
        return kind.from_private_bytes(base64.b64decode(path.read_bytes()))
    except (OSError, ValueError) as exc:
        hint = "`storyforge cache key FILE` makes one"
        raise EnvironmentProblem(f"no key in `{path}`: {exc}", hint=hint) from exc


def _is_signed(signer: str, mark: bytes, said: bytes) -> bool:
    kind = _signatures().Ed25519PublicKey
    from cryptography.exceptions import InvalidSignature

    try:
        raw = base64.b64decode(signer.removeprefix(_KIND))
        kind.from_public_bytes(raw).verify(mark, said)
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True


def _signatures() -> ModuleType:
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as exc:
        message = "a shared cache needs the package `cryptography`"
        raise EnvironmentProblem(message, hint="pip install 'storyforge[cluster]'") from exc
    return ed25519


_FOREIGN: Final = (
    ("aiohttp", "ClientError"),
    ("azure.core.exceptions", "AzureError"),
    ("botocore.exceptions", "BotoCoreError"),
    ("botocore.exceptions", "ClientError"),
    ("gcsfs.retry", "HttpError"),
    ("google.auth.exceptions", "GoogleAuthError"),
    ("paramiko", "SSHException"),
)
"""What the packages behind fsspec raise that is no OSError: no credentials, no host, no bucket."""


def _unreachable() -> tuple[type[Exception], ...]:
    """What may be raised where a cache is not reached; by packages that are loaded by then."""
    found = (getattr(sys.modules.get(module), name, None) for module, name in _FOREIGN)
    return (OSError, ValueError, ImportError, RuntimeError, *filter(None, found))


@contextmanager
def _reaching(where: str) -> Iterator[None]:
    try:
        yield
    except _unreachable() as exc:
        hint = "`cache:` is a folder or a URL; for `s3://` install the extra `s3`"
        raise EnvironmentProblem(f"cannot reach the cache `{where}`: {exc}", hint=hint) from exc
