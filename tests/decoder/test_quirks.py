"""Quirks that ``config.json`` does not state: what a family's claim implies, against transformers' own model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zoo
from tests.checkpoints import SMALL, edit_config, make_of_type
from tests.decoder.stepping import Stepping, prompt
from zoo.declarations.architecture import Architecture
from zoo.declarations.traits import Trait, fields_with
from zoo.decoder import Decoder
from zoo.errors import ZooError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

IMPLIED = set(fields_with(Architecture, Trait.IMPLIED))
WINDOWS = set(fields_with(Architecture, Trait.WINDOW))
TOLERANCE = 1e-3
GREEDY = 110
VARIATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "qkv-bias": ("qwen2", {}),
    "qkv-bias-mha-head-8": ("qwen2", {"num_key_value_heads": 4, "hidden_size": 32}),
    "qkv-bias-tied": ("qwen2", {"tie_word_embeddings": True}),
    "window-of-later-layers": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1, "num_hidden_layers": 3},
    ),
    "window-by-layer": (
        "qwen2",
        {
            "use_sliding_window": True,
            "sliding_window": 16,
            "num_hidden_layers": 3,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
    ),
    "window-switched-off": ("qwen2", {"use_sliding_window": False, "sliding_window": 16}),
    "qk-norm": ("qwen3", {"head_dim": 32}),
    "qk-norm-padded-head": ("qwen3", {"head_dim": 8}),
    "qk-norm-odd-head-tied": ("qwen3", {"head_dim": 20, "tie_word_embeddings": True}),
    "qk-norm-epsilon": ("qwen3", {"head_dim": 8, "rms_norm_eps": 1e-1}),
    "qk-norm-biases": ("qwen3", {"head_dim": 16, "attention_bias": True}),
    "qk-norm-mqa-window": (
        "qwen3",
        {
            "head_dim": 24,
            "num_key_value_heads": 1,
            "use_sliding_window": True,
            "sliding_window": 8,
            "max_window_layers": 0,
        },
    ),
    "window": ("mistral", {"sliding_window": 16}),
    "window-of-two": ("mistral", {"sliding_window": 2, "head_dim": 8}),
    "window-wide": ("mistral", {"sliding_window": 255}),
    "no-window": ("mistral", {"sliding_window": None}),
    "norm-offset-mqa": ("gemma", {"num_key_value_heads": 1, "head_dim": 32}),
    "norm-offset-mha": ("gemma", {"num_key_value_heads": 4, "head_dim": 24}),
    "gelu-means-tanh": ("gemma", {"hidden_act": "gelu", "head_dim": 16}),
    "norm-offset-untied": ("gemma", {"head_dim": 16, "tie_word_embeddings": False}),
}


def greedy_of(model: Any, tokens: list[int], count: int) -> list[int]:
    model.generation_config.eos_token_id = None
    ids = torch.tensor([tokens])
    with torch.no_grad():
        longer = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False, pad_token_id=0
        )
    return longer[0, len(tokens) :].tolist()


@pytest.mark.parametrize("name", VARIATIONS)
def test_it_computes_what_transformers_computes(name: str, tmp_path: Path) -> None:
    model_type, numbers = VARIATIONS[name]
    model = make_of_type(tmp_path / "checkpoint", model_type, **numbers)
    package = zoo.build(str(tmp_path / "checkpoint"), "fp32", output=tmp_path / "package").path
    tokens = prompt(100)
    with torch.no_grad():
        wanted = model(torch.tensor([tokens])).logits[0].numpy()
    stepping = Stepping(package)
    found = stepping.step(tokens, keep=0)
    assert float(np.abs(found - wanted).max()) <= TOLERANCE
    assert wanted.std() > 0.5, "logits this flat would hide a difference"
    engine = zoo.open(package)
    assert engine.generate(tokens[:5], max_new_tokens=GREEDY, ignore_eos=True).token_ids == greedy_of(
        model, tokens[:5], GREEDY
    )


@pytest.mark.parametrize(("model_type", "dtype"), [("qwen3", "bfloat16"), ("gemma", "bfloat16"), ("gemma", "float16")])
def test_weights_of_16_bits_are_widened_before_anything_is_done(model_type, dtype, tmp_path: Path) -> None:
    """An offset of norms is added in float32: 1 + w does not fit bfloat16."""
    model = make_of_type(tmp_path / "checkpoint", model_type, dtype=dtype, head_dim=16)
    package = zoo.build(str(tmp_path / "checkpoint"), "fp32", output=tmp_path / "package").path
    tokens = prompt(60)
    with torch.no_grad():
        wanted = model(torch.tensor([tokens])).logits[0].numpy()
    assert float(np.abs(zoo.open(package).logits(tokens) - wanted).max()) <= TOLERANCE


SLIDING = {"mistral": {"sliding_window": 16}}


@pytest.mark.parametrize("precision", ["int8", "int4", "fp16"])
@pytest.mark.parametrize("model_type", ["qwen2", "qwen3", "mistral", "gemma"])
def test_every_precision_stays_near(model_type: str, precision: str, tmp_path: Path) -> None:
    model = make_of_type(tmp_path / "checkpoint", model_type, head_dim=16, **SLIDING.get(model_type, {}))
    package = zoo.build(str(tmp_path / "checkpoint"), precision, output=tmp_path / "package").path
    tokens = prompt(60)
    with torch.no_grad():
        wanted = model(torch.tensor([tokens])).logits[0].numpy()
    apart = float(np.sqrt(np.mean((zoo.open(package).logits(tokens) - wanted) ** 2)) / wanted.std())
    assert apart < {"int8": 0.15, "int4": 0.8, "fp16": 0.01}[precision], apart


@pytest.mark.parametrize("model_type", ["qwen2", "qwen3", "mistral", "gemma"])
def test_calibration_computes_the_same(model_type: str, tmp_path: Path) -> None:
    """What calibration sends its samples through is what transformers computes, and AWQ's folding keeps it."""
    from zoo.calibration.execute import Executor
    from zoo.calibration.layer import Layer
    from zoo.calibration.program import cut
    from zoo.calibration.weights import read_float32
    from zoo.package.layout import lay_out
    from zoo.plugins import host
    from zoo.quantizers.slab import Scratch
    from zoo.stages.resolve import Request, resolve

    model = make_of_type(tmp_path / "checkpoint", model_type, head_dim=24, **SLIDING.get(model_type, {}))
    found = resolve(host().registry, Request(str(tmp_path / "checkpoint"), "fp32"))
    layout = lay_out(found.recipe, host().registry)
    assert layout.architecture is not None
    assert found.checkpoint is not None
    program = cut(layout.program)
    scratch, executor = Scratch(), Executor()
    weights = {one.parameter.name: read_float32(one.parameter, found.checkpoint, scratch) for one in layout.placed}
    ids = torch.from_numpy(np.random.default_rng(0).integers(0, 331, (2, 40)))

    def run() -> Any:
        state = ids
        for segment in (program.before, *program.layers, program.after):
            state = executor.run(segment, state, {name: torch.from_numpy(one) for name, one in weights.items()})
        return state

    with torch.no_grad():
        wanted = model(ids).logits
        torch.testing.assert_close(run(), wanted, atol=TOLERANCE, rtol=TOLERANCE)
        for segment in program.layers:
            layer = Layer(segment, weights, torch, "cpu")
            assert [link.source.role for link in layer.links] == [
                "input_layernorm", "attn.qkv_proj", "post_attention_layernorm", "mlp.up_proj",
            ]  # fmt: skip
            for link in layer.links:
                rows = np.random.default_rng(1).uniform(0.5, 2, layer.weight(link.source).shape[0]).astype(np.float32)
                layer.fold(link, rows[link.rows])
        torch.testing.assert_close(run(), wanted, atol=TOLERANCE, rtol=TOLERANCE)


