"""Signatures: Ed25519 over the exact bytes of a manifest, with keys in PEM files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from real_robot.runtime.refused import BundleRefused

PRIVATE, PUBLIC = "private.pem", "public.pem"
MAX_KEY = 10_000  # bytes of a PEM file


def make_keys(folder: Path | str) -> tuple[Path, Path]:
    """Write a new pair into a folder; only the owner can read the private one.

    Raises FileExistsError rather than write over a key.
    """
    from cryptography.hazmat.primitives import serialization as pem
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.generate()
    secret = private.private_bytes(
        pem.Encoding.PEM, pem.PrivateFormat.PKCS8, pem.NoEncryption()
    )  # fmt: skip
    open_half = private.public_key().public_bytes(
        pem.Encoding.PEM, pem.PublicFormat.SubjectPublicKeyInfo
    )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _write_new(folder / PRIVATE, secret, 0o600)
    _write_new(folder / PUBLIC, open_half, 0o644)
    return folder / PRIVATE, folder / PUBLIC


def sign(message: bytes, private_key: Path | str) -> bytes:
    """Return the 64 bytes that vouch for a message."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = _load(lambda raw: load_pem_private_key(raw, None), private_key)
    if not isinstance(key, Ed25519PrivateKey):
        raise BundleRefused(
            "this key cannot sign a bundle",
            where=private_key,
            expected="a private Ed25519 key",
            found=type(key).__name__,
        )
    return key.sign(message)


def verify(message: bytes, signature: bytes, public_key: Path | str) -> None:
    """Return if the owner of the key signed this message. Raises BundleRefused otherwise."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    key = _load(load_pem_public_key, public_key)
    if not isinstance(key, Ed25519PublicKey):
        raise BundleRefused(
            "this key cannot vouch for a bundle",
            where=public_key,
            expected="a public Ed25519 key",
            found=type(key).__name__,
        )
    try:
        key.verify(signature, message)
    except InvalidSignature:
        raise BundleRefused(
            "the signature is not that of the trusted key",
            where=public_key,
            expected="a bundle that was exported with --sign and the private half of this key",
        ) from None


def _load(parse: Any, path: Path | str) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        with open(path, "rb") as file:
            return parse(file.read(MAX_KEY))
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BundleRefused(
            "a key cannot be read",
            where=path,
            expected="a PEM file without a password",
            found=str(error).splitlines()[0] if str(error) else type(error).__name__,
        ) from None


def _write_new(path: Path, content: bytes, mode: int) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
