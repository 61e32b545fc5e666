"""A layer's experts in place of its MLP: which tensors they are, and what they compute."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from zoo.contracts import Checkpoint, Parameter, ParameterKind, RowSlice, interleaved, stored_type
from zoo.declarations.architecture import Architecture
from zoo.operations import ExpertGroups, GraphOps, Value

FUSED = "experts.gate_up_proj"
"""The tensor of all gates and ways up, (experts, 2 · width, hidden), and beside it ``experts.down_proj``."""


def as_stored(arch: Architecture, tensors: Collection[str]) -> Architecture:
    """See whether a checkpoint holds all experts of a layer in one tensor."""
    name = f"model.layers.{arch.first_k_dense_replace}.mlp.{FUSED}"
    fused = arch.num_experts is not None and not {name, name.removeprefix("model.")}.isdisjoint(tensors)
    return arch.model_copy(update={"fused_experts": True}) if fused else arch


def swapped(arch: Architecture, checkpoint: Checkpoint) -> list[str]:
    """Name the tensors of experts that a checkpoint stores as (experts, in, out), as transformers saves floats."""
    if not arch.experts_in_turn:
        return []
    width, hidden, names = arch.expert_width, arch.hidden_size, list[str]()
    for layer in filter(arch.is_sparse, range(arch.num_hidden_layers)):
        block = f"model.layers.{layer}.mlp"
        ways_up, down = f"{block}.{FUSED}", f"{block}.experts.down_proj"
        info = checkpoint.tensors.get(ways_up)
        if info is not None and info.shape[1:] == (hidden, 2 * width) and stored_type(checkpoint, ways_up) is None:
            names += [name for name in (ways_up, down) if name in checkpoint.tensors]
    return names


def parameters(arch: Architecture, layer: int) -> Iterator[Parameter]:
    """List a layer's router, its experts and the MLP that every token goes through beside them."""
    prefix, hidden, width = f"model.layers.{layer}.", arch.hidden_size, arch.expert_width
    count = arch.num_experts or 0
    block = prefix + ("mlp" if arch.fused_experts else arch.moe_block)

    def parameter(role: str, kind: ParameterKind, *slices: RowSlice, beside: int | None = None) -> Parameter:
        experts = None if beside is None else count
        name = f"{prefix}{role.removesuffix('.bias')}.{'bias' if kind == 'bias' else 'weight'}"
        return Parameter(name, kind, slices, layer, role, experts, beside)

    names = arch.tensor_names
    router = f"{prefix}{names['mlp.gate']}" if "mlp.gate" in names else f"{block}.gate"
    yield parameter("mlp.router", "router", RowSlice(f"{router}.weight", (count, hidden)))
    if arch.experts_bias:
        yield parameter("mlp.router.bias", "bias", RowSlice(f"{router}.bias", (count,)))
        for role, width_ in (("gate_up", 2 * width), ("down", hidden)):
            bias = RowSlice(f"{block}.experts.{role}_proj_bias", (count, width_))
            yield parameter(f"mlp.experts.{role}.bias", "bias", bias)
    if arch.topk_method == "noaux_tc":
        yield parameter("mlp.router.bias", "bias", RowSlice(f"{block}.gate.e_score_correction_bias", (count,)))
    if arch.fused_experts:
        gate_up, down = _fused(arch, block, count, width, hidden)
    else:
        gate_up, down = _apart(arch, block, count, width, hidden)
    yield parameter("mlp.experts.gate_up", "linear", *gate_up, beside=width)
    yield parameter("mlp.experts.down", "linear", *down, beside=hidden)
    wide, shared = (arch.n_shared_experts or 0) * width, f"{block}.shared_experts"
    if arch.shared_expert_intermediate_size is not None:
        wide, shared = arch.shared_expert_intermediate_size, f"{block}.shared_expert"
        yield parameter("mlp.shared.score", "router", RowSlice(f"{shared}_gate.weight", (1, hidden)))
    if wide:
        for name, shape in (
            ("gate_proj", (wide, hidden)), ("up_proj", (wide, hidden)), ("down_proj", (hidden, wide)),
        ):  # fmt: skip
            yield parameter(f"mlp.shared.{name}", "linear", RowSlice(f"{shared}.{name}.weight", shape))


