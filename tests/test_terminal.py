"""Strangers' text in a terminal and in a shell."""

from __future__ import annotations

import json
import pickle
import shlex

import pytest
from typer.testing import CliRunner

from zoo.cli import app
from zoo.cli.output import echo, print_json, print_table
from zoo.errors import UsageError, ZooError
from zoo.terminal import command_line, one_line, printable

STEERING = (
    "\x1b[2J",
    "\x1b]0;owned\a",
    "\x9b31m",
    "\x7f",
    "\x00",
    "\u202e",
    "\u2066",
    "\u2028",
    "\ud800",
    "\b\b",
    "\r",
)


@pytest.mark.attack("s07_zoopath.py", "escape sequences and line breaks in titles and names")
@pytest.mark.parametrize("text", STEERING)
def test_nothing_that_steers_a_terminal_is_printed(text, capsys) -> None:
    assert printable(f"a{text}b").isprintable()
    assert one_line(f"a{text}b\nc").isprintable()
    echo(f"a{text}b")
    print_table(["NAME"], [[f"a{text}\nb"]])
    print_json({"name": text})
    out = capsys.readouterr().out
    assert all(char == "\n" or char.isprintable() for char in out)


@pytest.mark.parametrize("text", STEERING)
def test_json_stays_the_same_json(text) -> None:
    written = json.dumps({text: text}, ensure_ascii=False)
    assert json.loads(printable(written)) == {text: text}


def test_plain_text_stays() -> None:
    text = "Größe 模型 🙂\tx\ny"
    assert printable(text) == text
    assert one_line("a  b \n\n  c") == "a  b c"


def test_a_command_is_typed_back_as_it_was() -> None:
    words = ("zoo", "build", "my model; rm -rf ~", "-o", "a'b$c")
    assert shlex.split(command_line(*words)) == list(words)


def test_a_folder_with_an_escape_in_its_name(tmp_path) -> None:
    folder = tmp_path / "evil\x1b[31m\nzoo: verified"
    folder.mkdir()
    (folder / "config.json").write_text("{")
    done = CliRunner().invoke(app, ["show", str(folder)])
    assert done.exit_code != 0
    assert "\x1b" not in done.output
    assert not any(line == "zoo: verified" for line in done.output.splitlines())


def test_a_hint_quotes_what_was_asked_for() -> None:
    done = CliRunner().invoke(app, ["run", "llama/llama-33b", "hi"])
    assert "zoo build llama/llama-33b" in done.output


@pytest.mark.parametrize("kind", [ZooError, UsageError])
def test_an_error_is_one_line_whatever_it_quotes(kind):
    assert str(kind("name.csv: no column 'a\r\n\x1b[2Jb'\n")) == "name.csv: no column 'a \\u001b[2Jb'"
    assert str(pickle.loads(pickle.dumps(kind("a\nb")))) == "a b"
