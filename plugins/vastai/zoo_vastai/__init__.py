"""Vastai's tool chain as targets: compile files, deploy files and serve commands, written from the declarations."""

from zoo import hookimpl

ZOO_API = 1


@hookimpl
def register_quantizers(register):
    register("w8a16_gptq", "zoo_vastai.quantizer:W8A16Gptq")


@hookimpl
def register_targets(register):
    register("vamc", "zoo_vastai.vamc:Vamc")
    register("llmdeploy", "zoo_vastai.llmdeploy:Llmdeploy")
    register("vastgenx", "zoo_vastai.vastgenx:Vastgenx")


@hookimpl
def register_commands(app):
    from zoo_vastai.commands import vamc

    app.add_typer(vamc, name="vamc")
