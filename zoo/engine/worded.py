"""What every engine over a package of ours does with text: tokenizer, chat templates, prompts within their limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from zoo.contracts.engine import Engine, require
from zoo.engine.chat import Message, cut_after_last, find_templates, render, special_tokens
from zoo.engine.text import Tokenizer
from zoo.errors import UsageError, ZooError
from zoo.package.chat_defaults import ChatDefaults
from zoo.tokenizer.templates import DEFAULT, choose_template

if TYPE_CHECKING:
    from zoo.package.folder import Package
    from zoo.structured.guide import Guide
    from zoo.worker.process import Worker


class TextEngine(Engine):
    """An engine over a package that holds tokenizer and templates as files.

    A class of it sets ``context_length`` and ``vocab_size``, and names its ``abilities``.

    Attributes:
        tokenizer: None for a package without one, which takes token ids only.
        chat_templates: by name; empty for a base model.
        chat_defaults: how a conversation is sampled where nothing else is asked for.
    """

    def __init__(self, package: Package) -> None:
        self.package = package
        folder = package.path
        self.tokenizer = Tokenizer(folder) if "tokenizer.json" in package.manifest.files else None
        self.chat_templates = find_templates(folder)
        self.chat_defaults = ChatDefaults.of_package(folder)
        self._tokens = special_tokens(folder, self._tokens_by_id())
        self.stop_token_ids = frozenset(package.manifest.recipe.tokens.eos_token_id)
        self.special_ids = self.tokenizer.special_ids if self.tokenizer else frozenset()

    def _tokens_by_id(self) -> dict[str, str | None]:
        """Name the tokens that the recipe gives by id."""
        tokens, tokenizer = self.package.manifest.recipe.tokens, self.tokenizer
        eos = tokens.eos_token_id[0] if tokens.eos_token_id else None
        ids = {"bos_token": tokens.bos_token_id, "eos_token": eos}
        return {name: tokenizer.token(index) for name, index in ids.items()} if tokenizer else {}

    @property
    def chat_template(self) -> str | None:
        """The template of a conversation without tools; None for a base model."""
        return self.chat_templates.get(DEFAULT)

    @cached_property
    def guide(self) -> Guide:
        """What makes constraints over this vocabulary; made on first use.

        Raises:
            ZooError: the package has no tokenizer, llguidance is not installed, or the engine follows no form.
        """
        from zoo.structured.guide import Guide

        tokenizer = self._require_tokenizer()
        require(self, "forms", "a form of the answer")
        return Guide(tokenizer.to_json(), self.vocab_size, self.stop_token_ids)

    def encode(self, text: str) -> list[int]:
        """Turn a prompt into ids, as the model was trained to see it."""
        return self._require_tokenizer().encode(text)

    def encode_chat(
        self,
        messages: Sequence[Message],
        *,
        goes_on: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
        variables: Mapping[str, Any] | None = None,
    ) -> list[int]:
        """Turn a conversation into ids through the model's chat template.

        Args:
            goes_on: the answer goes on with the last message instead of following it.
            tools: JSON Schemas of the functions that the model may call.
            variables: further names that the template knows, such as ``enable_thinking``.

        Raises:
            ZooError: a base model, which has no template.
        """
        text = self.chat_text(messages, goes_on=goes_on, tools=tools, variables=variables)
        # A template writes its own special tokens.
        return self._require_tokenizer().encode(text, special=False)

    def chat_text(
        self,
        messages: Sequence[Message],
        *,
        goes_on: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
        variables: Mapping[str, Any] | None = None,
        worker: Worker | None = None,
    ) -> str:
        """Write a conversation as the prompt of its next turn; the arguments are those of ``encode_chat``.

        Args:
            worker: the process that renders; by default this process's own.
        """
        template = choose_template(self.chat_templates, self.package.path.name, tools=bool(tools))
        asked: Any = {"ask": not goes_on, "tools": tools, "variables": variables, "worker": worker}
        text = render(template, messages, self._tokens, **asked)
        return cut_after_last(text, messages) if goes_on else text

    def _require_tokenizer(self) -> Tokenizer:
        if self.tokenizer is None:
            raise ZooError(f"{self.package.path.name} has no tokenizer; give token ids instead of text")
        return self.tokenizer

    def _prompt_ids(self, prompt: str | Sequence[int] | None, messages: Sequence[Message] | None) -> list[int]:
        if (prompt is None) == (messages is None):
            raise UsageError("give either a prompt or messages")
        if messages is not None:
            ids = self.encode_chat(messages)
        elif isinstance(prompt, str):
            ids = self.encode(prompt)
        else:
            ids = [int(one) for one in prompt or ()]
        return self.check_prompt(ids)

    def check_prompt(self, ids: Sequence[int]) -> list[int]:
        """Return the ids of a prompt that the engine can answer; an empty one becomes the token that begins a text.

        Raises:
            UsageError: a token that is none.
            ZooError: the prompt does not fit the context.
        """
        if not ids:
            bos = self.package.manifest.recipe.tokens.bos_token_id
            if bos is None:
                raise UsageError("the prompt is empty, and the model has no token that begins a text")
            ids = [bos]
        if len(ids) > self.longest_prompt:
            raise ZooError(
                f"the prompt has {len(ids)} tokens; this model takes at most {self.longest_prompt}, "
                f"{self._reason('to leave room for an answer')}"
            )
        return self._check_ids(ids)

    def _reason(self, usual: str) -> str:
        """Say why a text may not be longer."""
        return (
            usual if self.longest_text == self.context_length else "since dynamic scaling turns longer ones as a whole"
        )

    def _check_ids(self, ids: Sequence[int]) -> list[int]:
        for index in ids:
            if not 0 <= index < self.vocab_size:
                text = self.tokenizer.token(index) if self.tokenizer and 0 <= index < 2**31 else None
                named = f" ({text})" if text else ""
                raise UsageError(f"token id {index}{named} is not in the vocabulary of {self.vocab_size}")
        return list(ids)

    @property
    def longest_text(self) -> int:
        """Tokens of a prompt, or of a text whose logits are computed: the context, or less; see ``Architecture``."""
        return min(self.context_length, self.package.manifest.recipe.architecture.longest_text)

    @property
    def longest_prompt(self) -> int:
        """Tokens of a prompt that leaves room for an answer."""
        return min(self.context_length - 1, self.longest_text)
