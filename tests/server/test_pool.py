"""Several models behind one server: names, memory, what is unloaded, and packages that go away."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from zoo_server.served import served_models

import zoo
from tests.server.serving import Served, serving
from tests.server.test_bad_input import complete, error_of
from tests.server.test_protection import LONG, ask_raw, idle, wait_for
from zoo.errors import UsageError, ZooError
from zoo.plugins import host


@pytest.fixture(scope="module")
def three(package: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("three")
    return [
        Path(shutil.copytree(package, folder / "one")),
        zoo.build("zoo-tiny", "int4", output=folder / "two").path,
        Path(shutil.copytree(package, folder / "three")),
    ]


def names(*paths: Path) -> list[str]:
    return [one.name for one in served_models(host().registry, [str(path) for path in paths])]


def loaded(served: Served) -> set[str]:
    return set(served.pool.running)


def test_names_are_no_paths(three) -> None:
    first, second, third = three
    assert names(first) == ["zoo-tiny"]
    assert names(first, second) == ["zoo-tiny-int8", "zoo-tiny-int4"]
    assert names(first, second, third) == ["one", "zoo-tiny-int4", "three"]
    assert names(first, first) == ["zoo-tiny"]


def test_two_folders_of_one_name(three, tmp_path) -> None:
    other = Path(shutil.copytree(three[0], tmp_path / "one"))
    with pytest.raises(ZooError, match="would be served as 'one'"):
        names(three[0], other)


def test_what_is_not_built_is_no_model(tmp_path) -> None:
    with pytest.raises(ZooError, match="zoo build zoo-tiny"):
        served_models(host().registry, ["zoo-tiny"])
    with pytest.raises(UsageError):
        served_models(host().registry, [])


def test_a_model_is_loaded_when_it_is_asked_for(three) -> None:
    with serving(three[:2], threads=1) as served:
        assert loaded(served) == set()
        assert complete(served, model="zoo-tiny-int4")[0] == 200
        assert loaded(served) == {"zoo-tiny-int4"}
        assert complete(served, model="zoo-tiny-int8")[0] == 200
        assert loaded(served) == {"zoo-tiny-int4", "zoo-tiny-int8"}


def test_many_who_ask_first_load_it_once(three) -> None:
    with serving(three[:1], threads=1) as served:
        threads = [threading.Thread(target=complete, args=(served,)) for _ in range(8)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        assert len(served.events("loaded")) == 1


def test_the_one_that_was_idle_longest_makes_room(three) -> None:
    models = served_models(host().registry, [str(one) for one in three])
    need = max(one.fit(2).total for one in models)
    with serving(three, threads=1, slots=2, memory=2 * need) as served:
        for name in ("one", "zoo-tiny-int4", "one", "three"):
            assert complete(served, model=name)[0] == 200
        assert loaded(served) == {"one", "three"}
        assert complete(served, model="zoo-tiny-int4")[0] == 200
        assert loaded(served) == {"three", "zoo-tiny-int4"}
        assert served.pool.memory_used <= 2 * need
        unloaded = [one["model"] for one in served.events("unloaded")]
        assert unloaded == ["zoo-tiny-int4", "one"]


def test_a_model_in_use_is_not_unloaded(three) -> None:
    models = served_models(host().registry, [str(one) for one in three[:2]])
    need = max(one.fit(2).total for one in models)
    with serving(three[:2], threads=1, slots=2, memory=need) as served:
        assert complete(served, model="zoo-tiny-int8")[0] == 200
        connections = [ask_raw(served, model="zoo-tiny-int8", n=8, **LONG) for _ in range(2)]
        wait_for(lambda: served.pool.running["zoo-tiny-int8"].users == 2)
        found = complete(served, model="zoo-tiny-int4")
        error = error_of(found)
        assert (error["status"], error["code"]) == (503, "model_does_not_fit")
        assert error["message"].count("MB") == 3  # what it needs, what is held, the limit
        assert int(found[1]["retry-after"]) >= 1
        for one in connections:
            one.close()
        wait_for(lambda: idle(served))
        assert complete(served, model="zoo-tiny-int4")[0] == 200


def test_a_model_that_can_never_fit_is_refused_with_the_numbers(three) -> None:
    (model,) = served_models(host().registry, [str(three[0])])
    with pytest.raises(
        ZooError, match=r"needs 5\.\d+ MB .* for its weights and 6\.29 MB for 8 slots of 256 .* 11\.00 MB;"
    ):
        model.fit(8, 11_000_000)


def test_less_memory_is_less_context(three) -> None:
    (model,) = served_models(host().registry, [str(three[0])])
    assert model.fit(8).context == 512
    assert model.fit(8, 10**12).total == model.fit(8).total
    tight = model.fit(8, 14_000_000)
    assert 256 <= tight.context < 512
    assert tight.total <= 14_000_000
    with serving(three[:1], threads=1, memory=14_000_000) as served:
        error = error_of(complete(served, prompt=[5] * tight.context))
        assert error["code"] == "context_length_exceeded"
        assert complete(served, prompt=[5] * (tight.context - 2))[0] == 200
        assert served.pool.memory_used <= 14_000_000


def test_a_package_that_was_deleted(package, tmp_path) -> None:
    copy = Path(shutil.copytree(package, tmp_path / "copy"))
    with serving([copy], threads=1) as served:
        assert complete(served)[0] == 200
        shutil.rmtree(copy)
        assert complete(served)[0] == 200  # it is loaded
    shutil.copytree(package, copy)
    with serving([copy], threads=1) as served:
        shutil.rmtree(copy)
        error = error_of(complete(served))
        assert (error["status"], error["code"]) == (503, "model_unavailable")
        assert str(tmp_path) not in error["message"]
        assert str(tmp_path) not in served.lines.getvalue()
        assert idle(served)
        shutil.copytree(package, copy)
        assert complete(served)[0] == 200  # it is back


def test_a_package_that_was_damaged(package, tmp_path) -> None:
    copy = Path(shutil.copytree(package, tmp_path / "copy"))
    with serving([copy], threads=1) as served:
        (copy / "model.onnx").write_bytes(b"no graph")
        assert error_of(complete(served))["code"] == "model_unavailable"
        wait_for(lambda: served.events("load_failed"))
        assert served.events("load_failed")[0]["model"] == "zoo-tiny"


def test_a_client_that_leaves_while_its_model_loads(three, monkeypatch) -> None:
    from zoo_server import pool

    begun, go = threading.Event(), threading.Event()
    start = pool.start_model

    def slowly(*args: Any) -> Any:
        begun.set()
        assert go.wait(20)
        return start(*args)

    monkeypatch.setattr(pool, "start_model", slowly)
    with serving(three[:1], threads=1) as served:
        ask_raw(served).close()
        assert begun.wait(10)
        wait_for(lambda: served.events("request"))
        go.set()
        wait_for(lambda: loaded(served) == {"zoo-tiny"})
        assert idle(served)
        assert complete(served)[0] == 200


def test_an_engine_that_fails_says_so_without_saying_what(three, monkeypatch) -> None:
    with serving(three[:1], threads=1) as served:
        assert complete(served)[0] == 200
        session = served.pool.running["zoo-tiny"].engine.session
        step, secret = session.step, "/a/private/path"

        def broken(*args: Any, **how: Any) -> Any:
            raise ZooError(f"onnxruntime failed at {secret}")

        monkeypatch.setattr(session, "step", broken)
        error = error_of(complete(served))
        assert (error["status"], error["code"]) == (500, "engine_error")
        assert secret not in error["message"]
        with ask_raw(served, stream=True) as connection:
            text = b""
            while b"[DONE]" not in text:
                text += connection.recv(65536)
        assert b'"code":"engine_error"' in text
        monkeypatch.setattr(session, "step", step)
        assert complete(served)[0] == 200
        assert idle(served)


def test_a_scheduler_that_takes_nothing_more_is_replaced(three) -> None:
    with serving(three[:1], threads=1) as served:
        assert complete(served)[0] == 200
        served.pool.running["zoo-tiny"].scheduler.close()
        found = complete(served)
        assert error_of(found)["status"] == 503
        assert found[1]["retry-after"] == "1"
        assert complete(served)[0] == 200
        assert idle(served)
