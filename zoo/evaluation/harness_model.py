"""The engine as lm-evaluation-harness knows a model. Importing this module imports the harness."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from zoo.engine.sampling import Sampling
from zoo.errors import ZooError
from zoo.evaluation.completion import Prompt
from zoo.evaluation.journal import Journal, request_key
from zoo.evaluation.likelihood import Continuation, Likelihood
from zoo.evaluation.prompting import Prompting
from zoo.evaluation.scorer import Scorer

MAX_NEW_TOKENS = 256
"""Of an answer, where a task does not say; the harness' own default."""


@dataclass(frozen=True, slots=True)
class Step:
    """How far a run is."""

    what: str
    done: int
    total: int
    """Requests of this kind."""
    eta: float | None
    """Seconds that the rest of them will take; None before anything is known."""


Progress = Callable[[Step], None]


class EngineModel(TemplateLM):  # type: ignore[misc]  # the harness has no types
    """A package, through whoever scores for it.

    Attributes:
        cut_short: task → the documents whose text was longer than the context and lost its beginning.
    """

    def __init__(
        self,
        scorer: Scorer,
        prompting: Prompting,
        journal: Journal,
        *,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> None:
        super().__init__()
        self._scorer = scorer
        self._prompting = prompting
        self._journal = journal
        self._seed = seed
        self._progress = progress
        self.cut_short: dict[str, set[int]] = defaultdict(set)

    @property
    def max_length(self) -> int:
        """Tokens that a text may have."""
        return self._prompting.context_length

    @property
    def eot_token_id(self) -> int:
        """What ends a text."""
        return self._prompting.eos_id

    @property
    def prefix_token_id(self) -> int:
        """What stands before a text that has no context."""
        return self._prompting.prefix_id

    @property
    def tokenizer_name(self) -> str:
        """A name for the harness' cache of requests, which is not used."""
        return "zoo"

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Turn a text into ids."""
        return self._prompting.encode(string, add_special_tokens)

    def apply_chat_template(self, chat_history: Sequence[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Write a conversation as a prompt; a template that refuses a system message gets none, as the harness does."""
        try:
            return self._prompting.chat(chat_history, ask=add_generation_prompt)
        except ZooError:
            without = [message for message in chat_history if message["role"] != "system"]
            if len(without) == len(chat_history):
                raise
            return self._prompting.chat(without, ask=add_generation_prompt)

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """Give the template that conversations are written with."""
        return self._prompting.chat_template if chat_template else None

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Score continuations."""
        pairs = []
        for request in requests:
            context, continuation = request.args
            if context:
                before, after = self._encode_pair(context, continuation)
            else:
                before, after = [self.prefix_token_id], self.tok_encode(continuation, add_special_tokens=False)
                if after[:1] == before:
                    before, after = after[:1], after[1:]
            if not after:
                raise ZooError(
                    f"task {request.task_name}, document {request.doc_id}: an option of no tokens has no likelihood"
                )
            pairs.append(self._fit(request, before, after))
        answers = self._answer("likelihood", pairs, "options")
        return [(answer.logprob, answer.greedy) for answer in answers]

    def _loglikelihood_tokens(self, requests: Any, **_: Any) -> list[tuple[float, bool]]:
        pairs = [Continuation(tuple(context), tuple(ids)) for _, context, ids in requests]
        return [(answer.logprob, answer.greedy) for answer in self._answer("likelihood", pairs, "options")]

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Score whole texts in windows of the context, each token once."""
        windows, owners = [], []
        for index, one in enumerate(requests):
            ids = self.tok_encode(one.args[0])
            for pair in get_rolling_token_windows(ids, self.prefix_token_id, self.max_length, 1):
                context, part = make_disjoint_window(pair)
                windows.append(Continuation(tuple(context), tuple(part)))
                owners.append(index)
        totals = [0.0] * len(requests)
        for owner, one in zip(owners, self._answer("likelihood", windows, "windows"), strict=True):
            totals[owner] += one.logprob
        return totals

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Write answers."""
        return list(self._answer("completion", [self._prompt(request) for request in requests], "answers"))

    def _prompt(self, one: Any) -> Prompt:
        context, settings = one.args
        known = normalize_gen_kwargs(settings, MAX_NEW_TOKENS)
        until = handle_stop_sequences(known.get("until"), eos=self._prompting.eos_text or None)
        # Prompt and answer share the context; a task that asks for more than half of it gets half.
        answer = min(int(known["max_gen_toks"]), max(1, self.max_length // 2))
        ids = self.tok_encode(context) or [self.prefix_token_id]
        if len(ids) + answer > self.max_length:
            self.cut_short[one.task_name].add(one.doc_id)
            ids = ids[-(self.max_length - answer) :]
        sampling = Sampling()
        if known.get("do_sample"):
            sampling = Sampling(
                float(known.get("temperature", 1.0)), int(known.get("top_k", 0) or 0), float(known.get("top_p", 1.0)),
                seed=self._seed + one.doc_id,
            )  # fmt: skip
        return Prompt(tuple(ids), tuple(until), answer, sampling)

    def _fit(self, one: Any, context: list[int], ids: list[int]) -> Continuation:
        """Cut a text's beginning where it is longer than the context, as the harness does, and count it."""
        room = self.max_length + 1 - len(ids)  # the last token is predicted, never read
        if room < 1:
            raise ZooError(
                f"task {one.task_name}, document {one.doc_id}: an option has {len(ids)} tokens, more than the context "
                f"of {self.max_length}"
            )
        if len(context) > room:
            self.cut_short[one.task_name].add(one.doc_id)
            context = context[-room:]
        return Continuation(tuple(context), tuple(ids))

    def _answer(self, kind: str, requests: Sequence[Any], what: str) -> list[Any]:
        """Answer requests: from the journal what it knows, each different one of the others once."""
        keys = [request_key(kind, _plain(request)) for request in requests]
        answers = {key: _from_json(kind, known) for key in keys if (known := self._journal.known(key)) is not None}
        open_keys = [key for key in dict.fromkeys(keys) if key not in answers]
        by_key = dict(zip(keys, requests, strict=True))
        wanted = [by_key[key] for key in open_keys]
        compute = self._scorer.likelihoods if kind == "likelihood" else self._scorer.completions
        sizes = [_size(request) for request in wanted]
        clock = _Clock(sum(sizes))
        coming: Iterator[tuple[int, Any]] = compute(wanted) if wanted else iter(())
        for index, answer in coming:
            key = open_keys[index]
            answers[key] = answer
            self._journal.add(key, [answer.logprob, answer.greedy] if kind == "likelihood" else answer)
            clock.done += sizes[index]
            if self._progress is not None:
                self._progress(Step(what, len(answers), len(by_key), clock.eta))
        return [answers[key] for key in keys]


class _Clock:
    """Estimates the time that is left from the share of the work that is done."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self._started = total, 0, time.monotonic()

    @property
    def eta(self) -> float | None:
        elapsed = time.monotonic() - self._started
        return elapsed * (self.total - self.done) / self.done if self.done and elapsed > 1 else None


def _size(request: Continuation | Prompt) -> int:
    """Weigh a request for the estimate."""
    if isinstance(request, Continuation):
        return len(request.ids) + len(request.context) // 4  # other options share most of it
    return len(request.ids) // 4 + request.max_new_tokens


def _plain(request: Continuation | Prompt) -> list[Any]:
    if isinstance(request, Continuation):
        return [request.context, request.ids]
    one = request.sampling
    how = [one.temperature, one.top_k, one.top_p, one.seed]
    return [request.ids, request.until, request.max_new_tokens, how]


def _from_json(kind: str, known: Any) -> Any:
    return Likelihood(float(known[0]), bool(known[1])) if kind == "likelihood" else str(known)
