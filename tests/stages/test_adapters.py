"""LoRA adapters, merged slab by slab: equal to what PEFT's merge_and_unload makes of the same files."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import zoo
from tests.checkpoints import make_checkpoint
from zoo.cli import app
from zoo.errors import UsageError, ZooError
from zoo.plugins import host
from zoo.sources import adapter as adapter_module
from zoo.sources.adapter import Adapter
from zoo.stages.request import Request
from zoo.stages.resolve import resolve

peft = pytest.importorskip("peft")
torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "base"
    make_checkpoint(folder, dtype="float32")
    return folder


def train(base: Path, folder: Path, seed: int = 0, **options) -> Path:
    """Save an adapter with random weights, as PEFT saves it."""
    from transformers import LlamaForCausalLM

    torch.manual_seed(seed)
    options = {"r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "v_proj", "down_proj"], **options}
    config = peft.LoraConfig(init_lora_weights=False, task_type="CAUSAL_LM", **options)
    model = peft.get_peft_model(LlamaForCausalLM.from_pretrained(base), config)
    with torch.no_grad():
        for name, values in model.named_parameters():
            if "modules_to_save" in name:
                values += torch.randn_like(values) * 0.1
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    return folder


def by_peft(base: Path, *adapters: Path) -> dict[str, np.ndarray]:
    """Merge adapters by PEFT, one after the other."""
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32)
    for folder in adapters:
        model = peft.PeftModel.from_pretrained(model, folder).merge_and_unload()
    return {name: values.detach().numpy() for name, values in model.state_dict().items()}


def merged(base: Path, *adapters: Path, **options) -> tuple[dict[str, np.ndarray], zoo.Checkpoint]:
    request = Request(str(base), "fp32", adapters=[str(one) for one in adapters], **options)
    checkpoint = resolve(host().registry, request).checkpoint
    values = {}
    for name, info in checkpoint.tensors.items():
        rows = info.shape[0]
        cuts = [0, rows // 3, rows]
        parts = [checkpoint.read(name, a, b) for a, b in itertools.pairwise(cuts)]
        values[name] = np.concatenate(parts).reshape(info.shape)
    return values, checkpoint


KINDS = {
    "plain": {},
    "rslora": {"use_rslora": True},
    "patterns": {"rank_pattern": {"q_proj": 2, "layers.1.mlp.down_proj": 8}, "alpha_pattern": {".*v_proj": 3}},
    "target regex": {"target_modules": r".*layers\.1\..*(q|o)_proj"},
    "modules to save": {"modules_to_save": ["lm_head", "norm"]},
    "embeddings": {"target_modules": ["embed_tokens", "lm_head", "k_proj"]},
    "all linear": {"target_modules": "all-linear"},
    "some layers": {"layers_to_transform": [1]},
    "fan in": {"fan_in_fan_out": False},
}


@pytest.mark.parametrize("kind", KINDS)
def test_merged_as_peft_merges(base, tmp_path, kind):
    folder = train(base, tmp_path / "tune", **KINDS[kind])
    values, expected = merged(base, folder)[0], by_peft(base, folder)
    assert values.keys() == expected.keys()
    changed = 0
    plain = by_peft(base)
    for name, value in values.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=2e-6, err_msg=name)
        changed += not np.array_equal(expected[name], plain[name])
    assert changed


def test_several_in_order_with_scales_and_a_recipe_that_states_them(base, tmp_path):
    one, two = train(base, tmp_path / "one"), train(base, tmp_path / "two", seed=1, modules_to_save=["norm"])
    values, checkpoint = merged(base, one, two)
    expected = by_peft(base, one, two)
    for name, value in values.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=2e-6)
    assert [pin.kind for pin in checkpoint.transforms] == ["adapter", "adapter"]
    assert all(pin.digest and pin.options == {"scale": 1.0} for pin in checkpoint.transforms)
    half = merged(base, one, adapter_scales=[0.5])[0]
    name = "model.layers.0.self_attn.q_proj.weight"
    plain, whole = merged(base)[0][name], merged(base, one)[0][name]
    np.testing.assert_allclose(half[name] - plain, (whole - plain) / 2, atol=1e-5)


def test_a_package_is_verified_against_peft(base, tmp_path):
    pytest.importorskip("transformers")
    folder = train(base, tmp_path / "tune", modules_to_save=["norm"])
    run = CliRunner()
    built = run.invoke(app, ["build", str(base), "-p", "fp32", "--adapter", str(folder), "-o", str(tmp_path / "out")])
    assert built.exit_code == 0, built.output
    assert str(folder) not in (tmp_path / "out" / "zoo.json").read_text()
    common = ["verify", str(tmp_path / "out"), "--quick", "--weights", str(base)]
    checked = run.invoke(app, [*common, "--adapter", str(folder)])
    assert checked.exit_code == 0, checked.output
    lost = run.invoke(app, common)
    assert lost.exit_code == 1
    assert "--adapter names its folder" in lost.output
    other = train(base, tmp_path / "other", seed=5)
    wrong = run.invoke(app, [*common, "--adapter", str(other)])
    assert "is not the adapter that was merged" in wrong.output


def test_a_wrong_merge_fails_verification(base, tmp_path, monkeypatch):
    folder = train(base, tmp_path / "tune")
    delta = adapter_module.Adapter._delta

    def doubled(self, *given, **more):
        from dataclasses import replace

        made = delta(self, *given, **more)
        return replace(made, scaling=made.scaling * 2)

    monkeypatch.setattr(adapter_module.Adapter, "_delta", doubled)
    zoo.build(base, "fp32", output=tmp_path / "out", adapters=[folder])
    checked = CliRunner().invoke(
        app, ["verify", str(tmp_path / "out"), "--quick", "--weights", str(base), "--adapter", str(folder)]
    )
    assert checked.exit_code == 1
    assert "FAILED" in checked.output


def test_an_adapter_beside_its_base_is_merged_unless_it_is_not_wanted(tmp_path):
    make_checkpoint(tmp_path / "both")
    plain = zoo.plan(tmp_path / "both", "fp32").recipe
    train(tmp_path / "both", tmp_path / "both")
    lines: list[str] = []
    with_adapter = zoo.plan(tmp_path / "both", "fp32").recipe
    assert [pin.kind for pin in with_adapter.weights.transforms] == ["adapter"]
    without = zoo.plan(tmp_path / "both", "fp32", no_adapter=True).recipe
    assert without.weights.transforms == plain.weights.transforms == ()
    assert not lines
    with pytest.raises(UsageError, match="--no-adapter and --adapter cannot be used together"):
        zoo.plan(tmp_path / "both", "fp32", no_adapter=True, adapters=[tmp_path / "both"])


def test_levels_that_an_adapter_leaves_alone_are_taken_over(tmp_path, monkeypatch):
    from tests.stages import test_takeover

    monkeypatch.setitem(host().registry.transforms, "blocks", "tests.stages.test_takeover:InBlocks")
    test_takeover.make(tmp_path / "mine")
    folder = train(tmp_path / "mine", tmp_path / "tune", target_modules=["down_proj"])
    planned = zoo.plan(tmp_path / "mine", "int4", transforms=[("blocks", {})], adapters=[folder])
    assert set(planned.recipe.taken_over) == {"attn.qkv_proj", "attn.o_proj", "mlp.gate_proj", "mlp.up_proj"}


def edit(folder: Path, **changes) -> Path:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"use_dora": True}, r"DoRA \(use_dora\) is not merged"),
        ({"peft_type": "IA3"}, "type 'IA3' is not merged"),
        ({"bias": "all"}, "biases that were trained"),
        ({"init_lora_weights": "pissa"}, "'pissa' changed the base"),
        ({"target_parameters": ["a"]}, "'target_parameters' in its adapter_config.json is not known"),
        ({"r": 8}, "but the rank is 8"),
        ({"lora_alpha": "x"}, "lora_alpha of .* is x"),
        ({"rank_pattern": {"(a+)+$": 4}}, "too involved"),
        ({"rank_pattern": {"(": 4}}, "adapter_config.json: missing"),
        ({"rank_pattern": [1]}, "rank_pattern in its adapter_config.json is not an object"),
    ],
)
def test_what_is_not_merged_is_refused_by_name(base, tmp_path, changes, said):
    folder = edit(train(base, tmp_path / "tune"), **changes)
    with pytest.raises(ZooError, match=said) as refusal:
        merged(base, folder)
    assert "\n" not in str(refusal.value)


JUNK = [None, True, -1, 2**70, float("nan"), "x" * 300, [[]], {"q_proj": {}}, {"(a+)+$": 2}]


def test_whatever_a_configuration_says(base, tmp_path):
    folder = train(base, tmp_path / "tune", rank_pattern={"q_proj": 2}, alpha_pattern={"v_proj": 3})
    config = json.loads((folder / "adapter_config.json").read_text())
    for key in config:
        for junk in JUNK:
            (folder / "adapter_config.json").write_text(json.dumps(config | {key: junk}))
            try:
                Adapter(folder, "tune")
            except ZooError as error:
                assert str(error).count("\n") == 0  # noqa: PT017


def rewrite(folder: Path, change) -> Path:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "adapter_model.safetensors")
    change(tensors)
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


A = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda tensors: tensors.update({A.replace("layers.0", "layers.9"): tensors[A].clone()}),
            "lora_B.weight' is missing",
        ),
        (lambda tensors: tensors.pop(A), "has no partner"),
        (lambda tensors: tensors.update({A: torch.ones(4, 7)}), r"is \[64, 7\], but that is \[64, 64\]"),
        (lambda tensors: tensors.update({"base_model.model.other.weight": torch.ones(2)}), "which base does not have"),
        (lambda tensors: tensors.update({A: torch.full((4, 64), float("nan"))}), "NaN or infinite"),
        (lambda tensors: tensors.update({A.replace("lora_A", "lora_magnitude_vector"): torch.ones(4)}), "kind of LoRA"),
        (lambda tensors: tensors.clear(), "is empty"),
    ],
    ids=["lone", "no partner", "shape", "fits nothing", "nan", "magnitudes", "empty"],
)
def test_tensors_that_fit_nothing_are_refused(base, tmp_path, change, said):
    folder = rewrite(train(base, tmp_path / "tune"), change)
    with pytest.raises(ZooError, match=said):
        merged(base, folder)


def test_an_adapter_of_another_base_and_folders_that_hold_none(base, tmp_path, caplog):
    folder = edit(train(base, tmp_path / "tune"), base_model_name_or_path="other/model")
    merged(base, folder)
    assert "was trained on other/model; it is merged into base" in caplog.text
    (tmp_path / "empty").mkdir()
    with pytest.raises(ZooError, match=r"not an adapter: adapter_config\.json is missing"):
        merged(base, tmp_path / "empty")
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(ZooError, match=r"no adapter_model\.safetensors"):
        merged(base, folder)
    with pytest.raises(UsageError, match="given 2 times for 1"):
        zoo.plan(base, "fp32", adapters=[folder], adapter_scales=[1.0, 2.0])
    with pytest.raises(UsageError, match="neither a folder nor a hub id"):
        zoo.plan(base, "fp32", adapters=["./nothing/of/it"])


DECLARED = """
name: small
title: Small
licence: {id: mit}
architecture: {hidden_size: 64, intermediate_size: 112, num_hidden_layers: 2, num_attention_heads: 4,
  num_key_value_heads: 2, vocab_size: 331, max_position_embeddings: 256}
