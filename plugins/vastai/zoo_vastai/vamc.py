"""The target ``vamc``: the compile file, for int8 the quantization files, and the commands that take them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from zoo import Recipe, TargetContext, Tool, ToolCommand, ZooError
from zoo_vastai import rules
from zoo_vastai.documents import build_name, compile_document, dump, quant_document
from zoo_vastai.options import VamcOptions
from zoo_vastai.places import checkpoint_path, dataset_folder, fetch_dataset, fetch_weights

INSTALL = "it comes with the vendor's SDK, not from a public registry; install it and put it on the PATH"


class VendorTarget:
    """What the vendor's three targets share."""

    precisions: ClassVar[dict[str, str]] = {"fp16": "float", "int8": "w8a16_gptq"}
    operations = None
    emitter_version = 1
    needs_weights = False
    engines: ClassVar[dict[str, str]] = {}


def compiled_name(recipe: Recipe, context: TargetContext, options: Any) -> str:
    """Name the compiled model that a recipe is about."""
    quantized_cache = getattr(options, "kv_cache", "fp16") == "int8"
    return build_name(
        context.weights_name, recipe.precision, options.tp, options.shapes, quantized_cache=quantized_cache
    )


class Vamc(VendorTarget):
    """The vendor's compiler: its input files, written from a declaration or a checkpoint's ``config.json``."""

    Options = VamcOptions
    tools = (Tool("vamc", "quantizes and compiles", INSTALL, minimum=(3, 0)),)

    def check(self, recipe: Recipe) -> None:
        """Refuse what breaks the vendor's rules."""
        options = VamcOptions.model_validate(recipe.target.options)
        rules.check("vamc", recipe.architecture, options.tp, options.shapes)
        if options.kv_cache == "int8" and recipe.precision != "fp16":
            raise ZooError(
                f"target 'vamc': kv_cache int8 goes with fp16 weights (w16kv8), not with {recipe.precision}, whose "
                f"quantize type is w8a16_gptq: a file names one type; say -p fp16, or leave kv_cache"
            )

    def documents(self, recipe: Recipe, context: TargetContext) -> Iterator[tuple[str, bytes]]:
        """Write ``NAME.yaml``, and for int8 a ``NAME-quant-DATASET.yaml`` for each calibration dataset."""
        options = VamcOptions.model_validate(recipe.target.options)
        document = compile_document(
            weights_name=context.weights_name,
            checkpoint=checkpoint_path(context),
            precision=recipe.precision,
            architecture=recipe.architecture,
            options=options,
        )
        yield f"{document['name']}.yaml", dump(document)
        if recipe.quantizer.name != "w8a16_gptq":
            return
        uses = {one.dataset: (one.samples, one.sequence_length) for one in context.uses.calibration}
        if recipe.calibration is not None:
            chosen = recipe.calibration
            uses[chosen.dataset] = (chosen.samples, chosen.sequence_length)
        for name, (samples, length) in uses.items():
            quant = quant_document(
                document,
                device=options.device,
                true_sequential=bool(recipe.quantizer.options["true_sequential"]),
                dataset=name,
                path=dataset_folder(context, name),
                samples=samples,
                sequence_length=length,
            )
            yield f"{document['name']}-quant-{name}.yaml", dump(quant)

    def commands(self, recipe: Recipe, context: TargetContext) -> list[ToolCommand]:
        """List: fetch what is missing, quantize with the chosen dataset, compile."""
        name = compiled_name(recipe, context, VamcOptions.model_validate(recipe.target.options))
        environment = rules.environment(context.parameters)
        steps = [*fetch_weights(context)]
        if recipe.calibration is not None:
            chosen = recipe.calibration.dataset
            steps += fetch_dataset(context, chosen)
            quant = ("vamc", "quant", context.document(f"{name}-quant-{chosen}.yaml"))
            steps.append(ToolCommand(quant, f"quantize, calibrated with {chosen}", environment, run=True))
        compile_ = ("vamc", "compile", context.document(f"{name}.yaml"))
        return [*steps, ToolCommand(compile_, "compile", environment, run=True)]
