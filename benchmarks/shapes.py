"""Shapes of well-known Llama checkpoints, and the tensors that the Hugging Face layout gives each."""

import math
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """The numbers of a Llama checkpoint that decide its tensors and its config.json."""

    hidden: int
    ffn: int
    layers: int
    heads: int
    kv_heads: int
    vocab: int = 32000
    context: int = 2048
    eps: float = 1e-5
    theta: float = 10000.0
    tied: bool = False

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield (name, shape) in the order of the Hugging Face Llama layout."""
        head = self.hidden // self.heads
        yield "model.embed_tokens.weight", (self.vocab, self.hidden)
        for layer in range(self.layers):
            prefix = f"model.layers.{layer}."
            yield prefix + "input_layernorm.weight", (self.hidden,)
            yield prefix + "self_attn.q_proj.weight", (self.heads * head, self.hidden)
            yield prefix + "self_attn.k_proj.weight", (self.kv_heads * head, self.hidden)
            yield prefix + "self_attn.v_proj.weight", (self.kv_heads * head, self.hidden)
            yield prefix + "self_attn.o_proj.weight", (self.hidden, self.heads * head)
            yield prefix + "post_attention_layernorm.weight", (self.hidden,)
            yield prefix + "mlp.gate_proj.weight", (self.ffn, self.hidden)
            yield prefix + "mlp.up_proj.weight", (self.ffn, self.hidden)
            yield prefix + "mlp.down_proj.weight", (self.hidden, self.ffn)
        yield "model.norm.weight", (self.hidden,)
        if not self.tied:
            yield "lm_head.weight", (self.vocab, self.hidden)

    def parameters(self) -> int:
        """Return the exact number of parameters."""
        return sum(math.prod(shape) for _, shape in self.tensors())

    def config(self, dtype: str) -> dict[str, object]:
        """Return what config.json says of this shape."""
        return {
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": self.hidden,
            "intermediate_size": self.ffn, "num_hidden_layers": self.layers, "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads, "vocab_size": self.vocab, "max_position_embeddings": self.context,
            "rms_norm_eps": self.eps, "rope_theta": self.theta, "hidden_act": "silu",
            "tie_word_embeddings": self.tied, "attention_bias": False, "bos_token_id": 1, "eos_token_id": 2,
            "torch_dtype": dtype,
        }  # fmt: skip


SHAPES = {
    "llama-7b": Shape(4096, 11008, 32, 32, 32, eps=1e-6),
    "llama-13b": Shape(5120, 13824, 40, 40, 40, eps=1e-6),
    "llama-33b": Shape(6656, 17920, 60, 52, 52, eps=1e-6),
    "llama-65b": Shape(8192, 22016, 80, 64, 64),
    "llama2-7b": Shape(4096, 11008, 32, 32, 32, context=4096),
    "llama2-13b": Shape(5120, 13824, 40, 40, 40, context=4096),
    "llama2-70b": Shape(8192, 28672, 80, 64, 8, context=4096),
    "tinyllama-1.1b": Shape(2048, 5632, 22, 32, 4),
    "llama-160m": Shape(768, 3072, 12, 12, 12, eps=1e-6),
}
