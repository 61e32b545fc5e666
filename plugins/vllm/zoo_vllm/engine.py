"""The engine ``vllm``: vLLM's own server over a package, as a program beside this one.

Source: vLLM's OpenAI-compatible server, ``/v1/completions`` with its extra parameters.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Generator, Iterable, Mapping
from typing import Any, ClassVar

from zoo import Ability, Limits, Sampling, ServerEngine, ServerProcess, TokenLogprob, ZooError
from zoo_vllm.options import INSTALL, KEY, VllmOptions

COMMAND = "ZOO_VLLM"
"""The variable that names another command than ``vllm serve``; what it takes is ``--model`` and the same options."""
MINIMUM = (0, 11)
"""The oldest version that gives the tokens of an answer."""
CACHE = "VLLM_CPU_KVCACHE_SPACE"
_NAME = "package"


class VllmEngine(ServerEngine):
    """A package of the target ``vllm``, served by vLLM."""

    name = "vllm"
    can: ClassVar[frozenset[Ability]] = frozenset({"batches", "logprobs", "logits"})
    spared: ClassVar[int] = 1

    def start(self, slots: int, context: int) -> ServerProcess:
        """Start the server; on CPUs it keeps keys and values in a memory that it is told of."""
        path, options = self.package.path, VllmOptions.model_validate(self.package.manifest.recipe.target.options)
        context = min(context, options.max_model_len or context)
        argv = [*_command(str(path)), "--served-model-name", _NAME, "--host", "127.0.0.1", "--port", "{port}"]
        argv += [*options.model_copy(update={"max_model_len": context}).arguments(), "--max-logprobs", "-1"]
        argv += ["--max-num-seqs", str(slots), *([] if self.prefixes else ["--no-enable-prefix-caching"])]
        environment = {} if CACHE in os.environ else {CACHE: str(1 + (slots * context * self.token_bytes >> 30))}
        server = ServerProcess(self.name, argv, key=KEY, opens=path.name, environment=environment)
        told = server.ask("/version")
        server.version = self._version = str(told.get("version") if isinstance(told, dict) else told)
        if (numbers := re.match(r"(\d+)\.(\d+)", self._version)) is None or tuple(map(int, numbers.groups())) < MINIMUM:
            server.close()
            needed = ".".join(map(str, MINIMUM))
            raise ZooError(f"vllm is version {self._version}; this zoo needs {needed} or later: {INSTALL}")
        return server

    def settings(self) -> dict[str, Any]:
        """Tell which vLLM answers."""
        return {"vllm": self._version}

    def tokens(
        self, ids: list[int], limits: Limits, sampling: Sampling, logprobs: int | None
    ) -> Generator[tuple[int, TokenLogprob | None], None, bool]:
        """Stream an answer; what ends it is told by this side, so the model's own end is one among others."""
        asked = _body(ids, sampling) | {"max_tokens": limits.max_new_tokens, "stream": True}
        if logprobs is not None:
            asked |= {"logprobs": max(1, logprobs)}
        server = self.running()
        for event in server.events("/v1/completions", asked):
            try:
                chosen = [pair for choice in event["choices"] for pair in _chosen(choice, logprobs)]
            except (KeyError, ValueError, TypeError, IndexError) as error:
                raise server.misread(error) from None
            yield from chosen
        return False

    def row(self, ids: list[int]) -> Iterable[tuple[int, float]]:
        """Ask for the probabilities of one token."""
        asked = _body(ids, Sampling()) | {"max_tokens": 1, "logprobs": self.vocab_size}
        (choice,) = self.running().ask("/v1/completions", asked)["choices"]
        return _named(choice["logprobs"]["top_logprobs"][0]).items()


def _chosen(choice: Mapping[str, Any], logprobs: int | None) -> Iterable[tuple[int, TokenLogprob | None]]:
    tokens = choice["token_ids"] or ()
    for at, token in enumerate(tokens):
        if logprobs is None:
            yield token, None
            continue
        told = choice["logprobs"]
        top = sorted(_named(told["top_logprobs"][at]).items(), key=lambda one: -one[1])[:logprobs]
        yield token, TokenLogprob(token, float(told["token_logprobs"][at]), tuple(top))


def _named(told: Mapping[str, float]) -> dict[int, float]:
    return {int(name.removeprefix("token_id:")): float(logprob) for name, logprob in told.items()}


def _body(ids: list[int], sampling: Sampling) -> dict[str, Any]:
    return {
        "model": _NAME,
        "prompt": ids,
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "min_p": sampling.min_p,
        "repetition_penalty": sampling.repetition_penalty,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "logit_bias": {str(token): bias for token, bias in sampling.logit_bias},
        "seed": None if sampling.seed is None else sampling.seed % 2**63,
        "ignore_eos": True,
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
    }


def _command(package: str) -> list[str]:
    """Say how vLLM's server is started.

    Raises:
        ZooError: it is not installed.
    """
    given = os.environ.get(COMMAND)
    if given:
        return [*shlex.split(given), "--model", package]
    program = shutil.which("vllm")
    if program is None:
        raise ZooError(
            f"vllm is not installed; install it with: {INSTALL}. Where another command starts it, {COMMAND} names that"
        )
    return [program, "serve", package]
