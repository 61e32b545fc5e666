"""The engine ``llama.cpp``: its own server over a package's GGUF file, from the PATH or out of the wheel xllamacpp.

Source: llama.cpp's ``tools/server/README.md`` (``/completion``).
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Generator, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from zoo import Ability, Limits, Sampling, ServerEngine, ServerProcess, TokenLogprob, ZooError, one_line

INSTALL = "pip install xllamacpp, or put llama-server on the PATH"
MINIMUM = 4400
"""The oldest build of llama-server that gives the tokens of an answer."""
MISSED = 8
"""Tokens asked for at once where the stream left some out."""
_WHOLE_CACHE = {"LLAMA_ARG_SWA_FULL": "1"}
"""Keeps keys and values that left a window. Without, llama.cpp answers a text wrong that follows another one."""
_WHEEL = Path(__file__).with_name("xllamacpp_server.py")


class LlamaCpp(ServerEngine):
    """A package of the target ``gguf``, opened by llama.cpp."""

    name = "llama.cpp"
    can: ClassVar[frozenset[Ability]] = frozenset({"batches", "logprobs", "logits"})
    spared: ClassVar[int] = 1

    def start(self, slots: int, context: int) -> ServerProcess:
        """Start the server with so many slots."""
        self._version, command = find_server()
        arguments = ["-m", str(self.package.path / "model.gguf"), "--host", "127.0.0.1", "--port", "{port}"]
        arguments += ["-np", str(slots), "-c", str(slots * context), "--no-warmup", "--poll", "0"]
        arguments += ["-t", str(self.threads)] if self.threads else []
        opens = self.package.path.name
        server = ServerProcess(
            self.name, [*command, *arguments], key="LLAMA_API_KEY", opens=opens, environment=_WHOLE_CACHE
        )
        server.version = self._version
        return server

    def settings(self) -> dict[str, Any]:
        """Tell which llama.cpp answers, and with how many threads."""
        return {"llama.cpp": self._version, "threads": self.threads or "as llama.cpp finds best"}

    def tokens(
        self, ids: list[int], limits: Limits, sampling: Sampling, logprobs: int | None
    ) -> Generator[tuple[int, TokenLogprob | None], None, bool]:
        """Stream an answer.

        The server sends no token whose text is half a character; where its count shows one missing, the next few are
        asked for in one piece, which holds all of them. Where end tokens do not end the answer, the server is asked to
        go on behind them: its own ``ignore_eos`` forbids to choose them.
        """
        body = _body(sampling, logprobs, self.context_length)
        ends = bool(limits.stop_token_ids & self.stop_token_ids)
        done: list[int] = []
        while len(done) < limits.max_new_tokens:
            rest, before, missed = limits.max_new_tokens - len(done), len(done), False
            asked = {**body, "prompt": [*ids, *done], "n_predict": rest, "cache_prompt": self.prefixes or bool(done)}
            for event in self.running().events("/completion", {**asked, "stream": True}):
                if ends and event.get("stop") and event.get("stop_type") != "limit":
                    return True
                chosen = self._chosen(event, logprobs)
                missed = bool(event.get("tokens_predicted", 0) - (len(done) - before) - len(chosen))
                if missed:
                    break
                for token, logprob in chosen:
                    done.append(token)
                    yield token, logprob
            if missed:
                few = {
                    "prompt": [*ids, *done],
                    "n_predict": min(limits.max_new_tokens - len(done), MISSED),
                    "cache_prompt": True,
                }
                whole = self.running().ask("/completion", {**asked, **few})
                for token, _ in self._chosen(whole, None):
                    told = None if logprobs is None else self._token_logprob([*ids, *done], token, logprobs)
                    done.append(token)
                    yield token, told
                if ends and whole.get("stop_type") != "limit":
                    return True
            elif len(done) == before:
                break
        return False

    def row(self, ids: list[int]) -> Iterable[tuple[int, float]]:
        """Ask for the probabilities of one token.

        It is made a whole character: of half a one the server gives none. The probabilities are the model's own.
        """
        bias = [] if self.tokenizer is None else [[self.tokenizer.encode("a", special=False)[-1], 1e6]]
        asked = {"prompt": ids, "n_predict": 1, "temperature": 0, "n_probs": self.vocab_size, "logit_bias": bias}
        (told,) = self.running().ask("/completion", {**asked, "cache_prompt": True})["completion_probabilities"]
        return ((one["id"], one["logprob"]) for one in told["top_logprobs"])

    def _token_logprob(self, ids: list[int], token: int, top: int) -> TokenLogprob:
        row = self.logits(ids, 1)[0]
        likely = (-row).argsort(kind="stable")[:top]
        return TokenLogprob(token, float(row[token]), tuple((int(one), float(row[one])) for one in likely))

    def _chosen(self, event: Mapping[str, Any], logprobs: int | None) -> list[tuple[int, TokenLogprob | None]]:
        """Read the tokens of an event."""
        try:
            if logprobs is None:
                return [(int(token), None) for token in event["tokens"]]
            return [_logprob(told, logprobs) for told in event.get("completion_probabilities", ())]
        except (KeyError, ValueError, TypeError) as error:
            raise self.running().misread(error) from None


def _logprob(told: Mapping[str, Any], logprobs: int) -> tuple[int, TokenLogprob]:
    top = tuple((int(one["id"]), _finite(one["logprob"])) for one in told["top_logprobs"][:logprobs])
    return told["id"], TokenLogprob(told["id"], _finite(told["logprob"]), top)


def _finite(value: float) -> float:
    return max(float(value), -1e30) if not math.isnan(value) else -1e30


def _body(sampling: Sampling, logprobs: int | None, context: int) -> dict[str, Any]:
    """Say how tokens are chosen; the server's own defaults sample otherwise."""
    body: dict[str, Any] = {
        "temperature": sampling.temperature,
        "samplers": ["penalties", "top_k", "top_p", "min_p", "temperature"],
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "min_p": sampling.min_p,
        "repeat_penalty": sampling.repetition_penalty,
        "repeat_last_n": context,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "logit_bias": [[token, bias] for token, bias in sampling.logit_bias],
        "return_tokens": True,
    }
    if sampling.seed is not None:
        body["seed"] = sampling.seed % 2**32
    if logprobs is not None:
        body["n_probs"] = max(1, logprobs)
    return body


def find_server() -> tuple[str, list[str]]:
    """Find llama.cpp's server.

    Returns:
        Its version, and the beginning of its command.

    Raises:
        ZooError: it is not installed, does not run, or is too old.
    """
    program = shutil.which("llama-server")
    if program is None:
        if importlib.util.find_spec("xllamacpp") is None:
            raise ZooError(f"llama.cpp is not installed; install it with: {INSTALL}")
        return f"xllamacpp {importlib.metadata.version('xllamacpp')}", [sys.executable, str(_WHEEL)]
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30, errors="replace")
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ZooError(f"{program} does not run: {one_line(str(error))}") from None
    told = done.stdout + done.stderr
    # Builds were counted until llama.cpp got releases, "version: 0.5.0 (build 7000, commit …)".
    build = re.search(r"version: (\d+)(\.\S+)?", told)
    if done.returncode or build is None:
        raise ZooError(f"{program} does not say which version it is: {one_line(told.strip()[-200:])}")
    if build[2]:
        return f"version {build[1]}{build[2]}", [program]
    if int(build[1]) < MINIMUM:
        raise ZooError(f"{program} is build {build[1]} of llama.cpp; this zoo needs {MINIMUM} or later: {INSTALL}")
    return f"build {build[1]}", [program]
