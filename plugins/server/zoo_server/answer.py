"""One request from its places in the queue to the last byte of its answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from zoo.contracts.constraint import ConstraintError
from zoo.engine import Sampling
from zoo.engine.generation import Limits
from zoo.errors import EngineEnded, UsageError, ZooError
from zoo.package.chat_defaults import ChatDefaults
from zoo_server.body import Arriving
from zoo_server.dialect import Dialect, to_json
from zoo_server.errors import ApiError
from zoo_server.flow import Flow
from zoo_server.logs import Log
from zoo_server.pool import Admission, ModelPool, Running
from zoo_server.settings import ServerSettings

if TYPE_CHECKING:
    from zoo_server.metrics import Metrics

Send = Callable[[Any], Awaitable[None]]
RETRY_AFTER = 10
"""Seconds after which an engine that ended may be asked again."""
STREAM = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # proxies are to pass each piece on
]


@dataclass(frozen=True)
class Service:
    """What every answer needs."""

    pool: ModelPool
    settings: ServerSettings
    log: Log
    metrics: Metrics
    arriving: Arriving


class Answer(Response):
    """Answers one request, whole or as a stream; ends at once when the client leaves."""

    def __init__(self, service: Service, dialect: Dialect) -> None:
        super().__init__()
        self._service, self._dialect, self._body = service, dialect, dialect.body
        self._began = False
        self._model = dialect.body.model
        self._record: dict[str, Any] = {}

    async def __call__(self, scope: Any, receive: Any, send: Send) -> None:
        """Answer; raises ``ApiError`` while nothing is sent."""
        self._record = scope.setdefault("zoo.record", {})
        self._model = self._service.pool.find(self._body.model).name
        self._record |= {"model": self._model, "stream": bool(self._body.stream)}
        if self._service.settings.log_prompts:
            self._record["prompt"] = self._dialect.text()
        work = asyncio.create_task(self._within_time(send))
        leaving = asyncio.create_task(_left(receive))
        try:
            await asyncio.wait({work, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                self._record["outcome"] = "disconnected"
                return
            await work
        finally:
            leaving.cancel()
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await work

    async def _within_time(self, send: Send) -> None:
        try:
            async with asyncio.timeout(self._service.settings.timeout):
                await self._answer(send)
        except TimeoutError:
            seconds = self._service.settings.timeout
            await self._fail(send, ApiError(504, f"the answer was not finished within {seconds:g} s", code="timeout"))
        except ApiError as error:
            await self._fail(send, error)

    async def _fail(self, send: Send, error: ApiError) -> None:
        """Report an error: by status, or inside the stream where that has begun."""
        self._record["outcome"] = error.code or error.kind
        if not self._began:
            raise error
        await send({"type": "http.response.body", "body": self._dialect.failing(error)})

    async def _answer(self, send: Send) -> None:
        service, body = self._service, self._body
        model = service.pool.find(body.model)
        count = self._dialect.prompts * body.choices
        admission = service.pool.admissions[model.name]
        most = min(service.settings.max_choices, admission.limit)
        if count > most:
            message = f"{count} answers requested (prompts times n); at most {most} are allowed"
            raise ApiError(400, message, code="invalid_value", param="n")
        admission.enter(count)
        places = Places(admission, count)
        try:
            running = await service.pool.lease(model.name)
            places.running = running
            room = min(
                running.scheduler.context - 1,
                running.engine.longest_prompt,
                service.settings.max_prompt_tokens or 2**62,
            )
            loop = asyncio.get_running_loop()
            prompts = await loop.run_in_executor(running.text.threads, self._dialect.encode, running, room)
            constraint = await loop.run_in_executor(running.text.threads, self._dialect.constrain, running, prompts)
            limits = [self._limits(running, len(ids)) for ids in prompts]
            biases = self._biases(running.engine.vocab_size)
            defaults = running.engine.chat_defaults if self._dialect.converses else ChatDefaults()
            flow = Flow(count, places.finished)
            try:
                for index in range(count):
                    at = index // body.choices
                    places.tickets.append(
                        running.scheduler.submit(
                            prompts[at], limits[at], self._sampling(index % body.choices, biases, defaults),
                            logprobs=self._dialect.logprobs, prompt_logprobs=self._dialect.prompt_logprobs,
                            end_logprob=self._dialect.end_logprob, visible=self._dialect.visible,
                            constraint=None if constraint is None else constraint.copy(),
                            on_piece=flow.on_piece(index), on_done=flow.on_done(index),
                        )
                    )  # fmt: skip
            except UsageError as error:
                raise ApiError(400, str(error), code="invalid_value", param="prompt") from None
            except ZooError as error:  # it is closed: a defect, or the end
                service.log.error(error, model=model.name)
                service.pool.discard(running)
                raise ApiError(503, "the model is being loaded anew", code="model_unavailable", retry_after=1) from None
            if body.stream:
                await self._stream(send, flow, running, places.tickets)
            else:
                await self._whole(send, flow, running, places.tickets)
        finally:
            places.close()

    def _limits(self, running: Running, prompt: int) -> Limits:
        """Say when an answer ends; refuse one that does not fit."""
        body, engine = self._body, running.engine
        context = running.scheduler.context
        room, asked = context - prompt, self._dialect.max_tokens
        most = self._service.settings.max_output_tokens
        if asked is not None and most is not None and asked > most and self._stated_max:
            message = f"max_tokens is {asked}; this server's answers have at most {most}"
            raise ApiError(400, message, code="invalid_value", param="max_tokens")
        if asked is not None and asked > room and self._stated_max:
            message = (
                f"the context is {context} tokens; the prompt has {prompt} of them, "
                f"and max_tokens asks for {asked} more"
            )
            raise ApiError(400, message, code="context_length_exceeded", param="max_tokens")
        ends = frozenset(body.stop_token_ids or ())
        if not body.ignore_eos:
            ends |= engine.stop_token_ids
        longest = min(room if asked is None else asked, room, most or room)
        return Limits(longest, tuple(body.stop or ()), ends, bool(body.include_stop_str_in_output))

    @property
    def _stated_max(self) -> bool:
        return self._body.max_tokens is not None or getattr(self._body, "max_completion_tokens", None) is not None

    def _biases(self, vocab_size: int) -> tuple[tuple[int, float], ...]:
        """List the biases; refuse one of a token that does not exist."""
        biases = self._body.biases()
        for token, _ in biases:
            if token >= vocab_size:
                message = f"logit_bias: token id {token} is not in the vocabulary of {vocab_size}"
                raise ApiError(400, message, code="invalid_value", param="logit_bias")
        return biases

    def _sampling(self, choice: int, biases: tuple[tuple[int, float], ...], defaults: ChatDefaults) -> Sampling:
        """Say how tokens are chosen: what the request states, else what the model's authors do, in conversation."""
        body = self._body
        usual = defaults if defaults.fields else ChatDefaults({"temperature": 1.0})  # as OpenAI's
        chosen: Any = usual.with_options(
            temperature=body.temperature,
            top_k=None if body.top_k is None else max(0, body.top_k),
            top_p=body.top_p,
            repetition_penalty=body.repetition_penalty,
            min_p=body.min_p,
        )
        return Sampling(
            **chosen,
            seed=None if body.seed is None else (body.seed + choice) % 2**64,
            presence_penalty=body.presence_penalty or 0.0,
            frequency_penalty=body.frequency_penalty or 0.0,
            logit_bias=biases,
        )

    async def _whole(self, send: Send, flow: Flow, running: Running, tickets: list[Any]) -> None:
        logprobs: list[list[Any]] = [[] for _ in tickets]
        async for deltas in flow.deltas():
            for delta in deltas:
                logprobs[delta.index] += delta.logprobs
                self._check(delta.ticket)
        answers = [(ticket.generation, logprobs[index]) for index, ticket in enumerate(tickets)]
        content = to_json(self._dialect.whole(answers, running.tokens, self._usage(tickets)))
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        self._began = True
        await send({"type": "http.response.body", "body": content})

    async def _stream(self, send: Send, flow: Flow, running: Running, tickets: list[Any]) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": STREAM})
        self._began = True
        if opening := self._dialect.opening():
            await send({"type": "http.response.body", "body": opening, "more_body": True})
        async for deltas in flow.deltas():
            events: list[bytes] = []
            for delta in deltas:
                self._check(delta.ticket)
                events += self._dialect.events(delta, tickets[delta.index].generation, running.tokens)
            if events:
                await send({"type": "http.response.body", "body": b"".join(events), "more_body": True})
        await send({"type": "http.response.body", "body": self._dialect.closing(self._usage(tickets))})

    def _check(self, ticket: Any) -> None:
        """Refuse an answer that the engine could not finish."""
        if ticket is None:
            return
        if isinstance(ticket.error, ConstraintError):
            message = f"the answer could not be made to fit the requested format: {ticket.error}"
            raise ApiError(400, message, code="invalid_structure")
        if ticket.error is not None:
            self._service.log.error(ticket.error, model=self._model)
            if isinstance(ticket.error, EngineEnded):
                message = "the model's engine ended; a later request starts it again"
                raise ApiError(503, message, code="model_unavailable", retry_after=RETRY_AFTER)
            raise ApiError(500, "the model failed to answer; see the server's log", code="engine_error")
        if ticket.generation.finish_reason == "interrupt":
            raise ApiError(503, "the answer was stopped: the server is shutting down", code="shutting_down")

    def _usage(self, tickets: list[Any]) -> dict[str, Any]:
        """Count tokens, and note them with the times for the log and the metrics."""
        firsts = tickets[:: self._body.choices]
        prompt = sum(len(ticket.generation.prompt_ids) for ticket in firsts)
        cached = sum(ticket.cached_tokens for ticket in firsts)
        output = sum(len(ticket.generation.token_ids) for ticket in tickets)
        self._record |= {
            "prompt_tokens": prompt, "cached_tokens": cached, "completion_tokens": output,
            "finish": [ticket.generation.finish_reason for ticket in tickets],
        }  # fmt: skip
        for ticket in tickets:
            times = self._service.metrics.observe(self._model, ticket)
            for name, seconds in times.items():
                self._record[name] = max(seconds, self._record.get(name, 0.0))
        return {
            "prompt_tokens": prompt,
            "completion_tokens": output,
            "total_tokens": prompt + output,
            "prompt_tokens_details": {"cached_tokens": cached},
        }


class Places:
    """What a request holds: places in the queue, its tickets, and the model; given back as soon as each is free.

    A slow reader keeps none of it: what it has still to read is only text.
    """

    def __init__(self, admission: Admission, count: int) -> None:
        self._admission, self._count = admission, count
        self.running: Running | None = None
        self.tickets: list[Any] = []

    def finished(self, ticket: Any) -> None:
        """Take note that a choice is finished."""
        if not self._count:
            return
        self._count -= 1
        took = (ticket.finished or 0) - (ticket.started or ticket.finished or 0)
        self._admission.leave(took)
        if not self._count:
            self._release()

    def close(self) -> None:
        """Give back what is left, and cancel what is not finished."""
        for ticket in self.tickets:
            if ticket.finished is None:
                ticket.cancel()
        for _ in range(self._count):
            self._admission.leave()
        self._count = 0
        self._release()

    def _release(self) -> None:
        running, self.running = self.running, None
        if running is not None:
            running.release()


async def _left(receive: Any) -> None:
    """Wait until the client leaves."""
    while (await receive())["type"] != "http.disconnect":
        pass
