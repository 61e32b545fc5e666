"""Run the server: bind, say where, answer until told to stop, and finish what was begun."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import uvicorn

from zoo.errors import UsageError, ZooError
from zoo.server.app import create_app
from zoo.server.connection import connection_class
from zoo.server.logs import Handler, Log
from zoo.server.page import router as page
from zoo.server.pool import ModelPool

if TYPE_CHECKING:
    from fastapi import APIRouter

    from zoo.server.settings import ServerSettings
    from zoo.stages.serve import ServedModel

KEEP_ALIVE = 30
"""Seconds that a connection may wait for its next request."""
SEND_BUFFER = 128 * 1024
"""Bytes of a connection that the kernel holds for its client."""
SWITCH_INTERVAL = 0.0005
"""Seconds that a flood of requests may keep the interpreter from the thread that computes; Python's own 5 ms, many
times a step, would slow every answer down."""
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def run_server(
    models: Sequence[ServedModel],
    settings: ServerSettings,
    host: str,
    port: int,
    *,
    announce: Callable[[str], None],
    routers: Sequence[APIRouter] = (),
) -> None:
    """Serve until SIGTERM or SIGINT; answers that are under way may finish, within the drain time.

    Args:
        announce: called with the server's URL once it listens.

    Raises:
        ZooError: the address cannot be listened at, or a model can never fit into the memory limit.
    """
    fits = {model.name: model.fit(settings.slots, settings.memory) for model in models}
    listener = bind(host, port)
    if is_loopback(listener):
        settings = replace(settings, hosts=LOOPBACK | {host.lower()} | settings.allowed_hosts)
    log = Log()
    handler = Handler(log)
    for name in ("uvicorn.error", "asyncio", "fastapi"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
    for model in models:
        context, whole = fits[model.name].context, model.context_length
        if context < whole:
            log.event("context_shortened", model=model.name, context=context, whole=whole, memory=settings.memory)
    try:
        server = make_server(models, settings, log, routers)

        def listening() -> None:
            address, keyed = url(listener), settings.api_key is not None
            log.event("listening", url=address, models=[one.name for one in models], key=keyed)
            if not keyed and not is_loopback(listener):
                log.event("open_to_others", message="whoever reaches this address may use it; set ZOO_API_KEY")
            announce(address)

        server.on_started = listening
        sys.setswitchinterval(SWITCH_INTERVAL)
        server.run(sockets=[listener])
        log.event("stopped")
    finally:
        listener.close()
        log.close()


def make_server(
    models: Sequence[ServedModel], settings: ServerSettings, log: Log, routers: Sequence[APIRouter] = ()
) -> Server:
    """Make a server that is not listening yet; its ``run`` takes sockets that are."""
    app = create_app(ModelPool(models, settings, log), settings, log, routers=(page, *routers))
    config = uvicorn.Config(
        app,
        http=connection_class(settings, log),
        ws="none",
        loop="asyncio",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=max(1, round(settings.drain_timeout)),
    )
    return Server(config, log)


def bind(host: str, port: int) -> socket.socket:
    """Listen at an address.

    Raises:
        UsageError: no such host.
        ZooError: the port is in use, or not ours to use.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise UsageError(f"--host {host!r} is no address of this machine: {error}") from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Connections inherit it; by itself the kernel would let each hold megabytes for a client that reads nothing.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise ZooError(f"port {port} of {host} is in use; choose another with --port") from None
        if error.errno == errno.EACCES:
            raise ZooError(f"port {port} needs privileges; choose one from 1024 on with --port") from None
        raise UsageError(f"cannot listen at {host} port {port}: {error.strerror or error}") from None
    return listener


def is_loopback(listener: socket.socket) -> bool:
    """Tell whether only this machine reaches a listener."""
    return ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


def url(listener: socket.socket) -> str:
    """Write the address of a listener as people type it."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):
    """uvicorn's server, which ends quietly on a signal and says in the log that it does."""

    def __init__(self, config: uvicorn.Config, log: Log) -> None:
        super().__init__(config)
        self._log = log
        self.on_started: Callable[[], None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept, with signals already in hand, and say so."""
        await super().startup(sockets)
        if self.started and self.on_started is not None:
            self.on_started()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Let SIGTERM and SIGINT drain, and a second one of either end at once; raise neither again."""

        def stop(number: int, frame: Any) -> None:
            self.force_exit = self.should_exit
            self.should_exit = True
            self._log.event("stopping", signal=signal.Signals(number).name)

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
