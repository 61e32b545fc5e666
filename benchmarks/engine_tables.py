"""Turn the figures of engine.py into Markdown: what was measured, and beside it what was aimed for."""

from typing import Any

from tables import cell, median, number, values

AIMS = {"int8": {"decode": 1.3, "streams": 1.5}, "int4": {"decode": 1.2, "streams": 1.5}}
"""How many times the best peer is aimed for."""


def engine(result: dict[str, Any]) -> list[str]:
    """Return the Markdown of one result of engine.py."""
    settings, parts = result["settings"], result["parts"]
    lines = [f"### Engine: {settings['shape']}, {settings['precision']}, {settings['threads']} threads", ""]
    for name, write in WRITERS.items():
        if parts.get(name):
            lines += write(result, parts[name])
    return lines


def best(figures: dict[str, Any], key: str) -> tuple[str, float] | None:
    """Return the peer with the highest median of a figure."""
    known = {name: median(row, key) for name, row in figures.items() if not ours(name) and name != "read"}
    found = {name: value for name, value in known.items() if value}
    name = max(found, key=lambda one: found[one], default=None)
    return (name, found[name]) if name is not None else None


HOW = {"zoo (block 128)": "in blocks of 128"}


def ours(name: str) -> bool:
    """Tell whether a name is zoo's, or a variant's of it."""
    return name.split(" (")[0] == "zoo"


def against(figures: dict[str, Any], key: str, aim: float) -> str:
    """Say how zoo's medians compare with the best peer's, and what was aimed for."""
    peer = best(figures, key)
    own = {name: median(row, key) for name, row in figures.items() if ours(name)}
    if peer is None or not own.get("zoo"):
        return "no peer to compare with"
    first, *others = (f"{value / peer[1]:.2f}" + ("" if name == "zoo" else f" {HOW[name]}")
                      for name, value in own.items() if value)  # fmt: skip
    more = f" ({', '.join(others)})" if others else ""
    return f"{first} times the best peer's ({peer[0]}){more}; aim {aim:g}"


def solo(result: dict[str, Any], part: dict[str, Any]) -> list[str]:
    """One request."""
    labels, prompts = result["formats"], result["settings"]["prompts"]
    names = [name for name in labels if any(name in part[prompt]["figures"] for prompt in prompts)]
    heads = [f"prefill of {prompt}, tok/s | decode after {prompt}, tok/s" for prompt in prompts]
    lines = ["#### One request", "", f"| | {' | '.join(heads)} |", "|---" * (2 * len(prompts) + 1) + "|"]
    for name in names:
        cells = []
        for prompt in prompts:
            figures = part[prompt]["figures"]
            own = figures.get("zoo")
            for key in ("prefill_tok_s", "decode_tok_s"):
                cells.append(cell(own, figures.get(name, {}), key, "more"))
        lines.append(f"| {name}: {labels[name]} | {' | '.join(cells)} |")
    lines.append("")
    aims = AIMS[result["settings"]["precision"]]
    for prompt in prompts:
        lines.append(f"- prefill of {prompt}: {against(part[prompt]['figures'], 'prefill_tok_s', 1)}")
    for prompt in prompts:
        lines.append(f"- decode after {prompt}: {against(part[prompt]['figures'], 'decode_tok_s', aims['decode'])}")
    figures = [part[prompt]["figures"] for prompt in prompts]
    rowwise = [name for name in names if any(one.get(name, {}).get("rowwise", [0])[-1] for one in figures)]
    if rowwise:
        names = ", ".join(rowwise)
        lines.append(f"- prompts row-wise, which is gone since then (explanation/engine.md): {names}")
    lines += memory(part, next(iter(prompts)))
    idle = {name: median(row, "others_cpu") or 0.0 for name, row in part[next(iter(prompts))]["figures"].items()}
    lines += [f"- {name} left {share:.0%} of the processors to others: it chose its own number of threads"
              for name, share in idle.items() if share > 0.4 and not ours(name) and name != "read"]  # fmt: skip
    return [*lines, *noise(part[prompt] for prompt in prompts), ""]


def memory(part: dict[str, Any], prompt: str) -> list[str]:
    """Say which part of the memory's bandwidth decoding reaches."""
    figures = part[prompt]["figures"]
    decode, read = median(figures.get("zoo", {}), "decode_tok_s"), median(figures.get("read", {}), "read_gb_s")
    if not decode or not read:
        return []
    used = decode * part["step_bytes"] / 1e9
    return [f"- memory: a decode step reads {part['step_bytes'] / 1e9:.2f} GB of weights, so decoding reads {used:.1f} "
            f"GB/s; a plain read of as many bytes in the same rounds: {number(read)} GB/s; share "
            f"**{used / read:.0%}**, aim 85%"]  # fmt: skip


def streams(result: dict[str, Any], part: dict[str, Any]) -> list[str]:
    """Several requests at once."""
    figures, how = part["figures"], result["settings"]["streams"]
    counts = list(dict.fromkeys(key.split(" ×")[1] for row in figures.values() for key in row if " ×" in key))
    heads = [f"decode ×{count}, tok/s | all ×{count}, tok/s" for count in counts]
    lines = [f"#### Requests at once: prompts of {how['prompt']} tokens, {how['new']} new", "",
             f"| | {' | '.join(heads)} |", "|---" * (2 * len(counts) + 1) + "|"]  # fmt: skip
    for name, row in figures.items():
        cells = [cell(figures.get("zoo"), row, f"{key} ×{count}", "more")
                 for count in counts for key in ("decode_tok_s", "total_tok_s")]  # fmt: skip
        lines.append(f"| {name} | {' | '.join(cells)} |")
    aim = AIMS[result["settings"]["precision"]]["streams"]
    most = counts[-1] if counts else ""
    lines += ["", "- decode: new tokens of all streams together while all of them decode; all: prompt and new tokens "
              "from the first request to the last end",
              f"- decode ×{most}: {against(figures, f'decode_tok_s ×{most}', aim)}"]  # fmt: skip
    return [*lines, *noise([part]), ""]