Slices = tuple[RowSlice, ...]


def _fused(arch: Architecture, block: str, count: int, width: int, hidden: int) -> tuple[Slices, Slices]:
    """Take the gate's and the up rows of each expert in turn from the tensor that holds all."""
    shape, down = (count, 2 * width, hidden), RowSlice(f"{block}.experts.down_proj", (count, hidden, width))
    if arch.experts_in_turn:
        return (RowSlice(f"{block}.{FUSED}", shape),), (down,)
    slices: list[RowSlice] = []
    for at in range(0, 2 * width * count, 2 * width):
        halves = (
            RowSlice(f"{block}.{FUSED}", shape, range(start, start + width)) for start in (at, at + width)
        )  # fmt: skip
        slices += interleaved(*halves, at=at)
    return tuple(slices), (down,)


def _apart(arch: Architecture, block: str, count: int, width: int, hidden: int) -> tuple[Slices, Slices]:
    """Take the rows of gate and up in turn from each expert's own tensors."""
    gate, up, down = arch.expert_projections
    ways_up: list[RowSlice] = []
    ways_down: list[RowSlice] = []
    for expert in range(count):
        at = f"{block}.experts.{expert}"
        for index, name in enumerate((gate, up)):
            ways_up.append(RowSlice(f"{at}.{name}.weight", (width, hidden), at=2 * width * expert + index, stride=2))
        ways_down.append(RowSlice(f"{at}.{down}.weight", (hidden, width), at=hidden * expert))
    return tuple(ways_up), tuple(ways_down)


def compose(arch: Architecture, ops: GraphOps, weights: Mapping[str, Parameter], x: Value) -> Value:
    """Send each token through the experts that are chosen for it, and through the shared MLP."""
    groups = None
    if arch.topk_method != "greedy" and arch.n_group > 1:
        groups = ExpertGroups(arch.n_group, arch.topk_group, 2 if arch.topk_method == "noaux_tc" else 1)
    bias, chosen_by = weights.get("mlp.router.bias"), arch.topk_method == "noaux_tc"
    mixed = ops.experts(
        "mlp/experts",
        x,
        ops.linear("mlp/router", x, weights["mlp.router"], None if chosen_by else bias),
        weights["mlp.experts.gate_up"],
        weights["mlp.experts.down"],
        arch.num_experts_per_tok,
        normalized=arch.norm_topk_prob,
        sigmoid=arch.scoring_func == "sigmoid",
        bias=bias if chosen_by else None,
        groups=groups,
        gate_up_bias=weights.get("mlp.experts.gate_up.bias"),
        down_bias=weights.get("mlp.experts.down.bias"),
        alpha=arch.swiglu_alpha,
        offset=arch.swiglu_offset,
        limit=arch.swiglu_limit,
    )
    if arch.routed_scaling_factor != 1:
        mixed = ops.scale("mlp/experts/scale", mixed, arch.routed_scaling_factor)
    if "mlp.shared.gate_proj" not in weights:
        return mixed
    gate = ops.linear("mlp/shared/gate_proj", x, weights["mlp.shared.gate_proj"])
    wide = ops.linear("mlp/shared/up_proj", x, weights["mlp.shared.up_proj"])
    gate = ops.activation("mlp/shared/act_fn", gate, arch.hidden_act)
    wide = ops.multiply("mlp/shared/Mul", gate, wide)
    shared = ops.linear("mlp/shared/down_proj", wide, weights["mlp.shared.down_proj"])
    if "mlp.shared.score" in weights:
        score = ops.activation(
            "mlp/shared/Sigmoid", ops.linear("mlp/shared/score", x, weights["mlp.shared.score"]), "sigmoid"
        )
        shared = ops.multiply("mlp/shared/weighed", shared, score)
    return ops.add("mlp/sum", mixed, shared)
