"""The application: routes over a pool of models. Other rooms hang theirs beside them (``routers``)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

import zoo
from zoo_server import embeddings
from zoo_server.answer import Answer, Service
from zoo_server.body import Arriving, describe_body, read_body
from zoo_server.chat import Chat
from zoo_server.completions import Completion
from zoo_server.errors import ApiError
from zoo_server.gate import Gate
from zoo_server.logs import Log
from zoo_server.metrics import CONTENT_TYPE, Metrics
from zoo_server.pool import ModelPool
from zoo_server.proxied import RootPath
from zoo_server.responses import Responses
from zoo_server.responses_request import ResponsesRequest
from zoo_server.schemas import ChatRequest, CompletionRequest
from zoo_server.served import ServedModel
from zoo_server.settings import ServerSettings
from zoo_server.tokenization import DetokenizeRequest, TokenizeRequest, detokenize, tokenize

router = APIRouter()


def create_app(pool: ModelPool, settings: ServerSettings, log: Log, *, routers: Sequence[APIRouter] = ()) -> FastAPI:
    """Make the application.

    Args:
        routers: further routes; their handlers find the pool as ``request.app.state.service.pool``. ``/`` and
            ``/static/`` need no API key, everything else does where one is set.
    """
    metrics = Metrics(pool)
    parsers = ThreadPoolExecutor(2, thread_name_prefix="zoo-parse")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await pool.close()
        parsers.shutdown(wait=False, cancel_futures=True)

    app = FastAPI(
        title="zoo serve", docs_url=None, redoc_url=None, lifespan=lifespan, redirect_slashes=False,
        exception_handlers={HTTPException: _http_error},
    )  # fmt: skip
    app.state.service = Service(pool, settings, log, metrics, Arriving(settings.max_body, parsers))
    for part in (router, embeddings.router, *routers):
        app.include_router(part)
    app.add_middleware(HeadAsGet)
    app.add_middleware(Gate, pool=pool, settings=settings, log=log, metrics=metrics)
    app.add_middleware(RootPath, root=settings.root_path)
    if settings.cors_origin:
        app.add_middleware(
            CORSMiddleware, allow_origins=settings.cors_origin, allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"], expose_headers=["X-Request-Id", "Retry-After"],
        )  # fmt: skip
    return app


class HeadAsGet:
    """Answers HEAD wherever GET is answered; the HTTP server leaves the body out."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on."""
        if scope["type"] == "http" and scope["method"] == "HEAD":
            inner = {**scope, "method": "GET"}
            try:
                await self._app(inner, receive, send)
            finally:
                scope["route"] = inner.get("route")  # for the log
            return
        await self._app(scope, receive, send)


async def _http_error(request: Request, error: Exception) -> Response:
    """Write the framework's own errors in the shape of all others."""
    assert isinstance(error, HTTPException)
    messages = {404: "not found: this server has no such path", 405: "method not allowed for this path"}
    made = ApiError(error.status_code, messages.get(error.status_code, str(error.detail)[:200]))
    return JSONResponse(made.body(), made.status, headers=dict(error.headers or {}))


@router.post("/v1/completions", openapi_extra=describe_body(CompletionRequest))
async def completions(request: Request) -> Response:
    """Go on with one or more prompts."""
    service: Service = request.app.state.service
    body = await read_body(request, CompletionRequest, service.settings, service.arriving)
    return Answer(service, Completion(body))


@router.post("/v1/chat/completions", openapi_extra=describe_body(ChatRequest))
async def chat_completions(request: Request) -> Response:
    """Take the next turn of a conversation."""
    service: Service = request.app.state.service
    return Answer(service, Chat(await read_body(request, ChatRequest, service.settings, service.arriving)))


@router.post("/v1/responses", openapi_extra=describe_body(ResponsesRequest))
async def responses(request: Request) -> Response:
    """Take the next turn of a conversation, in OpenAI's newer protocol; nothing is kept."""
    service: Service = request.app.state.service
    return Answer(service, Responses(await read_body(request, ResponsesRequest, service.settings, service.arriving)))


@router.post("/tokenize", openapi_extra=describe_body(TokenizeRequest))
async def tokenize_text(request: Request) -> Response:
    """Turn a text or a conversation into token ids."""
    service: Service = request.app.state.service
    body = await read_body(request, TokenizeRequest, service.settings, service.arriving)
    return JSONResponse(await tokenize(service, body))


@router.post("/detokenize", openapi_extra=describe_body(DetokenizeRequest))
async def detokenize_ids(request: Request) -> Response:
    """Turn token ids into text."""
    service: Service = request.app.state.service
    body = await read_body(request, DetokenizeRequest, service.settings, service.arriving)
    return JSONResponse(await detokenize(service, body))


@router.get("/v1/models")
async def list_models(request: Request) -> Response:
    """List the models."""
    pool: ModelPool = request.app.state.service.pool
    return JSONResponse(
        {"object": "list", "data": [_describe(pool, name, model) for name, model in pool.names.items()]}
    )


@router.get("/v1/models/{name:path}")
async def show_model(request: Request, name: str) -> Response:
    """Describe a model."""
    pool: ModelPool = request.app.state.service.pool
    return JSONResponse(_describe(pool, name[:300], pool.find(name[:300])))


@router.get("/version")
async def version(request: Request) -> Response:
    """Say which version this is."""
    return JSONResponse({"version": zoo.__version__})


@router.get("/ping")
@router.get("/healthz")
@router.get("/health")
async def health(request: Request) -> Response:
    """Say that the server is well."""
    return JSONResponse({"status": "ok"})


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Report to Prometheus."""
    service: Service = request.app.state.service
    return Response(service.metrics.text(), media_type=CONTENT_TYPE)


def _describe(pool: ModelPool, name: str, model: ServedModel) -> dict[str, Any]:
    recipe = model.manifest.recipe
    return {
        "id": name,
        "object": "model",
        "root": model.name,
        "created": model.created,
        "owned_by": "zoo",
        "family": recipe.family,
        "precision": recipe.precision,
        "licence": recipe.licence.id,
        "context_length": pool.fits[model.name].context,
        "chat": model.chat,
        "task": model.task,
        "loaded": model.name in pool.running,
    }
