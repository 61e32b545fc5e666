"""The engine over an encoder's package: texts to vectors, or pairs of texts to scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from zoo.contracts.engine import OWN_ENGINE, Ability, Engine
from zoo.embedding.modules import read_modules
from zoo.embedding.pooling import normalized, pool
from zoo.embedding.queue import TextQueue
from zoo.embedding.results import Embeddings, Ranked
from zoo.embedding.session import LOGITS, TextSession
from zoo.embedding.tokens import TextEncoder, TextTokens
from zoo.engine.huge_pages import use_huge_pages
from zoo.engine.machine import give_back_memory
from zoo.engine.prepack import open_graph
from zoo.engine.text import Tokenizer
from zoo.errors import UsageError, ZooError, unknown
from zoo.package.chat_defaults import ChatDefaults
from zoo.package.folder import Package
from zoo.package.running import held_by
from zoo.sources.jsonfile import parse_object
from zoo.targets.ort.placement import DATA_FILE

_ACTIVATIONS = {"Sigmoid": True, "Identity": False}


class EncoderEngine(Engine):
    """An encoder's package opened over ONNX Runtime in this process; its methods are for any thread.

    Attributes:
        modules: how hidden states become vectors.
        dimensions: values of a vector; of a classifier, its labels.
        labels: a classifier's labels by name; empty for an encoder that embeds.
    """

    stop_token_ids: frozenset[int] = frozenset()
    special_ids: frozenset[int] = frozenset()
    chat_templates: Mapping[str, str] = MappingProxyType({})
    chat_template = None
    chat_defaults = ChatDefaults()

    def __init__(self, package: Package, threads: int | None = None) -> None:
        self.name, self.package = OWN_ENGINE, package
        arch = package.manifest.recipe.architecture
        self.modules = read_modules(package.read, package.name)
        self.session = open_graph(package, lambda graph: TextSession(graph, package.name, threads))
        self.load_seconds, self.vocab_size = self.session.load_seconds, arch.vocab_size
        self.context_length = min(self.modules.longest or 2**31, arch.context_length)
        self.tokenizer = Tokenizer(package.path) if "tokenizer.json" in package.manifest.files else None
        self._encoder: TextEncoder | None = None
        if self.tokenizer is not None:
            lower = self.modules.lowercase
            self._encoder = TextEncoder(package, self.context_length, self.vocab_size, lowercase=lower)
        config = parse_object(package.read("config.json") or b"{}", f"{package.name}/config.json")
        scores = self.session.result == LOGITS
        self.labels = _labels(config, self.session.width) if scores else ()
        self._sigmoid = _sigmoid(config, len(self.labels))
        self.dimensions = self.session.width * (1 if scores else len(self.modules.pooling))
        does: Ability = "scores" if scores else "embeddings"
        self.abilities = frozenset({does, "batches", "text"} if self._encoder is not None else {does, "batches"})

    @classmethod
    def open(cls, package: Package, *, threads: int | None = None) -> EncoderEngine:
        """Open an encoder's package.

        Args:
            package: the folder and its manifest, checked.
            threads: workers; by default the physical cores that this process may use.

        Raises:
            ZooError: a file asks for what is not supported, or onnxruntime cannot load the graph.
        """
        opened = cls(package, threads)
        give_back_memory()
        use_huge_pages(opened.session, held_by(package.manifest), package.path / DATA_FILE)
        return opened

    def settings(self) -> Mapping[str, Any]:
        """Tell with how many threads it computes."""
        return {"threads": self.session.threads}

    @property
    def longest_prompt(self) -> int:
        """Tokens of a text at most."""
        return self.context_length

    @property
    def guide(self) -> NoReturn:
        """Refuse: nothing is generated."""
        self._refuse()

    def queue(self, *, waiting: int | None = None, **_: Any) -> TextQueue:
        """Begin to take the texts of many requests; see ``TextQueue``."""
        return TextQueue(self.scores if self.labels else self.vectors, self.context_length, waiting)

    def encode(self, text: str) -> list[int]:
        """Turn a text into ids, special tokens around it."""
        return list(self._tokens.texts([text], truncate=False)[0].ids)

    def encode_chat(self, messages: Sequence[Mapping[str, Any]]) -> NoReturn:
        """Refuse: nothing is generated."""
        self._refuse()

    def stream(self, prompt: Any = None, **options: Any) -> NoReturn:
        """Refuse: nothing is generated."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        does, use = ("scores texts", "rerank") if self.labels else ("embeds texts", "embed")
        raise ZooError(f"{self.package.name} {does} and generates nothing; use zoo {use}")

    @property
    def _tokens(self) -> TextEncoder:
        if self._encoder is None:
            raise ZooError(f"{self.package.name} has no tokenizer, so it takes no text")
        return self._encoder

    def prepare(self, texts: Sequence[str], *, prompt: str | None = None, truncate: bool = False) -> list[TextTokens]:
        """Encode texts for ``vectors``.

        Args:
            prompt: the name of what is put before each text; None for the model's usual one, "" for nothing.
            truncate: cut what is longer than the model takes.

        Raises:
            UsageError: there is no such prompt, or a text is empty.
            ZooError: a text is too long, or the package scores texts.
        """
        if self.labels:
            self._refuse()
        name = self.modules.default_prompt if prompt is None else prompt
        if name and name not in self.modules.prompts:
            raise unknown("prompt", name, self.modules.prompts)
        return self._tokens.texts(texts, truncate=truncate, before=self.modules.prompts[name] if name else "")

    def vectors(self, texts: Sequence[TextTokens]) -> NDArray[np.float32]:
        """Compute the vectors of encoded texts, (texts, dimensions); neither cut nor normalized."""
        if not texts:
            return np.zeros((0, self.dimensions), np.float32)
        return np.stack(self.session.run(texts, lambda hidden: pool(hidden, self.modules.pooling)))

    def finish(self, vectors: NDArray[np.float32], dimensions: int | None = None) -> NDArray[np.float32]:
        """Cut vectors to their first ``dimensions`` values, and normalize them where the model does.

        Raises:
            UsageError: they have no so many.
        """
        if dimensions is not None and not 1 <= dimensions <= self.dimensions:
            raise UsageError(f"dimensions must be 1 to {self.dimensions}, not {dimensions}")
        vectors = vectors[:, :dimensions]
        return normalized(vectors) if self.modules.normalize else vectors

    def embed(
        self,
        texts: str | Sequence[str],
        *,
        prompt: str | None = None,
        dimensions: int | None = None,
        truncate: bool = False,
    ) -> Embeddings:
        """Turn texts into vectors.

        Args:
            texts: one or several; none may be empty.
            prompt: the name of what is put before each, as ``query``; None for the model's usual one, "" for nothing.
            dimensions: how many of the first values are kept.
            truncate: cut what is longer than the model takes; otherwise that is an error.

        Raises:
            UsageError: a text is empty, or an option out of range.
            ZooError: a text is too long, or the package scores texts.
        """
        self.finish(np.zeros((0, self.dimensions), np.float32), dimensions)
        tokens = self.prepare([texts] if isinstance(texts, str) else texts, prompt=prompt, truncate=truncate)
        vectors = self.finish(self.vectors(tokens), dimensions)
        return Embeddings(vectors, tuple(map(len, tokens)), tuple(token.truncated for token in tokens))

    def prepare_pairs(self, query: str, documents: Sequence[str], *, truncate: bool = False) -> list[TextTokens]:
        """Encode a query beside each of several documents for ``scores``.

        Raises:
            UsageError: a text is empty.
            ZooError: a pair is too long, or the package embeds texts or has several labels.
        """
        self.require_one_label()
        return self._tokens.pairs(query, documents, truncate=truncate)

    def require_one_label(self) -> None:
        """Refuse to rank where nothing is one score of a pair.

        Raises:
            ZooError: the package embeds texts, or its classifier has several labels.
        """
        if not self.labels:
            self._refuse()
        if len(self.labels) > 1:
            raise ZooError(
                f"{self.package.name} is a classifier of {len(self.labels)} labels "
                f"({', '.join(self.labels[:3])} …); ranking takes one with a single label"
            )

    def logits(self, texts: Sequence[TextTokens]) -> NDArray[np.float32]:
        """Compute a classifier's logits of encoded texts or pairs, (texts, labels)."""
        if not texts:
            return np.zeros((0, len(self.labels)), np.float32)
        return np.stack(self.session.run(texts, lambda logits: logits.copy()))

    def scores(self, texts: Sequence[TextTokens]) -> NDArray[np.float32]:
        """Compute how well encoded pairs go together, (pairs,): 0 to 1, or the logit where the model says so."""
        logits = self.logits(texts)[:, 0]
        return np.asarray(1 / (1 + np.exp(-logits)), np.float32) if self._sigmoid else logits

    def rank(self, query: str, documents: Sequence[str], *, truncate: bool = False) -> list[Ranked]:
        """Score documents beside a query; the best comes first.

        Args:
            truncate: cut documents that are too long beside the query; otherwise that is an error.

        Raises:
            UsageError: a text is empty.
            ZooError: a pair is too long, or the package does not rank.
        """
        pairs = self.prepare_pairs(query, documents, truncate=truncate)
        return ranked(self.scores(pairs), pairs)


