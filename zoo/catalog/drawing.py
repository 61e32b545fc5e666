"""A decoder drawn from its numbers: the stack of layers, the heads, the feed-forward, and where the weights are."""

from __future__ import annotations

from markupsafe import Markup

from zoo.catalog.cards import ModelCard
from zoo.svg import drawing, line, number, path, rect, text
from zoo.units import count_text

WIDTH = 640.0
MAX_HEADS = 256
"""Heads that are drawn one by one; of more, the first are."""


def stack(card: ModelCard) -> Markup:
    """Draw the way of a token: embedding, layers, norm, head; with residual connections."""
    arch = card.architecture
    marks: list[str] = []
    left, width, middle = 110.0, 420.0, 320.0
    biased = ", biased" if arch.attention_bias else ""
    mlp_name = "Gated MLP" if gated(card) else "MLP"
    mlp_biased = ", biased" if arch.mlp_bias else ""
    head_note = "the embedding again" if arch.tie_word_embeddings else f"{arch.hidden_size} → {arch.vocab_size}"

    def box(y: float, css: str, name: str, note: str, height: float = 34) -> None:
        marks.append(rect(left, y, width, height, f"box {css}", radius=6))
        marks.append(text(left + 14, y + height / 2 + 5, name, "name"))
        marks.append(text(left + width - 14, y + height / 2 + 5, note, "note", "end"))

    def down(y: float, to: float) -> None:
        marks.append(line(middle, y, middle, to, "wire"))

    marks.append(text(middle, 18, "token ids", "note", "middle"))
    down(24, 36)
    box(36, "embedding", "Token embedding", f"{arch.vocab_size} → {arch.hidden_size}")
    down(70, 102)
    top, bottom = 92.0, 386.0
    for shift in (10, 5):
        marks.append(rect(left - 46 + shift, top - shift, width + 92, bottom - top, "behind", radius=10))
    marks.append(rect(left - 46, top, width + 92, bottom - top, "block", radius=10))
    marks.append(text(left + width + 38, top + 22, f"× {arch.num_hidden_layers}", "times", "end"))
    for start, norm, css, name, note in (
        (
            122.0,
            f"RMSNorm, ε {arch.rms_norm_eps:g}",
            "attention",
            f"{arch.attention} attention{biased}",
            f"{arch.num_attention_heads} heads of {arch.head_dim}, {arch.num_key_value_heads} KV",
        ),
        (252.0, "RMSNorm", "mlp", f"{mlp_name}{mlp_biased}", f"{arch.intermediate_size} wide, {arch.hidden_act}"),
    ):
        down(start - 20, start)
        box(start, "norm", norm, f"{arch.hidden_size}", 26)
        down(start + 26, start + 38)
        box(start + 38, css, name, note, 38)
        down(start + 76, start + 90)
        marks.append(path(f"M{number(middle)} {number(start - 10)}H{number(left - 24)}V{number(start + 98)}"
                          f"H{number(middle - 9)}", "wire"))  # fmt: skip
        marks.append(f'<circle cx="{number(middle)}" cy="{number(start + 98)}" r="9" class="sum"/>')
        marks.append(text(middle, start + 103, "+", "plus", "middle"))
        down(start + 107, start + 120)
    down(372, 408)
    box(408, "norm", "RMSNorm", f"{arch.hidden_size}", 26)
    down(434, 446)
    box(446, "head", "Output head" + (", tied" if arch.tie_word_embeddings else ""), head_note)
    down(480, 494)
    marks.append(text(middle, 510, "logits of the next token", "note", "middle"))
    label = (
        f"{arch.num_hidden_layers} decoder layers of width {arch.hidden_size}: {arch.attention} attention, then "
        f"{mlp_name}, each after RMSNorm and with a residual connection"
    )
    return drawing(WIDTH, 520, label, "stack", marks)


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
    if gated(card):
        bar(wide, "mlp", f"gate {arch.intermediate_size}, {arch.hidden_act}")
        y += 4
        bar(wide, "mlp", f"× up {arch.intermediate_size}")
    else:
        bar(wide, "mlp", f"{arch.intermediate_size}, {arch.hidden_act}")
    fan(wide, narrow)
    bar(narrow, "norm", f"{arch.hidden_size}")
    ways = "gate and up projections" if gated(card) else "one projection up"
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
    label = "Where the weights are: " + "; ".join(f"{one.name} {count_text(one.parameters)}" for one in card.shares)
    return drawing(WIDTH, 40 + 22 * -(-len(card.shares) // 2), label, "weights", marks)


def gated(card: ModelCard) -> bool:
    """Tell whether two linears of a layer lead up to the feed-forward's width."""
    arch = card.architecture
    return sum(one.shape == (arch.intermediate_size, arch.hidden_size) for one in card.layer) >= 2
