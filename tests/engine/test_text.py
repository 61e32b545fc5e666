"""Text in and out: as transformers encodes, and piece by piece as the whole decodes."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.engine.made import KINDS, LINES, save_tokenizer
from zoo.engine.text import LONG_RUN, StopStrings, Tokenizer
from zoo.errors import UsageError, ZooError

TEXTS = (
    *LINES,
    "",
    " ",
    "  two  spaces ",
    "日本語のテキスト 🤖👍🏽",
    "a\nb\n\n",
    "</s> in text",
    "\u0000\ufffd",
    "नमस्ते",
)


@pytest.fixture(scope="module", params=list(KINDS))
def folder(request, tmp_path_factory):
    return save_tokenizer(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def tokenizer(folder) -> Tokenizer:
    return Tokenizer(folder)


def stream(tokenizer: Tokenizer, prompt: list[int], answer: list[int]) -> list[str]:
    decoder = tokenizer.stream(prompt)
    return [*(decoder.add(token) for token in answer), decoder.rest()]


def continuation(tokenizer: Tokenizer, prompt: list[int], answer: list[int]) -> str:
    """What decoding everything at once adds to the prompt's text."""
    return tokenizer.decode([*prompt, *answer])[len(tokenizer.decode(prompt).rstrip("\ufffd")) :]


@pytest.mark.parametrize("special", [True, False])
def test_it_encodes_as_transformers_does(folder, tokenizer, special) -> None:
    transformers = pytest.importorskip("transformers")
    reference = transformers.AutoTokenizer.from_pretrained(folder)
    for text in TEXTS:
        assert tokenizer.encode(text, special=special) == reference(text, add_special_tokens=special).input_ids, text


def test_what_a_training_script_left_on_cuts_no_prompt(tmp_path, folder) -> None:
    data = json.loads((folder / "tokenizer.json").read_text())
    data["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    data["padding"] = {
        "strategy": {"Fixed": 512}, "direction": "Right", "pad_to_multiple_of": None,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "<unk>",
    }  # fmt: skip
    (tmp_path / "tokenizer.json").write_text(json.dumps(data))
    assert Tokenizer(tmp_path).encode(LINES[0]) == Tokenizer(folder).encode(LINES[0])


def test_half_of_a_pair_is_no_text(tokenizer) -> None:
    with pytest.raises(UsageError, match="not valid text"):
        tokenizer.encode("a\ud800b")


def test_a_broken_file_is_named(tmp_path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ZooError, match=r"tokenizer\.json"):
        Tokenizer(tmp_path)


@settings(max_examples=300, deadline=None)
@given(prompt=st.text(max_size=12), answer=st.text(max_size=60))
@example(prompt="\x8000\x80\x80\x80\u0800" + "\U00010000" * 6, answer="")
def test_pieces_of_text_are_the_text(tokenizer, prompt, answer) -> None:
    prompt_ids, ids = tokenizer.encode(prompt), tokenizer.encode(answer, special=False)
    pieces = stream(tokenizer, prompt_ids, ids)
    assert "".join(pieces) == continuation(tokenizer, prompt_ids, ids)
    if "\ufffd" not in answer:
        assert not any("\ufffd" in piece for piece in pieces)


@settings(max_examples=400, deadline=None)
@given(prompt=st.text(max_size=8), answer=st.lists(st.integers(0, 400), max_size=LONG_RUN))
def test_pieces_of_any_tokens_are_what_they_decode_to(tokenizer, prompt, answer) -> None:
    # A prompt that ends within a run of bytes keeps its text, whatever the answer makes of the run.
    prompt_ids = tokenizer.encode(prompt + "a")
    assert "".join(stream(tokenizer, prompt_ids, answer)) == continuation(tokenizer, prompt_ids, answer)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_bytes_broken_and_whole(tokenizer, data) -> None:
    """Mostly bytes: runs that break, runs that end open, special tokens amid them."""
    choices = [*range(30), *range(190, 259)] if tokenizer._bytes else list(range(2, 258))
    answer = data.draw(st.lists(st.sampled_from(choices), max_size=LONG_RUN - 1))
    assert "".join(stream(tokenizer, [], answer)) == continuation(tokenizer, [], answer)


@pytest.mark.parametrize("text", ["ༀཁག" * 60, "\n" * 200, "🤖" * 50, "x" + "日本" * 80])
def test_a_long_run_of_bytes_comes_out_before_it_ends(tokenizer, text) -> None:
    ids = tokenizer.encode(text, special=False)
    pieces = stream(tokenizer, [], ids)
    assert "".join(pieces) == tokenizer.decode(ids)
    silence = longest = 0
    for piece in pieces:
        silence = 0 if piece else silence + 1
        longest = max(longest, silence)
    assert longest <= LONG_RUN + 4


def test_the_first_piece_keeps_its_space(tokenizer) -> None:
    prompt, whole = tokenizer.encode("Once upon"), tokenizer.encode("Once upon a time")
    assert whole[: len(prompt)] == prompt
    assert "".join(stream(tokenizer, prompt, whole[len(prompt) :])) == " a time"


@settings(max_examples=300, deadline=None)
@given(text=st.text("abc", max_size=40), stop=st.text("abc", min_size=1, max_size=5), data=st.data())
def test_a_stop_string_ends_the_text_wherever_it_is_cut(text, stop, data) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    stops = StopStrings([stop])
    out = ""
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        out += stops.add(text[start:end])
        assert stop not in out
        assert text.split(stop)[0].startswith(out)
    out += stops.rest()
    assert out == text.split(stop)[0]
    assert stops.found == (stop in text)


@settings(max_examples=200, deadline=None)
@given(text=st.text("ab", max_size=30), several=st.lists(st.text("ab", min_size=1, max_size=4), min_size=2, max_size=4))
def test_of_several_stop_strings_none_comes_out(text, several) -> None:
    stops = StopStrings(several)
    out = "".join(stops.add(character) for character in text) + stops.rest()
    assert text.startswith(out)
    assert not any(stop in out for stop in several)
    assert stops.found == any(stop in text for stop in several)
    assert stops.found or out == text


def test_what_cannot_become_a_stop_string_is_not_held() -> None:
    stops = StopStrings(["\n\n", "###"])
    assert stops.add("one\n") == "one"
    assert stops.add("two#") == "\ntwo"
    assert stops.add("x") == "#x"


def test_an_empty_stop_string_is_refused() -> None:
    with pytest.raises(UsageError, match="empty"):
        StopStrings(["a", ""])
