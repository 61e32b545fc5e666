"""Texts and conversations of the harness to the ids that a package's model was trained to see."""

from __future__ import annotations

import json
from collections.abc import Sequence

from zoo.engine.chat import Message, cut_after_last, find_template, render, special_tokens
from zoo.engine.text import Tokenizer
from zoo.errors import ZooError
from zoo.package.closed import files_of, has_file
from zoo.package.folder import Package
from zoo.sources.companions import MAX_CONFIG


class Prompting:
    """The tokenizer and the chat template of a package, without its weights.

    Attributes:
        context_length: tokens that a text may have.
        prefix_id: what stands before a text that is scored from its first token: bos, or eos where there is no bos.
        chat_template: None for a base model.
    """

    def __init__(self, package: Package) -> None:
        """Read a package's tokenizer and template.

        Raises:
            ZooError: it has no tokenizer, or no token to begin a text with.
        """
        folder, recipe = package.path, package.manifest.recipe
        if not has_file(folder, "tokenizer.json"):
            raise ZooError(f"{folder.name} has no tokenizer, and tasks are texts; build it from a checkpoint with one")
        self.tokenizer = Tokenizer(folder)
        self._vocab_size = recipe.architecture.vocab_size
        self.context_length = min(_context_length(package), recipe.architecture.longest_text)
        self.chat_template = find_template(folder)
        bos, eos = recipe.tokens.bos_token_id, recipe.tokens.eos_token_id
        self._special = special_tokens(folder, {"bos_token": self.tokenizer.token(bos)})
        self.eos_text = self._special.get("eos_token", "")
        named = [self.tokenizer.id_of(self._special.get(name, "")) for name in ("bos_token", "eos_token")]
        token_ids = [token_id for token_id in (*named, bos, *eos) if token_id is not None]
        if not token_ids:
            raise ZooError(f"{folder.name} has neither a token that begins a text nor one that ends it")
        self.prefix_id = token_ids[0]
        self.eos_id = next((token_id for token_id in (named[1], *eos) if token_id is not None), self.prefix_id)
        self._prefix_text = self.tokenizer.decode([self.prefix_id], skip_special=False)

    def encode(self, text: str, special: bool | None = None) -> list[int]:
        """Turn a text into ids.

        Args:
            special: add what the tokenizer puts around a text; by default unless the text begins with it already, as
                what a chat template wrote does.

        Raises:
            ZooError: the text holds a token that the model has no row for.
        """
        if special is None:
            special = not (self._prefix_text and text.startswith(self._prefix_text))
        ids = self.tokenizer.encode(text, special=special)
        highest = max(ids, default=0)
        if highest >= self._vocab_size:
            raise ZooError(
                f"a text holds the token {self.tokenizer.token(highest)}, id {highest}, which is not in the model's "
                f"vocabulary of {self._vocab_size}"
            )
        return ids

    def chat(self, messages: Sequence[Message], *, ask: bool = True) -> str:
        """Write a conversation through the template; with ``ask`` False it ends inside its last message."""
        if self.chat_template is None:
            raise ZooError("a base model has no chat template; score it by likelihood: --scoring likelihood")
        if ask:
            return render(self.chat_template, messages, self._special)
        return cut_after_last(render(self.chat_template, messages, self._special, ask=False), messages)


def _context_length(package: Package) -> int:
    """Read how long texts may be: of our own engine's packages beside the graph, of others' in the recipe."""
    folder = package.path
    if "genai_config.json" not in package.manifest.files:
        return package.manifest.recipe.architecture.context_length
    try:
        return int(json.loads(files_of(folder, MAX_CONFIG)("genai_config.json") or b"")["model"]["context_length"])
    except (OSError, ValueError, KeyError, TypeError):
        raise ZooError(f"{folder.name}/genai_config.json: does not state a context length; build it again") from None
