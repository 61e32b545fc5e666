"""``w8a16_gptq``: weights to int8 by GPTQ, done by ``vamc quant``, not here."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from zoo import ZooError


class GptqOptions(BaseModel):
    """What ``vamc quant`` is told of the method."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    true_sequential: bool = False
    """Quantize the matrices inside a layer one after the other instead of at once."""


class W8A16Gptq:
    """The vendor's int8: it is named in a recipe and in the files, and computed by the vendor's tool."""

    Options = GptqOptions
    precisions = ("int8",)
    needs_activations = True

    def __init__(self, precision, options) -> None:
        self.options = options

    def scheme(self, parameter):
        """Refuse: the vendor's tool decides how the weights lie."""
        raise ZooError("w8a16_gptq is computed by `vamc quant`; build with --target vamc, or choose another quantizer")

    def quantize(self, parameter, slab, out, activations=None) -> None:
        """Refuse: the vendor's tool quantizes."""
        self.scheme(parameter)
