"""The bundled families: their numbers against published totals, their sources, their templates."""

from __future__ import annotations

import ast
import logging
import re
from pathlib import Path
from typing import Any

import pytest

from zoo.engine.chat import render
from zoo.errors import ZooError
from zoo.plugins import host
from zoo.registry import DeclaredModel
from zoo.stages.describe import describe
from zoo.stages.listing import parameter_count
from zoo.stages.resolve import resolve_architecture
from zoo.stages.tokens import resolve_tokens

FAMILIES = (
    "llama3", "qwen", "mistral", "gemma", "yi", "deepseek-r1", "wizardlm", "openbuddy", "tigerbot", "skywork-or1",
    "internlm", "glm", "baichuan2", "phi", "aquila", "exaone4", "falcon", "granite", "mobillama", "olmo2", "smollm",
    "stablelm", "mixtral", "mirothinker", "gpt-oss", "tongyi-deepresearch", "deepseek-v3",
)  # fmt: skip

# How many weights the hub counts in each repository's safetensors.
TOTALS = {
    "llama3-8b": 8_030_261_248,
    "llama3-70b": 70_553_706_496,
    "llama3.1-405b": 405_853_388_800,
    "llama3.2-1b": 1_235_814_400,
    "llama3.2-3b": 3_212_749_824,
    "llama3.3-70b-instruct": 70_553_706_496,
    "qwen1.5-0.5b": 463_987_712,
    "qwen1.5-1.8b": 1_836_828_672,
    "qwen1.5-4b": 3_950_369_280,
    "qwen1.5-7b": 7_721_324_544,
    "qwen1.5-14b": 14_167_290_880,
    "qwen1.5-32b": 32_512_218_112,
    "qwen1.5-72b": 72_287_920_128,
    "qwen1.5-110b": 111_209_914_368,
    "qwen2-72b": 72_706_203_648,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-1.5b": 1_543_714_304,
    "qwen2.5-3b": 3_085_938_688,
    "qwen2.5-7b": 7_615_616_512,
    "qwen2.5-14b": 14_770_033_664,
    "qwen2.5-32b": 32_763_876_352,
    "qwen2.5-72b": 72_706_203_648,
    "qwen3-0.6b": 596_049_920,
    "qwen3-1.7b": 1_720_574_976,
    "qwen3-4b": 4_022_468_096,
    "qwen3-8b": 8_190_735_360,
    "qwen3-14b": 14_768_307_200,
    "qwen3-32b": 32_762_123_264,
    "qwen3-30b-a3b": 30_532_122_624,
    "qwen3-235b-a22b": 235_093_634_560,
    "qwen1.5-moe-a2.7b": 14_315_784_192,
    "gpt-oss-20b": 20_914_757_184,
    "gpt-oss-120b": 116_829_156_672,
    "mixtral-8x7b-v0.1": 46_702_792_704,
    "mixtral-8x22b-v0.1": 140_620_634_112,
    "mixtral-8x22b-instruct-v0.1": 140_630_071_296,
    "mistral-7b-v0.1": 7_241_732_096,
    "mistral-7b-v0.3": 7_248_023_552,
    "ministral-8b-instruct": 8_019_808_256,
    "gemma-2b": 2_506_172_416,
    "gemma-7b": 8_537_680_896,
    "gemma-2-2b": 2_614_341_888,
    "gemma-3-1b-it": 999_885_952,
    "internlm2-7b": 7_737_708_544,
    "stablelm-2-1.6b": 1_644_515_328,
    "smollm2-135m": 134_515_008,
    "smollm3-3b": 3_075_098_624,
    "phi-3-mini-4k-instruct": 3_821_079_552,
    "phi-4": 14_659_507_200,
    "phi-4-mini-instruct": 3_836_021_760,
    "yi-6b": 6_061_035_520,
    "yi-9b": 8_829_407_232,
    "yi-34b": 34_388_917_248,
    "deepseek-v2-lite": 15_706_484_224,
    "deepseek-r1": 671_026_419_200,
    "deepseek-r1-distill-qwen-1.5b": 1_777_088_000,
    "deepseek-r1-distill-qwen-7b": 7_615_616_512,
    "deepseek-r1-distill-llama-8b": 8_030_261_248,
}


def model(name: str) -> DeclaredModel:
    return host().registry.model(name)


class Config:
    """A checkpoint of which nothing but ``config.json`` is looked at."""

    name = "checkpoint"

    def __init__(self, **config: Any) -> None:
        self.config, self.files = config, dict[str, bytes]()

    def companion(self, name: str) -> bytes | None:
        return self.files.get(name)