def lookup(result: dict[str, Any], part: dict[str, Any]) -> list[str]:
    """Prompt lookup."""
    row, how = part["figures"].get("zoo", {}), result["settings"]["lookup"]
    plain, found = median(row, "plain_tok_s"), median(row, "lookup_tok_s")
    lines = ["#### Prompt lookup", ""]
    if plain and found:
        equal, tokens = min(values(row, "equal_tokens")), max(values(row, "tokens"))
        lines += [f"- a document of {how['document']} tokens of which one in {how['every']} was changed, to be written "
                  "again with the changes undone (benchmarks/editing.py: made weights, since random ones copy nothing)",
                  f"- plain {number(plain)} tok/s, with lookup {number(found)} tok/s: **{found / plain:.2f} times**, "
                  f"aim 1.8; {equal} of {tokens} tokens are the same"]  # fmt: skip
    return [*lines, *noise([part]), ""]


def prefix(result: dict[str, Any], part: dict[str, Any]) -> list[str]:
    """A shared prefix."""
    row, how = part["figures"].get("zoo", {}), result["settings"]["prefix"]
    first, second = median(row, "first_ttft_ms"), median(row, "second_ttft_ms")
    lines = ["#### A shared prefix", ""]
    if first and second:
        lines.append(f"- two prompts of {how['shared'] + how['own']} tokens, the first {how['shared']} the same: time "
                     f"to first token {number(first)} ms, then {number(second)} ms: **{second / first:.1%}**, aim 10%; "
                     f"{min(values(row, 'cached_tokens')):.0f} tokens came from the cache")  # fmt: skip
    return [*lines, *noise([part]), ""]


def load(result: dict[str, Any], part: dict[str, Any]) -> list[str]:
    """Loading."""
    size = part["package_bytes"] / 1e9
    lines = ["#### Loading", "", "| | load, s | s a GB | aim | anonymous memory, MB | of the package |",
             "|---|---|---|---|---|---|"]  # fmt: skip
    for name, aim in (("first", 1.2), ("later", 0.6)):
        row = part["figures"].get(name, {})
        seconds, anonymous = median(row, "load_s"), median(row, "anonymous_mb")
        if seconds and anonymous:
            lines.append(f"| {name} | {cell(None, row, 'load_s', 'less')} | {seconds / size:.2f} | {aim} | "
                         f"{anonymous:.0f} | {anonymous / 1e3 / size:.0%} |")  # fmt: skip
    bare = median(part["figures"].get("bare", {}), "load_s")
    lines.append("")
    if bare:
        lines += [f"- without rearranging weights onnxruntime opens the graph in {bare:.3f} s; the rest is mostly "
                  "PrePack, which it calls even where weights are prepared, to compare"]  # fmt: skip
    lines += [f"- weights of {size:.2f} GB, in the page cache; later starts aim at under 20% of them as anonymous "
              "memory"]  # fmt: skip
    return [*lines, *noise([part]), ""]


def profile(result: dict[str, Any], part: dict[str, Any]) -> list[str]:
    """Where the time of a decode step goes."""
    row, read = part["figures"].get("zoo", {}), median(part["figures"].get("read", {}), "read_gb_s")
    step, caller = median(row, "step_ms"), median(row, "caller_ms")
    lines = ["#### Where the time of a decode step goes", ""]
    if step and caller and read:
        kernels = {key.removeprefix("kernel "): median(row, key) or 0.0 for key in row if key.startswith("kernel ")}
        shown = sorted(kernels, key=lambda name: -kernels[name])[:5]
        rest = sum(value for name, value in kernels.items() if name not in shown)
        lines += ["| | ms | of the step |", "|---|---|---|"]
        lines += [f"| {name} | {kernels[name]:.2f} | {kernels[name] / caller:.0%} |" for name in shown]
        lines += [f"| other kernels | {rest:.2f} | {rest / caller:.0%} |",
                  f"| onnxruntime between kernels | {step - sum(kernels.values()):.2f} | "
                  f"{(step - sum(kernels.values())) / caller:.0%} |",
                  f"| the engine around it | {caller - step:.2f} | {(caller - step) / caller:.0%} |", ""]  # fmt: skip
        rate = part["step_bytes"] / kernels[shown[0]] / 1e6
        lines.append("- by onnxruntime's own profiler, which slows a step a little; in the same rounds "
                     f"{shown[0]} reads its weights at {rate:.1f} GB/s, which is **{rate / read:.0%}** of a plain read "
                     f"of as many bytes ({number(read)} GB/s)")  # fmt: skip
    return [*lines, *noise([part]), ""]


def noise(parts: Any) -> list[str]:
    """Say what failed, and how much others took of the processors."""
    shares: list[float] = []
    lines = []
    for part in parts:
        lines += [f"- {name}: not measured: {text}" for name, text in part["errors"].items()]
        shares += [share for row in part["figures"].values() for share in values(row, "others_cpu")]
    if shares and max(shares) > 0.005:
        lines.append(f"- other programs took at most {max(shares):.0%} of the machine's processor time")
    return lines


WRITERS = {"solo": solo, "streams": streams, "lookup": lookup, "prefix": prefix, "load": load,
           "profile": profile}  # fmt: skip
