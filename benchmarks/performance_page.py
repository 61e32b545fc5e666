"""Hold what performance.py measured against the machine's limits: the tables of docs/performance.md."""

from typing import Any

from shapes import SHAPES, Shape

SMALL, LARGE = "smollm2-135m", "tinyllama-1.1b"
MEASURED, PLANNED = (SMALL, LARGE), ("llama2-7b", "llama2-13b", "llama-33b", "llama2-70b")
LIMIT = 120
"""Seconds that one command over a zoo of models may take."""
SHAPES[SMALL] = Shape(576, 1536, 30, 9, 3, vocab=49152, context=32768, tied=True)


def table(head: str, rows: list[list[object]]) -> str:
    """Write a table, numbers to the right."""
    columns = head.split("|")
    lines = [f"| {' | '.join(columns)} |", f"|---|{'---:|' * (len(columns) - 1)}"]
    return "\n".join([*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows)])


def tables(parts: dict[str, Any]) -> dict[str, Any]:
    """Return the page's values."""
    by_threads = parts["limits"]["threads"]
    bare = {key: max(one[key] for one in by_threads.values()) for key in ("read", "integer")}
    bare["write"] = parts["limits"]["disk_write"]
    return {"parts": parts, "bare": bare, "small": SMALL, "large": LARGE, "planned": ", ".join(PLANNED),
            "parameters": sizes(parts["parameters"], bare), "context": contexts(parts, bare),
            "streams": streams(parts, bare), "threads": threads(parts["cores"]),
            "zoos": zoos(parts["zoos"])}  # fmt: skip


def work(name: str, row: dict[str, Any]) -> dict[str, float]:
    """Count the bytes that a step reads, and the operations of 256 tokens, logits for the last."""
    shape = SHAPES[name]
    head = shape.vocab * shape.hidden
    used = row["parameters"] - (0 if shape.tied else head)
    return {"bytes": row["write_bytes"] * used / row["parameters"], "operations": 2.0 * (256 * (used - head) + head)}


def sizes(rows: dict[str, Any], bare: dict[str, float]) -> str:
    """Write what each number of parameters costs."""
    least = {}
    for name, row in rows.items():
        done = work(name, row)
        least[name] = {"build_s": row["write_bytes"] / bare["write"], "prefill_s": done["operations"] / bare["integer"],
                       "decode_s": done["bytes"] / bare["read"]}  # fmt: skip
    lines: list[list[object]] = []
    for name, row in rows.items():
        limit, mark = least[name], "" if "decode_s" in row else "~"
        took = {key: row.get(key, limit[key] * rows[LARGE][key] / least[LARGE][key]) for key in limit}
        share = {key: f"({limit[key] / took[key]:.0%})" for key in limit}
        lines.append([
            name, f"{row['parameters'] / 1e9:.2f}B", f"{mark}{took['build_s']:.1f} s {share['build_s']}",
            f"{row.get('build_peak', row['peak_memory_bytes']) / 1e9:.2f} GB",
            f"{row['load_s']:.2f} s" if "load_s" in row else "",
            f"{mark}{256 / took['prefill_s']:.0f} {share['prefill_s']}",
            f"{mark}{1 / took['decode_s']:.1f} {share['decode_s']}", f"{row['run_memory_bytes'] / 1e9:.2f} GB",
        ])  # fmt: skip
    return table("shape|parameters|build|its memory|load|prefill, tok/s|decode, tok/s|memory of a run", lines)


def contexts(parts: dict[str, Any], bare: dict[str, float]) -> str:
    """Write what tokens before cost."""
    token, weights = parts["context"]["token_bytes"], work(SMALL, parts["parameters"][SMALL])["bytes"]
    lines = []
    for tokens, found in parts["context"].items():
        if tokens == "token_bytes":
            continue
        line: list[object] = [f"{int(tokens):,}"]
        for name, size in (("fp32", token * int(tokens)), ("int8", token * int(tokens) // 4)):
            took, chunk = found[name]["decode_s"], found[name]["chunk"] / found[name]["chunk_s"]
            share = (weights + size) / bare["read"] / took
            line += [f"{took * 1e3:.1f} ({share:.0%})", f"{chunk:.0f}", f"{size / 1e6:.0f} MB"]
        lines.append(line)
    return table("tokens|decode|prefill|cache|decode, int8|prefill, int8|cache, int8", lines)


def streams(parts: dict[str, Any], bare: dict[str, float]) -> str:
    """Write what answers at once cost."""
    shape, done, steps = SHAPES[LARGE], work(LARGE, parts["parameters"][LARGE]), parts["streams"]
    cache = 256 * 8 * shape.layers * shape.kv_heads * shape.hidden // shape.heads
    lines: list[list[object]] = []
    for count, took in ((int(text), took) for text, took in steps.items()):
        least = max((done["bytes"] + count * cache) / bare["read"], done["operations"] / 256 * count / bare["integer"])
        more = count * steps["1"] / took
        lines.append([count, f"{took * 1e3:.0f}", f"{count / took:.0f}", f"{more:.1f}", f"{least / took:.0%}"])
    return table("streams|step, ms|tok/s of all|times one stream|share of the limit", lines)


def threads(cores: dict[str, Any]) -> str:
    """Write threads: what was measured, and a model of more."""
    lines = []
    for name, label, tokens in (("decode_s", "decode, tok/s", 1), ("prefill_s", "prefill of 256, tok/s", 256)):
        one, two = cores["1"][name], cores.get("2", cores["1"])[name]
        line: list[object] = [label, f"{tokens / min(one):.1f}", f"{tokens / min(two):.1f}"]
        for count in (4, 8, 16):
            # serial + parallel = t(1), serial + parallel / 2 = t(2); first the least times, then all pairs
            pairs = [(min(one), min(two)), *((a, b) for a in one for b in two)]
            model = [max(0.0, 2 * b - a) * (1 - 1 / count) + a / count for a, b in pairs]
            line.append(f"~{tokens / model[0]:.0f} ({tokens / max(model):.0f} to {tokens / min(model):.0f})")
        lines.append(line)
    return table("|1|2|4, estimated|8, estimated|16, estimated", lines)


def zoos(found: dict[str, Any]) -> str:
    """Write how commands over a zoo grow."""
    lines: list[list[object]] = []
    for count, row in found.items():
        cells = [
            f"{row[f'{name}_s']:.1f} s, {row[f'{name}_rss'] / 1e6:.0f} MB" if f"{name}_s" in row else f"over {LIMIT} s"
            for name in ("list", "validate", "catalog")
        ]
        lines.append([f"{int(count):,}", *cells])
    return table("models|`zoo list --json`|`zoo validate`|`zoo catalog`", lines)
