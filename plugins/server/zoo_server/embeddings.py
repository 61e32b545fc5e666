"""``/v1/embeddings`` in OpenAI's shape, and ``/v1/rerank`` in Cohere's and Jina's.

Fields: platform.openai.com/docs/api-reference/embeddings, docs.cohere.com/reference/rerank, jina.ai/reranker. Beside
them ``truncate`` (cut texts that are too long; otherwise they are refused) and ``prompt_name`` (what is put before a
text), as other servers have them.
"""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import Field, StringConstraints

from zoo.embedding.engine import ranked
from zoo.embedding.tokens import TextTokens
from zoo.errors import ZooError
from zoo_server.body import describe_body, read_body
from zoo_server.errors import ApiError
from zoo_server.pool import Running
from zoo_server.schemas import RequestPart

if TYPE_CHECKING:
    from zoo_server.answer import Service

MOST_TEXTS = 2048
"""Texts of a request, OpenAI's limit."""
Name = Annotated[str, StringConstraints(min_length=1, max_length=300)]
Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
router = APIRouter()


class EmbeddingsRequest(RequestPart):
    """``POST /v1/embeddings``."""

    ignored = frozenset({"user", "metadata", "normalized"})

    model: Name
    input: str | list[Any]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Count | None = None
    truncate: bool | None = None
    """Cut texts that are longer than the model takes; otherwise they are refused."""
    prompt_name: Annotated[str, StringConstraints(max_length=300)] | None = None
    """The name of what is put before each text, such as ``query``."""

    @property
    def texts(self) -> list[str]:
        """The texts, one or several."""
        return [self.input] if isinstance(self.input, str) else self.input

    def check(self) -> None:
        """Refuse what is not one text or a list of them."""
        super().check()
        if isinstance(self.input, list) and self.input and not all(isinstance(text, str) for text in self.input):
            message = "input must be texts; token ids of another tokenizer mean other words here"
            raise ApiError(400, f"{message} (LangChain: check_embedding_ctx_length=False)", param="input")
        _check_count(len(self.texts), "input")


class RerankRequest(RequestPart):
    """``POST /v1/rerank``."""

    ignored = frozenset({"max_chunks_per_doc", "priority", "return_embeddings"})

    model: Name
    query: str
    documents: list[str | dict[str, Any]]
    top_n: Count | None = None
    return_documents: bool | None = None
    truncate: bool | None = None
    """Cut documents that are too long beside the query; otherwise they are refused."""

    @property
    def texts(self) -> list[str]:
        """The documents, whether texts or objects with one."""
        return [document if isinstance(document, str) else document["text"] for document in self.documents]

    def check(self) -> None:
        """Refuse documents without a text."""
        super().check()
        for index, one in enumerate(self.documents):
            if isinstance(one, dict) and not isinstance(one.get("text"), str):
                raise ApiError(400, f"document {index} has no text", code="invalid_value", param="documents")
        _check_count(len(self.documents), "documents")


def _check_count(count: int, param: str) -> None:
    if not 1 <= count <= MOST_TEXTS:
        message = f"{param} has {count} texts; a request has 1 to {MOST_TEXTS}"
        raise ApiError(400, message, code="invalid_value", param=param)


@router.post("/v1/embeddings", openapi_extra=describe_body(EmbeddingsRequest))
async def embeddings(request: Request) -> Response:
    """Turn texts into vectors."""
    service: Service = request.app.state.service
    body = await read_body(request, EmbeddingsRequest, service.settings, service.arriving)

    def prepare(engine: Any) -> list[TextTokens]:
        engine.finish(np.zeros((0, engine.dimensions), np.float32), body.dimensions)
        return list(engine.prepare(body.texts, prompt=body.prompt_name, truncate=bool(body.truncate)))

    def write(engine: Any, rows: Sequence[Any], texts: Sequence[TextTokens]) -> dict[str, Any]:
        data = []
        for index, vector in enumerate(engine.finish(np.stack(rows), body.dimensions)):
            value = vector.tolist()
            if body.encoding_format == "base64":
                value = base64.b64encode(np.ascontiguousarray(vector, "<f4").tobytes()).decode()
            cut = {"truncated": True} if texts[index].truncated else {}
            data.append({"object": "embedding", "index": index, "embedding": value, **cut})
        return {"object": "list", "data": data, "model": body.model, "usage": _usage(texts)}

    return await _answer(request, body.model, "embeddings", prepare, write)