models:
  - name: small-tune
    weights: {hub: someone/base}
    adapter: {hub: someone/tune}
"""


def test_adapters_of_the_hub_and_of_declared_models(server, base, tmp_path, install_plugin, monkeypatch):
    from tests.conftest import REGISTER_FAMILY

    server.add("someone/base", base)
    server.add("someone/tune", edit(train(base, tmp_path / "tune"), base_model_name_or_path="someone/base"))
    server.add("someone/wrong", edit(train(base, tmp_path / "wrong"), base_model_name_or_path="someone/other"))
    install_plugin("small", REGISTER_FAMILY, family__yaml=DECLARED)
    assert CliRunner().invoke(app, ["fetch", "small-tune"]).exit_code == 0
    with monkeypatch.context() as without:
        without.setenv("HF_HUB_OFFLINE", "1")
        assert zoo.plan("small-tune", "fp32").download_bytes == 0
    asked = zoo.build("someone/base", "fp32", output=tmp_path / "a", adapters=["someone/tune"])
    (pin,) = asked.manifest.recipe.weights.transforms
    commit = server.repos["someone/tune"].commit
    assert pin.options == {"hub": "someone/tune", "revision": commit, "scale": 1.0}
    declared = zoo.build("small-tune", "fp32", output=tmp_path / "b")
    assert declared.manifest.recipe.weights.transforms == (pin,)
    assert zoo.plan("small-tune", "fp32", no_adapter=True).recipe.weights.transforms == ()
    with pytest.raises(ZooError, match="an adapter for someone/other, not for someone/base"):
        zoo.plan("someone/base", "fp32", adapters=["someone/wrong"])
    checked = CliRunner().invoke(app, ["verify", str(tmp_path / "b"), "--quick"])
    assert checked.exit_code == 0, checked.output
