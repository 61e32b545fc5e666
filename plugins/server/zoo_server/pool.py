"""The models behind one server: loaded on first use, within a memory limit, the longest idle one unloaded first."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

from zoo.contracts import RequestQueue, ServedEngine, require
from zoo.engine import SchedulerStats
from zoo.errors import ZooError, unknown
from zoo.plugins import host
from zoo.stages.opening import open_engine
from zoo.units import bytes_text
from zoo_server.errors import ApiError
from zoo_server.logs import Log
from zoo_server.served import Footprint, ServedModel
from zoo_server.settings import ServerSettings
from zoo_server.textwork import TextWork
from zoo_server.tokens import TokenTable

SPARE_AFTER = 2.0
"""Seconds after a model was loaded in which its first answers have the machine to themselves."""


class Running:
    """A loaded model: its engine, and the scheduler that runs requests over it."""

    def __init__(
        self, model: ServedModel, engine: ServedEngine, scheduler: RequestQueue, memory: int, text: TextWork
    ) -> None:
        self.model, self.engine, self.scheduler, self.memory, self.text = model, engine, scheduler, memory, text
        text.follow(engine.tokenizer)
        self.tokens = TokenTable(engine, self.text)
        self.users = 0
        self.last_used = time.monotonic()

    def release(self) -> None:
        """Say that a request needs the model no longer."""
        self.users -= 1
        self.last_used = time.monotonic()


class Admission:
    """Counts the choices of a model that run or wait, and refuses what is over the limit."""

    def __init__(self, slots: int, queue: int) -> None:
        self._slots, self.limit = slots, slots + queue
        self.open = 0
        self._seconds = 1.0
        """How long a choice took lately."""

    def enter(self, choices: int) -> None:
        """Take places.

        Raises:
            ApiError: 429, with the seconds after which places are likely to be free.
        """
        if self.open + choices > self.limit:
            raise self.refusal()
        self.open += choices

    def refusal(self) -> ApiError:
        """Make the error for who comes when all places are taken."""
        wait = self.open / self._slots * self._seconds
        return ApiError(
            429,
            f"the model is busy: {self.open} requests run or wait, and it takes {self.limit}; try again later",
            code="rate_limit_exceeded",
            retry_after=min(60, max(1, math.ceil(wait))),
        )

    def leave(self, seconds: float | None = None) -> None:
        """Give a place back; ``seconds`` is what a finished choice took to compute."""
        self.open -= 1
        if seconds is not None:
            self._seconds += 0.1 * (seconds - self._seconds)


class ModelPool:
    """Names to running models.

    Args:
        models: what is served.
    """

    def __init__(
        self,
        models: Sequence[ServedModel],
        settings: ServerSettings,
        log: Log,
    ) -> None:
        self._models = {model.name: model for model in models}
        self.names = self._models | {alias: self._models[name] for alias, name in settings.aliases.items()}
        """What clients may ask for: the models, and other names for them."""
        self._settings, self._log = settings, log
        self.admissions = {name: Admission(settings.slots, settings.queue) for name in self._models}
        self.fits = {model.name: model.fit(settings.slots, settings.memory) for model in models}
        self.running: dict[str, Running] = {}
        self.past: dict[str, list[SchedulerStats]] = {name: [] for name in self._models}
        """Last statistics of schedulers that are gone: totals go on where they were."""
        self._loads: dict[str, asyncio.Task[Running]] = {}
        self._lock = asyncio.Lock()
        self._closed = False
        self._spare: TextWork | None = TextWork()
        """The next model's, started ahead: the first answer is not to wait for a process to start."""

    @property
    def models(self) -> list[ServedModel]:
        return list(self._models.values())

    @property
    def memory_used(self) -> int:
        """What the loaded models may take together, bytes."""
        return sum(running.memory for running in self.running.values())

    def check_busy(self) -> None:
        """Refuse a request before its body is read, where no model could take it: under a flood that must cost little.

        Raises:
            ApiError: 429, all places of all models are taken.
        """
        if all(admission.open >= admission.limit for admission in self.admissions.values()):
            raise min(self.admissions.values(), key=lambda one: one.open).refusal()

    def find(self, name: str) -> ServedModel:
        """Find a model by name.

        Raises:
            ApiError: 404, offering the nearest names.
        """
        if name not in self.names:
            raise ApiError(404, str(unknown("model", name, self.names)), code="model_not_found", param="model")
        return self.names[name]

    async def lease(self, name: str) -> Running:
        """Get a running model, loading it first where it must be; it stays loaded until ``release``.

        Raises:
            ApiError: 503, it does not fit beside the models that are in use, or its package cannot be opened.
        """
        while (running := self.running.get(name)) is None:
            load = self._loads.get(name)
            if load is None:
                load = self._loads[name] = asyncio.create_task(self._load(name))
                load.add_done_callback(partial(self._loaded, name))
            # Whoever waits may leave; the model is loaded for the next one all the same.
            await asyncio.shield(load)
        running.users += 1
        running.last_used = time.monotonic()
        return running

    def _loaded(self, name: str, task: asyncio.Task[Running]) -> None:
        self._loads.pop(name, None)
        if not task.cancelled():
            task.exception()  # seen, even where everybody who waited has left

    async def _load(self, name: str) -> Running:
        model = self._models[name]
        needed = self.fits[name].total
        async with self._lock:
            await self._make_room(model, needed)
            started = time.perf_counter()
            text, self._spare = self._spare or TextWork(), None
            text.open(model.path)
            try:
                engine, scheduler = await asyncio.to_thread(
                    start_model, model, self.fits[name], self._settings, self._notice
                )
                self.running[name] = Running(model, engine, scheduler, needed, text)
            except (ZooError, OSError, MemoryError) as error:
                self._log.event("load_failed", model=name, error=type(error).__name__, message=self._private(error))
                message = f"the model {name!r} cannot be loaded; see the server's log"
                raise ApiError(503, message, code="model_unavailable", param="model") from None
            finally:
                if name not in self.running:
                    text.close()
            if len(self.running) < len(self._models):
                asyncio.get_running_loop().call_later(SPARE_AFTER, self._start_spare)
            self._log.event("loaded", model=name, seconds=round(time.perf_counter() - started, 3), memory=needed)
            return self.running[name]

    def _start_spare(self) -> None:
        if not self._closed and self._spare is None and len(self.running) < len(self._models):
            self._spare = TextWork()

    def _notice(self, line: str) -> None:
        self._log.event("preparing", message=line)

    def _private(self, error: BaseException) -> str:
        """Say what went wrong without saying where packages lie."""
        text = " ".join(str(error).split())
        for model in self._models.values():
            text = text.replace(f"{model.path.parent}/", "")
        return text[:500]

    async def _make_room(self, model: ServedModel, needed: int) -> None:
        """Unload idle models, the longest idle first, until the next one fits."""
        limit = self._settings.memory
        if limit is None:
            return
        while self.memory_used + needed > limit:
            idle = [running for running in self.running.values() if not running.users]
            if not idle:
                used = f"{bytes_text(self.memory_used)} of {bytes_text(limit)} is held by models in use"
                message = f"the model {model.name!r} needs {bytes_text(needed)}, and {used}; try again later"
                raise ApiError(503, message, code="model_does_not_fit", param="model", retry_after=10)
            await self._unload(min(idle, key=lambda one: one.last_used))

    def discard(self, running: Running) -> None:
        """Forget a model whose scheduler takes nothing any more; the next request loads it again."""
        if self.running.get(running.model.name) is running:
            del self.running[running.model.name]
            self.past[running.model.name].append(running.scheduler.stats())
            running.text.close()
            self._log.event("discarded", model=running.model.name)

    async def _unload(self, running: Running, *, drain: bool = False) -> None:
        del self.running[running.model.name]
        self.past[running.model.name].append(running.scheduler.stats())
        await asyncio.to_thread(running.scheduler.close, drain=drain)
        running.text.close()
        self._log.event("unloaded", model=running.model.name, memory=running.memory)
        del running
        gc.collect()  # a session's memory goes back when the last reference does

    async def close(self) -> None:
        """Unload everything."""
        self._closed = True
        for load in list(self._loads.values()):
            await asyncio.wait([load])
        for running in list(self.running.values()):
            await self._unload(running)
        if self._spare is not None:
            self._spare.close()


def start_model(
    model: ServedModel, fit: Footprint, settings: ServerSettings, notice: Callable[[str], None]
) -> tuple[ServedEngine, RequestQueue]:
    """Open a package and start to take requests.

    Args:
        notice: called with a line that says what is prepared for later starts.
    """
    engine = open_engine(
        host().registry,
        model.path,
        name=model.engine,
        threads=settings.threads,
        draft=model.draft,
        kv=model.kv,
        preparing="later",
        warn=notice,
    )
    require(engine, "batches", f"serving {model.name}")
    served = cast("ServedEngine", engine)
    if served.tokenizer is not None:
        # Reading a vocabulary keeps other threads waiting, up to a second; later that would hold up answers.
        with contextlib.suppress(ZooError):  # structured output is an extra
            _ = served.guide
    return served, served.queue(
        slots=settings.slots,
        prefix_cache_bytes=fit.prefixes,
        cache_bytes=fit.caches,
        lookup=settings.lookup,
    )
