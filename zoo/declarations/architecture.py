"""The numbers and quirks of a decoder, as data.

Every field is named as in the ``config.json`` that the field's checkpoints carry. A quirk is a field here, never a
subclass. MHA, GQA and MQA are not stated: they follow from the heads.

    MHA                 GQA                 MQA
    v v v v             v   v                 v
    | | | |            / \\ / \\            / / \\ \\
    q q q q            q q q q            q q q q
    one K/V a head     one a group        one for all
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, ValidationError, create_model, model_validator
from pydantic.fields import FieldInfo

from zoo.declarations.base import Name
from zoo.declarations.consistency import check_experts, check_latent
from zoo.declarations.intervals import MOST_LAYERS, LayerType, by_interval
from zoo.declarations.rope import Numbers, Size
from zoo.declarations.rope import RopeScaling as RopeScaling
from zoo.declarations.traits import Trait, fields_with, nullable_fields
from zoo.errors import ZooError

Layers = Annotated[int, Field(gt=0, le=MOST_LAYERS)]
Heads = Annotated[int, Field(gt=0, le=16_384)]
HeadSize = Annotated[int, Field(gt=0, le=65_536)]
"""What is looped over or made an array of is bounded far above any model: no file can ask for a year of work."""
Attention = Literal["MHA", "GQA", "MQA"]


class Architecture(Numbers):
    """A decoder's complete numbers, resolved and ready to build."""

    type: Name = "decoder"
    """The registered architecture that computes it."""
    hidden_size: Annotated[Size, Trait.SHAPES, Trait.REQUIRED]
    """Width of the hidden states."""
    intermediate_size: Annotated[Size, Trait.SHAPES, Trait.REQUIRED]
    """Width of the MLP."""
    num_hidden_layers: Annotated[Layers, Trait.SHAPES, Trait.REQUIRED]
    """How many layers."""
    num_attention_heads: Annotated[Heads, Trait.SHAPES, Trait.REQUIRED]
    """Heads of queries."""
    num_key_value_heads: Annotated[Heads, Trait.SHAPES, Trait.DERIVED]
    """Heads of keys and values; as many as ``num_attention_heads`` is MHA, one is MQA, between is GQA."""
    head_dim: Annotated[HeadSize, Trait.SHAPES, Trait.DERIVED]
    """Width of a head; by default ``hidden_size / num_attention_heads``."""
    vocab_size: Annotated[Size, Trait.SHAPES, Trait.REQUIRED]
    """How many token ids the embedding has."""
    max_position_embeddings: Annotated[Size, Trait.REQUIRED]
    """Tokens of context before ``rope_scaling``; see ``context_length``."""
    hidden_act: str = "silu"
    """The MLP's activation."""
    rms_norm_eps: float = Field(default=1e-6, gt=0.0)
    """Epsilon of every RMSNorm."""
    rope_theta: float = Field(default=10000.0, gt=0.0)
    """Base of the rotary frequencies."""
    rope_scaling: RopeScaling | None = None
    """How they are stretched; None leaves them."""
    attention_bias: Annotated[bool, Trait.SHAPES, Trait.FLAG] = False
    """The q, k, v and output projections have biases."""
    qkv_bias: Annotated[bool, Trait.IMPLIED] = False
    """The q, k and v projections have biases, whether or not the output projection has one."""
    qk_norm: Annotated[bool, Trait.IMPLIED] = False
    """Each head of q and k goes through an RMSNorm of its own before it is turned."""
    sliding_window: Annotated[Size | None, Trait.WINDOW] = None
    """A token sees itself and the ``sliding_window - 1`` before it; None sees all."""
    use_sliding_window: Annotated[bool, Trait.WINDOW] = False
    """Whether there is a sliding window; stated as false, a ``sliding_window`` beside it is not in use."""
    layer_types: Annotated[tuple[LayerType, ...] | None, Trait.PER_LAYER] = None
    """Which layers the sliding window is for; None is all."""
    sliding_window_pattern: Annotated[int | str | None, Trait.CLAIMED] = None
    """Where ``layer_types`` are not stated: so many layers in turn, the last of which sees all (6, or ``LLLLLG``)."""
    mlp_bias: Annotated[bool, Trait.SHAPES, Trait.FLAG] = False
    """The MLP's projections have biases."""
    tie_word_embeddings: Annotated[bool, Trait.SHAPES, Trait.FLAG] = False
    """The output head is the token embedding."""
    scale_embedding: Annotated[bool, Trait.IMPLIED] = False
    """Embeddings are multiplied by the square root of the hidden size."""
    norm_offset: Annotated[float, Trait.IMPLIED] = 0.0
    """Added to the weights of every RMSNorm: 1 where a checkpoint stores how far they are from 1."""
    gelu_approximate: Annotated[Literal["none", "tanh"], Trait.IMPLIED] = "none"
    """What ``hidden_act: gelu`` means in these checkpoints, as the argument of PyTorch's GELU."""
    norm: Annotated[Literal["rms", "layer"], Trait.IMPLIED] = "rms"
    """RMSNorm, or LayerNorm; ``rms_norm_eps`` is the epsilon of either."""
    norm_bias: Annotated[bool, Trait.IMPLIED] = False
    """Norms outside attention have biases."""
    norm_placement: Annotated[Literal["before", "after", "around"], Trait.IMPLIED] = "before"
    """Where attention and MLP have their norms: on what they read, on what they make, or on both."""
    use_parallel_residual: Annotated[bool, Trait.CLAIMED] = False
    """Attention and MLP read one norm and stand side by side."""
    gated_mlp: Annotated[bool, Trait.IMPLIED] = True
    """The MLP has a gate beside its way up."""
    qk_norm_over: Annotated[Literal["head", "each head", "all heads"], Trait.IMPLIED] = "head"
    """Over what the norms of q and k go: a head with weights for all, a head with its own, or all heads at once."""
    partial_rotary_factor: Annotated[float, Trait.CLAIMED, Field(gt=0.0, le=1.0)] = 1.0
    """The share of a head, from its beginning, that positions turn."""
    rotary_interleaved: Annotated[bool, Trait.IMPLIED] = False
    """Positions turn neighbouring values of a head against each other, not its halves."""
    rope_local_base_freq: Annotated[float | None, Trait.CLAIMED, Field(gt=0.0)] = None
    """``rope_theta`` of layers with a sliding window, unscaled, where it is another one."""
    rope_layers: Annotated[Literal["all", "sliding"], Trait.IMPLIED] = "all"
    """Which layers turn heads by position where some have a sliding window and some not."""
    no_rope_layers: Annotated[tuple[int, ...] | None, Trait.CLAIMED, Trait.PER_LAYER] = None
    """1 for a layer that turns heads by position, 0 for one that does not."""
    no_rope_layer_interval: Annotated[int | None, Trait.CLAIMED, Field(gt=0)] = None
    """Where ``no_rope_layers`` are not stated: every so-many-th layer does not turn heads."""
    positions: Annotated[Literal["rotary", "alibi"], Trait.IMPLIED] = "rotary"
    """What tells tokens apart: heads that are turned, or scores that fall with the distance (ALiBi)."""
    attn_logit_softcapping: Annotated[float | None, Trait.CLAIMED, Field(gt=0.0)] = None
    """Scores become cap · tanh(score / cap)."""
    final_logit_softcapping: Annotated[float | None, Trait.CLAIMED, Field(gt=0.0)] = None
    """Logits become cap · tanh(logit / cap)."""
    query_pre_attn_scalar: Annotated[int | float | None, Trait.CLAIMED, Field(gt=0.0)] = None
    """Scores are divided by its square root; by default by that of ``head_dim``."""
    attention_multiplier: Annotated[float | None, Trait.CLAIMED, Field(gt=0.0)] = None
    """Scores are multiplied by it instead."""
    embedding_multiplier: Annotated[float, Trait.CLAIMED, Field(gt=0.0)] = 1.0
    """Embeddings are multiplied by it."""
    residual_multiplier: Annotated[float, Trait.CLAIMED, Field(gt=0.0)] = 1.0
    """What attention and MLP make is multiplied by it."""
    logits_scaling: Annotated[float, Trait.CLAIMED, Field(gt=0.0)] = 1.0
    """Logits are divided by it."""
    logit_scale: Annotated[float, Trait.CLAIMED, Field(gt=0.0)] = 1.0
    """Logits are multiplied by it."""
    normalized_head: Annotated[bool, Trait.IMPLIED] = False
    """Each row of the output head is divided by its length."""
    qkv_layout: Annotated[Literal["apart", "stacked", "grouped"], Trait.IMPLIED] = "apart"
    """How checkpoints store q, k and v: three tensors, or one (``self_attn.qkv_proj``) in which they lie one behind the
    other, or KV head by KV head: its heads of q, k, v."""
    fused_gate_up: Annotated[bool, Trait.IMPLIED] = False
    """Checkpoints store gate and way up in one tensor (``mlp.gate_up_proj``), one behind the other."""
    tensor_names: Annotated[dict[str, str], Trait.IMPLIED] = Field(default_factory=dict)
    """What checkpoints call ``model.layers``, ``lm_head`` and so on, and ``self_attn.o_proj`` and so on in a layer."""
    verify_as: Annotated[str | None, Trait.IMPLIED] = None
    """The ``model_type`` whose class in transformers computes the same, for a type that transformers does not have."""
    q_lora_rank: Annotated[Size | None, Trait.CLAIMED, Trait.SHAPES] = None
    """Width of the latent that queries are made of, where ``kv_lora_rank`` is stated; None makes them directly."""
    kv_lora_rank: Annotated[Size | None, Trait.CLAIMED, Trait.SHAPES] = None
    """Width of the latent that keys and values of all heads are made of (MLA); None makes them directly."""
    qk_nope_head_dim: Annotated[int, Trait.CLAIMED, Trait.SHAPES, Field(ge=0, le=65_536)] = 0
    """Of such heads: the values of a query or key that positions do not turn."""
    qk_rope_head_dim: Annotated[int, Trait.CLAIMED, Trait.SHAPES, Field(ge=0, le=65_536)] = 0
    """The values that they turn, which the keys of all heads share."""
    v_head_dim: Annotated[int, Trait.CLAIMED, Trait.SHAPES, Field(ge=0, le=65_536)] = 0
    """Width of a head's value; of other attention it is ``head_dim``."""
    num_experts: Annotated[int | None, Trait.CLAIMED, Trait.SHAPES, Field(gt=0, le=1024)] = None
    """Gated MLPs beside each other in a layer, of which a router chooses a few for each token; None is one for all."""
    num_experts_per_tok: Annotated[int, Trait.CLAIMED, Field(gt=0, le=1024)] = 1
    """How many of them a token goes through."""
    moe_intermediate_size: Annotated[Size | None, Trait.CLAIMED, Trait.SHAPES] = None
    """Width of an expert; by default ``intermediate_size``."""
    norm_topk_prob: Annotated[bool, Trait.CLAIMED] = True
    """The weights of a token's experts add up to one, before ``routed_scaling_factor``."""
    routed_scaling_factor: Annotated[float, Trait.CLAIMED, Field(gt=0.0)] = 1.0
    """What the experts make together is multiplied by it."""
    first_k_dense_replace: Annotated[int, Trait.CLAIMED, Trait.SHAPES, Field(ge=0)] = 0
    """So many layers at the beginning have one MLP, not experts."""
    n_shared_experts: Annotated[int | None, Trait.CLAIMED, Trait.SHAPES, Field(gt=0, le=1024)] = None
    """Beside the chosen experts, every token goes through an MLP as wide as so many of them."""
    scoring_func: Annotated[Literal["softmax", "sigmoid"], Trait.CLAIMED] = "softmax"
    """What makes weights of a router's scores."""
    topk_method: Annotated[Literal["greedy", "group_limited_greedy", "noaux_tc"], Trait.CLAIMED] = "greedy"
    """The likeliest experts are chosen; those of the likeliest ``topk_group`` groups, a group as likely as its best
    expert; or the same with a bias for each expert, a group as likely as its two best together."""
    n_group: Annotated[int, Trait.CLAIMED, Field(gt=0, le=1024)] = 1
    """Groups that experts are divided into."""
    topk_group: Annotated[int, Trait.CLAIMED, Field(gt=0, le=1024)] = 1
    """Groups whose experts a token may go through."""
    moe_block: Annotated[str, Trait.IMPLIED] = "mlp"
    """What router and experts are beneath in the names of a layer's tensors."""
    expert_projections: Annotated[tuple[str, str, str], Trait.IMPLIED] = ("gate_proj", "up_proj", "down_proj")
    """How the tensors of an expert's gate, way up and way down are called."""
    shared_expert_intermediate_size: Annotated[Size | None, Trait.CLAIMED, Trait.SHAPES, Trait.LATER] = None
    """Beside the chosen experts, every token goes through an MLP so wide, times the sigmoid of a score of its own."""
    experts_bias: Annotated[bool, Trait.IMPLIED, Trait.LATER] = False
    """Router and experts have biases."""
    swiglu_alpha: Annotated[float, Trait.CLAIMED, Field(gt=0.0), Trait.LATER] = 1.0
    """Of experts: a gate g becomes g · sigmoid(alpha · g)."""
    swiglu_offset: Annotated[float, Trait.IMPLIED, Trait.LATER] = 0.0
    """Of experts: added to the way up before the gate is multiplied with it."""
    swiglu_limit: Annotated[float | None, Trait.CLAIMED, Field(gt=0.0), Trait.LATER] = None
    """Of experts: the gate is at most so large, and the way up so far from 0."""
    attention_sinks: Annotated[bool, Trait.IMPLIED, Trait.LATER] = False
    """Each head has a score that takes part in the softmax and adds no value."""
    experts_in_turn: Annotated[bool, Trait.IMPLIED, Trait.LATER] = False
    """Fused experts hold rows of gate and up in turn, and transformers keeps them with their axes swapped."""
    fused_experts: Annotated[bool, Trait.IMPLIED] = False
    """All experts of a layer lie in two tensors of three axes, as transformers 5 holds them; seen in the tensors."""
    config_names: Annotated[dict[str, str], Trait.IMPLIED] = Field(default_factory=dict)
    """Field → the key of ``config.json`` that states it, where it has another name there."""
    built_context: Annotated[Size | None, Trait.LATER] = None
    """Tokens that a package is built for, where fewer than the model's; a build states it, no file."""
    options: dict[str, JsonValue] = Field(default_factory=dict)
    """Fields of an architecture other than ``decoder``, checked by that architecture."""

    @model_validator(mode="before")
    @classmethod
    def _derive(cls, data: Any) -> Any:
        """Fill in what follows from other numbers: KV heads from heads, head size from the hidden size."""
        if not isinstance(data, dict):
            return data
        data = {key: value for key, value in data.items() if value is not None or key in nullable_fields(cls)}
        heads, hidden = data.get("num_attention_heads"), data.get("hidden_size")
        if data.get("kv_lora_rank") is not None:
            data["head_dim"] = data.get("qk_nope_head_dim", 0) + data.get("qk_rope_head_dim", 0)
        if "num_key_value_heads" not in data and heads is not None:
            data["num_key_value_heads"] = heads
        if "head_dim" not in data and isinstance(heads, int) and isinstance(hidden, int) and heads > 0:
            if hidden % heads:
                raise ValueError(
                    f"hidden_size {hidden} is not divisible by num_attention_heads {heads}; state head_dim"
                )
            data["head_dim"] = hidden // heads
        by_interval(data)
        data["use_sliding_window"] = data.get("sliding_window") is not None and data.get("use_sliding_window", True)
        if data["use_sliding_window"] is False:
            data |= {"sliding_window": None, "layer_types": None}
        return data

    @model_validator(mode="after")
    def _check(self) -> Architecture:
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"num_attention_heads {self.num_attention_heads} is not divisible by "
                f"num_key_value_heads {self.num_key_value_heads}"
            )
        if self.head_dim % 2:
            raise ValueError(f"head_dim {self.head_dim} is odd; rotary embeddings turn pairs")
        check_latent(self)
        check_experts(self)
        for name in fields_with(type(self), Trait.PER_LAYER):
            stated = getattr(self, name)
            if stated is not None and len(stated) != self.num_hidden_layers:
                raise ValueError(f"{name} lists {len(stated)} layers of {self.num_hidden_layers}")
        if self.turning % 2 or not self.turning:
            raise ValueError(
                f"partial_rotary_factor {self.partial_rotary_factor} of head_dim {self.head_dim} makes no pairs"
            )
        divisors = None if self.rope_scaling is None else self.rope_scaling.divisors(self.context_length)
        if divisors is not None and 2 * len(divisors) != self.turning:
            raise ValueError(f"longrope has {len(divisors)} factors for the {self.turning // 2} pairs that turn")
        return self

    @classmethod
    def from_config(cls, config: Mapping[str, Any], implied: Mapping[str, Any], type: str) -> Architecture:
        """Read the fields that a ``config.json`` states by their own names; for an architecture without other keys.

        Args:
            implied: fields that hold where the file is silent.
            type: the registered architecture that computes it.
        """
        stated = {name: config[name] for name in cls.model_fields if config.get(name) is not None}
        return cls.of_config({**implied, **stated, "type": type})

    @classmethod
    def of_config(cls, fields: Mapping[str, Any]) -> Architecture:
        """Check fields that a ``config.json`` stated.

        Raises:
            ZooError: a field is missing or is not what it must be.
        """
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(step) for step in first["loc"])
            message = str(first["msg"]).removeprefix("Value error, ")
            raise ZooError(f"config.json: {f'{where}: ' if where else ''}{message}") from None

    @property
    def context_length(self) -> int:
        """Tokens that a prompt and its answer may have together."""
        stated = self.max_position_embeddings
        own = stated if self.rope_scaling is None else self.rope_scaling.context(stated)
        return own if self.built_context is None else min(own, self.built_context)

    @property
    def longest_text(self) -> int:
        """Tokens of a text that is computed at once: the context, or less where frequencies depend on its length.

        Dynamic scaling turns all of a longer text by that text's length, which no cache of positions can follow.
        """
        dynamic = self.rope_scaling is not None and self.rope_scaling.rope_type == "dynamic"
        return min(self.max_position_embeddings, self.context_length) if dynamic else self.context_length

    @property
    def attention(self) -> Attention:
        """Name the kind of attention that the heads make."""
        if self.num_key_value_heads == self.num_attention_heads:
            return "MHA"
        return "MQA" if self.num_key_value_heads == 1 else "GQA"

    def is_sparse(self, layer: int) -> bool:
        """Tell whether a layer has experts."""
        return self.num_experts is not None and layer >= self.first_k_dense_replace

    @property
    def expert_width(self) -> int:
        """Width of an expert's MLP."""
        return self.moe_intermediate_size or self.intermediate_size

    @property
    def idle_parameters(self) -> int:
        """Count the weights of experts that a token does not go through."""
        if self.num_experts is None:
            return 0
        layers = max(0, self.num_hidden_layers - self.first_k_dense_replace)
        each = 3 * self.hidden_size * self.expert_width
        each += self.experts_bias * (2 * self.expert_width + self.hidden_size)
        return layers * (self.num_experts - self.num_experts_per_tok) * each

    def padded_head(self, multiple: int) -> int:
        """Round the head size up to what a target's kernels want."""
        return -(-self.head_dim // multiple) * multiple

    @property
    def norms_before(self) -> bool:
        """Whether attention and MLP have norms on what they read."""
        return self.norm_placement != "after"

    @property
    def norms_after(self) -> bool:
        """Whether attention and MLP have norms on what they make."""
        return self.norm_placement != "before"

    @property
    def turning(self) -> int:
        """Count the values of a head that positions turn."""
        latent = self.kv_lora_rank is not None
        return self.qk_rope_head_dim if latent else int(self.head_dim * self.partial_rotary_factor)

    @property
    def turns_halves(self) -> bool:
        """Whether positions turn the halves of a whole head against each other."""
        return self.turning == self.head_dim and not self.rotary_interleaved

    @property
    def _columns(self) -> dict[str, tuple[Any, ...]]:
        """What is stated layer by layer."""
        stated = {name: getattr(self, name) for name in fields_with(type(self), Trait.PER_LAYER)}
        return {name: values for name, values in stated.items() if values is not None}

    @property
    def layer_kinds(self) -> int:
        """Count the kinds of layers."""
        kinds = len(set(zip(*self._columns.values(), strict=True))) or 1
        return max(kinds, len({self.is_sparse(layer) for layer in (0, self.num_hidden_layers - 1)}))

    def with_layers(self, count: int) -> Architecture:
        """The same numbers with so many layers, in which the kinds of layers take turns."""
        columns = self._columns
        kinds = tuple(dict.fromkeys(zip(*columns.values(), strict=True)))
        changes: dict[str, Any] = {
            "num_hidden_layers": count,
            "first_k_dense_replace": min(self.first_k_dense_replace, 1),
        }
        for index, name in enumerate(columns):
            changes[name] = tuple(kinds[layer % len(kinds)][index] for layer in range(count))
        return self.model_copy(update=changes)

    def turns(self, layer: int) -> bool:
        """Tell whether a layer turns heads by position."""
        if self.positions != "rotary":
            return False
        if self.no_rope_layers is not None and not self.no_rope_layers[layer]:
            return False
        return self.rope_layers == "all" or self.sliding_window is None or self.window(layer) is not None

    def window(self, layer: int) -> int | None:
        """Say how many tokens a token of this layer sees, itself included; None is all."""
        if self.layer_types is not None and self.layer_types[layer] == "full_attention":
            return None
        return self.sliding_window


def _optional(field: FieldInfo) -> Any:
    """Make the same field with the same bounds, but absent by default."""
    annotation: Any = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
    return (annotation | None, Field(default=None, description=field.description))


ArchitectureFields: Any = create_model(
    "ArchitectureFields",
    __base__=Numbers,
    __doc__="Any part of an architecture: what a family states for all its models, or a model for itself.",
    **{name: _optional(field) for name, field in Architecture.model_fields.items()},
)
