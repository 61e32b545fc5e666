"""The engine over ONNX Runtime: an opened package, ready to answer."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Unpack

import numpy as np
from numpy.typing import NDArray

from zoo.contracts.engine import OWN_ENGINE, Ability
from zoo.engine.chat import Message
from zoo.engine.generation import ActiveRequest, Generation, Limits, Piece, run_request
from zoo.engine.huge_pages import use_huge_pages
from zoo.engine.int8_cache import find_scales
from zoo.engine.machine import give_back_memory
from zoo.engine.options import AnswerOptions, read_form, read_options
from zoo.engine.prepack import open_graph
from zoo.engine.sampling import Sampling
from zoo.engine.session import Session
from zoo.engine.worded import TextEngine
from zoo.errors import ZooError
from zoo.package.running import held_by
from zoo.targets.ort.placement import DATA_FILE

if TYPE_CHECKING:
    from zoo.contracts.constraint import Constraint
    from zoo.contracts.engine import Engine
    from zoo.engine.draft import Draft
    from zoo.engine.scheduler import Scheduler
    from zoo.package.folder import Package


class OrtEngine(TextEngine):
    """A package opened over ONNX Runtime in this process."""

    def __init__(self, package: Package, threads: int | None = None) -> None:
        super().__init__(package)
        self.name = OWN_ENGINE
        self.session = open_graph(package, lambda graph: Session(package.path, threads, graph))
        self.context_length = self.session.context
        self.vocab_size = self.session.vocab_size
        self.load_seconds = self.session.load_seconds
        self.abilities = frozenset(self._abilities())
        self._cache = self.session.new_cache()
        self._smaller: OrtEngine | None = None
        self._draft: Draft | None = None

    def _abilities(self) -> Iterator[Ability]:
        yield from ("batches", "logits", "steps", "logprobs", "lookup", "draft", "int8_kv")
        if self.tokenizer is not None:
            yield from ("text", "forms")
            if self.chat_templates:
                yield from ("chat", "tools")

    @classmethod
    def open(cls, package: Package, *, threads: int | None = None) -> OrtEngine:
        """Open a package that was built for onnxruntime; over prepared weights where there are some.

        Args:
            package: the folder and its manifest, checked.
            threads: workers of a step; by default the physical cores that this process may use.

        Raises:
            ZooError: a file was changed, or the package does not fit memory.
        """
        opened = cls(package, threads)
        give_back_memory()
        use_huge_pages(opened.session, held_by(package.manifest), package.path / DATA_FILE)
        return opened

    @cached_property
    def batching_effect(self) -> float:
        """How far a logit may come out from the same one computed alone; measured on first use."""
        from zoo.engine.batching import batching_effect

        return batching_effect(self.session)

    def round_cache(self) -> None:
        """Keep keys and values in 8 bits from now on; see ``zoo.engine.int8_cache``.

        Raises:
            ZooError: the model's layers do not allow it.
        """
        package, threads = self.package, self.session.threads
        scales = find_scales(self.session, self.tokenizer)
        del self.session, self._cache  # weights are not held twice
        self.session = open_graph(package, lambda graph: Session(package.path, threads, graph, scales))
        self.load_seconds += self.session.load_seconds
        self._cache = self.session.new_cache()
        use_huge_pages(self.session, held_by(package.manifest), package.path / DATA_FILE)

    def guess_with(self, smaller: Engine | None) -> None:
        """Have a smaller model guess the tokens of all answers from now on; they stay the answers that they are.

        Args:
            smaller: opened over a package with the same tokens; None for no guesses.

        Raises:
            ZooError: it has another vocabulary, or another engine.
        """
        if smaller is None:
            self._smaller = self._draft = None
            return
        name, other = self.package.name, smaller.package.name
        if not isinstance(smaller, OrtEngine):
            raise ZooError(f"{other} cannot guess for {name}: its engine {smaller.name!r} computes no steps of text")
        mine, theirs = self.tokenizer, smaller.tokenizer
        if (mine is None) != (theirs is None) or (mine and theirs and not mine.has_tokens_of(theirs)):
            raise ZooError(f"{other} cannot guess for {name}: its tokenizer has other tokens; give a smaller sibling")
        if mine is None and self.vocab_size != smaller.vocab_size:
            sizes = f"{smaller.vocab_size} tokens, not {self.vocab_size}"
            raise ZooError(f"{other} cannot guess for {name}: its vocabulary has {sizes}")
        self._smaller = smaller
        self._draft = self.new_draft(1)

    def new_draft(self, slots: int) -> Draft | None:
        """Make what guesses for so many answers at once; None without a smaller model."""
        if self._smaller is None:
            return None
        from zoo.engine.draft import Draft

        cost = held_by(self._smaller.package.manifest) / held_by(self.package.manifest)
        return Draft(self._smaller.session, slots, cost, self.vocab_size, self.package.manifest.bits_per_weight)

    @property
    def token_bytes(self) -> int:
        """Bytes that one token takes in KV caches, a draft's too."""
        return self.session.token_bytes + (self._smaller.token_bytes if self._smaller is not None else 0)

    def settings(self) -> dict[str, Any]:
        """Tell with how many threads it computes."""
        return {"threads": self.session.threads}

    def queue(
        self,
        *,
        slots: int,
        waiting: int | None = None,
        prefix_cache_bytes: int | None = None,
        cache_bytes: int | None = None,
        lookup: bool = False,
    ) -> Scheduler:
        """Begin to take requests; see ``Scheduler``."""
        from zoo.engine.scheduler import Scheduler

        return Scheduler(
            self,
            slots=slots,
            waiting=waiting,
            prefix_cache_bytes=prefix_cache_bytes,
            lookup=lookup,
            cache_bytes=cache_bytes,
        )

    def stream(
        self,
        prompt: str | Sequence[int] | None = None,
        *,
        messages: Sequence[Message] | None = None,
        continued: bool = False,
        **options: Unpack[AnswerOptions],
    ) -> Stream:
        """Answer a prompt piece by piece; the arguments are those of ``generate``.

        Args:
            continued: take over what the last request computed of this prompt's beginning, as in a conversation.

        Returns:
            An iterator of pieces, whose ``generation`` holds all that came so far.
        """
        limits, sampling = read_options(options, self.stop_token_ids)
        self._check_ids([token for token, _ in sampling.logit_bias])
        ids = self._prompt_ids(prompt, messages)
        form = read_form(options)
        constraint = None if form is None else self.guide.follow(form)
        lookup = options.get("lookup", False)
        return self.answer(ids, limits, sampling, constraint=constraint, lookup=lookup, continued=continued)

    def answer(
        self,
        prompt_ids: Sequence[int],
        limits: Limits = Limits(),
        sampling: Sampling = Sampling(),
        *,
        constraint: Constraint | None = None,
        lookup: bool = False,
        continued: bool = False,
    ) -> Stream:
        """Answer token ids piece by piece.

        Args:
            prompt_ids: as ``check_prompt`` returns them.
            limits: when the answer ends; only the tokens that it names end it.
            sampling: how tokens are chosen.
            constraint: what the answer may be.
            lookup: guess tokens from the text so far.
            continued: take over what the last request computed of this prompt's beginning.
        """
        generation = Generation(list(prompt_ids))
        generation.timings.load_s = self.load_seconds
        draft = self._draft
        request = ActiveRequest(
            generation, limits, sampling, self.context_length, self.tokenizer, constraint=constraint,
            tie=self.batching_effect if lookup or draft is not None else 0.0, lookup=lookup,
            pace=None if draft is None else draft.pace(),
        )  # fmt: skip
        if not continued:
            # What a cache holds depends a little on how it came there, and the same request deserves the same answer.
            self._cache.keep(0)
        return Stream(generation, run_request(self.session, self._cache, request, draft))

    def logits(self, token_ids: Sequence[int], positions: int | Literal["all"] = "all") -> NDArray[np.float32]:
        """Compute the logits of a text's last positions, float32 (positions, vocab): one row a token.

        Args:
            positions: how many of the last, or all.

        Raises:
            ZooError: the text does not fit the context.
        """
        count = len(token_ids) if positions == "all" else min(positions, len(token_ids))
        result = np.empty((count, self.vocab_size), np.float32)
        at = 0
        for block in self.logit_blocks(token_ids, skip=len(token_ids) - count):
            result[at : at + len(block)] = block
            at += len(block)
        return result

    def logit_blocks(self, token_ids: Sequence[int], *, skip: int = 0) -> Iterator[NDArray[np.float32]]:
        """Compute the logits of a text block by block, so that memory stays bounded whatever its length.

        Args:
            skip: how many positions at the beginning need none.

        Yields:
            float32 (positions, vocab), in order, together one row a token; each is valid until the next.
        """
        ids = self._check_ids(token_ids)
        if len(ids) > self.longest_text:
            reason = self._reason("its context")
            raise ZooError(f"the text has {len(ids)} tokens; the model takes at most {self.longest_text}, {reason}")
        cache = self._cache
        cache.keep(0)
        if skip:
            self.session.prefill(cache, ids[:skip])
        yield from self.session.all_logits(cache, ids[skip:])


class Stream:
    """The pieces of an answer, one by one; ``generation`` holds all that came so far."""

    def __init__(self, generation: Generation, pieces: Generator[Piece, None, None]) -> None:
        self.generation = generation
        self._pieces = pieces

    def __iter__(self) -> Iterator[Piece]:
        return self._pieces

    def __next__(self) -> Piece:
        return next(self._pieces)

    def close(self) -> None:
        """Leave the answer as it is."""
        self._pieces.close()