def test_a_claim_says_what_transformers_means_by_an_absent_key() -> None:
    """Sizes alone in ``config.json``: every other number is that of transformers' own configuration."""
    from zoo.plugins import host

    sizes = {name: SMALL[name] for name in SMALL if name not in ("num_key_value_heads", "max_position_embeddings")}
    sizes |= {"num_attention_heads": 32, "hidden_size": 64}
    registry = host().registry
    for model_type in ("llama", "qwen2", "qwen3", "mistral", "gemma"):
        family = registry.claimant(model_type)
        assert family is not None
        claim = family.family.claim(model_type)
        arch = registry.architecture("decoder").read_config(
            {**sizes, "model_type": model_type}, claim.model_dump(exclude_unset=True)
        )
        config = transformers.CONFIG_MAPPING[model_type](**sizes)
        heads = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        assert arch.head_dim == heads, model_type
        assert arch.rope_theta == config.rope_parameters["rope_theta"], model_type
        assert arch.sliding_window == getattr(config, "sliding_window", None), model_type
        for name in (
            "num_key_value_heads", "max_position_embeddings", "rms_norm_eps", "hidden_act", "tie_word_embeddings",
        ):  # fmt: skip
            assert getattr(arch, name) == getattr(config, name), (model_type, name)
        assert claim.model_fields_set & IMPLIED or model_type in ("llama", "mistral")


