"""Checkpoints read as their users mean them: what transformers loads, or a refusal that says what to do."""

from __future__ import annotations

import itertools
import json
import logging
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.checkpoints import edit_config, make_checkpoint
from zoo.errors import ZooError
from zoo.plugins import host
from zoo.stages.request import Request
from zoo.stages.resolve import resolve

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from safetensors.torch import load_file, save_file  # noqa: E402

EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"
DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}
TABLES = ("model.layers.0.self_attn.rotary_emb.inv_freq", "model.rotary_emb.cos_cached", "model.position_ids")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """The tensors of a small model with a head of its own, and its ``config.json``."""
    folder = tmp_path_factory.mktemp("made")
    make_checkpoint(folder, tie_word_embeddings=False)
    return load_file(folder / "model.safetensors"), json.loads((folder / "config.json").read_text())


def write(folder: Path, tensors, config, *, shards: int = 1, indexed: bool = True) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return folder
    names, weight_map = sorted(tensors), {}
    for number in range(shards):
        file = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        mine = names[number::shards]
        save_file({name: tensors[name] for name in mine}, folder / file, metadata={"format": "pt"})
        weight_map |= {name: file for name in mine if name not in TABLES}
    if indexed:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def read(folder, **options):
    """Resolve a folder, and read every tensor that its architecture names as float32."""
    found = resolve(host().registry, Request(str(folder), "fp32", **options))
    arch, checkpoint = found.recipe.architecture, found.checkpoint
    values = {}
    for name, shape in host().registry.architecture(arch.type).tensors(arch).items():
        info = checkpoint.tensors[name]
        assert info.shape == shape
        rows = checkpoint.read(name, 0, shape[0])
        values[name] = (rows.astype(np.uint32) << 16).view(np.float32) if info.dtype == "BF16" else rows
    if arch.tie_word_embeddings:
        values[HEAD] = values[EMBED]
    return found, values