# As published; keys that shape nothing are left out.
PUBLISHED: dict[str, dict[str, Any]] = {
    "qwen1.5-4b-chat": {
        "hidden_act": "silu", "hidden_size": 2560, "intermediate_size": 6912, "max_position_embeddings": 32768,
        "max_window_layers": 21, "model_type": "qwen2", "num_attention_heads": 20, "num_hidden_layers": 40,
        "num_key_value_heads": 20, "rms_norm_eps": 1e-06, "rope_theta": 5000000.0, "sliding_window": 4096,
        "tie_word_embeddings": False, "use_sliding_window": False, "vocab_size": 151936,
    },
    "ministral-8b-instruct": {
        "head_dim": 128, "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 12288,
        "max_position_embeddings": 32768, "model_type": "mistral", "num_attention_heads": 32, "num_hidden_layers": 36,
        "num_key_value_heads": 8, "rms_norm_eps": 1e-05, "rope_theta": 100000000.0, "sliding_window": 32768,
        "tie_word_embeddings": False, "vocab_size": 131072,
    },
    "llama3.2-3b": {
        "attention_bias": False, "head_dim": 128, "hidden_act": "silu", "hidden_size": 3072, "intermediate_size": 8192,
        "max_position_embeddings": 131072, "mlp_bias": False, "model_type": "llama", "num_attention_heads": 24,
        "num_hidden_layers": 28, "num_key_value_heads": 8, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
        "rope_scaling": {
            "factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
            "original_max_position_embeddings": 8192, "rope_type": "llama3",
        },
        "rope_theta": 500000.0, "tie_word_embeddings": True, "vocab_size": 128256,
    },
    "yi-9b": {
        "attention_bias": False, "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 11008,
        "max_position_embeddings": 4096, "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 48,
        "num_key_value_heads": 4, "rms_norm_eps": 1e-06, "rope_scaling": None, "rope_theta": 10000,
        "tie_word_embeddings": False, "vocab_size": 64000,
    },
    "deepseek-r1-distill-qwen-1.5b": {
        "hidden_act": "silu", "hidden_size": 1536, "intermediate_size": 8960, "max_position_embeddings": 131072,
        "max_window_layers": 21, "model_type": "qwen2", "num_attention_heads": 12, "num_hidden_layers": 28,
        "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 10000, "sliding_window": None,
        "tie_word_embeddings": False, "use_mrope": False, "use_sliding_window": False, "vocab_size": 151936,
    },
    "deepseek-v3": {
        "attention_bias": False, "first_k_dense_replace": 3, "hidden_act": "silu", "hidden_size": 7168,
        "intermediate_size": 18432, "kv_lora_rank": 512, "max_position_embeddings": 163840, "model_type": "deepseek_v3",
        "moe_intermediate_size": 2048, "moe_layer_freq": 1, "n_group": 8, "n_routed_experts": 256,
        "n_shared_experts": 1, "norm_topk_prob": True, "num_attention_heads": 128, "num_experts_per_tok": 8,
        "num_hidden_layers": 61, "num_key_value_heads": 128, "num_nextn_predict_layers": 1, "q_lora_rank": 1536,
        "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "rms_norm_eps": 1e-06,
        "rope_scaling": {
            "beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 1.0, "mscale_all_dim": 1.0,
            "original_max_position_embeddings": 4096, "type": "yarn",
        },
        "rope_theta": 10000, "routed_scaling_factor": 2.5, "scoring_func": "sigmoid", "tie_word_embeddings": False,
        "topk_group": 4, "topk_method": "noaux_tc", "v_head_dim": 128, "vocab_size": 129280,
    },
    # The first files of this family, which say gelu and mean its tanh approximation, and leave tying unsaid.
    "gemma-2b": {
        "head_dim": 256, "hidden_act": "gelu", "hidden_activation": None, "hidden_size": 2048,
        "intermediate_size": 16384, "max_position_embeddings": 8192, "model_type": "gemma", "num_attention_heads": 8,
        "num_hidden_layers": 18, "num_key_value_heads": 1, "rms_norm_eps": 1e-06, "rope_theta": 10000.0,
        "vocab_size": 256000,
    },
    # A context and a head's pairs by other names, tensors and biases that no key speaks of.
    "chatglm3-6b": {
        "add_bias_linear": False, "add_qkv_bias": True, "apply_query_key_layer_scaling": True,
        "attention_softmax_in_fp32": True, "bias_dropout_fusion": True, "ffn_hidden_size": 13696, "hidden_size": 4096,
        "kv_channels": 128, "layernorm_epsilon": 1e-05, "model_type": "chatglm", "multi_query_attention": True,
        "multi_query_group_num": 2, "original_rope": True, "post_layer_norm": True, "rmsnorm": True,
        "num_attention_heads": 32, "num_layers": 28, "padded_vocab_size": 65024, "seq_length": 8192,
        "tie_word_embeddings": False,
    },
    "internlm2.5-7b": {
        "bias": False, "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 14336,
        "max_position_embeddings": 32768, "model_type": "internlm2", "num_attention_heads": 32, "num_hidden_layers": 32,
        "num_key_value_heads": 8, "rms_norm_eps": 1e-05, "rope_scaling": {"type": "dynamic", "factor": 2.0},
        "rope_theta": 1000000, "tie_word_embeddings": False, "vocab_size": 92544,
    },
    "baichuan2-7b-base": {
        "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 11008, "max_position_embeddings": 4096,
        "model_max_length": 4096, "model_type": "baichuan", "num_attention_heads": 32, "num_hidden_layers": 32,
        "rms_norm_eps": 1e-06, "tie_word_embeddings": False, "vocab_size": 125696,
    },
    "baichuan2-13b-base": {
        "hidden_act": "silu", "hidden_size": 5120, "intermediate_size": 13696, "model_max_length": 4096,
        "model_type": "baichuan", "num_attention_heads": 40, "num_hidden_layers": 40, "rms_norm_eps": 1e-06,
        "tie_word_embeddings": False, "vocab_size": 125696,
    },
    "gpt-oss-120b": {
        "attention_bias": True, "experts_per_token": 4, "head_dim": 64, "hidden_act": "silu", "hidden_size": 2880,
        "initial_context_length": 4096, "intermediate_size": 2880,
        "layer_types": ["sliding_attention", "full_attention"] * 18, "max_position_embeddings": 131072,
        "model_type": "gpt_oss", "num_attention_heads": 64, "num_experts_per_tok": 4, "num_hidden_layers": 36,
        "num_key_value_heads": 8, "num_local_experts": 128, "rms_norm_eps": 1e-05,
        "rope_scaling": {
            "beta_fast": 32.0, "beta_slow": 1.0, "factor": 32.0, "original_max_position_embeddings": 4096,
            "rope_type": "yarn", "truncate": False,
        },
        "rope_theta": 150000, "router_aux_loss_coef": 0.9, "sliding_window": 128, "swiglu_limit": 7.0,
        "tie_word_embeddings": False, "vocab_size": 201088,
    },
    "qwen2-57b-a14b": {
        "decoder_sparse_step": 1, "hidden_act": "silu", "hidden_size": 3584, "intermediate_size": 18944,
        "max_position_embeddings": 131072, "max_window_layers": 28, "model_type": "qwen2_moe",
        "moe_intermediate_size": 2560, "norm_topk_prob": False, "num_attention_heads": 28, "num_experts": 64,
        "num_experts_per_tok": 8, "num_hidden_layers": 28, "num_key_value_heads": 4, "rms_norm_eps": 1e-06,
        "rope_theta": 1000000.0, "shared_expert_intermediate_size": 20480, "sliding_window": 131072,
        "tie_word_embeddings": False, "use_sliding_window": False, "vocab_size": 151936,
    },
    # Windows by a pattern, and one that no key speaks of.
    "gemma-3-1b-it": {
        "attn_logit_softcapping": None, "final_logit_softcapping": None, "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 1152, "intermediate_size": 6912,
        "max_position_embeddings": 32768, "model_type": "gemma3_text", "num_attention_heads": 4,
        "num_hidden_layers": 26, "num_key_value_heads": 1, "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06,
        "rope_local_base_freq": 10000, "rope_scaling": None, "rope_theta": 1000000, "sliding_window": 512,
        "sliding_window_pattern": 6, "vocab_size": 262144,
    },
    "gemma-2-2b": {
        "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "head_dim": 256,
        "hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 2304,
        "intermediate_size": 9216, "max_position_embeddings": 8192, "model_type": "gemma2", "num_attention_heads": 8,
        "num_hidden_layers": 26, "num_key_value_heads": 4, "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06,
        "rope_theta": 10000.0, "sliding_window": 4096, "vocab_size": 256000,
    },
    "smollm3-3b": {
        "hidden_act": "silu", "hidden_size": 2048, "intermediate_size": 11008, "max_position_embeddings": 65536,
        "model_type": "smollm3", "no_rope_layers": [1, 1, 1, 0] * 9, "num_attention_heads": 16,
        "num_hidden_layers": 36, "num_key_value_heads": 4, "rms_norm_eps": 1e-06, "rope_theta": 5000000.0,
        "tie_word_embeddings": True, "vocab_size": 128256,
    },
    "stablelm-2-1.6b": {
        "hidden_act": "silu", "hidden_size": 2048, "intermediate_size": 5632, "layer_norm_eps": 1e-05,
        "max_position_embeddings": 4096, "model_type": "stablelm", "num_attention_heads": 32, "num_hidden_layers": 24,
        "num_key_value_heads": 32, "partial_rotary_factor": 0.25, "rope_theta": 10000, "tie_word_embeddings": False,
        "use_qkv_bias": True, "vocab_size": 100352,
    },
    "falcon-7b": {
        "alibi": False, "bias": False, "hidden_size": 4544, "layer_norm_epsilon": 1e-05, "model_type": "falcon",
        "multi_query": True, "new_decoder_architecture": False, "num_attention_heads": 71, "num_hidden_layers": 32,
        "parallel_attn": True, "vocab_size": 65024,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_configuration_is_the_declaration(name: str, caplog: Any) -> None:
    caplog.set_level(logging.WARNING, "zoo")
    checkpoint: Any = Config(**PUBLISHED[name])
    declared = model(name)
    assert resolve_architecture(host().registry, declared, checkpoint) == declared.architecture
    assert not caplog.records
    assert resolve_architecture(host().registry, None, checkpoint) == declared.architecture


def test_a_checkpoint_of_another_type_is_refused() -> None:
    """The same sizes as model_type llama mean another computation."""
    checkpoint: Any = Config(**{**PUBLISHED["gemma-2b"], "model_type": "llama", "hidden_act": "gelu_pytorch_tanh"})
    with pytest.raises(ZooError, match="of model_type 'llama', which means") as caught:
        resolve_architecture(host().registry, model("gemma-2b"), checkpoint)
    assert "\n" not in str(caught.value)


def test_a_window_that_a_checkpoint_switches_off_is_said(caplog: Any) -> None:
    declared = model("mistral-7b-v0.1")
    assert declared.architecture.sliding_window == 4096
    config = declared.architecture.model_dump(include={
        "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
        "vocab_size", "max_position_embeddings", "rms_norm_eps",
    })  # fmt: skip
    checkpoint: Any = Config(**config, model_type="mistral", sliding_window=None)
    found = resolve_architecture(host().registry, declared, checkpoint)
    assert found.sliding_window is None
    assert [one for one in caplog.records if "sliding_window 4096" in one.getMessage()]
    # Absent is not null: transformers means 4096 there.
    silent: Any = Config(**config, model_type="mistral")
    assert resolve_architecture(host().registry, declared, silent).sliding_window == 4096


def test_a_number_without_a_page_gives_way(caplog: Any) -> None:
    declared = model("openbuddy-mistral2-7b-v20.3-32k")
    assert declared.stated["vocab_size"][1].endswith(", unconfirmed")
    config = declared.architecture.model_dump(include={
        "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
        "max_position_embeddings", "rms_norm_eps", "rope_theta",
    })  # fmt: skip
    checkpoint: Any = Config(**config, model_type="mistral", vocab_size=36000, sliding_window=None)
    assert resolve_architecture(host().registry, declared, checkpoint).vocab_size == 36000
    assert [record for record in caplog.records if "vocab_size 36608" in record.getMessage()]
    other: Any = Config(**{**config, "intermediate_size": 512}, model_type="mistral", vocab_size=36608)
    with pytest.raises(ZooError, match="declares intermediate_size 14336"):
        resolve_architecture(host().registry, declared, other)


def test_tokens_of_the_makers_code_are_the_declarations() -> None:
    """Where the checkpoint has a complete tokenizer of its own, that is it."""
    checkpoint: Any = Config(model_type="chatglm", eos_token_id=2)
    tokens = resolve_tokens(model("chatglm3-6b"), checkpoint, 65024)
    assert tokens.added["<|user|>"] == 64795
    assert tokens.begin == ("[gMASK]", "sop")
    checkpoint.files["tokenizer.json"] = b"{}"
    assert not resolve_tokens(model("chatglm3-6b"), checkpoint, 65024).added


def test_a_fine_tune_says_nothing_in_its_bases_makers_name() -> None:
    shown = describe(host().registry, "wizardlm-2-7b").fields["about"]
    assert shown["organisation"].value == "WizardLM"
    assert shown["source"].origin == "model wizardlm-2-7b"
    assert "The instruct models" not in str(shown)


@pytest.mark.parametrize("name", TOTALS)
def test_the_numbers_make_the_published_total(name: str) -> None:
    assert parameter_count(host().registry, model(name)) == TOTALS[name]


# Billions, as the maker names them.
ACTIVE = {
    "mixtral-8x7b-v0.1": 12.9,
    "mixtral-8x22b-v0.1": 39,
    "qwen3-30b-a3b": 3.3,
    "qwen3-235b-a22b": 22,
    "deepseek-v3.1": 37,
    "qwen1.5-moe-a2.7b": 2.7,
    "qwen2-57b-a14b": 14,
}


@pytest.mark.parametrize("name", ACTIVE)
def test_the_numbers_make_the_weights_that_a_token_goes_through(name: str) -> None:
    shown = describe(host().registry, name).fields["architecture"]
    assert isinstance(count := shown["active_parameters"].value, int)
    assert count / 1e9 == pytest.approx(ACTIVE[name], rel=0.02)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_number_has_its_source(family: str) -> None:
    for one in host().registry.families[family].models:
        if "hidden_size" in one.model.architecture.model_fields_set:
            assert one.model.source, one.name
        assert one.model.weights.hub, one.name
        assert one.licence.url, one.name


def test_quirks_come_with_the_model_type() -> None:
    for name, stated in {
        "qwen2.5-7b": "qkv_bias", "deepseek-r1-distill-qwen-32b": "qkv_bias", "qwen3-8b-base": "qk_norm",
        "gemma-1.1-7b-it": "scale_embedding",
    }.items():  # fmt: skip
        assert getattr(model(name).architecture, stated) is True, name
        assert model(name).stated[stated][1].startswith("model_type ")
    assert not model("qwen3-8b").architecture.qkv_bias
    assert not model("deepseek-r1-distill-llama-8b").architecture.qkv_bias
    assert model("gemma-7b").architecture.norm_offset == 1.0
    assert model("llama3.3-70b-instruct").model_type == "llama"
    assert model("deepseek-r1-distill-llama-70b").model_type == "llama"


TALK = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "Bye"},
]
SPECIAL = {"bos_token": "<bos>", "eos_token": "<eos>"}
RENDERED = {
    "llama3-8b-instruct": (
        "<bos><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nHello<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    ),
    "gemma-1.1-2b-it": (
        "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\nHello<end_of_turn>\n"
        "<start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\n"
    ),
    "chatglm2-6b": ("[gMASK]sop[Round 1]\n\n问：Hi\n\n答：Hello\n\n[Round 2]\n\n问：Bye\n\n答："),
    "chatglm3-6b": "[gMASK]sop<|user|>\n Hi<|assistant|>\n Hello<|user|>\n Bye<|assistant|>",
    "baichuan2-13b-chat": "<reserved_106>Hi<reserved_107>Hello<reserved_106>Bye<reserved_107>",
    "yi-34b-chat": (
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n"
        "<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n"
    ),
}


@pytest.mark.parametrize("name", RENDERED)
def test_templates_write_the_format_here_and_in_transformers(name: str) -> None:
    template = model(name).chat_template
    assert template is not None
    assert render(template, TALK, SPECIAL) == RENDERED[name]
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models

    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"x": 0}, unk_token="x")), chat_template=template, **SPECIAL
    )
    theirs = tokenizer.apply_chat_template(TALK, tokenize=False, add_generation_prompt=True)
    assert theirs == RENDERED[name]


