"""Run the server: bind, say where, answer until told to stop, and finish what was begun."""

from __future__ import annotations

import contextlib
import logging
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import APIRouter

from zoo_server.app import create_app
from zoo_server.connection import connection_class, most_connections
from zoo_server.listening import bind, bind_path, check_certificate, close, is_loopback, is_path, url
from zoo_server.logs import Handler, Log
from zoo_server.page import router as page
from zoo_server.pool import ModelPool
from zoo_server.served import ServedModel
from zoo_server.settings import ServerSettings

BACKLOG = 256
"""Connections that are accepted at once, before any of them is looked at."""
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
    uds: Path | None = None,
    announce: Callable[[str], None],
    routers: Sequence[APIRouter] = (),
) -> None:
    """Serve until SIGTERM or SIGINT; answers that are under way may finish, within the drain time.

    Args:
        uds: a path to listen at instead of host and port.
        announce: called with the server's URL once it listens.

    Raises:
        ZooError: the address cannot be listened at, or a model can never fit into the memory limit.
    """
    fits = {model.name: model.fit(settings.slots, settings.memory) for model in models}
    check_certificate(settings.ssl_certfile, settings.ssl_keyfile)
    listener = bind(host, port) if uds is None else bind_path(uds)
    if is_path(listener):
        settings = replace(settings, hosts=None)  # whoever may open the file may ask
    elif is_loopback(listener):
        settings = replace(settings, hosts=LOOPBACK | {name.lower() for name in (host, *settings.allow_host)})
    log = Log()
    handler = Handler(log)
    for name in ("uvicorn.error", "asyncio", "fastapi"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
    own = logging.getLogger("zoo")
    own.addHandler(handler)
    for model in models:
        context, whole = fits[model.name].context, model.context_length
        if context < whole:
            log.event("context_shortened", model=model.name, context=context, whole=whole, memory=settings.memory)
    try:
        server = make_server(models, settings, log, routers)

        def listening() -> None:
            address, keyed = url(listener, settings), settings.api_key is not None
            log.event("listening", url=address, models=[model.name for model in models], key=keyed)
            if not keyed and not is_loopback(listener):
                log.event("open_to_others", message="anyone who can connect may use it; set ZOO_API_KEY")
            announce(address)

        server.on_started = listening
        sys.setswitchinterval(SWITCH_INTERVAL)
        server.run(sockets=[listener])
        log.event("stopped")
    finally:
        own.removeHandler(handler)
        close(listener, uds)
        log.close()


def make_server(
    models: Sequence[ServedModel], settings: ServerSettings, log: Log, routers: Sequence[APIRouter] = ()
) -> Server:
    """Make a server that is not listening yet; its ``run`` takes sockets that are."""
    app = create_app(ModelPool(models, settings, log), settings, log, routers=(page, *routers))
    backlog = max(4, min(BACKLOG, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 8))
    most = most_connections(settings.max_connections, len(models), backlog)
    if most < settings.max_connections:
        log.event("connections_limited", wanted=settings.max_connections, most=most, reason="few open files: ulimit -n")
    config = uvicorn.Config(
        app,
        http=connection_class(settings, log, most),
        backlog=backlog,
        ws="none",
        loop="asyncio",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=max(1, round(settings.keep_alive)),
        ssl_certfile=settings.ssl_certfile,
        ssl_keyfile=settings.ssl_keyfile,
        timeout_graceful_shutdown=max(1, round(settings.drain_timeout)),
    )
    return Server(config, log)


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