def test_a_model_type_without_windows_refuses_one(tmp_path: Path) -> None:
    """Where nobody claims the type, and in types that know no windows, a window is no window that is computed."""
    make_of_type(tmp_path / "checkpoint", "llama")
    edit_config(tmp_path / "checkpoint", sliding_window=16)
    with pytest.raises(ZooError, match="sliding_window 16 is not supported"):
        zoo.build(str(tmp_path / "checkpoint"), "fp32", output=tmp_path / "package")


@pytest.mark.parametrize(
    ("model_type", "changes", "message"),
    [
        ("qwen2", {"qkv_bias": False}, "qkv_bias False"),
        ("qwen3", {"layer_types": ["full_attention"], "use_sliding_window": True, "sliding_window": 8}, "1 layers of"),
        ("qwen3", {"use_sliding_window": True, "sliding_window": 8, "layer_types": None, "max_window_layers": None},
         "max_window_layers"),
        ("qwen3", {"use_sliding_window": "yes"}, "use_sliding_window"),
        ("mistral", {"sliding_window": -1}, "sliding_window"),
        ("mistral", {"sliding_window": 2.5}, "sliding_window"),
        ("gemma", {"hidden_activation": "silu"}, "contradict"),
        ("gemma", {"norm_offset": 2.0}, "norm_offset 2.0"),
    ],
)  # fmt: skip
def test_what_contradicts_the_type_is_refused(model_type: str, changes: Any, message: str, tmp_path: Path) -> None:
    make_of_type(tmp_path / "checkpoint", model_type)
    edit_config(tmp_path / "checkpoint", **changes)
    with pytest.raises(ZooError, match=message):
        zoo.build(str(tmp_path / "checkpoint"), "fp32", output=tmp_path / "package")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 300)
    | st.floats()
    | st.sampled_from(["tanh", "gelu", "full_attention"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
)
KEYS = sorted(IMPLIED | WINDOWS | {"layer_types", "max_window_layers", "hidden_activation", "hidden_act", "head_dim"})


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["qwen2", "qwen3", "mistral", "gemma"]), st.dictionaries(st.sampled_from(KEYS), JSON, max_size=4)
)
def test_anything_is_read_or_refused_in_one_line(model_type: str, changes: dict[str, Any]) -> None:
    from zoo.plugins import host

    family = host().registry.claimant(model_type)
    assert family is not None
    claim = family.family.claim(model_type).model_dump(exclude_unset=True)
    refusal = ""
    try:
        arch = Decoder().read_config({**SMALL, **changes}, claim)
    except ZooError as error:
        refusal = str(error)
    assert "\n" not in refusal
    assert len(refusal) < 400
    if refusal:
        return
    assert arch == Architecture.model_validate_json(arch.model_dump_json())
    assert {name: getattr(arch, name) for name in IMPLIED} == {
        name: claim.get(name, Architecture.model_fields[name].get_default(call_default_factory=True))
        for name in IMPLIED
    }
    assert all(arch.window(layer) is None or arch.window(layer) < 256 for layer in range(2))
