"""Answers of an engine: as transformers gives them, ended as asked, refused in one line."""

from __future__ import annotations

import shutil
import threading

import numpy as np
import pytest

import zoo
from tests.engine.made import make_package, save_tokenizer
from zoo.errors import UsageError, ZooError

pytest.importorskip("torch")
TEMPLATE = "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}[assistant]"
TALK = [{"role": "user", "content": "Who are you?"}]


@pytest.fixture(scope="module", params=["byte_fallback", "byte_level"])
def made(request, tmp_path_factory):
    engine, model = make_package(tmp_path_factory.mktemp(request.param), request.param, chat_template=TEMPLATE)
    return engine, model


@pytest.fixture(scope="module")
def engine(made):
    return made[0]


def greedy(model, ids: list[int], count: int, **options: float) -> list[int]:
    """What transformers continues a prompt with."""
    import torch

    prompt = torch.tensor([ids])
    out = model.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=count, do_sample=False, eos_token_id=None,
        pad_token_id=0, **options,
    )  # fmt: skip
    return out[0, len(ids) :].tolist()


def test_greedy_text_is_that_of_transformers(made, tmp_path) -> None:
    engine, model = made
    for prompt in ("Once upon a time", "hello, hello", "Ein Haus"):
        ids = engine.encode(prompt)
        answer = engine.generate(prompt, max_new_tokens=100, ignore_eos=True)
        wanted = greedy(model, ids, 100)
        assert answer.token_ids == wanted
        whole, start = engine.tokenizer.decode([*ids, *wanted]), engine.tokenizer.decode(ids)
        assert answer.text == whole[len(start) :]
        assert answer.prompt_ids == ids
        assert answer.finish_reason == "length"


def test_the_repetition_penalty_leads_where_transformers_goes(made) -> None:
    engine, model = made
    ids = engine.encode("Once upon a time")
    found = engine.generate(ids, max_new_tokens=40, repetition_penalty=1.3, ignore_eos=True)
    assert found.token_ids == greedy(model, ids, 40, repetition_penalty=1.3)
    assert found.token_ids != greedy(model, ids, 40)


def test_pieces_are_the_answer(engine) -> None:
    stream = engine.stream("Once upon", max_new_tokens=30, ignore_eos=True)
    pieces = list(stream)
    assert "".join(piece.text for piece in pieces) == stream.generation.text
    assert [piece.token_id for piece in pieces] == stream.generation.token_ids
    assert stream.generation.text == engine.generate("Once upon", max_new_tokens=30, ignore_eos=True).text


def test_a_stop_string_is_cut_out_and_never_streamed(engine) -> None:
    whole = engine.generate("Once upon", max_new_tokens=60, ignore_eos=True).text
    stop = whole[20:24]
    at = whole.index(stop)
    stream = engine.stream("Once upon", max_new_tokens=60, ignore_eos=True, stop=["never there", stop])
    seen = ""
    for piece in stream:
        seen += piece.text
        assert stop not in seen
    assert seen == stream.generation.text == whole[:at]
    assert stream.generation.finish_reason == "stop"
    assert len(stream.generation.token_ids) < 60


def test_what_was_held_for_a_stop_string_comes_out_at_the_end(engine) -> None:
    whole = engine.generate("Once upon", max_new_tokens=20, ignore_eos=True).text
    found = engine.generate("Once upon", max_new_tokens=20, ignore_eos=True, stop=[whole[-3:] + "\x00"])
    assert (found.text, found.finish_reason) == (whole, "length")


def test_a_stop_token_ends_the_answer(engine) -> None:
    ids = engine.generate("Once upon", max_new_tokens=40, ignore_eos=True).token_ids
    token = ids[12]
    found = engine.generate("Once upon", max_new_tokens=40, ignore_eos=True, stop_token_ids=[token])
    assert found.token_ids == ids[: ids.index(token)]
    assert found.finish_reason == "stop"


def test_the_models_own_end_counts_unless_ignored(engine, monkeypatch) -> None:
    ids = engine.generate("Once upon", max_new_tokens=40, ignore_eos=True).token_ids
    monkeypatch.setattr(engine, "stop_token_ids", frozenset([ids[5]]))
    assert engine.generate("Once upon", max_new_tokens=40).token_ids == ids[: ids.index(ids[5])]
    assert engine.generate("Once upon", max_new_tokens=40, ignore_eos=True).token_ids == ids


def test_sampling_repeats_with_its_seed(engine) -> None:
    def sample(seed: int) -> list[int]:
        return engine.generate("Once", max_new_tokens=20, temperature=1.5, top_k=50, top_p=0.95, seed=seed).token_ids

    assert sample(3) == sample(3)
    assert len({tuple(sample(seed)) for seed in range(4)}) > 1


