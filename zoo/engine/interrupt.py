"""Ctrl-C while onnxruntime computes.

Python acts on a signal only when a step returns, and a step of a long prompt takes a while.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def on_interrupt(stop: Callable[[], None]) -> Iterator[None]:
    """Call ``stop``, from another thread, as soon as SIGINT arrives within the block.

    Where that cannot be arranged (another thread than the main one, a program that watches signals itself), the block
    runs as it is.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    previous = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    if previous != -1:
        signal.set_wakeup_fd(previous)
        reader.close()
        writer.close()
        yield
        return

    def watch() -> None:
        while received := reader.recv(64):
            if signal.SIGINT in received:
                stop()

    watcher = threading.Thread(target=watch, name="zoo-interrupt", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(-1)
        writer.close()  # ends the watcher
        watcher.join()
        reader.close()