def ranked(scores: NDArray[np.float32], pairs: Sequence[TextTokens]) -> list[Ranked]:
    """Order documents by their scores, the best first; of equal ones the earlier."""
    order = np.argsort(-scores, kind="stable")
    return [Ranked(int(index), float(scores[index]), len(pairs[index]), pairs[index].truncated) for index in order]


def _labels(config: Mapping[str, Any], count: int) -> tuple[str, ...]:
    """Name a classifier's labels, by their numbers where ``id2label`` does not."""
    names = config.get("id2label")
    names = names if isinstance(names, dict) else {}
    return tuple(str(names.get(str(index), f"LABEL_{index}"))[:200] for index in range(count))


def _sigmoid(config: Mapping[str, Any], labels: int) -> bool:
    """Tell whether a score goes through a sigmoid, as sentence-transformers' ``CrossEncoder`` decides it.

    Raises:
        ZooError: the configuration names another function.
    """
    stated = config.get("sentence_transformers")
    stated = stated.get("activation_fn") if isinstance(stated, dict) else None
    stated = stated or config.get("sbert_ce_default_activation_function")
    if stated is None:
        return labels == 1
    name = str(stated).rsplit(".", 1)[-1]
    if name not in _ACTIVATIONS:
        raise ZooError(f"config.json: activation {name[:60]!r} of a classifier is not supported; known: {_ACTIVATIONS}")
    return _ACTIVATIONS[name]
