"""What is said of a package to others: a model card for people, a CycloneDX ML-BOM for programs."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from typing import Any

from zoo.declarations.manifest import Manifest
from zoo.units import bytes_text, count_text

_SPDX = {"apache-2.0": "Apache-2.0", "mit": "MIT", "cc-by-4.0": "CC-BY-4.0", "cc-by-nc-4.0": "CC-BY-NC-4.0"}

Measured = Sequence[tuple[str, str, str, str]]
"""What, under which conditions, figure, value."""


def model_card(manifest: Manifest, location: str, measured: Measured) -> str:
    """Write a model card: licence, how to run, what was measured, the recipe.

    Args:
        location: where the package is pushed.
        measured: figures of this very build.
    """
    recipe = manifest.recipe
    weights, licence = recipe.weights, recipe.licence
    head = {
        "license": licence.id if licence.url is None else "other",
        **({"license_name": licence.id, "license_link": licence.url} if licence.url is not None else {}),
        **({"base_model": weights.hub, "base_model_relation": "quantized"} if weights.hub else {}),
        "library_name": "model-zoo-framework",
        "tags": ["zoo", recipe.target.name, recipe.precision],
    }
    size = sum(record.size for record in manifest.files.values())
    lines = [
        "---", *(f"{key}: {json.dumps(value)}" for key, value in head.items()), "---", "",
        f"# {recipe.model}, {recipe.precision}", "",
        f"{count_text(manifest.parameters)} parameters at {manifest.bits_per_weight:.2f} bits, {bytes_text(size)}; "
        f"built by zoo for {recipe.target.name} with {recipe.quantizer.name}.",
        "", "```bash", "pip install 'model-zoo-framework[serve,share]'", f"zoo pull {location} -o {recipe.model}",
        f'zoo run {recipe.model} "Once upon a time"', f"zoo serve {recipe.model}", "```", "",
    ]  # fmt: skip
    if measured:
        lines += ["## Measured", "", "| what | conditions | figure | value |", "|---|---|---|---:|"]
        lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in measured] + [""]
    terms = f"{licence.id}" + (f" ({licence.url})" if licence.url else "")
    came = [weights.hub or "a local folder", weights.revision, weights.digest and f"content `{weights.digest}`"]
    lines += [
        "## Recipe", "", f"- recipe `{recipe.hash}`", f"- weights {', '.join(filter(None, came))}",
        f"- quantizer {recipe.quantizer.name} `{json.dumps(recipe.quantizer.options, sort_keys=True)}`",
        f"- tools {', '.join(f'{name} {version}' for name, version in sorted(manifest.versions.items()))}",
        f"- licence {terms}; commercial use: {_commercial(licence.commercial_use)}", "",
        "`zoo.json` lists every file with its SHA-256; `zoo pull` checks each before the package is there.", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _commercial(allowed: bool | None) -> str:
    return {True: "allowed", False: "not allowed", None: "see the licence"}[allowed]


def bill_of_materials(manifest: Manifest, name: str) -> dict[str, Any]:
    """Write a CycloneDX 1.6 ML-BOM (https://cyclonedx.org/docs/1.6/json/): the model, its weights, files and tools.

    The same package has the same document: no time, no random number.

    Args:
        name: of the package.
    """
    recipe = manifest.recipe
    licence = recipe.licence
    known = _SPDX.get(licence.id.lower())
    stated = {"id": known} if known else {"name": licence.id}
    model = f"model:{recipe.hash}"
    files = [
        {
            "type": "file", "bom-ref": f"file:{path}", "name": path,
            "hashes": [{"alg": "SHA-256", "content": record.sha256}],
        }
        for path, record in sorted(manifest.files.items())
    ]  # fmt: skip
    tools = [
        {"type": "library", "bom-ref": f"tool:{tool}", "name": tool, "version": version,
         **({} if tool == "python" else {"purl": f"pkg:pypi/{tool}@{version}"})}
        for tool, version in sorted(manifest.versions.items())
    ]  # fmt: skip
    weights: list[dict[str, Any]] = []
    if recipe.weights.hub is not None:
        at = f"@{recipe.weights.revision}" if recipe.weights.revision else ""
        weights = [
            {"type": "machine-learning-model", "bom-ref": "weights", "name": recipe.weights.hub,
             "purl": f"pkg:huggingface/{recipe.weights.hub}{at}",
             "hashes": [{"alg": "SHA-256", "content": digest} for _, digest in sorted(recipe.weights.files.items())]}
        ]  # fmt: skip
    parts = [*weights, *files, *tools]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{name}:{recipe.hash}')}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "machine-learning-model",
                "bom-ref": model,
                "name": name,
                "version": recipe.hash[:12],
                "licenses": [{"license": {**stated, **({"url": licence.url} if licence.url else {})}}],
                "modelCard": {
                    "modelParameters": {
                        "task": "text-generation",
                        "architectureFamily": recipe.family or recipe.architecture.type,
                        "modelArchitecture": recipe.architecture.type,
                        "inputs": [{"format": "text"}],
                        "outputs": [{"format": "text"}],
                    }
                },
                "properties": [
                    {"name": f"zoo:{key}", "value": str(value)}
                    for key, value in (
                        ("recipe", recipe.hash), ("precision", recipe.precision), ("quantizer", recipe.quantizer.name),
                        ("target", recipe.target.name), ("parameters", manifest.parameters),
                        ("bits_per_weight", f"{manifest.bits_per_weight:.4f}"),
                        ("weights_digest", recipe.weights.digest or ""),
                    )
                ],
            }
        },
        "components": parts,
        "dependencies": [{"ref": model, "dependsOn": [part["bom-ref"] for part in parts]}],
    }  # fmt: skip
