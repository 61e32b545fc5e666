"""A model whose template or tokenizer hangs: its own requests are refused in time, and nobody else waits."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from zoo_server import textwork

import zoo
from tests.server.scripted import base_checkpoint
from tests.server.serving import post, serving

pytestmark = pytest.mark.attack(
    "s03_template_bombs.py, t01_tokenizer_bombs.py", "a served model whose template or tokenizer hangs, beside others"
)

HANG = "{% set a=[0]*1000000 %}{% set b=[a]*1000000 %}{{ b }}"
TALK = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def hanging(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("hanging")
    base_checkpoint(folder / "hanging")
    (folder / "hanging" / "chat_template.jinja").write_text(HANG)
    return zoo.build(folder / "hanging", "int8", output=folder / "package").path


@pytest.fixture(scope="module")
def slow_expression(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("slow")
    base_checkpoint(folder / "slow")
    file = folder / "slow" / "tokenizer.json"
    data = json.loads(file.read_text())
    data["pre_tokenizer"] = {"type": "Split", "pattern": {"Regex": "(a|aa)+$"}, "behavior": "Isolated", "invert": False}
    file.write_text(json.dumps(data))
    return zoo.build(folder / "slow", "int8", output=folder / "package").path


def chat(served: Any, model: str) -> tuple[int, Any]:
    status, _, body = post(served, "/v1/chat/completions", {"model": model, "messages": TALK, "max_tokens": 2})
    return status, body


@pytest.mark.attack("s03_template_bombs.py", "a served model whose template hangs, beside another")
def test_a_hanging_template_delays_nobody_else(hanging, package, monkeypatch) -> None:
    monkeypatch.setattr(textwork, "SECONDS", 3.0)
    with serving([package, hanging], threads=1) as served:
        names = [model.name for model in served.pool.models]
        bad = next(name for name in names if name != "zoo-tiny")
        completion = {"model": "zoo-tiny", "prompt": "Once", "max_tokens": 2}
        assert post(served, "/v1/completions", completion)[0] == 200
        assert post(served, "/v1/completions", completion | {"model": bad})[0] == 200
        answers: list[tuple[int, Any]] = []
        threads = [threading.Thread(target=lambda: answers.append(chat(served, bad))) for _ in range(2)]
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        begun = time.monotonic()
        assert post(served, "/v1/completions", completion)[0] == 200
        assert chat(served, "zoo-tiny")[0] in (200, 400)
        assert time.monotonic() - begun < 2
        for thread in threads:
            thread.join()
        assert [status for status, _ in answers] == [400] * 2
        assert all("chat template" in body["error"]["message"] for _, body in answers)
        assert post(served, "/v1/completions", completion | {"model": bad})[0] == 200


@pytest.mark.attack("s03_template_bombs.py", "SIGTERM while a template hangs")
def test_the_server_ends_in_time_while_a_template_hangs(hanging) -> None:
    with serving([hanging], threads=1, drain_timeout=1.0) as served:
        bad = served.pool.models[0].name
        assert post(served, "/v1/completions", {"model": bad, "prompt": "a", "max_tokens": 1})[0] == 200
        thread = threading.Thread(target=chat, args=(served, bad), daemon=True)
        thread.start()
        time.sleep(0.5)
        begun = time.monotonic()
        served.server.should_exit = True
        while served.server.started and time.monotonic() - begun < 20 and thread.is_alive():
            time.sleep(0.05)
        assert time.monotonic() - begun < 8


def test_text_that_a_tokenizer_cannot_take_is_a_400(slow_expression, monkeypatch) -> None:
    monkeypatch.setattr(textwork, "SECONDS", 4.0)
    with serving([slow_expression], threads=1) as served:
        name = served.pool.models[0].name
        body = {"model": name, "prompt": "a" * 60 + "b", "max_tokens": 1}
        begun = time.monotonic()
        status, _, answer = post(served, "/v1/completions", body)
        assert time.monotonic() - begun < 10
        assert status in (200, 400)
        if status == 400:
            assert answer["error"]["type"] == "invalid_request_error"
        assert post(served, "/v1/completions", body | {"prompt": "b"})[0] == 200


def test_the_worker_gives_the_same_ids(engine, package) -> None:
    from zoo_server.tokens import TokenTable

    work = textwork.TextWork()
    work.open(package)
    work.follow(engine.tokenizer)
    try:
        for text in ("Once upon a time", "", "ä🙂\n\t" * 50, "</s><s>"):
            for special in (True, False):
                assert work.encode(text, special=special) == engine.tokenizer.encode(text, special=special)
        far, here = TokenTable(engine, work), TokenTable(engine)
        assert far.encode("Once upon", 100) == here.encode("Once upon", 100)
        if engine.chat_template is not None:
            assert far.encode_chat(TALK, 100) == here.encode_chat(TALK, 100)
    finally:
        work.close()
