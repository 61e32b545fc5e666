"""The architecture part ``encoder``: BERT and RoBERTa, as hidden states or with a classifier over the first token.

Devlin et al., arXiv 1810.04805; Liu et al., arXiv 1907.11692; Conneau et al., arXiv 1911.02116.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from zoo import Architecture, ArchitecturePart, GraphOps, Parameter, Value
from zoo_embeddings import config
from zoo_embeddings.weights import EncoderWeights, unused

NOTHING: Mapping[str, Any] = MappingProxyType({})


class Encoder(ArchitecturePart):
    """Learned positions, token types, attention in both directions, norms after each residual."""

    activations: ClassVar[frozenset[str]] = config.ACTIVATIONS

    def read_config(self, config_json: Mapping[str, Any], implied: Mapping[str, Any] = NOTHING) -> Architecture:
        """Read a checkpoint's ``config.json``; ``implied`` holds where it is silent."""
        return config.read_config(config_json, implied)

    def ignored(self, arch: Architecture, name: str) -> bool:
        """Tell whether a tensor belongs to the head of another task, or is a buffer."""
        return unused(name)

    def parameters(self, arch: Architecture, head_multiple: int = 1) -> list[Parameter]:
        """List the weights of the graph; heads of any size attend without a cache, so none is widened."""
        return list(EncoderWeights(arch).every())

    def one_of_each_layer(self, arch: Architecture) -> Architecture:
        """Shorten the numbers to one layer; all are alike."""
        return arch.with_layers(1)

    def write_config(self, arch: Architecture) -> Mapping[str, Any]:
        """Write the keys that ``read_config`` reads as these numbers."""
        options = config.options_of(arch)
        kind = "Roberta" if options.prefix == "roberta" else "Bert"
        name = f"{kind}{'ForSequenceClassification' if options.labels else 'Model'}"
        labels = {str(index): f"LABEL_{index}" for index in range(options.labels)}
        return {
            **{name: getattr(arch, name) for name in (*config.SIZES, "hidden_act")},
            "architectures": [name],
            "layer_norm_eps": arch.rms_norm_eps,
            "max_position_embeddings": arch.max_position_embeddings + options.first_position,
            "type_vocab_size": options.type_vocab_size,
            **({"pad_token_id": options.first_position - 1} if options.first_position else {}),
            **({"id2label": labels} if labels else {}),
        }

    def forward(self, arch: Architecture, ops: GraphOps, head_multiple: int = 1) -> None:
        """Compose the computation."""
        weights = EncoderWeights(arch)
        x = self._embed(arch, ops, weights)
        for index in range(arch.num_hidden_layers):
            with ops.layer(index):
                x = self._layer(arch, ops, weights.layer(index), x)
        head = weights.head()
        if not head:
            ops.hidden_states(x)
            return
        first = ops.linear("head/dense", ops.first_position("head/first", x), head["dense"], head["dense.bias"])
        first = ops.activation("head/tanh", first, "tanh")
        ops.scores(ops.linear("head/classifier", first, head["classifier"], head["classifier.bias"]))

    def _embed(self, arch: Architecture, ops: GraphOps, weights: EncoderWeights) -> Value:
        tables, options = weights.embeddings(), weights.options
        ids = ops.tokens(arch.max_position_embeddings)
        types = ops.token_types("token_types", ids, options.type_vocab_size)
        places = ops.positions("positions", ids, options.first_position)
        x = ops.embedding("embeddings/word", ids, tables["word_embeddings"])
        typed = ops.embedding("embeddings/token_type", types, tables["token_type_embeddings"])
        placed = ops.embedding("embeddings/position", places, tables["position_embeddings"])
        x = ops.add("embeddings/sum", ops.add("embeddings/typed", x, typed), placed)
        return ops.layer_norm("embeddings/norm", x, tables["norm"], tables["norm.bias"], arch.rms_norm_eps)

    def _layer(self, arch: Architecture, ops: GraphOps, weights: Mapping[str, Parameter], x: Value) -> Value:
        def linear(name: str, value: Value, role: str) -> Value:
            return ops.linear(name, value, weights[role], weights[f"{role}.bias"])

        def norm(name: str, value: Value, role: str) -> Value:
            return ops.layer_norm(name, value, weights[role], weights[f"{role}.bias"], arch.rms_norm_eps)

        mixed = ops.attention(
            "attn", linear("attn/qkv", x, "attn.qkv"), num_heads=arch.num_attention_heads,
            num_kv_heads=arch.num_attention_heads, head_dim=arch.head_dim, scale=arch.head_dim**-0.5, causal=False,
        )  # fmt: skip
        x = norm("attn/norm", ops.add("attn/sum", x, linear("attn/out", mixed, "attn.out")), "attn.norm")
        wide = ops.activation("mlp/act", linear("mlp/up", x, "mlp.up"), arch.hidden_act)
        return norm("mlp/norm", ops.add("mlp/sum", x, linear("mlp/down", wide, "mlp.down")), "mlp.norm")
