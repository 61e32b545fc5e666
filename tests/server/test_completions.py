"""``/v1/completions`` as the official client sees it, held against the engine alone."""

from __future__ import annotations

import pytest

PROMPT = "Once upon a time"


def test_an_answer_is_the_engines(client, engine) -> None:
    wanted = engine.generate(PROMPT, max_new_tokens=24)
    found = client.completions.create(model="zoo-tiny", prompt=PROMPT, max_tokens=24, temperature=0)
    assert found.object == "text_completion"
    assert found.model == "zoo-tiny"
    assert found.choices[0].text == wanted.text
    assert found.choices[0].finish_reason == "length"
    assert found.usage.prompt_tokens == len(wanted.prompt_ids)
    assert found.usage.completion_tokens == 24
    assert found.usage.total_tokens == len(wanted.prompt_ids) + 24


def test_a_stream_is_the_same_answer_in_pieces(client, engine) -> None:
    wanted = engine.generate(PROMPT, max_new_tokens=24).text
    options = {"include_usage": True}
    chunks = list(
        client.completions.create(
            model="zoo-tiny", prompt=PROMPT, max_tokens=24, temperature=0, stream=True, stream_options=options
        )
    )
    assert "".join(one.choices[0].text for one in chunks[:-1]) == wanted
    assert [one.choices[0].finish_reason for one in chunks[:-1]][-1] == "length"
    assert chunks[-2].choices[0].text == ""
    assert all(one.usage is None for one in chunks[:-1])
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 24
    assert len({one.id for one in chunks}) == 1


def test_token_ids_and_lists_of_prompts(client, engine) -> None:
    first, second = engine.encode(PROMPT), engine.encode("The sky is")
    texts = [engine.generate(ids, max_new_tokens=8).text for ids in (first, second)]
    for prompt, wanted in (
        (first, texts[:1]),
        ([first, second], texts),
        ([PROMPT, "The sky is"], texts),
        ([PROMPT], texts[:1]),
    ):
        found = client.completions.create(model="zoo-tiny", prompt=prompt, max_tokens=8, temperature=0)
        assert [one.text for one in found.choices] == wanted
        assert [one.index for one in found.choices] == list(range(len(wanted)))


def test_choices_of_several_prompts_are_numbered_prompt_by_prompt(client, engine) -> None:
    found = client.completions.create(model="zoo-tiny", prompt=[PROMPT, "The sky is"], n=2, max_tokens=6, temperature=0)
    first, second = (engine.generate(one, max_new_tokens=6).text for one in (PROMPT, "The sky is"))
    assert [one.text for one in found.choices] == [first, first, second, second]
    assert found.usage.prompt_tokens == len(engine.encode(PROMPT)) + len(engine.encode("The sky is"))


def test_a_seed_repeats_and_choices_differ(client) -> None:
    def ask(seed: int) -> list[str]:
        found = client.completions.create(
            model="zoo-tiny", prompt=PROMPT, n=3, max_tokens=16, temperature=1.2, seed=seed
        )
        return [one.text for one in found.choices]

    assert ask(7) == ask(7)
    assert ask(-1) == ask(-1)
    assert len(set(ask(7))) > 1
    assert ask(7) != ask(8)


def test_sampling_fields_mean_what_they_mean_to_the_engine(client, engine) -> None:
    options = {"top_k": 40, "repetition_penalty": 1.3}
    wanted = engine.generate(PROMPT, max_new_tokens=16, temperature=0.9, top_p=0.8, seed=11, **options).text
    found = client.completions.create(
        model="zoo-tiny", prompt=PROMPT, max_tokens=16, temperature=0.9, top_p=0.8, seed=11, extra_body=options
    )
    assert found.choices[0].text == wanted


def test_stop_strings_end_an_answer_and_are_no_part_of_it(client, engine) -> None:
    whole = engine.generate(PROMPT, max_new_tokens=40).text
    stop = [whole[30:34], whole[10:13]]
    wanted = whole[: min(whole.index(one) for one in stop)]
    for stream in (False, True):
        found = client.completions.create(
            model="zoo-tiny", prompt=PROMPT, max_tokens=40, temperature=0, stop=stop, stream=stream
        )
        chunks = list(found) if stream else [found]
        assert "".join(one.choices[0].text for one in chunks) == wanted
        assert chunks[-1].choices[0].finish_reason == "stop"
    one = client.completions.create(model="zoo-tiny", prompt=PROMPT, max_tokens=40, temperature=0, stop=stop[0])
    assert one.choices[0].text == whole[: whole.index(stop[0])]


