"""Keys: a pair for robotd, one for each client, and the list of who may do what.

    robotd.key      robotd's own pair; stays on its machine
    allowed.json    public key -> name and role; only who is in it gets any service
    NAME.key        a client's pair, with robotd's public key; goes to the client

Roles belong to keys, never to messages. The pairs are CurveZMQ's (Curve25519), as 40 characters.
"""

from __future__ import annotations

import json
import os
import stat
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq
from zmq.utils import z85

from real_robot.requests import Peer, Role
from robo_offline.errors import UserError, nearest

ROBOTD, ALLOWED = "robotd.key", "allowed.json"
FOLLOWED_S = 0.25  # how often the list is looked at: a revoked key has service no longer than that


@dataclass(frozen=True, slots=True)
class Pair:
    """A public key and its secret."""

    public: str
    secret: str

    def __repr__(self) -> str:  # never in a log
        return f"Pair({self.public})"


@dataclass(frozen=True, slots=True)
class ClientKey:
    """What a client needs: its pair, what it is for, and whom it talks to."""

    pair: Pair
    role: Role
    robotd: str


def default_folder() -> Path:
    """Return this user's folder of keys."""
    config = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(config) / "robo_offline" / "keys"


def new(folder: Path, role: Role, name: str | None = None) -> Path:
    """Make a client's pair and allow it; return its file. Makes robotd's pair where there is none.

    UserError where the name is taken, or others can read the folder.
    """
    name = name or role.value
    if not name.replace("-", "").replace("_", "").isalnum() or name == "robotd":
        raise UserError("a key's name is letters, digits, - and _", found=name)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    _refuse_shared(folder)
    if not (folder / ROBOTD).exists():
        _write(folder / ROBOTD, _fields(_pair()))
    path = folder / f"{name}.key"
    if path.exists():
        raise UserError(
            f"there is a key '{name}' already", where=path, remedy="give another name, or revoke it"
        )
    pair = _pair()
    robotd = robotd_pair(folder).public
    _write(path, {**_fields(pair), "role": role.value, "robotd": robotd})
    listed = _read(folder / ALLOWED) if (folder / ALLOWED).exists() else {}
    _write(folder / ALLOWED, {**listed, pair.public: {"name": name, "role": role.value}})
    return path


def revoke(folder: Path, name: str) -> None:
    """Take a key off the list, and remove its file; a running robotd follows at once."""
    listed = _read(folder / ALLOWED)
    kept = {key: who for key, who in listed.items() if who.get("name") != name}
    if len(kept) == len(listed):
        names = [str(who.get("name")) for who in listed.values()]
        raise UserError(f"there is no key '{name}'", where=folder, remedy=nearest(name, names))
    _write(folder / ALLOWED, kept)
    (folder / f"{name}.key").unlink(missing_ok=True)


def robotd_pair(folder: Path) -> Pair:
    """Read robotd's own pair. UserError where it is missing, damaged or open to others."""
    return _as_pair(_read(folder / ROBOTD), folder / ROBOTD)


def client_key(path: Path) -> ClientKey:
    """Read a client's key. UserError where it is missing, damaged or open to others."""
    data = _read(path)
    try:
        role, robotd = Role(data["role"]), data["robotd"]
        fits = len(z85.decode(robotd)) == 32
    except Exception:  # z85 raises whatever its arithmetic does
        fits = False
    if not fits:
        raise UserError(
            "this is no client's key",
            where=path,
            remedy="make one: robo-offline robot keys new --role policy",
        )
    return ClientKey(_as_pair(data, path), role, robotd)


class Allowed:
    """Who may talk to robotd. It follows its file; a list that cannot be read allows nobody."""

    def __init__(self, folder: Path):
        self.path = folder / ALLOWED
        self.peers, self.names = _peers(_read(self.path), self.path)
        self.error = ""  # why the list cannot be read
        self._stamp = self._stat()
        self._ended = threading.Event()

    def follow(self, revoked: Callable[[], None]) -> None:
        """Look at the file from a thread; call `revoked` there when a key is no longer allowed."""

        def look() -> None:
            while not self._ended.wait(FOLLOWED_S):
                before = self.peers
                self.refresh()
                if set(before) - set(self.peers):
                    revoked()

        threading.Thread(target=look, name="allowed", daemon=True).start()

    def refresh(self) -> None:
        """Read the list again where its file has changed."""
        stamp = self._stat()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            found, self.error = _peers(_read(self.path), self.path), ""
        except UserError as error:
            found, self.error = ({}, {}), str(error)
        self.peers, self.names = found  # whole dictionaries: readers never see half a list

    def close(self) -> None:
        """End the thread."""
        self._ended.set()

    def _stat(self) -> tuple[int, ...] | None:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size, found.st_mode


def _pair() -> Pair:
    public, secret = zmq.curve_keypair()
    return Pair(public.decode(), secret.decode())


def _fields(pair: Pair) -> dict[str, str]:
    return {"public": pair.public, "secret": pair.secret}


def _as_pair(data: Mapping[str, Any], path: Path) -> Pair:
    try:
        fits = zmq.curve_public(data["secret"].encode()) == data["public"].encode()
    except Exception:
        fits = False
    if not fits:
        raise UserError("this is no pair of keys", where=path, remedy="make a new one")
    return Pair(data["public"], data["secret"])


def _peers(data: Mapping[str, Any], path: Path) -> tuple[dict[str, Peer], dict[str, str]]:
    try:
        peers = {key: Peer(key, Role(who["role"])) for key, who in data.items()}
        return peers, {key: str(who["name"])[:40] for key, who in data.items()}
    except (TypeError, KeyError, ValueError, AttributeError):
        raise UserError("the list of allowed keys is damaged", where=path) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        _refuse_shared(path)
        _refuse_shared(path.parent)
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            "a key is missing",
            where=path,
            remedy="make it: robo-offline robot keys new --role policy",
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError("a key cannot be read", where=path, found=error) from None
    if not isinstance(data, dict):
        raise UserError("a key cannot be read", where=path, found=type(data).__name__)
    return data


def _refuse_shared(path: Path) -> None:
    found = path.stat()
    if found.st_uid != os.geteuid():
        raise UserError("keys must belong to who uses them", where=path, found=found.st_uid)
    if found.st_mode & 0o077:
        mode = "700" if stat.S_ISDIR(found.st_mode) else "600"
        raise UserError(
            "others can read this key",
            where=path,
            found=stat.filemode(found.st_mode),
            remedy=f"chmod {mode} {path}, and make new keys if anybody may have read them",
        )


def _write(path: Path, data: Mapping[str, Any]) -> None:
    file, temporary = tempfile.mkstemp(prefix=".", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(file, "w", encoding="utf-8") as text:
            json.dump(data, text, indent=1)
            text.flush()
            os.fsync(file)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
