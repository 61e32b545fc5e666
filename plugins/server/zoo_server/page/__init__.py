"""The page at ``/``: its files, and the models' cards that it shows. It asks the same API as any other client."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from zoo_server.errors import ApiError
from zoo_server.page.card import model_card

if TYPE_CHECKING:
    from zoo_server.answer import Service

router = APIRouter(include_in_schema=False)

TYPES = {
    "index.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
} | dict.fromkeys(
    (
        "page.js", "api.js", "asking.js", "blocks.js", "card.js", "conversation.js", "dom.js", "inline.js", "store.js",
        "talks.js", "text.js", "thoughts.js", "turns.js",
    ),
    "text/javascript; charset=utf-8",
)  # fmt: skip
"""Every file of the page; nothing else is served."""

HEADERS = {
    # Nothing from elsewhere, no markup from text (``innerHTML`` throws), no frame around it.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-cache",
}


@cache
def _content(name: str) -> bytes:
    return (files(__name__) / name).read_bytes()


@router.get("/")
async def page(request: Request) -> Response:
    """Send the page."""
    return _file("index.html")


@router.get("/static/{name}")
async def file(request: Request, name: str) -> Response:
    """Send a file of the page."""
    if name not in TYPES:
        raise ApiError(404, "not found: this server has no such path")
    return _file(name)


def _file(name: str) -> Response:
    return Response(_content(name), media_type=TYPES[name], headers=HEADERS)


@router.get("/zoo/models/{name:path}")
async def card(request: Request, name: str) -> Response:
    """Send a model's card."""
    service: Service = request.app.state.service
    return JSONResponse(model_card(service.pool.find(name[:300])))