def test_a_format_without_a_system_turn_says_so() -> None:
    template = model("gemma-2b-it").chat_template
    assert template is not None
    with pytest.raises(ZooError, match="no system turn"):
        render(template, [{"role": "system", "content": "Be brief"}, *TALK], SPECIAL)


def test_the_core_names_no_family() -> None:
    """Neither in a string nor as a name; `llama3` is a type of rotary scaling, and `tiny` a word."""
    root = Path(__file__).parents[2]
    families = [declared.family for declared in host().registry.families.values()]
    names = {name for family in families for name in (family.name, *family.claims)} - {"llama3", "tiny"}
    assert {"qwen3", "gpt_oss", "phi"} <= names
    for path in (root / "zoo").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            words = {str(getattr(node, field, None)).lower() for field in ("value", "id", "attr", "name", "arg")}
            assert not words & names, f"{path}:{getattr(node, 'lineno', 0)}: {words & names}"


def test_a_family_costs_no_more_than_60_lines_of_python() -> None:
    for folder in (Path(__file__).parents[2] / "plugins").glob("*/zoo_*"):
        hooks = set(re.findall(r"def (register_\w+)", (folder / "__init__.py").read_text()))
        if hooks and hooks <= {"register_families", "register_architectures"} and folder.name != "zoo_embeddings":
            lines = sum(len(path.read_text().splitlines()) for path in folder.rglob("*.py"))
            assert lines <= 60, f"{folder.name}: {lines} lines"
