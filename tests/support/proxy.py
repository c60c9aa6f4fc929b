"""A TCP proxy before a MongoDB server that loses requests and answers where a test wants it to."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Literal

import bson

__all__ = ["Cut", "CuttingProxy", "never"]

# What becomes of an exchange before its connection is closed. "unsent": the server never gets the
# request; "lost": it does, and the connection is closed at once; "half": the client gets the first
# half of the answer.
Cut = Literal["unsent", "lost", "half"]

_OP_MSG = 2013
_HEADER = struct.Struct("<iiii")
# How the driver watches the server, and takes leave of it; when it does so is not determined.
_OWN_BUSINESS = frozenset({"hello", "ismaster", "isMaster", "endSessions", "ping"})


def never(_number: int, _command: str) -> Cut | None:
    """Cut nothing."""
    return None


class CuttingProxy:
    """Forwards the messages between clients and one server; `plan` decides which exchanges are cut.

    Exchanges are counted from 1, over all connections, without the driver's own business. `plan` is
    called with the number and the name of the command, and gives how to cut this exchange, or
    `None`. `commands` has the names so far, `cuts` the numbers of the exchanges that were cut.
    """

    def __init__(self, server: tuple[str, int]) -> None:
        self.plan: Callable[[int, str], Cut | None] = never
        self.commands: list[str] = []
        self.cuts: list[int] = []
        self._server = server
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._connections: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    @property
    def uri(self) -> str:
        """The connection string of the server behind this proxy."""
        return f"mongodb://127.0.0.1:{self._listener.getsockname()[1]}/?directConnection=true"

    def begin(self, plan: Callable[[int, str], Cut | None]) -> None:
        """Count anew, and cut as this plan says."""
        with self._lock:
            self.plan, self.commands, self.cuts = plan, [], []

    def __enter__(self) -> CuttingProxy:
        return self

    def __exit__(self, *_error: object) -> None:
        _end(self._listener)
        self._accepting.join()
        self._listener.close()
        for each in list(self._sockets):
            _end(each)
        for thread in self._connections:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._connect, args=(client,), daemon=True)
            self._connections.append(thread)
            thread.start()

    def _connect(self, client: socket.socket) -> None:
        """Forward what goes over one connection, both ways, until one of the sides has ended it."""
        with client, socket.socket() as server:
            self._sockets |= {client, server}
            cuts: dict[int, Cut] = {}
            requests = threading.Thread(
                target=self._forward_requests, args=(client, server, cuts), daemon=True
            )
            try:
                server.connect(self._server)
                for each in (client, server):
                    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                requests.start()
                self._forward_answers(client, server, cuts)
                requests.join()
            except OSError:
                pass
            self._sockets -= {client, server}

    def _forward_requests(
        self, client: socket.socket, server: socket.socket, cuts: dict[int, Cut]
    ) -> None:
        try:
            while (message := _message_of(client)) is not None:
                cut = self._judge(message)
                if cut == "unsent":
                    break
                if cut is not None:
                    cuts[_request_id(message)] = cut
                server.sendall(message)
                if cut == "lost":
                    # The server's answer is still waited for: it does what it was told.
                    _end(client)
                    return
        except OSError:
            pass
        _end(client)
        _end(server)

    def _forward_answers(
        self, client: socket.socket, server: socket.socket, cuts: dict[int, Cut]
    ) -> None:
        try:
            while (message := _message_of(server)) is not None:
                cut = cuts.get(_answered_id(message))
                if cut == "half":
                    client.sendall(message[: len(message) // 2])
                if cut is not None:
                    break
                client.sendall(message)
        except OSError:
            pass
        _end(client)
        _end(server)

    def _judge(self, message: bytes) -> Cut | None:
        command = _command_of(message)
        if command is None or command in _OWN_BUSINESS:
            return None
        with self._lock:
            self.commands.append(command)
            number = len(self.commands)
            cut = self.plan(number, command)
            if cut is not None:
                self.cuts.append(number)
        return cut


def _end(each: socket.socket) -> None:
    """End a connection; a thread that reads from it wakes up."""
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)


def _message_of(each: socket.socket) -> bytes | None:
    """The next message of MongoDB's wire protocol; `None` at the end."""
    header = _bytes_of(each, _HEADER.size)
    if header is None:
        return None
    body = _bytes_of(each, _HEADER.unpack(header)[0] - _HEADER.size)
    return None if body is None else header + body


def _bytes_of(each: socket.socket, count: int) -> bytes | None:
    read = bytearray()
    while len(read) < count:
        piece = each.recv(count - len(read))
        if not piece:
            return None
        read += piece
    return bytes(read)


def _request_id(message: bytes) -> int:
    number: int = _HEADER.unpack_from(message)[1]
    return number


def _answered_id(message: bytes) -> int:
    number: int = _HEADER.unpack_from(message)[2]
    return number


def _command_of(message: bytes) -> str | None:
    """The name of the command in a message, which is the first key of its body."""
    if _HEADER.unpack_from(message)[3] != _OP_MSG:
        return None
    # Behind the header: 4 bytes of flags, then sections; the driver sends the body first.
    start = _HEADER.size + 5
    size = struct.unpack_from("<i", message, start)[0]
    return next(iter(bson.decode(message[start : start + size])))