def test_echo_repeats_the_prompt(client, engine) -> None:
    wanted = PROMPT + engine.generate(PROMPT, max_new_tokens=5).text
    found = client.completions.create(model="zoo-tiny", prompt=PROMPT, max_tokens=5, temperature=0, echo=True)
    assert found.choices[0].text == wanted


def test_what_stops_an_answer_may_be_part_of_it(client, engine) -> None:
    whole = engine.generate(PROMPT, max_new_tokens=40)
    stop = whole.text[10:13]
    options = {"include_stop_str_in_output": True}
    found = client.completions.create(
        model="zoo-tiny", prompt=PROMPT, max_tokens=40, temperature=0, stop=stop, extra_body=options
    )
    assert found.choices[0].text == whole.text[: whole.text.index(stop) + len(stop)]
    token = whole.token_ids[7]
    before = whole.token_ids[: whole.token_ids.index(token)]
    for more, wanted in ((options, [*before, token]), ({}, before)):
        found = client.completions.create(
            model="zoo-tiny", prompt=PROMPT, max_tokens=40, temperature=0,
            extra_body={"stop_token_ids": [token], "ignore_eos": True, **more},
        )  # fmt: skip
        assert found.choices[0].text == engine.tokenizer.decode(wanted)
        assert found.choices[0].finish_reason == "stop"


def test_penalties_biases_and_min_p_are_the_engines(client, engine) -> None:
    said = engine.generate(PROMPT, max_new_tokens=24)

    def ask(**options) -> str:
        answer = client.completions.create(
            model="zoo-tiny", prompt=PROMPT, max_tokens=24, extra_body={"ignore_eos": True}, **options
        )
        return answer.choices[0].text

    banned = {str(said.token_ids[0]): -100}
    assert ask(temperature=0, logit_bias=banned)[:5] != said.text[:5]
    forced = next(token for token in range(300, 400) if engine.tokenizer.decode([token]).isalpha())
    assert ask(temperature=0, logit_bias={str(forced): 100}) == engine.tokenizer.decode([forced] * 24)
    both = ask(temperature=0, logit_bias={str(forced): 30}, presence_penalty=2, frequency_penalty=2)
    assert 3 < both.count(engine.tokenizer.decode([forced])) < 24
    options = {"model": "zoo-tiny", "prompt": PROMPT, "max_tokens": 24, "temperature": 2, "seed": 5}
    likeliest = client.completions.create(**options, extra_body={"min_p": 1.0, "ignore_eos": True})
    assert likeliest.choices[0].text == ask(temperature=0)


def test_sixteen_tokens_are_the_default(client) -> None:
    found = client.completions.create(model="zoo-tiny", prompt=PROMPT, temperature=0, extra_body={"ignore_eos": True})
    assert found.usage.completion_tokens == 16


def test_models_are_listed_by_name(client) -> None:
    (found,) = client.models.list().data
    assert (found.id, found.object) == ("zoo-tiny", "model")
    assert found.precision == "int8"
    assert found.context_length == 512
    assert client.models.retrieve("zoo-tiny").id == "zoo-tiny"


def test_an_unknown_model_offers_the_nearest(client) -> None:
    import openai

    for ask in (
        lambda: client.models.retrieve("zoo-tine"),
        lambda: client.completions.create(model="zoo-tine", prompt=PROMPT),
    ):
        with pytest.raises(openai.NotFoundError, match="did you mean zoo-tiny") as found:
            ask()
        assert found.value.code == "model_not_found"
        assert found.value.param == "model"


def test_a_prompt_that_began_so_before_says_how_much_was_known(client) -> None:
    prompt = "The farmer and his dog went to the market to sell a cow, a hen and a duck. " * 4
    first = client.completions.create(model="zoo-tiny", prompt=prompt + "Then", max_tokens=2, temperature=0)
    again = client.completions.create(model="zoo-tiny", prompt=prompt + "But", max_tokens=2, temperature=0)
    assert first.usage.prompt_tokens_details.cached_tokens < 32
    assert 32 <= again.usage.prompt_tokens_details.cached_tokens < again.usage.prompt_tokens
