"""A decoder with one norm a layer, packed q, k, v of one tensor, an ungated MLP beside attention, and a tied head."""

from pathlib import Path

from zoo import Architecture, ArchitecturePart, Parameter, RowSlice, hookimpl, rotary


@hookimpl
def register_architectures(register):
    register("plain", "zoo_plain:Plain")


@hookimpl
def register_families(register):
    register(Path(__file__).with_name("zoo_plain.yaml"))


class Plain(ArchitecturePart):
    activations = frozenset({"gelu", "relu"})

    def read_config(self, config, implied=()):
        return Architecture.from_config(config, dict(implied), type="plain")

    def weight(self, name, *shape, kind="linear", layer=None):
        prefix = "" if layer is None else f"layers.{layer}."
        return Parameter(f"{prefix}{name}", kind, (RowSlice(f"{prefix}{name}", shape),), layer, name)

    def layer(self, arch, index):
        hidden, width = arch.hidden_size, arch.num_attention_heads * arch.head_dim
        packed = width + 2 * arch.num_key_value_heads * arch.head_dim
        shapes = {"qkv": (packed, hidden), "out": (hidden, width)}
        shapes |= {"up": (arch.intermediate_size, hidden), "down": (hidden, arch.intermediate_size)}
        weights = {name: self.weight(name, *shape, layer=index) for name, shape in shapes.items()}
        return {"norm": self.weight("norm", hidden, kind="norm", layer=index), **weights}

    def outside(self, arch):
        embed = self.weight("embed", arch.vocab_size, arch.hidden_size, kind="embedding")
        return embed, self.weight("last_norm", arch.hidden_size, kind="norm")

    def parameters(self, arch, head_multiple=1):
        embed, norm = self.outside(arch)
        return [embed, *(one for at in range(arch.num_hidden_layers) for one in self.layer(arch, at).values()), norm]

    def forward(self, arch, ops, head_multiple=1):
        (embed, norm), turns = self.outside(arch), rotary(arch, arch.head_dim)
        heads = {"num_heads": arch.num_attention_heads, "num_kv_heads": arch.num_key_value_heads}
        heads |= {"head_dim": arch.head_dim, "scale": arch.head_dim**-0.5}
        x = ops.embedding("embed", ops.tokens(arch.max_position_embeddings), embed)
        for index in range(arch.num_hidden_layers):
            weights = self.layer(arch, index)
            with ops.layer(index):
                y = ops.rms_norm("norm", x, weights["norm"], arch.rms_norm_eps)
                qkv = ops.linear("qkv", y, weights["qkv"])
                seen = ops.attention("attn", qkv, rotary=turns, **heads)
                x = ops.add("attn_sum", x, ops.linear("out", seen, weights["out"]))
                wide = ops.activation("act", ops.linear("up", y, weights["up"]), arch.hidden_act)
                x = ops.add("mlp_sum", x, ops.linear("down", wide, weights["down"]))
        ops.logits(ops.linear("/head", ops.rms_norm("norm", ops.last_positions("last", x), norm, 1e-6), embed))
