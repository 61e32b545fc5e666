"""A model drawn from what it computes: the stack of layers, the heads, the feed-forward, and where the weights are."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from zoo.catalog.cards import Block, ModelCard
from zoo.svg import drawing, line, number, path, rect, text
from zoo.units import count_text

WIDTH = 640.0
MAX_HEADS = 256
"""Heads that are drawn one by one; of more, the first are."""


_HEIGHTS = {"norm": 26.0, "attention": 38.0, "mlp": 38.0, "sum": 18.0}
_LEFT, _WIDE, _MIDDLE = 110.0, 420.0, 320.0
_GAP = 14.0


def stack(card: ModelCard) -> Markup:
    """Draw the way of a token: embedding, the blocks of a layer with what each reads, norm, head."""
    outline, marks = card.outline, [text(_MIDDLE, 18, "token ids", "note", "middle")]
    _down(marks, 24, 36)
    _box(marks, 36, "embedding", "Token embedding", f"{outline.vocab_size} → {outline.hidden_size}", 34)
    top = 92.0
    inside: list[str] = []
    bottom = _layer(inside, outline.layer, top + 10)
    for shift in (10, 5):
        marks.append(rect(_LEFT - 46 + shift, top - shift, _WIDE + 92, bottom - top, "behind", radius=10))
    marks.append(rect(_LEFT - 46, top, _WIDE + 92, bottom - top, "block", radius=10))
    marks.append(text(_LEFT + _WIDE + 38, top + 22, f"× {outline.times}", "times", "end"))
    _down(marks, 70, top + 10)
    marks += inside
    y = bottom + 10
    _down(marks, bottom - 10, y)
    for norm in outline.norms:
        _box(marks, y, "norm", norm.name, norm.note, 26)
        _down(marks, y + 26, y + 38)
        y += 38
    if outline.outputs:
        note = "the embedding again" if outline.tied else f"{outline.hidden_size} → {outline.outputs}"
        _box(marks, y, "head", "Output head" + (", tied" if outline.tied else ""), note, 34)
        _down(marks, y + 34, y + 48)
    marks.append(text(_MIDDLE, y + 64, outline.result, "note", "middle"))
    blocks = ", ".join(block.name for block in outline.layer if block.kind != "sum")
    label = f"{outline.times} layers of width {outline.hidden_size}, each with residual connections: {blocks}"
    return drawing(WIDTH, y + 74, label, "stack", marks)


def _layer(marks: list[str], blocks: Sequence[Block], y: float) -> float:
    """Draw the blocks of a layer from ``y`` down; return where the layer ends."""
    leaves = {-1: y + 6}
    """Block → where its result is taken from, beside the way down."""
    for index, block in enumerate(blocks):
        high = _HEIGHTS[block.kind]
        if index - 1 in block.reads:
            _down(marks, y, y + _GAP)
        y += _GAP
        centre = y + high / 2
        for source in block.reads:
            if source != index - 1:
                _around(marks, leaves[source], centre, left=block.kind == "sum")
        if block.kind == "sum":
            marks.append(f'<circle cx="{number(_MIDDLE)}" cy="{number(centre)}" r="9" class="sum"/>')
            marks.append(text(_MIDDLE, centre + 5, "+", "plus", "middle"))
        else:
            _box(marks, y, block.kind, block.name, block.note, high)
        y += high
        leaves[index] = y + 6
    _down(marks, y, y + 10)
    return y + 20


def _around(marks: list[str], start: float, stop: float, *, left: bool) -> None:
    """Draw a wire past what lies between: to a sum on the left, to a box on the right."""
    side = _LEFT - 24 if left else _LEFT + _WIDE + 24
    end = _MIDDLE - 9 if left else _LEFT + _WIDE
    marks.append(
        path(
            f"M{number(_MIDDLE)} {number(start - 6)}V{number(start)}H{number(side)}V{number(stop)}H{number(end)}",
            "wire",
        )
    )


def _box(marks: list[str], y: float, css: str, name: str, note: str, height: float) -> None:
    marks.append(rect(_LEFT, y, _WIDE, height, f"box {css}", radius=6))
    marks.append(text(_LEFT + 14, y + height / 2 + 5, name, "name"))
    marks.append(text(_LEFT + _WIDE - 14, y + height / 2 + 5, note, "note", "end"))


def _down(marks: list[str], y: float, to: float) -> None:
    marks.append(line(_MIDDLE, y, _MIDDLE, to, "wire"))


def heads(card: ModelCard) -> Markup:
    """Draw each query head under the key/value head it reads: MHA, GQA or MQA is what one sees."""
    arch = card.architecture
    total, kv = arch.num_attention_heads, arch.num_key_value_heads
    each = total // kv
    columns = min(each, 16)
    rows = -(-each // columns)
    size, gap = 15.0, 4.0
    wide, high = columns * (size + gap) + 8, 30 + rows * (size + gap) + 8
    across = max(1, int((WIDTH - 8) // wide))
    shown = max(1, min(kv, MAX_HEADS // each))
    marks: list[str] = []
    wires, queries = "", ""
    for group in range(shown):
        x = 8 + (group % across) * wide
        y = 8 + (group // across) * high
        marks.append(rect(x, y, columns * (size + gap) - gap, size, "kv", radius=4, title=f"key/value head {group}"))
        for query in range(each):
            at = x + (query % columns) * (size + gap)
            below = y + 30 + (query // columns) * (size + gap)
            if query < columns:
                wires += f"M{number(at + size / 2)} {number(y + size)}v{number(30 - size)}"
            queries += f"M{number(at)} {number(below)}h{number(size)}v{number(size)}h{number(-size)}z"
    marks += [path(wires, "wire thin"), path(queries, "q")]
    height = 8 + -(-shown // across) * high
    if shown < kv:
        marks.append(text(8, height + 12, f"… and {kv - shown} more groups", "note"))
        height += 20
    return drawing(WIDTH, height, attention_sentence(card), "heads", marks)


def attention_sentence(card: ModelCard) -> str:
    """Say what the heads do."""
    arch = card.architecture
    total, kv = arch.num_attention_heads, arch.num_key_value_heads
    if card.attention == "MHA":
        return f"Multi-head attention: each of the {total} query heads has its own keys and values."
    if card.attention == "MQA":
        return f"Multi-query attention: all {total} query heads share one head of keys and values."
    return (
        f"Grouped-query attention: {total} query heads share {kv} heads of keys and values, "
        f"{total // kv} to a group; the KV cache is {total // kv} times smaller than with one each."
    )


def mlp(card: ModelCard) -> Markup:
    """Draw the feed-forward, widths to scale."""
    arch = card.architecture
    most = max(arch.hidden_size, arch.intermediate_size)
    scale = (WIDTH - 220) / most
    narrow, wide = arch.hidden_size * scale, arch.intermediate_size * scale
    marks: list[str] = []
    y = 8.0
    middle = (WIDTH - 200) / 2

    def bar(width: float, css: str, note: str) -> None:
        nonlocal y
        marks.append(rect(middle - width / 2, y, width, 18, f"box {css}", radius=4))
        marks.append(text(WIDTH - 190, y + 14, note, "note"))
        y += 18

    def fan(above: float, below: float) -> None:
        nonlocal y
        marks.append(
            path(
                f"M{number(middle - above / 2)} {number(y)}L{number(middle - below / 2)} {number(y + 24)}"
                f"H{number(middle + below / 2)}L{number(middle + above / 2)} {number(y)}Z",
                "fan",
            )
        )
        y += 24

    bar(narrow, "norm", f"{arch.hidden_size}")
    fan(narrow, wide)
    if card.outline.gated:
        bar(wide, "mlp", f"gate {arch.intermediate_size}, {arch.hidden_act}")
        y += 4
        bar(wide, "mlp", f"× up {arch.intermediate_size}")
    else:
        bar(wide, "mlp", f"{arch.intermediate_size}, {arch.hidden_act}")
    fan(wide, narrow)
    bar(narrow, "norm", f"{arch.hidden_size}")
    ways = "gate and up projections" if card.outline.gated else "one projection up"
    label = f"Feed-forward: {arch.hidden_size} to {arch.intermediate_size} by {ways}, and back to {arch.hidden_size}"
    return drawing(WIDTH, y + 8, label, "mlp-drawing", marks)


def weights(card: ModelCard) -> Markup:
    """Draw where the weights are, as one bar."""
    marks: list[str] = []
    x, total = 0.0, max(1, card.parameters)
    legend = 0.0
    for share in card.shares:
        width = WIDTH * share.parameters / total
        css = {"embedding": "embedding", "attention": "attention", "MLP": "mlp", "output head": "head"}.get(
            share.name, "norm"
        )
        said = f"{share.name}: {count_text(share.parameters)}, {100 * share.parameters / total:.1f} %"
        marks.append(rect(x, 0, width, 26, f"box {css}", title=said))
        marks.append(rect(legend % WIDTH, 40 + 22 * (legend // WIDTH), 12, 12, f"box {css}", radius=2))
        marks.append(text(legend % WIDTH + 18, 51 + 22 * (legend // WIDTH), said, "note"))
        x += width
        legend += WIDTH / 2
    label = "Where the weights are: " + "; ".join(
        f"{share.name} {count_text(share.parameters)}" for share in card.shares
    )
    return drawing(WIDTH, 40 + 22 * -(-len(card.shares) // 2), label, "weights", marks)
