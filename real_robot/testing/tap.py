"""A tap on a connection: everything that a client sends is kept, to be sent again by others."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType


class Tap:
    """A port that leads to another one; `taken` is what went there."""

    def __init__(self, host: str, port: int):
        self.taken = bytearray()
        self._to = (host, port)
        self._port = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._port.getsockname()[1]}"
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def again(self) -> None:
        """Send it all again, as a stranger who has heard it."""
        with socket.create_connection(self._to) as wire, contextlib.suppress(OSError):
            wire.settimeout(0.2)
            wire.sendall(self.taken)
            while wire.recv(65536):
                pass

    def __enter__(self) -> Tap:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        """Wait for the client to leave."""
        if kind is not None:  # it may never have come
            with contextlib.suppress(OSError):
                self._port.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._port.close()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            near, _ = self._port.accept()
            far = socket.create_connection(self._to)
            back = threading.Thread(target=self._copy, args=(far, near, False))
            back.start()
            self._copy(near, far, True)
            far.shutdown(socket.SHUT_RDWR)
            back.join()
            near.close()
            far.close()

    def _copy(self, source: socket.socket, sink: socket.socket, keep: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if keep:
                    self.taken.extend(data)
                sink.sendall(data)
