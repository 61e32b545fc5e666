"""A model that says what a test wants, as fast as it wants, behind the real server."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from zoo_server.tokens import TokenTable

from zoo.engine import Generation, OrtEngine, Piece, SchedulerStats


class Ticket:
    """A request under way."""

    def __init__(self, prompt_ids: list[int]) -> None:
        self.generation = Generation(prompt_ids)
        self.submitted = time.perf_counter()
        self.started = self.first_token = self.finished = None
        self.token_times: list[float] = []
        self.cached_tokens = 0
        self.error: Exception | None = None
        self.cancelled = threading.Event()

    def cancel(self) -> None:
        self.cancelled.set()


class Script:
    """What the model will say: pieces of text, numbers to wait for, an exception to fail with, or ``gate`` to hold."""

    def __init__(self) -> None:
        self.lines: list[Any] = ["Hello."]
        self.gate = threading.Event()
        self.prompts: list[str] = []
        self.samplings: list[Any] = []
        self.finish = "stop"
        self.tickets: list[Ticket] = []

    def say(self, *lines: Any, finish: str = "stop") -> None:
        """Set what it says from now on, and hold its gate."""
        self.lines, self.finish = list(lines), finish
        self.gate.clear()


class Scheduler:
    """Answers each request in a thread of its own."""

    def __init__(self, script: Script, engine: OrtEngine) -> None:
        self._script, self._tokens = script, TokenTable(engine)
        self.context = engine.context_length

    def submit(self, prompt_ids: Any, limits: Any, sampling: Any, *, on_piece: Any, on_done: Any, **_: Any) -> Ticket:
        ticket = Ticket(list(prompt_ids))
        self._script.prompts.append(self._tokens.decode(list(prompt_ids)))
        self._script.samplings.append((limits, sampling))
        self._script.tickets.append(ticket)
        threading.Thread(target=self._run, args=(ticket, on_piece, on_done), daemon=True).start()
        return ticket

    def _run(self, ticket: Ticket, on_piece: Callable[[Piece], None], on_done: Callable[[Ticket], None]) -> None:
        ticket.started = time.perf_counter()
        ticket.generation.finish_reason = self._script.finish
        for line in list(self._script.lines):
            if ticket.cancelled.is_set():
                break
            if isinstance(line, Exception):
                ticket.error = line
                break
            if isinstance(line, int | float):
                time.sleep(line)
                continue
            if line is ...:
                while not self._script.gate.wait(0.02) and not ticket.cancelled.is_set():
                    pass
                continue
            ticket.token_times.append(time.perf_counter())
            ticket.first_token = ticket.first_token or ticket.token_times[0]
            ticket.generation.token_ids.append(1)
            ticket.generation.text += line
            on_piece(Piece(1, line))
        ticket.finished = time.perf_counter()
        on_done(ticket)

    def stats(self) -> SchedulerStats:
        return SchedulerStats(**dict.fromkeys((one.name for one in fields(SchedulerStats)), 0))

    def close(self, *, drain: bool = False) -> None:
        for ticket in self._script.tickets:
            ticket.cancel()


TEMPLATE = """{{ bos_token }}{% if tools %}<|system|>{% for tool in tools %}{{ tool | tojson }}
{% endfor %}Call one so: <tool_call>{"name": ..., "arguments": ...}</tool_call><|end|>{% endif %}
{%- for message in messages %}<|{{ 'user' if message.role == 'tool' else message.role }}|>{{ message.content | trim }}
{%- for call in message.tool_calls or [] %}<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>{% endfor %}<|end|>{% endfor %}
{%- if add_generation_prompt %}<|assistant|>{% if thinks %}<think>
{% elif enable_thinking is defined and not enable_thinking %}<think>

</think>

{% endif %}{% endif %}"""
"""Tools and thoughts in the format of families that are bundled, over the bundled small model's tokens."""


def talking_checkpoint(folder: Path, template: str = TEMPLATE) -> Path:
    """Copy the bundled small model with another chat template."""
    base_checkpoint(folder)
    (folder / "chat_template.jinja").write_text(template)
    return folder


def base_checkpoint(folder: Path) -> Path:
    """Copy the bundled small model without its chat template."""
    from zoo.plugins import host

    shipped = host().registry.model("zoo-tiny").weights_folder
    assert shipped is not None
    shutil.copytree(shipped, folder)
    config = json.loads((folder / "tokenizer_config.json").read_bytes())
    del config["chat_template"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    """Let every model of a server say what the test wants."""
    made = Script()
    monkeypatch.setattr("zoo.engine.scheduler.Scheduler", lambda engine, **_: Scheduler(made, engine))
    yield made
    made.gate.set()
