"""Real clients against a real ``zoo serve``: ``python -m benchmarks.clients PACKAGE --zoo PATH``.

It runs in an environment that has openai, llm, litellm and langchain-openai, and need not have zoo: ``--zoo`` names
its command. PACKAGE's chat template must take tools. Prints what each client reached, with versions, as JSON; exits
with 1 where one failed. A call that a model may make by itself (``auto``) is reported as made or not: that is its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12}, "legs": {"type": "integer", "minimum": 0, "maximum": 100}
    },
    "required": ["name", "legs"],
    "additionalProperties": False,
}  # fmt: skip
TOOL = {"type": "function", "function": {"name": "weather", "description": "Weather of a city.", "parameters": {
    "type": "object", "properties": {"city": {"type": "string", "maxLength": 12}}, "required": ["city"],
    "additionalProperties": False}}}  # fmt: skip
ASK = "Use a tool to say how the weather is in Bern."


def with_openai(url: str, model: str) -> dict[str, Any]:
    """Parse an answer, go through the loop of tools, and ask for responses."""
    import openai
    from pydantic import BaseModel, ConfigDict

    class Pet(BaseModel):
        model_config = ConfigDict(extra="forbid")
        kind: Literal["dog", "cat"]
        legs: int

    client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
    asked: list[Any] = [{"role": "user", "content": ASK}]
    parsed = client.chat.completions.parse(model=model, messages=asked, response_format=Pet, max_tokens=100)
    required: Any = {"model": model, "tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False}
    first = client.chat.completions.create(messages=asked, max_tokens=100, **required).choices[0]
    (call,) = first.message.tool_calls or []
    result = {"role": "tool", "tool_call_id": call.id, "content": '{"degrees": 21}'}
    last = client.chat.completions.create(
        model=model,
        messages=[*asked, first.message, result],
        tools=[TOOL],
        max_tokens=40,  # type: ignore[list-item]
    )
    response = client.responses.create(model=model, input=ASK, max_output_tokens=30)
    flat: Any = {"type": "function", **TOOL["function"]}  # type: ignore[dict-item]
    with client.responses.stream(
        model=model, input=ASK, tools=[flat], tool_choice="required", max_output_tokens=100
    ) as stream:
        streamed = stream.get_final_response()
    return {
        "parse": repr(parsed.choices[0].message.parsed), "call": call.function.arguments, "finish": first.finish_reason,
        "after the result": last.choices[0].message.content, "responses": response.output_text,
        "responses, streamed call": streamed.output[-1].arguments,  # type: ignore[union-attr]
    }  # fmt: skip


def with_llm(url: str, model: str) -> dict[str, Any]:
    """Ask by ``llm --schema`` and ``llm -T``."""
    with tempfile.TemporaryDirectory() as room:
        described = {
            "model_id": "zoo",
            "model_name": model,
            "api_base": url,
            "supports_schema": True,
            "supports_tools": True,
        }
        (Path(room) / "extra-openai-models.yaml").write_text(json.dumps([described]))
        environment = {**os.environ, "LLM_USER_PATH": room, "OPENAI_API_KEY": "none"}

        def llm(*args: str) -> str:
            command = [sys.executable, "-m", "llm", *args]
            done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
            if done.returncode:
                raise RuntimeError(done.stderr[-500:])
            return done.stdout.strip()

        pet = json.loads(llm("-m", "zoo", "--schema", json.dumps(SCHEMA), "Name an animal.", "-o", "max_tokens", "200"))
        assert set(pet) == {"name", "legs"}
        tool = llm("-m", "zoo", "-T", "llm_version", "--td", "Which version of llm is this? Call llm_version.",
                   "-o", "max_tokens", "80")  # fmt: skip
        logged = json.loads(llm("logs", "-n", "1", "--json"))
        return {"--schema": pet, "-T": tool, "-T, calls made": len(logged[0].get("tool_calls") or [])}


def with_langchain(url: str, model: str) -> dict[str, Any]:
    """Ask by ``with_structured_output`` and ``bind_tools``."""
    from langchain_openai import ChatOpenAI
    from pydantic import BaseModel, Field

    class Animal(BaseModel):
        """An animal."""

        name: str = Field(max_length=12)
        legs: int = Field(ge=0, le=100)

    chat = ChatOpenAI(model=model, base_url=url, api_key="none", max_retries=0, max_tokens=200)  # type: ignore[arg-type]
    found: dict[str, Any] = {}
    for method in ("json_schema", "function_calling", "json_mode"):
        if method == "json_mode":
            bound = chat.with_structured_output(None, method=method, include_raw=True)
        else:
            bound = chat.with_structured_output(Animal, method=method)
        answer: Any = bound.invoke("Name an animal and how many legs it has, in JSON.")
        found[f"with_structured_output({method})"] = repr(answer if method != "json_mode" else answer["raw"].content)
    answer = chat.bind_tools([TOOL], tool_choice="any").invoke(ASK)
    found["bind_tools"] = answer.tool_calls
    assert answer.tool_calls
    whole: Any = None
    for chunk in chat.bind_tools([TOOL], tool_choice="weather").stream(ASK):
        whole = chunk if whole is None else whole + chunk
    assert whole.tool_calls[0]["name"] == "weather"
    found["bind_tools, streamed"] = whole.tool_calls
    return found


def with_litellm(url: str, model: str) -> dict[str, Any]:
    """Ask for text, a schema, tools and a stream."""
    import litellm

    common: dict[str, Any] = {"model": f"openai/{model}", "api_base": url, "api_key": "none", "max_tokens": 100}
    asked = [{"role": "user", "content": ASK}]
    form = {"type": "json_schema", "json_schema": {"name": "pet", "schema": SCHEMA, "strict": True}}
    text = litellm.completion(messages=asked, **common)
    pet = json.loads(litellm.completion(messages=asked, response_format=form, **common).choices[0].message.content)
    called = litellm.completion(messages=asked, tools=[TOOL], tool_choice="required", **common).choices[0].message
    again = [*asked, called, {"role": "tool", "tool_call_id": called.tool_calls[0].id, "content": "21 degrees"}]
    after = litellm.completion(messages=again, tools=[TOOL], **common)
    chunks = litellm.completion(messages=asked, stream=True, **common)
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks]
    call = called.tool_calls[0].function.arguments
    return {"text": text.choices[0].message.content[:60], "schema": pet, "call": call,
            "after the result": after.choices[0].message.content, "stream": "".join(pieces)[:60]}  # fmt: skip


CLIENTS: dict[str, Callable[[str, str], dict[str, Any]]] = {
    "openai": with_openai, "llm": with_llm, "langchain-openai": with_langchain, "litellm": with_litellm,
}  # fmt: skip


def main() -> int:
    """Serve, ask by every client, and print what came."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("package")
    parser.add_argument("--zoo", default="zoo")
    parser.add_argument("--only", choices=CLIENTS)
    asked = parser.parse_args()
    server = subprocess.Popen(
        [asked.zoo, "serve", asked.package, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    failed = False
    try:
        assert server.stdout is not None
        url = f"{server.stdout.readline().strip()}/v1"
        import urllib.request

        with urllib.request.urlopen(f"{url}/models") as answer:
            model = json.load(answer)["data"][0]["id"]
        for name, ask in CLIENTS.items():
            if asked.only in (None, name):
                try:
                    found: Any = ask(url, model)
                except Exception:
                    found, failed = traceback.format_exc(limit=-3), True
                print(
                    json.dumps({"client": name, "version": version(name), "found": found}, ensure_ascii=False),
                    flush=True,
                )
    finally:
        server.terminate()
        server.wait(30)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
