"""YAML from strangers: whatever a declaration says, it is read or refused in one line, soon, in little memory."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from zoo.declarations.family import MAX_BASES, Family
from zoo.errors import ZooError
from zoo.yamlfile import MAX_PROBLEMS, DeclarationError, Document

pytestmark = pytest.mark.attack("s05_yaml.py, s07_zoopath.py", "YAML that crashes, hangs or fills memory")

FAMILY = """\
name: example
title: Example
licence: {id: mit}
architecture: {vocab_size: 320, max_position_embeddings: 64, hidden_size: 64, intermediate_size: 128,
  num_hidden_layers: 2, num_attention_heads: 4}
models:
"""
MODEL = "  - {name: example-1b, weights: {hub: example/one}}\n"
ALIASES = "k: &k '" + "x" * 100_000 + "'\nlist: [" + ", ".join(["*k"] * 1000) + "]\n"

REFUSED = {
    "deep flow": ("a: " + "[" * 100_000 + "]" * 100_000, "nested deeper than 40 levels"),
    "deep flow that never ends": ("a: " + "[" * 1_900_000, "nested deeper"),
    "deep flow mappings": ("a: " + "{b: " * 50_000 + "1" + "}" * 50_000, "nested deeper"),
    "deep flow over lines": ("a: " + "[\n" * 50_000, "nested deeper"),
    "deep block": ("".join(" " * depth + "a:\n" for depth in range(1500)), "nested deeper"),
    "deep block of lists": ("- " * 30_000 + "a", "nested deeper"),
    "deep keys": ("? " * 30_000 + "a", "nested deeper"),
    "long aliases": (ALIASES, "characters once its aliases are expanded"),
    "an alias of nothing": ("a: *b\n", "names no anchor"),
    "an anchor twice": ("a: &a 1\nb: &a 2\n", "stands here twice"),
    "hexadecimal": ("name: 0x" + "f" * 5000, "a number of 5002 characters"),
    "hexadecimal, signed": ("name: -0x" + "_f" * 3000, "a number of 6003 characters"),
    "decimal": ("name: " + "9" * 5000, "a number of 5000 characters"),
    "binary": ("name: 0b" + "1" * 3_900_000, "a number of 3900002 characters"),
    "octal": ("name: 0" + "7" * 5000, "a number of 5001 characters"),
    "not of 64 bits": ("name: 99999999999999999999999", "does not fit 64 bits"),
    "float of many digits": ("name: 1." + "0" * 5000, "a number of 5002 characters"),
    "overflow": ("name: 1.0e+999", "is not a finite number"),
    "not a number": ("name: .nan", "is not a finite number"),
    "infinity": ("name: -.inf", "is not a finite number"),
    "tagged as a number": ("name: !!int '" + "1:" * 100_000 + "1'", "name"),
    "tagged as a float": ("name: !!float abc", "cannot read 'abc' as float"),
    "a python object": ("name: !!python/object/apply:os.system ['id']", "only plain values are"),
    "an escape sequence": ('title: "\\e[31mred"', "control character U+001B"),
    "an escape of eight bits": ('title: "\\x9b31mred"', "control character U+009B"),
    "a NUL": ('title: "a\\0b"', "control character U+0000"),
    "an escape in a key": ('"\\e]0;owned\\a": 1', "printable characters"),
    "a line break in a key": ('"a\\nb": 1', "printable characters"),
    "a long key": ("x" * 300 + ": 1", "printable characters"),
    "many keys": ("".join(f"k{index}: 1\n" for index in range(150_000)), "more than 200000 values"),
    "many empty lists": ("a: [" + "[], " * 250_000 + "]", "more than 200000 values"),
}


@pytest.mark.attack("s05_yaml.py", "YAML that exhausts the stack, the memory or the clock of the parser")
@pytest.mark.parametrize("case", REFUSED)
def test_what_could_end_the_process_is_one_line(case, tmp_path) -> None:
    text, message = REFUSED[case]
    file = tmp_path / "family.yaml"
    file.write_text(text)
    started = time.process_time()
    with pytest.raises(ZooError) as caught:
        Document(file).validate(Family)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert "\n" not in str(caught.value)
    assert time.process_time() - started < 10


TEXT = {
    "base 60": ("1" + ":1" * 100_000, "1" + ":1" * 100_000),
    "base 60 with a point": ("1:30:00.5", "1:30:00.5"),
    "a clock time": ("12:30", "12:30"),
    "a date": ("2001-02-30", "2001-02-30"),
    "a large date": ("99999-99-99", "99999-99-99"),
}


@pytest.mark.parametrize("case", TEXT)
def test_what_nobody_means_as_a_number_is_text(case, tmp_path) -> None:
    written, read = TEXT[case]
    file = tmp_path / "text.yaml"
    file.write_text(f"a: {written}\n")
    assert Document(file).data == {"a": read}


NUMBERS: dict[str, Any] = {
    "0x1F": 31, "0b101": 5, "017": 15, "1_000": 1000, "-5": -5, "18446744073709551615": 2**64 - 1, "1.5e+3": 1500.0,
    "~": None, "yes": True, "'12'": "12", "!!str 12": "12",
}  # fmt: skip


@pytest.mark.parametrize("written", NUMBERS)
def test_plain_values_read_as_before(written, tmp_path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(f"a: {written}\nb: [&x {written}, *x]\n")
    value = NUMBERS[written]
    assert Document(file).data == {"a": value, "b": [value, value]}


def test_marks_and_data_agree_with_the_library(tmp_path) -> None:
    yaml = pytest.importorskip("yaml")
    for file in Path(__file__).parent.parent.glob("plugins/*/zoo_*/*.yaml"):
        document = Document(file)
        assert document.data == yaml.safe_load(file.read_bytes())
        lines = file.read_text().splitlines()
        for key in document.data:
            line, column = document.mark((key,))
            assert lines[line - 1][column - 1 :].startswith(key)


BOUNDED = ("num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim")


@pytest.mark.attack("s07_zoopath.py", "a thousand million layers, heads or columns")
@pytest.mark.parametrize("field", BOUNDED)
def test_what_is_looped_over_is_bounded(field, tmp_path) -> None:
    file = tmp_path / "family.yaml"
    file.write_text(FAMILY + MODEL.replace("}}", f"}}, architecture: {{{field}: 1000000000}}}}"))
    with pytest.raises(DeclarationError, match=f":7:.*{field}: must be at most"):
        Document(file).validate(Family)


def test_numbers_are_finite_however_they_are_written(tmp_path) -> None:
    file = tmp_path / "family.yaml"
    for written in ("1e999", "'inf'", "'nan'"):
        file.write_text(FAMILY + MODEL.replace("}}", f"}}, architecture: {{rms_norm_eps: {written}}}}}"))
        with pytest.raises(DeclarationError, match="rms_norm_eps: expected a finite number"):
            Document(file).validate(Family)


@pytest.mark.attack("s05_yaml.py", "a declaration with forty thousand mistakes")
def test_a_thousand_mistakes_are_told_by_the_first(tmp_path) -> None:
    file = tmp_path / "family.yaml"
    file.write_text(FAMILY + "  - {}\n" * 20_000)
    with pytest.raises(DeclarationError) as caught:
        Document(file).validate(Family)
    assert len(caught.value.problems) == MAX_PROBLEMS
    assert str(caught.value).endswith(f"(and {2 * 20_000 - 1} more)")


def test_a_chain_of_bases_is_bounded(tmp_path) -> None:
    file = tmp_path / "family.yaml"

    def chain(length: int) -> str:
        links = [f"  - {{name: m{i}, weights: {{hub: a/m{i}}}, base: m{i - 1}}}\n" for i in range(1, length)]
        return FAMILY + "  - {name: m0, weights: {hub: a/m0}}\n" + "".join(links)

    file.write_text(chain(MAX_BASES))
    family = Document(file).validate(Family)
    assert [model.name for model in family.lineage(family.models[-1])] == [f"m{i}" for i in range(MAX_BASES)]
    file.write_text(chain(MAX_BASES + 1))
    with pytest.raises(DeclarationError, match="name an earlier base"):
        Document(file).validate(Family)


@pytest.mark.attack("s07_zoopath.py", "a bomb in a folder of ZOO_PATH, beside any command")
@pytest.mark.parametrize("text", ["a: " + "[" * 40_000, "a: " + "{b: " * 40_000, "- " * 40_000])
def test_commands_go_on_beside_a_bomb(text, tmp_path) -> None:
    (tmp_path / "bomb.yaml").write_text(text)
    os.mkfifo(tmp_path / "pipe.yaml")

    def limits() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (2 * 2**30, 2 * 2**30))

    done = subprocess.run(
        [sys.executable, "-m", "zoo", "list"],
        env={**os.environ, "ZOO_PATH": str(tmp_path)}, capture_output=True, text=True, timeout=60, preexec_fn=limits,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("NAME ")
    assert done.stderr.count("\n") == 1
    assert "nested deeper than 40 levels" in done.stderr


@pytest.mark.parametrize("key", ["trust_remote_code", "trust-remote-code", "--trust-remote", "TrustRemoteCode"])
def test_a_declaration_enables_no_remote_code(key, tmp_path) -> None:
    file = tmp_path / "family.yaml"
    options = f"{{some: {{extra: [{{deep: {{{key!r}: true}}}}]}}}}"
    for text in (FAMILY + MODEL + f"targets: {options}\n", FAMILY + MODEL.replace("}}", f"}}, targets: {options}}}")):
        file.write_text(text)
        with pytest.raises(DeclarationError, match="code run, which no declaration may"):
            Document(file).validate(Family)


@pytest.mark.parametrize(
    "weights",
    ["{hub: a/-b}", "{hub: a/..}", "{hub: a/b, revision: --trust}", "{hub: a/b, revision: 'x y'}", "{hub: '-a/b'}"],
)
def test_no_name_of_a_repository_is_an_option_of_a_command(weights, tmp_path) -> None:
    file = tmp_path / "family.yaml"
    file.write_text(FAMILY + MODEL.replace("{hub: example/one}", weights))
    with pytest.raises(DeclarationError, match="weights"):
        Document(file).validate(Family)
