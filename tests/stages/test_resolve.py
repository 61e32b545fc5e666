"""What MODEL means, and what a declaration and a checkpoint say of each other."""

from __future__ import annotations

import json
import logging

import pytest

from tests.checkpoints import SMALL, edit_config, make_checkpoint
from tests.conftest import REGISTER_FAMILY
from zoo import plugins
from zoo.errors import UsageError, ZooError
from zoo.stages.resolve import Request, resolve


def resolved(model, **kwargs):
    return resolve(plugins.host().registry, Request(model=str(model), **kwargs))


@pytest.fixture
def checkpoint(tmp_path):
    folder = tmp_path / "mine"
    make_checkpoint(folder)
    return folder


def test_any_checkpoint_of_a_claimed_type_resolves(checkpoint) -> None:
    recipe = resolved(checkpoint).recipe
    assert (recipe.model, recipe.family, recipe.licence.id, recipe.precision) == ("mine", "llama", "unknown", "int8")
    assert recipe.architecture.attention == "GQA"
    assert recipe.quantizer.name == "rtn"
    assert str(checkpoint) not in recipe.model_dump_json()


def test_the_hash_follows_what_decides_the_bits(checkpoint, tmp_path) -> None:
    first = resolved(checkpoint).recipe
    checkpoint.rename(tmp_path / "other-name")
    moved = resolved(tmp_path / "other-name").recipe
    assert (first.hash, first.model) == (moved.hash, "mine")
    assert moved.model == "other-name"
    assert resolved(tmp_path / "other-name", precision="int4").recipe.hash != first.hash
    assert resolved(tmp_path / "other-name", quantizer_options={"block_size": 32}).recipe.hash != first.hash
    edit_config(tmp_path / "other-name", rms_norm_eps=1e-3)
    assert resolved(tmp_path / "other-name").recipe.hash != first.hash


def test_the_licence_of_a_checkpoint_is_its_own(checkpoint) -> None:
    (checkpoint / "README.md").write_text("---\nlanguage: en\nlicense: mit\n---\n# Mine\n")
    assert resolved(checkpoint).recipe.licence.id == "mit"


def test_an_unclaimed_type_is_named(checkpoint) -> None:
    edit_config(checkpoint, model_type="gpt2")
    with pytest.raises(ZooError, match=r"no family claims model_type 'gpt2'.*llama"):
        resolved(checkpoint)


def declare(install_plugin, family_yaml, **changes) -> None:
    numbers = {key: value for key, value in {**SMALL, **changes}.items() if key != "max_position_embeddings"}
    text = family_yaml().split("    architecture:\n")[0].replace("vocab_size: 320, ", "")
    extra = changes.pop("extra", "")
    text = text.replace("max_position_embeddings: 64", f"max_position_embeddings: 256{extra}")
    install_plugin("declared", REGISTER_FAMILY, family__yaml=text + f"    architecture: {json.dumps(numbers)}\n")


def test_a_shape_that_contradicts_the_checkpoint_is_an_error_that_names_both(
    checkpoint, install_plugin, family_yaml
) -> None:
    declare(install_plugin, family_yaml, num_key_value_heads=4)
    with pytest.raises(ZooError, match=r"declares num_key_value_heads 4, but config.json of mine says 2"):
        resolved("example-1b", weights=str(checkpoint))


def test_elsewhere_the_checkpoint_wins_and_one_warning_names_both(
    checkpoint, install_plugin, family_yaml, caplog
) -> None:
    declare(install_plugin, family_yaml, rms_norm_eps=1e-5)
    with caplog.at_level(logging.WARNING, "zoo"):
        recipe = resolved("example-1b", weights=str(checkpoint)).recipe
    assert recipe.architecture.rms_norm_eps == 1e-6
    assert len(caplog.records) == 1
    assert "1e-05" in caplog.text
    assert "1e-06" in caplog.text


def test_declared_tokens_win_where_they_override(checkpoint, install_plugin, family_yaml, caplog) -> None:
    edit_config(checkpoint, bos_token_id=0, eos_token_id=1, pad_token_id=-1)
    for file in checkpoint.glob("generation_config.json"):
        file.unlink()
    tokens = resolved(checkpoint).recipe.tokens
    assert (tokens.bos_token_id, tokens.eos_token_id, tokens.pad_token_id) == (0, (1,), None)
    text = family_yaml().split("    architecture:\n")[0].replace("vocab_size: 320, ", "")
    text = text.replace("max_position_embeddings: 64", "max_position_embeddings: 256")
    numbers = {key: value for key, value in SMALL.items() if key != "max_position_embeddings"}
    text += f"    architecture: {json.dumps(numbers)}\n"
    text += "tokens: {bos_token_id: 1, eos_token_id: 2, override: early conversions are wrong}\n"
    install_plugin("declared", REGISTER_FAMILY, family__yaml=text)
    with caplog.at_level(logging.WARNING, "zoo"):
        tokens = resolved("example-1b", weights=str(checkpoint)).recipe.tokens
    assert (tokens.bos_token_id, tokens.eos_token_id) == (1, (2,))
    assert "early conversions are wrong" in caplog.text


def test_wrong_requests(checkpoint, tmp_path) -> None:
    for kwargs, message in (
        ({"precision": "int3"}, "unknown precision 'int3'"),
        ({"quantizer": "rtnn"}, "did you mean rtn"),
        ({"target": "orx"}, "did you mean ort"),
        ({"quantizer_options": {"block": 1}}, "unknown option of quantizer 'rtn' 'block'; did you mean block_size"),
        ({"quantizer_options": {"block_size": 33}}, "option block_size"),
        ({"precision": "fp16", "quantizer": "rtn"}, "quantizer 'rtn' supports int8, int4, not fp16"),
        ({"revision": "v1"}, "its weights are a folder, which has no revision 'v1'"),
    ):
        with pytest.raises(UsageError, match=message):
            resolved(checkpoint, **kwargs)
    with pytest.raises(UsageError, match="has no revision"):
        resolved("llama-33b", weights=str(checkpoint), revision="v1")
    with pytest.raises(UsageError, match="has no revision"):
        resolved("zoo-tiny", revision="v1")
    with pytest.raises(UsageError, match="the name is empty"):
        resolved(" ")
    with pytest.raises(ZooError, match="neither a checkpoint nor a package"):
        resolved(tmp_path)
    with pytest.raises(ZooError, match="there is no folder"):
        resolved("./nowhere")
    with pytest.raises(ZooError, match="no such folder, and not a hub id"):
        resolved("llama-33b", weights="./nowhere")
    with pytest.raises(UsageError, match="did you mean llama-33b"):
        resolved("llama-33")


def test_weights_that_are_not_here_say_what_to_do() -> None:
    with pytest.raises(ZooError, match="alexl83/LLaMA-33B-HF"):
        resolved("llama-33b")
