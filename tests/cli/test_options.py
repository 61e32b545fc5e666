"""Options of a target, from its options model to the command line and back, without a vendor."""

from __future__ import annotations

import textwrap
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field
from typer.testing import CliRunner

from zoo.cli.options import chosen_target, read_values, target_parameters
from zoo.errors import UsageError


class Options(BaseModel):
    batch_size: int = 4
    sizes: tuple[int, ...] | None = None
    fast: bool = False
    level: Literal[1, 4] = 4
    kind: Annotated[Literal["small", "large"], Field(json_schema_extra={"flags": True})] = "small"
    more: dict[str, int] = Field(default_factory=dict)
    ratio: float | None = None
    precision: str = "x"


def names(taken: set[str]) -> set[str]:
    return {
        opt
        for one in target_parameters(Options, taken, "Options of t")
        for opt in (*one.opts, *one.secondary_opts)
        if opt[:2] == "--"
    }


def test_fields_become_options_but_not_the_command_s_own() -> None:
    assert names({"--precision"}) - {"--help"} == {
        *("--batch-size", "--sizes", "--fast", "--no-fast", "--level", "--small", "--large", "--more", "--ratio"),
    }


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, {}),
        ({"batch_size": "8", "ratio": "0.5"}, {"batch_size": 8, "ratio": 0.5}),
        ({"sizes": "1, 2,3"}, {"sizes": (1, 2, 3)}),
        ({"fast": True}, {"fast": True}),
        ({"fast": False}, {"fast": False}),
        ({"level": "1"}, {"level": 1}),
        ({"large": True, "small": None}, {"kind": "large"}),
        ({"more": '{"a": 1}'}, {"more": {"a": 1}}),
    ],
)
def test_what_is_typed_is_what_the_model_reads(given, wanted) -> None:
    options = Options.model_validate(read_values(Options, given))
    assert options.model_dump(exclude_unset=True) == wanted


def test_flags_of_one_field_exclude_each_other() -> None:
    with pytest.raises(UsageError, match="--small and --large cannot be used together"):
        read_values(Options, {"small": True, "large": True})


@pytest.mark.parametrize(
    ("args", "target"),
    [
        (["m"], None),
        (["--target", "a", "m"], "a"),
        (["m", "--target=a"], "a"),
        (["--target", "a", "--target", "b"], "b"),
        (["m", "--", "--target", "a"], None),
        (["m", "--target"], None),
    ],
)
def test_the_target_is_found_before_parsing(args, target) -> None:
    assert chosen_target(args) == target


PLUGIN = """
    from pydantic import BaseModel, ConfigDict
    from zoo import hookimpl

    class Options(BaseModel):
        model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)
        colour: str = "red"
        \"\"\"What to paint it in.\"\"\"
        size: int = 1

    class Paint:
        Options = Options
        precisions = {"fp16": "float"}
        operations = None
        emitter_version = 1
        needs_weights = False
        engines = {}
        tools = ()
        def check(self, recipe): pass
        def documents(self, recipe, context):
            yield "paint.txt", f"{context.weights_name} {recipe.target.options}".encode()
        def commands(self, recipe, context):
            return []

    @hookimpl
    def register_targets(register):
        register("paint", "plugin_paint:Paint")
"""


@pytest.fixture
def zoo(install_plugin):
    install_plugin("paint", textwrap.dedent(PLUGIN))
    from zoo.cli import app

    return lambda *args: CliRunner().invoke(app, ["build", *map(str, args)], prog_name="zoo")


def test_anyone_s_target_brings_its_options(zoo, tmp_path) -> None:
    result = zoo(
        "--size", "3", "llama-33b", "--target", "paint", "-p", "fp16", "--colour", "blue", "-o", tmp_path / "a"
    )
    assert result.exit_code == 0, result.output
    assert (tmp_path / "a" / "paint.txt").read_text() == "LLaMA-33B-HF {'colour': 'blue', 'size': 3}"
    # What `--target-option` says, the option of its own name overrides.
    arguments = ("--target-option", "colour=green", "--target-option", "size=2", "--colour", "blue")
    assert zoo("llama-33b", "--target", "paint", "-p", "fp16", *arguments, "-o", tmp_path / "b").exit_code == 0
    assert (tmp_path / "b" / "paint.txt").read_text() == "LLaMA-33B-HF {'colour': 'blue', 'size': 2}"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--color", "blue"], "--colour"),
        (["--size", "big"], "option size"),
        (["--size"], "--size"),
        (["--target-option", "shade=1"], "shade"),
        (["more"], "more"),
    ],
)
def test_wrong_options_are_one_line(zoo, tmp_path, args, message) -> None:
    result = zoo("llama-33b", "--target", "paint", "-p", "fp16", "-o", tmp_path / "a", *args)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_help_shows_them_with_their_text(zoo) -> None:
    shown = " ".join(zoo("--target", "paint", "--help").stdout.split())
    assert "--colour" in shown
    assert "What to paint it in." in shown


def test_a_target_without_documents_is_defective(install_plugin, tmp_path) -> None:
    install_plugin("paint", textwrap.dedent(PLUGIN).replace("def documents", "def papers"))
    from zoo.cli import app

    args = ["build", "llama-33b", "--target", "paint", "-p", "fp16", "-o", str(tmp_path / "a")]
    result = CliRunner().invoke(app, args, prog_name="zoo")
    assert (result.exit_code, "defective" in result.stderr) == (1, True)
