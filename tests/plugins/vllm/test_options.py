"""What a declaration may tell vLLM, and what only the user may."""

from __future__ import annotations

import argparse

import pytest
from pydantic import ValidationError
from zoo_vastai.options import LlmdeployOptions, VastgenxOptions
from zoo_vllm.options import DECLARABLE, OWN, VllmOptions

DECLARED = {"declared": frozenset({"extra", "host"})}


def parser() -> argparse.ArgumentParser:
    """A parser that takes any beginning of a name for the name, as vLLM's does."""
    made = argparse.ArgumentParser()
    for name in (*OWN, "trust-remote-code", "middleware", "load-format", "chat-template"):
        made.add_argument(f"--{name}", default="untouched", nargs="?")
    return made


SMUGGLED = [
    "host",
    "hos",
    "h",
    "--host",
    "api-key",
    "api_key",
    "api",
    "ap",
    "port",
    "por",
    "p",
    "served-model-name",
    "served",
    "model",
    "tensor-parallel",
    "t",
    "trust-remote-code",
    "trust_remote_code",
    "trust",
    "trust-r",
    "middleware",
    "mid",
    "allowed-origins",
    "ssl-keyfile",
    "root-path",
    "load-format",
    "download-dir",
    "tokenizer",
    "hf-overrides",
    "chat-template",
    "enable-lora",
    "lora-modules",
    "tool-parser-plugin",
    "reasoning-parser-plugin",
    "logits-processors",
    "worker-cls",
    "speculative-config",
    "config",
    "code-revision",
    "allowed-local-media-path",
    "seed=1",
    "SEED",
]


@pytest.mark.parametrize("name", [*SMUGGLED, "", "enforce-eager ", "seed\n--host"])
def test_a_declaration_cannot_smuggle_an_argument(name) -> None:
    with pytest.raises(ValidationError, match="extra"):
        VllmOptions.model_validate({"extra": {name: "0.0.0.0"}}, context=DECLARED)


@pytest.mark.parametrize("name", sorted(DECLARABLE))
def test_what_it_may_say_reaches_no_argument_of_ours(name) -> None:
    options = VllmOptions.model_validate({"extra": {name: "--host=0.0.0.0"}}, context=DECLARED)
    argv = list(options.arguments())
    assert argv[-1] == f"--{name}=--host=0.0.0.0"
    made = parser()
    for own in (*OWN, "trust-remote-code", "middleware"):
        made.set_defaults(**{own.replace("-", "_"): "untouched"})
    known, _ = made.parse_known_args([argv[-1]])
    assert set(vars(known).values()) == {"untouched"}


def test_the_user_may_say_more_but_not_what_the_target_says() -> None:
    options = VllmOptions.model_validate({"extra": {"trust-remote-code": True, "load-format": "dummy"}})
    assert list(options.arguments())[-2:] == ["--trust-remote-code", "--load-format=dummy"]
    for name in ("host", "hos", "api_key", "serv"):
        with pytest.raises(ValidationError, match="has an option of its own"):
            VllmOptions.model_validate({"extra": {name: "x"}})


@pytest.mark.parametrize("options", [VastgenxOptions, LlmdeployOptions])
def test_a_declaration_opens_no_port_to_others(options) -> None:
    for host in ("0.0.0.0", "::", "example.org", ""):
        with pytest.raises(ValidationError, match="host"):
            options.model_validate({"host": host}, context=DECLARED)
    assert options.model_validate({"host": "0.0.0.0"}, context={"declared": frozenset()}).host == "0.0.0.0"
    for host in ("-evil", "a b", "$(id)", "a\n"):
        with pytest.raises(ValidationError, match="host"):
            options.model_validate({"host": host})
    with pytest.raises(ValidationError, match="compiled"):
        options.model_validate({"compiled": "--trust-remote-code"})
