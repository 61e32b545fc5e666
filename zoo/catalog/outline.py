"""What a computation looks like: the blocks of a layer and what each reads, from the operations that compose it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from zoo.catalog.cards import Block, Outline
from zoo.contracts import ArchitecturePart, few_layers
from zoo.declarations.architecture import Architecture
from zoo.operations import (
    Activation,
    Add,
    Attention,
    Embedding,
    Experts,
    HiddenStates,
    LastPositions,
    LayerNorm,
    Linear,
    Multiply,
    Operation,
    Program,
    RmsNorm,
    Scores,
    Step,
    Value,
    record,
)

Kind = Literal["norm", "attention", "mlp", "sum"]
_RESULTS = {HiddenStates: "hidden states of the text", Scores: "scores of the labels"}


def outline(part: ArchitecturePart, arch: Architecture) -> Outline:
    """Draw up what an architecture computes: its first layer stands for all, or the first one that has experts."""
    short = few_layers(part, arch)
    program = record(part, short)
    embedding = next(program.all(Embedding)).weight
    last = max(index for index, step in enumerate(program.steps) if step.layer is not None)
    after = program.steps[last + 1 :]
    head = next((step.operation.weight for step in reversed(after) if isinstance(step.operation, Linear)), None)
    shown = next((step.layer for step in program.steps if isinstance(step.operation, Experts)), 0)
    return Outline(
        vocab_size=embedding.shape[0],
        hidden_size=embedding.shape[-1],
        times=arch.num_hidden_layers,
        layer=_blocks(program, [step for step in program.steps if step.layer == shown]),
        norms=tuple(block for block in _blocks(program, after) if block.kind == "norm"),
        outputs=head.shape[0] if head is not None else 0,
        tied=head is not None and head.name == embedding.name,
        result=_RESULTS.get(type(program.steps[-1].operation), "logits of the next token"),
    )


def _blocks(program: Program, steps: Sequence[Step]) -> tuple[Block, ...]:
    """Put steps that hand values to each other into one block; norms and sums are blocks of their own."""
    same: dict[Value, Value] = {}
    grouped: dict[Value, list[Step]] = {}
    """Value → the block that makes it."""
    blocks: list[list[Step]] = []
    for step in steps:
        if isinstance(step.operation, LastPositions):
            same[step.output] = same.get(step.operation.x, step.operation.x)
            continue
        mine = [step]
        if not _alone(step.operation):
            for value in step.operation.inputs:
                other = grouped.get(same.get(value, value))
                if other is not None and not _alone(other[0].operation) and other is not mine:
                    blocks.remove(other)
                    mine = [*other, *mine]
                    grouped.update((operation.output, mine) for operation in other)
        grouped[step.output] = mine
        blocks.append(mine)
    place = {id(block): index for index, block in enumerate(blocks)}
    drawn = []
    for block in blocks:
        made = {step.output for step in block}
        read = {same.get(value, value): None for step in block for value in step.operation.inputs if value not in made}
        reads = dict.fromkeys(
            place.get(id(grouped.get(value)), -1) for value in read if same.get(value, value) not in made
        )
        drawn.append(_block(program, [step.operation for step in block], tuple(reads)))
    return tuple(drawn)


def _alone(operation: Operation) -> bool:
    return isinstance(operation, RmsNorm | LayerNorm | Add)


def _block(program: Program, operations: Sequence[Operation], reads: tuple[int, ...]) -> Block:
    for operation in operations:
        if isinstance(operation, Add):
            return Block(kind="sum", name="+", note="", reads=reads)
        if isinstance(operation, RmsNorm | LayerNorm):
            name = "RMSNorm" if isinstance(operation, RmsNorm) else "LayerNorm"
            return Block(kind="norm", name=f"{name}, ε {operation.eps:g}", note=f"{operation.weight.rows}", reads=reads)
    biased = (
        ", biased"
        if any(isinstance(operation, Linear) and operation.bias is not None for operation in operations)
        else ""
    )
    attention = next((operation for operation in operations if isinstance(operation, Attention)), None)
    if attention is not None:
        heads, kv = attention.num_heads, attention.num_kv_heads
        name = "MHA" if kv == heads else "MQA" if kv == 1 else "GQA"
        note = f"{heads} heads of {attention.head_dim}, {kv} KV"
        window = f", window {attention.window}" if attention.window is not None else ""
        return Block(kind="attention", name=f"{name} attention{biased}{window}", note=note, reads=reads)
    experts = next((operation for operation in operations if isinstance(operation, Experts)), None)
    if experts is not None:
        count, width = experts.gate_up.shape[0], experts.down.shape[-1]
        name, note = f"{experts.chosen} of {count} experts{biased}", f"gated MLPs {width} wide, silu"
        note += f" ≤ {experts.limit:g}" if experts.limit is not None else ""
        return Block(kind="mlp", name=name, note=note, reads=reads)
    linears = [operation.weight.shape for operation in operations if isinstance(operation, Linear)]
    function = next((operation.function for operation in operations if isinstance(operation, Activation)), None)
    if function is None and len(linears) == 1:
        return Block(kind="mlp", name=f"Projection{biased}", note=f"{linears[0][1]} → {linears[0][0]}", reads=reads)
    gated = "Gated MLP" if any(isinstance(operation, Multiply) for operation in operations) else "MLP"
    # What the last linear reads: an MLP may be narrower than what goes through it.
    wide = linears[-1][1] if linears else 0
    note = f"{wide} wide" + (f", {function}" if function is not None else "")
    return Block(kind="mlp", name=f"{gated}{biased}", note=note, reads=reads)
