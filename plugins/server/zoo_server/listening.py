"""Where a server listens: a port, or a socket in the file system; with or without TLS."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import ssl
import stat
from pathlib import Path

from zoo.errors import UsageError, ZooError
from zoo_server.settings import ServerSettings

SEND_BUFFER = 128 * 1024
"""Bytes of a connection that the kernel holds for its client."""
BACKLOG = 2048


def bind(host: str, port: int) -> socket.socket:
    """Listen at an address.

    Raises:
        UsageError: no such host.
        ZooError: the port is in use, or not ours to use.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise UsageError(f"--host {host!r} is not an address of this machine: {error}") from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Connections inherit it; by itself the kernel would let each hold megabytes for a client that reads nothing.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise ZooError(f"port {port} of {host} is in use; choose another with --port") from None
        if error.errno == errno.EACCES:
            raise ZooError(f"port {port} needs privileges; choose one from 1024 on with --port") from None
        raise UsageError(f"cannot listen at {host} port {port}: {error.strerror or error}") from None
    return listener


def bind_path(path: Path) -> socket.socket:
    """Listen at a socket in the file system; one that a server left behind is replaced.

    Raises:
        ZooError: another server is listening there, or something else is there.
    """
    if not hasattr(socket, "AF_UNIX"):
        raise UsageError("--uds: this system has no such sockets; give --host and --port")
    if path.exists() or path.is_symlink():
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise UsageError(f"--uds {path}: the path exists and is not a socket")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other, contextlib.suppress(ConnectionRefusedError):
            other.settimeout(1)
            other.connect(str(path))
            raise ZooError(f"--uds {path}: another server is listening there")
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        listener.bind(str(path))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise UsageError(f"--uds {path}: {error.strerror or error}") from None
    return listener


def close(listener: socket.socket, path: Path | None = None) -> None:
    """Stop listening; the socket that ``bind_path`` made in the file system goes."""
    listener.close()
    if path is not None:
        with contextlib.suppress(OSError):
            os.unlink(path)


def is_path(listener: socket.socket) -> bool:
    """Tell whether a listener is a socket in the file system."""
    return listener.family == getattr(socket, "AF_UNIX", None)


def is_loopback(listener: socket.socket) -> bool:
    """Tell whether only this machine reaches a listener."""
    return is_path(listener) or ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


def url(listener: socket.socket, settings: ServerSettings | None = None) -> str:
    """Write the address of a listener as people type it."""
    root = settings.root_path if settings is not None else ""
    if is_path(listener):
        return f"unix:{listener.getsockname()}{':' + root if root else ''}"
    scheme = "https" if settings is not None and settings.ssl_certfile is not None else "http"
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}{root}" if ":" in host else f"{scheme}://{host}:{port}{root}"


def check_certificate(certificate: Path | None, key: Path | None) -> None:
    """Refuse TLS files that cannot be used, before anything is loaded.

    Raises:
        UsageError: one is missing, unreadable, or they do not fit together.
    """
    if certificate is None:
        if key is not None:
            raise UsageError("--ssl-keyfile needs --ssl-certfile")
        return
    for option, path in (("--ssl-certfile", certificate), ("--ssl-keyfile", key)):
        if path is None:
            continue
        try:
            path.read_bytes()
        except OSError as error:
            raise UsageError(f"{option} {path}: {error.strerror or error}") from None
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key, password=lambda: "")
    except (ssl.SSLError, OSError) as error:
        files = certificate.name if key is None else f"{certificate.name} and {key.name}"
        reason = getattr(error, "reason", None) or error
        raise UsageError(f"--ssl-certfile: {files} are not a certificate and its key in PEM: {reason}") from None