def test_an_answer_does_not_depend_on_what_came_before(engine) -> None:
    first = engine.logits(engine.encode("The dog had many friends"))
    engine.generate("Something else entirely", max_new_tokens=30, ignore_eos=True)
    answer = engine.generate("The dog", max_new_tokens=30, ignore_eos=True)
    again = engine.generate("The dog", max_new_tokens=30, ignore_eos=True)
    assert answer.token_ids == again.token_ids
    assert answer.timings.prefill_tokens == again.timings.prefill_tokens == len(answer.prompt_ids)
    np.testing.assert_array_equal(engine.logits(engine.encode("The dog had many friends")), first)


def test_a_conversation_goes_on_from_the_cache(engine) -> None:
    ids = engine.encode("Once upon a time there was")
    first = engine.generate(ids, max_new_tokens=10, ignore_eos=True)
    longer = [*ids, *first.token_ids, 7, 8]
    stream = engine.stream(longer, max_new_tokens=10, ignore_eos=True, continued=True)
    list(stream)
    # The answer's last token was chosen, never computed.
    assert stream.generation.timings.prefill_tokens == 3
    assert stream.generation.token_ids == engine.generate(longer, max_new_tokens=10, ignore_eos=True).token_ids


def test_timings_count_what_was_done(engine) -> None:
    timings = engine.generate("Once upon", max_new_tokens=12, ignore_eos=True).timings
    assert timings.prefill_tokens == len(engine.encode("Once upon"))
    assert timings.decode_tokens == 11
    assert min(timings.load_s, timings.prefill_s, timings.decode_s) > 0
    assert timings.decode_tokens_per_s == pytest.approx(11 / timings.decode_s)


def test_messages_go_through_the_template(engine) -> None:
    ids = engine.encode_chat(TALK)
    begin = engine.package.manifest.recipe.tokens.bos_token_id
    text = "[user] Who are you?\n[assistant]"
    assert engine.tokenizer.decode(ids) == text
    bos = engine.tokenizer.encode("")
    assert ids[: len(bos) + 1].count(bos[0]) == 1, begin
    assert engine.generate(messages=TALK, max_new_tokens=5).prompt_ids == ids


def test_logits_are_those_of_transformers(made) -> None:
    import torch

    engine, model = made
    ids = engine.encode("The dog had many friends, and they went to the park together.")
    with torch.no_grad():
        wanted = model(torch.tensor([ids])).logits[0].numpy()
    np.testing.assert_allclose(engine.logits(ids), wanted, atol=1e-3)
    np.testing.assert_allclose(engine.logits(ids, 4), wanted[-4:], atol=1e-3)
    assert engine.logits(ids, 10**6).shape == (len(ids), 400)


def test_the_context_is_filled_and_no_further(engine) -> None:
    context = engine.context_length
    answer = engine.generate([5] * (context - 3), max_new_tokens=50, ignore_eos=True)
    assert (len(answer.token_ids), answer.finish_reason) == (3, "length")
    with pytest.raises(ZooError, match=f"the prompt has {context + 9} tokens; this model takes at most {context - 1}"):
        engine.generate([5] * (context + 9))
    with pytest.raises(ZooError, match=f"{context + 1} tokens; the model takes at most {context}"):
        engine.logits([5] * (context + 1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either a prompt or messages"),
        ({"prompt": "x", "messages": TALK}, "either a prompt or messages"),
        ({"prompt": [1, 400]}, "token id 400"),
        ({"prompt": [-1]}, "token id -1"),
        ({"prompt": "x", "max_new_tokens": 0}, "max-new-tokens"),
        ({"prompt": "x", "temperature": -1}, "temperature"),
        ({"prompt": "x", "stop": [""]}, "stop string"),
        ({"messages": [{"role": "user"}]}, "a message is"),
    ],
    ids=str,
)
def test_what_means_nothing_is_refused(engine, arguments, message) -> None:
    with pytest.raises(UsageError, match=message):
        engine.generate(**arguments)


def test_an_empty_prompt_begins_a_text(engine) -> None:
    answer = engine.generate("", max_new_tokens=4, ignore_eos=True)
    assert len(answer.prompt_ids) == 1
    assert len(answer.token_ids) == 4


def test_an_interrupt_ends_the_answer_and_not_the_engine(engine, monkeypatch) -> None:
    whole = engine.generate("Once upon", max_new_tokens=20, ignore_eos=True)
    step, steps = engine.session.step, []

    def interrupted(slots, rows, **how):
        steps.append(rows)
        if len(steps) == 6:
            raise KeyboardInterrupt
        return step(slots, rows, **how)

    monkeypatch.setattr(engine.session, "step", interrupted)
    stream = engine.stream("Once upon", max_new_tokens=20, ignore_eos=True)
    with pytest.raises(KeyboardInterrupt):
        list(stream)
    monkeypatch.undo()
    assert stream.generation.finish_reason == "interrupt"
    assert stream.generation.token_ids == whole.token_ids[:5]
    assert whole.text.startswith(stream.generation.text.rstrip("\ufffd"))
    assert engine.generate("Once upon", max_new_tokens=20, ignore_eos=True).text == whole.text