def loaded(folder):
    """What transformers makes of a folder."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return {name: value.numpy() for name, value in model.state_dict().items()}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_arrangement_is_read_as_transformers_reads_it(weights, data):
    """Ties, heads, prefixes, tables, shards, indexes and types in any combination."""
    choose = lambda *choices: data.draw(st.sampled_from(choices))  # noqa: E731
    tensors, config = dict(weights[0]), dict(weights[1])
    config["tie_word_embeddings"] = choose(True, False)
    head, embedding = choose("other", "equal", "absent"), choose(True, True, False)
    if head == "equal":
        tensors[HEAD] = tensors[EMBED].clone()
    elif head == "absent":
        del tensors[HEAD]
    if not embedding:
        del tensors[EMBED]
    # What is nowhere transformers makes up, and a build refuses.
    complete = (embedding or (config["tie_word_embeddings"] and head != "absent")) and (
        head != "absent" or config["tie_word_embeddings"]
    )
    if choose(False, True):
        tensors = {name.removeprefix("model."): value for name, value in tensors.items()}
        assume(embedding)
    for table in data.draw(st.sets(st.sampled_from(TABLES))):
        tensors[table] = torch.ones(8)
    kind = choose(*DTYPES)
    tensors = {name: value.to(DTYPES[kind]).contiguous() for name, value in tensors.items()}
    with tempfile.TemporaryDirectory() as place:
        folder = write(Path(place) / "ck", tensors, config, shards=choose(1, 2, 3), indexed=choose(True, False))
        if not complete:
            with pytest.raises(ZooError, match="is missing"):
                plan(folder)
            return
        index = folder / "model.safetensors.index.json"
        _, values = read(folder)
        if not index.exists() and not (folder / "model.safetensors").exists():
            names = {p.name: list(load_file(p)) for p in folder.glob("*.safetensors")}
            weight_map = {name: file for file, held in names.items() for name in held}
            index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))  # without it transformers gives up
        theirs = loaded(folder)
        for name, value in values.items():
            assert np.array_equal(value.reshape(theirs[name].shape), theirs[name]), name


def plan(folder, **options):
    from zoo.stages.plan import plan as make_plan

    found = resolve(host().registry, Request(str(folder), "fp32", **options))
    return make_plan(found.recipe, found.checkpoint, host().registry, folder.parent / "out")


def test_a_head_of_its_own_is_used_although_the_configuration_ties_it(weights, tmp_path, caplog):
    tensors, config = weights
    folder = write(tmp_path / "ck", tensors, config | {"tie_word_embeddings": True})
    with caplog.at_level(logging.WARNING):
        found, _ = read(folder)
    assert not found.recipe.architecture.tie_word_embeddings
    assert "lm_head.weight is another tensor than model.embed_tokens.weight: it is used" in caplog.text
    assert plan(folder).parameters == sum(value.numel() for value in tensors.values())


def test_the_engine_answers_as_transformers_where_the_head_is_untied(weights, tmp_path):
    import zoo
    from zoo.stages.build import build

    tensors, config = weights
    folder = write(tmp_path / "ck", tensors, config | {"tie_word_embeddings": True})
    found = resolve(host().registry, Request(str(folder), "fp32"))
    package = build(found.recipe, found.checkpoint, tmp_path / "out", host().registry)
    ids = [1, 30, 17, 141, 5, 77]
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        wanted = model(torch.tensor([ids])).logits[0].numpy()
    np.testing.assert_allclose(zoo.open(package.path).logits(ids), wanted, atol=1e-4)
    assert set(package.manifest.inputs) == set(tensors)


@pytest.mark.parametrize(
    ("strip", "put"),
    [("base_model.model.", ""), ("language_model.", ""), ("module.", ""), ("model.language_model.", "model.")],
)
def test_another_prefix_is_named_and_taken_off_where_asked(weights, tmp_path, strip, put):
    tensors, config = weights
    renamed = {
        strip + name.removeprefix(put) if name.startswith(put) else name: value for name, value in tensors.items()
    }
    folder = write(tmp_path / "ck", renamed, config)
    option = f"rename:strip={strip}" + (f",put={put}" if put else "")
    with pytest.raises(ZooError, match=f"names begin with '{strip}'; --transform {option} reads them"):
        plan(folder)
    found, values = read(folder, transforms=[("rename", {"strip": strip, "put": put})])
    assert found.recipe.weights.transforms[0].kind == "rename"
    for name, value in values.items():
        assert np.array_equal(value, tensors[name].numpy())


def test_renaming_what_is_not_there_is_refused(weights, tmp_path):
    folder = write(tmp_path / "ck", *weights)
    with pytest.raises(ZooError, match=r"no tensor's name begins with 'x\.'"):
        plan(folder, transforms=[("rename", {"strip": "x."})])
    with pytest.raises(ZooError, match="would both be"):
        plan(folder, transforms=[("rename", {"strip": "model.layers.0.", "put": "model.layers.1."})])


def test_unused_tensors_stop_a_build_unless_a_pattern_lets_them_go(weights, tmp_path, caplog):
    tensors, config = weights
    folder = write(tmp_path / "ck", tensors | {"score.weight": torch.ones(1, 64)}, config | {"num_hidden_layers": 1})
    with pytest.raises(ZooError, match=r"--allow-unused '(model\.layers\.1\.\*|score\.weight)' leaves it out"):
        plan(folder)
    patterns = ("model.layers.1.*", "score.weight", "model.embed*", "ghost")
    with caplog.at_level(logging.WARNING):
        planned = plan(folder, allow_unused=patterns)
    assert planned.recipe.allow_unused == patterns
    assert {one.name for one in planned.reads} == {n for n in tensors if not n.startswith("model.layers.1.")}
    for pattern in patterns[2:]:
        assert f"--allow-unused {pattern} matches no tensor that is unused" in caplog.text


def test_a_tensor_of_every_layer_has_one_pattern(weights, tmp_path):
    scales = {f"model.layers.{layer}.self_attn.k_scale": torch.ones(1) for layer in (0, 1)}
    folder = write(tmp_path / "ck", weights[0] | scales, weights[1])
    with pytest.raises(ZooError, match=r"--allow-unused 'model\.layers\.\*\.self_attn\.k_scale' leaves it out"):
        plan(folder)
    assert (
        plan(folder, allow_unused=["model.layers.*.self_attn.k_scale"]).parameters
        == plan(write(tmp_path / "plain", *weights)).parameters
    )


def test_the_pattern_is_part_of_the_recipe(weights, tmp_path):
    folder = write(tmp_path / "ck", weights[0] | {"score.weight": torch.ones(1, 64)}, weights[1])
    one, two = (plan(folder, allow_unused=[pattern]).recipe_hash for pattern in ("score.weight", "score.*"))
    assert one != two


def test_layers_that_predict_further_tokens_are_left_out_by_name(weights, tmp_path):
    tensors, config = weights
    extra = {
        "model.layers.2.eh_proj.weight": torch.ones(64, 128), "model.layers.2.enorm.weight": torch.ones(64),
        "model.layers.2.self_attn.q_proj.weight": torch.ones(64, 64), "mtp.fc.weight": torch.ones(64, 128),
    }  # fmt: skip
    _, values = read(write(tmp_path / "ck", tensors | extra, config))
    assert values.keys() == tensors.keys()
    without = {name: value for name, value in extra.items() if "eh_proj" not in name}
    with pytest.raises(ZooError, match=r"layers\.2\.enorm\.weight' is unused"):
        plan(write(tmp_path / "other", tensors | without, config))


LEFT = {"quant_method": "bitsandbytes", "load_in_4bit": True}


def test_a_configuration_that_a_merge_left_behind_is_passed_over(weights, tmp_path, caplog):
    tensors, config = weights
    folder = write(tmp_path / "ck", tensors, config | {"quantization_config": LEFT})
    with caplog.at_level(logging.WARNING):
        found, values = read(folder)
    assert "states quantization_config (bitsandbytes), but all weights are floats" in caplog.text
    assert np.array_equal(values[HEAD], tensors[HEAD].numpy())
    assert "quantization_config" not in found.checkpoint.config


def test_weights_that_are_quantized_are_refused_by_name(weights, tmp_path):
    tensors, config = dict(weights[0]), weights[1]
    tensors["model.layers.0.mlp.up_proj.weight"] = torch.zeros(3584, 1, dtype=torch.uint8)
    folder = write(tmp_path / "ck", tensors, config | {"quantization_config": {"quant_method": "aqlm"}})
    with pytest.raises(ZooError, match=r"quantized already \(aqlm; 'model\.layers\.0.* is U8\)"):
        plan(folder)


def test_an_adapter_beside_a_configuration_alone_is_said_to_be_that(weights, tmp_path):
    folder = write(tmp_path / "ck", *weights)
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(ZooError, match="ck holds an adapter, not a model"):
        plan(folder)


@pytest.mark.parametrize("key", ["vision_config", "audio_config"])
def test_a_multimodal_checkpoint_is_refused_with_help(weights, tmp_path, key):
    folder = write(tmp_path / "ck", weights[0], {"model_type": "of_images", key: {}})
    with pytest.raises(ZooError, match=f"a multimodal checkpoint .*{key}.* save its language model alone"):
        plan(folder)


@pytest.mark.parametrize("tower", ["vision_tower.", "model.visual.", "multi_modal_projector."])
def test_towers_beside_a_language_model_are_refused_with_help(weights, tmp_path, tower):
    folder = write(tmp_path / "ck", weights[0] | {f"{tower}linear.weight": torch.ones(4, 4)}, weights[1])
    with pytest.raises(ZooError, match=rf"a multimodal checkpoint .*--allow-unused '{tower}\*' leaves the rest out"):
        plan(folder)
    assert plan(folder, allow_unused=[f"{tower}*"]).parameters


def test_all_names_of_one_checkpoint_are_read_whatever_is_left_out(weights, tmp_path):
    """A prefix, a tied head under the head's name and an extra layer together."""
    tensors = {name.removeprefix("model."): value for name, value in weights[0].items() if name != EMBED}
    for table, name in itertools.product(TABLES, ("layers.2.eh_proj.weight",)):
        tensors |= {table: torch.ones(4), name: torch.ones(64, 128)}
    folder = write(tmp_path / "ck", tensors, weights[1] | {"tie_word_embeddings": True})
    edit_config(folder, rms_norm_eps=1e-5)
    _, values = read(folder)
    assert np.array_equal(values[EMBED], weights[0][HEAD].numpy())
