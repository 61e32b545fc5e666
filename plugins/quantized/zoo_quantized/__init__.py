"""Checkpoints that are quantized already, as transforms that ``quantization_config.quant_method`` asks for."""

from zoo import hookimpl

ZOO_API = 1


@hookimpl
def register_sources(register):
    register.transform("gptq", "zoo_quantized.gptq:Gptq")
    register.transform("awq", "zoo_quantized.awq:Awq")
    register.transform("compressed-tensors", "zoo_quantized.compressed:CompressedTensors")
    register.transform("fp8", "zoo_quantized.fp8:Fp8")
    register.transform("bitsandbytes", "zoo_quantized.bnb:BitsAndBytes")
    register.transform("hqq", "zoo_quantized.hqq:Hqq")
    register.transform("mxfp4", "zoo_quantized.mxfp4:Mxfp4")
