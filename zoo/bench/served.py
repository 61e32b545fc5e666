"""Meet a server that nobody knows: which model, which fields it takes, and how long the words are to it."""

from __future__ import annotations

from typing import Any

from zoo.bench.http_client import HttpClient, Refusal
from zoo.bench.prompts import Make
from zoo.bench.words import Words, count_words
from zoo.bench.workload import Prompt
from zoo.errors import UsageError, ZooError, unknown

HELLO = Prompt("Hello", 1, 1)


async def meet(client: HttpClient) -> int | None:
    """Choose the model, and find out which fields the server takes.

    Returns:
        The model's context, where the server's list of models states one.

    Raises:
        UsageError: no model was named and there are several, or it serves none of that name.
        ZooError: there is no server, or it speaks another protocol.
    """
    listed = await client.models()
    by_name = {str(model.get("id")): model for model in listed}
    if client.model is None and len(by_name) > 1:
        raise UsageError(f"{client.url} serves {', '.join(sorted(by_name))}; say which with --model")
    if client.model is None:
        client.model = next(iter(by_name), None)
    try:
        await client.agree(HELLO)
    except ZooError:
        # A server may take names that it does not list; only what it refuses is unknown.
        if client.model is not None and by_name and client.model not in by_name:
            raise unknown("served model", client.model, by_name) from None
        raise
    return _context(by_name.get(client.model or "", {}))


def _context(model: dict[str, Any]) -> int | None:
    for key in ("max_model_len", "context_length", "max_context_length"):
        value = model.get(key)
        if isinstance(value, int) and value > 0:
            return value
    return None


async def require_ids(client: HttpClient, ids: list[int]) -> None:
    """Make sure that the server takes prompts of token ids.

    Raises:
        ZooError: it does not, or these are not its ids.
    """
    try:
        await client.ask(Prompt(ids, len(ids), 1))
    except ZooError as error:
        raise ZooError(f"{client.url}: takes no prompt of token ids ({error}); leave --tokenizer out") from None


async def text_maker(client: HttpClient) -> tuple[Make, bool]:
    """Make prompts of words that are about as long as asked for.

    Returns:
        The maker, and whether the server counted; where it does not, a word stands for a token.
    """

    async def count(text: str) -> int | None:
        try:
            return (await client.ask(Prompt(text, 1, 1))).prompt_tokens
        except Refusal:  # a context of a hundred tokens
            return None

    counted = await count_words(count)
    words = counted or Words()
    return words.text, counted is not None