@router.post("/v1/rerank", openapi_extra=describe_body(RerankRequest))
@router.post("/v2/rerank", include_in_schema=False)
async def rerank(request: Request) -> Response:
    """Order documents by how well they answer a query."""
    service: Service = request.app.state.service
    body = await read_body(request, RerankRequest, service.settings, service.arriving)
    documents = body.texts

    def prepare(engine: Any) -> list[TextTokens]:
        return list(engine.prepare_pairs(body.query, documents, truncate=bool(body.truncate)))

    def write(engine: Any, rows: Sequence[Any], texts: Sequence[TextTokens]) -> dict[str, Any]:
        results = []
        for ranking in ranked(np.asarray(rows, np.float32), texts)[: body.top_n]:
            result: dict[str, Any] = {"index": ranking.index, "relevance_score": ranking.score}
            if body.return_documents:
                result["document"] = {"text": documents[ranking.index]}
            results.append(result | ({"truncated": True} if ranking.truncated else {}))
        meta = {"api_version": {"version": "1"}, "billed_units": {"search_units": 1}}
        return {"id": str(uuid.uuid4()), "model": body.model, "results": results, "usage": _usage(texts), "meta": meta}

    return await _answer(request, body.model, "scores", prepare, write)


def _usage(texts: Sequence[TextTokens]) -> dict[str, int]:
    """Count tokens as OpenAI does, and the texts that were cut."""
    tokens = sum(map(len, texts))
    cut = sum(text.truncated for text in texts)
    return {"prompt_tokens": tokens, "total_tokens": tokens, **({"truncated_texts": cut} if cut else {})}


async def _answer(
    request: Request,
    name: str,
    ability: Literal["embeddings", "scores"],
    prepare: Callable[[Any], list[TextTokens]],
    write: Callable[[Any, Sequence[Any], Sequence[TextTokens]], dict[str, Any]],
) -> Response:
    """Encode, queue, wait, write; texts and answers are worked on beside the event loop."""
    service: Service = request.app.state.service
    record = request.scope.setdefault("zoo.record", {})
    async with _leased(service, name, ability) as running:
        record["model"] = running.model.name
        loop, engine = asyncio.get_running_loop(), running.engine
        try:
            async with asyncio.timeout(service.settings.timeout):
                texts = await loop.run_in_executor(running.text.threads, prepare, engine)
                limit = service.settings.max_prompt_tokens
                if limit is not None and (longest := max(map(len, texts))) > limit:
                    message = f"a text has {longest} tokens; this server takes {limit}"
                    raise ApiError(400, message, code="context_length_exceeded", param="input")
                queue: Any = running.scheduler
                rows = await _while_there(request, asyncio.wrap_future(queue.submit_texts(texts)))
                record |= _usage(texts)
                content = await loop.run_in_executor(
                    running.text.threads, lambda: json.dumps(write(engine, rows, texts), ensure_ascii=False).encode()
                )
        except TimeoutError:
            seconds = service.settings.timeout
            raise ApiError(504, f"the answer was not finished within {seconds:g} s", code="timeout") from None
        except ZooError as error:
            raise ApiError(400, str(error), code="invalid_value", param="input") from None
    return Response(content, media_type="application/json")


async def _while_there(request: Request, future: asyncio.Future[Any]) -> Any:
    """Wait for rows; what nobody waits for any more is not computed."""
    leaving = asyncio.create_task(_left(request))
    try:
        await asyncio.wait({future, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not future.done():
            raise ApiError(400, "the client left", code="disconnected")
        return future.result()
    except asyncio.CancelledError:
        if future.cancelled():
            message = "the answer was stopped: the server is shutting down"
            raise ApiError(503, message, code="shutting_down") from None
        raise
    finally:
        leaving.cancel()
        future.cancel()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


@asynccontextmanager
async def _leased(service: Service, name: str, ability: Literal["embeddings", "scores"]) -> AsyncIterator[Running]:
    """Take a place in a model's queue and the model; give both back at the end.

    Raises:
        ApiError: no place is free, or the model does something else.
    """
    model = service.pool.find(name)
    admission = service.pool.admissions[model.name]
    admission.enter(1)
    began = asyncio.get_running_loop().time()
    try:
        running = await service.pool.lease(model.name)
        try:
            if ability not in running.engine.abilities:
                does = {"embeddings": "embeds no texts", "scores": "ranks no documents"}[ability]
                raise ApiError(400, f"the model {name!r} {does}", code="invalid_value", param="model")
            yield running
        finally:
            running.release()
    finally:
        admission.leave(asyncio.get_running_loop().time() - began)