def test_an_answer_that_is_left_is_over(engine) -> None:
    stream = engine.stream("Once upon", max_new_tokens=20, ignore_eos=True)
    next(stream)
    stream.close()
    assert stream.generation.finish_reason == "interrupt"
    assert list(stream) == []


def test_a_signal_ends_a_step_that_is_under_way(engine, monkeypatch) -> None:
    """A step that would take a minute ends when SIGINT comes, not a minute later."""
    import os
    import signal
    import time

    ended = threading.Event()

    def endless(cache, ids, keep=1, **how):
        # As in onnxruntime: the main thread is away from Python's signals until the step is told to end.
        assert ended.wait(60)
        raise ZooError("onnxruntime failed: terminated")

    monkeypatch.setattr(engine.session, "forward", endless)
    monkeypatch.setattr(engine.session, "interrupt", ended.set)
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        engine.generate("Once upon")
    assert time.monotonic() - started < 20
    timer.join()


@pytest.fixture
def copied(engine, tmp_path):
    folder = tmp_path / "package"
    shutil.copytree(engine.package.path, folder)
    return folder


@pytest.mark.parametrize(
    "name", ["tokenizer.json", "model.onnx", "model.onnx.data", "genai_config.json", "config.json"]
)
def test_a_missing_file_is_named(copied, name) -> None:
    (copied / name).unlink()
    with pytest.raises(ZooError, match=name):
        zoo.open(copied)


@pytest.mark.parametrize("name", ["tokenizer.json", "model.onnx", "genai_config.json", "config.json"])
def test_a_changed_file_of_the_same_size_is_named(copied, name) -> None:
    raw = bytearray((copied / name).read_bytes())
    raw[len(raw) // 2] ^= 1
    (copied / name).write_bytes(raw)
    with pytest.raises(ZooError, match=f"{name}: its SHA-256 is not the one in zoo.json"):
        zoo.open(copied)


def test_weights_cut_short_are_named(copied) -> None:
    data = copied / "model.onnx.data"
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(ZooError, match=r"model\.onnx\.data"):
        zoo.open(copied)


def test_a_folder_that_is_no_package_is_refused(tmp_path) -> None:
    with pytest.raises(ZooError, match="there is no folder"):
        zoo.open(tmp_path / "none")
    with pytest.raises(ZooError, match="neither a checkpoint nor a package"):
        zoo.open(tmp_path)


def test_a_base_model_has_no_template(tmp_path) -> None:
    engine, _ = make_package(tmp_path)
    with pytest.raises(ZooError, match="base model"):
        engine.generate(messages=TALK)


def test_without_a_tokenizer_only_ids_are_taken(tmp_path) -> None:
    from tests.checkpoints import make_checkpoint

    make_checkpoint(tmp_path / "checkpoint")
    engine = zoo.open(zoo.build(str(tmp_path / "checkpoint"), "fp32", output=tmp_path / "package").path)
    answer = engine.generate([5, 6, 7], max_new_tokens=6, ignore_eos=True)
    assert (answer.text, len(answer.token_ids)) == ("", 6)
    with pytest.raises(ZooError, match="no tokenizer"):
        engine.generate("text")


def test_a_keyword_that_is_none_is_named(engine) -> None:
    with pytest.raises(TypeError, match="unexpected argument 'max_tokens'; there are max_new_tokens, "):
        engine.generate([1, 2], max_tokens=3)


def test_every_field_of_limits_and_sampling_is_a_keyword() -> None:
    from zoo.engine.options import FORMS, LIMITS, SAMPLING, AnswerOptions

    assert {*AnswerOptions.__annotations__} == LIMITS | SAMPLING | {*FORMS, "ignore_eos", "lookup"}


def test_texts_that_dynamic_scaling_turns_as_a_whole_are_refused_alike(tmp_path) -> None:
    from tests.checkpoints import make_checkpoint
    from zoo.evaluation.prompting import Prompting
    from zoo.package.folder import open_package

    scaling = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4}
    folder = tmp_path / "ck"
    numbers = {"vocab_size": 400, "bos_token_id": 1, "eos_token_id": 2, "max_position_embeddings": 32}
    make_checkpoint(folder, **numbers, rope_parameters=scaling)
    save_tokenizer(folder, "byte_level")
    package = zoo.build(str(folder), "fp32", output=tmp_path / "package").path
    opened = zoo.open(package)
    assert (opened.context_length, opened.longest_text, opened.longest_prompt) == (128, 32, 32)
    ids = [1 + index % 30 for index in range(33)]
    assert opened.logits(ids[:32]).shape == (32, 400)
    assert len(opened.generate(ids[:32], max_new_tokens=50, ignore_eos=True).token_ids) == 50
    for call in (opened.logits, opened.generate):
        with pytest.raises(ZooError, match=r"has 33 tokens; .* takes at most 32, since dynamic scaling"):
            call(ids)
    assert Prompting(open_package(package)).context_length == 32
