"""``zoo run`` as users see it: what lands on stdout, what on stderr, and the exit code."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

import zoo
from zoo.cli import app


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    return zoo.build("zoo-tiny", "fp32", output=tmp_path_factory.mktemp("run") / "tiny").path


@pytest.fixture(scope="module")
def engine(package):
    return zoo.open(package)


def run(*args: object, stdin: str | bytes | None = None):
    return CliRunner().invoke(app, ["run", *(str(one) for one in args)], input=stdin)


def start(*args: object, **options) -> subprocess.Popen[bytes]:
    """Start a process of its own, as a shell does."""
    command = [sys.executable, "-m", "zoo", "run", *(str(one) for one in args)]
    return subprocess.Popen(command, cwd=Path(__file__).parents[2], **options)


def test_stdout_is_the_continuation_and_nothing_else(package, engine) -> None:
    prompt = "Once upon a time"
    result = run(package, prompt, "--max-new-tokens", 30)
    assert result.exit_code == 0, result.output
    assert result.stdout == engine.generate(prompt, max_new_tokens=30).text
    assert result.stderr == ""


def test_it_is_neither_wrapped_nor_read_as_markup(package, monkeypatch) -> None:
    from zoo.engine.generation import ActiveRequest, Piece

    text = "[bold]no markup[/bold] :smile: " + "word " * 200 + "\r\n\ttail  "
    accept = ActiveRequest._accept

    def spoken(self, logits, scores):
        piece = accept(self, logits, scores)
        return Piece(piece.token_id, text if piece.text else "")

    monkeypatch.setattr(ActiveRequest, "_accept", spoken)
    result = run(package, "Once upon a time", "--max-new-tokens", 1)
    assert result.stdout_bytes == text.encode()


def test_a_pipe_is_read_whole_less_its_last_newline(package, engine) -> None:
    prompt = "The sky is blue.\nThe grass is"
    wanted = engine.generate(prompt, max_new_tokens=12).text
    for stdin in (prompt, prompt + "\n", prompt + "\r\n"):
        assert run(package, "--max-new-tokens", 12, stdin=stdin).stdout == wanted
    assert run(package, "--max-new-tokens", 12, stdin=prompt + "\n\n").stdout != wanted


def test_json_is_one_object(package, engine) -> None:
    result = run(package, "Once upon a time", "--max-new-tokens", 8, "--json")
    found = json.loads(result.stdout)
    wanted = engine.generate("Once upon a time", max_new_tokens=8)
    assert found["text"] == wanted.text
    assert found["token_ids"] == wanted.token_ids
    assert found["prompt_tokens"] == len(wanted.prompt_ids)
    assert found["completion_tokens"] == len(wanted.token_ids)
    assert found["finish_reason"] == "length"
    assert {"load_s", "prefill_s", "decode_s", "prefill_tokens_per_s", "decode_tokens_per_s"} <= set(found["timings"])


def test_verbose_says_where_the_time_went_on_stderr(package) -> None:
    plain = run(package, "Once upon a time", "--max-new-tokens", 8)
    result = run(package, "Once upon a time", "--max-new-tokens", 8, "--verbose")
    assert result.stdout == plain.stdout
    assert [line.split()[0] for line in result.stderr.splitlines()] == ["sampling", "load", "prefill", "decode"]


def test_chat_answers_through_the_template(package, engine) -> None:
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Who are you?"}]
    wanted = engine.generate(messages=messages).text
    assert run(package, "Who are you?", "--chat", "--system", "Be kind.").stdout == wanted
    assert run(package, "--chat", "--system", "Be kind.", stdin="Who are you?\n").stdout == wanted


def test_sampling_options_arrive(package, engine) -> None:
    options = {"temperature": 1.3, "top_k": 40, "top_p": 0.9, "repetition_penalty": 1.2, "seed": 5}
    flags = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value)]
    wanted = engine.generate("Once upon a time", max_new_tokens=20, **options).text
    assert run(package, "Once upon a time", "--max-new-tokens", 20, *flags).stdout == wanted
    assert wanted != engine.generate("Once upon a time", max_new_tokens=20).text


def test_an_answer_fits_the_schema(package, tmp_path) -> None:
    schema = tmp_path / "pet.json"
    schema.write_text('{"type": "object", "properties": {"pet": {"enum": ["dog", "cat"]}}, "required": ["pet"], '
                      '"additionalProperties": false}')  # fmt: skip
    result = run(package, "Who are you?", "--chat", "--schema", schema)
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout)["pet"] in ("dog", "cat")
    result = run(package, "Who are you?", "--schema", schema, "--max-new-tokens", 2)
    assert result.exit_code == 0
    assert "cut at 2 tokens and is incomplete JSON" in result.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "No such file"), ("{", "not JSON"), ("[1]", "an object or a boolean"),
        ('{"$ref": "http://a"}', "only what is in the schema itself"), ('{"not": {}}', "'not' is not supported"),
    ],
)  # fmt: skip
def test_a_schema_that_is_none_is_wrong_usage(package, tmp_path, text, said) -> None:
    schema = tmp_path / "schema.json"
    if text is not None:
        schema.write_text(text)
    result = run(package, "Hi", "--schema", schema)
    assert result.exit_code == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr


@pytest.fixture(scope="module")
def thinker(tmp_path_factory) -> Path:
    from tests.server.scripted import TEMPLATE, talking_checkpoint

    folder = tmp_path_factory.mktemp("thinker")
    template = TEMPLATE.replace("<|assistant|>{% if thinks %}", "<|assistant|>{% if not enable_thinking is defined %}")
    return zoo.build(str(talking_checkpoint(folder / "thinker", template)), "fp32", output=folder / "package").path


def test_thoughts_are_no_part_of_the_answer(thinker, monkeypatch) -> None:
    from zoo.engine.generation import ActiveRequest, Piece

    accept, said = ActiveRequest._accept, iter(("Hm, ", "so.</thi", "nk>\n\nYes", ".") + ("",) * 50)
    monkeypatch.setattr(ActiveRequest, "_accept", lambda self, *more: Piece(accept(self, *more).token_id, next(said)))
    result = run(thinker, "Well?", "--chat", "--show-thinking", "--max-new-tokens", 8)
    assert (result.exit_code, result.stdout) == (0, "Yes.")
    assert result.stderr == "Hm, so.\n"
    said = iter(("Hm, ", "so.</thi", "nk>\n\nYes", ".") + ("",) * 50)
    assert run(thinker, "Well?", "--chat", "--max-new-tokens", 8).output == "Yes."
    said = iter(("Yes.",) + ("",) * 50)
    result = run(thinker, "Well?", "--chat", "--no-think", "--max-new-tokens", 8)
    assert (result.exit_code, result.output) == (0, "Yes.")


def test_a_schema_waits_for_the_end_of_thoughts(thinker, tmp_path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text('{"enum": ["yes", "no"]}')
    result = run(thinker, "Well?", "--chat", "--no-think", "--schema", schema)
    assert (result.exit_code, json.loads(result.stdout) in ("yes", "no")) == (0, True)
    for _ in range(2):
        result = run(thinker, "Well?", "--chat", "--schema", schema, "--json", "--max-new-tokens", 20)
        found = json.loads(result.stdout)
        assert found["finish_reason"] == "length"  # the small model does not know how thoughts end
        assert found["reasoning"]


def test_thinking_is_about_conversations(package, thinker) -> None:
    result = run(package, "Hi", "--no-think")
    assert result.exit_code == 2
    assert "--chat" in result.stderr


def test_stop_strings_end_it(package, engine) -> None:
    whole = engine.generate("Once upon a time", max_new_tokens=40).text
    first, second = whole[30:34], whole[10:13]
    result = run(package, "Once upon a time", "--max-new-tokens", 40, "--stop", first, "--stop", second)
    assert result.stdout == whole[: min(whole.index(first), whole.index(second))]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--temperature", "-1"], "temperature must be 0 or more"),
        (["--temperature", "nan"], "temperature must be 0 or more"),
        (["--top-p", "0"], "top-p must be above 0"),
        (["--top-p", "1.5"], "top-p must be above 0"),
        (["--top-p", "nan"], "top-p must be above 0"),
        (["--top-k", "-3"], "top-k must be 0"),
        (["--repetition-penalty", "0"], "repetition penalty must be between 0.01 and 100.0"),
        (["--max-new-tokens", "0"], "--max-new-tokens must be 1 or more"),
        (["--max-new-tokens", "many"], "--max-new-tokens"),
        (["--seed", "-1"], "seed must be 0 or more"),
        (["--stop", ""], "--stop must not be empty"),
        (["--system", "x"], "--chat"),
        (["--tempreture", "1"], "--temperature"),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, list) else "",
)
def test_values_that_mean_nothing_are_wrong_usage(package, args, message) -> None:
    result = run(package, "x", *args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_no_prompt_at_all_is_wrong_usage(package) -> None:
    result = run(package, stdin="")
    assert result.exit_code == 2
    assert "no prompt" in result.stderr


def test_stdin_that_is_no_text_is_wrong_usage(package) -> None:
    result = run(package, stdin=b"abc\xff")
    assert result.exit_code == 2
    assert "not UTF-8: byte 3" in result.stderr


def test_an_argument_that_is_no_text_is_wrong_usage(package) -> None:
    done = start(package, b"abc\xff".decode("utf-8", "surrogateescape"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = done.communicate(timeout=60)
    assert (done.returncode, out) == (2, b"")
    assert b"not UTF-8" in err
    assert len(err.splitlines()) == 1


def test_a_locale_without_letters_harms_nothing(package) -> None:
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    done = start(package, "日本 Once upon a time", "--max-new-tokens", "5", stdout=subprocess.PIPE, env=environment)
    out, _ = done.communicate(timeout=60)
    assert done.returncode == 0
    assert out


def test_a_prompt_that_is_too_long_fails_with_the_numbers(package) -> None:
    result = run(package, stdin="Once upon a time " * 300)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "takes at most 511" in result.stderr


def test_a_package_without_a_tokenizer_takes_no_text(package, tmp_path) -> None:
    checkpoint = shutil.copytree(zoo.host().registry.model("zoo-tiny").weights_folder, tmp_path / "mute")
    for name in checkpoint.glob("tokenizer*"):
        name.unlink()
    mute = zoo.build(checkpoint, "fp32", output=tmp_path / "package").path
    for arguments in ((mute, "x"), (mute, "x", "--chat")):
        result = run(*arguments)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "package has no tokenizer, so it takes no text" in result.stderr


def test_an_unknown_model_offers_the_nearest() -> None:
    result = run("zoo-tinny", "x")
    assert result.exit_code == 2
    assert "zoo-tiny" in result.stderr


def test_a_model_that_is_not_built_gives_the_command() -> None:
    result = run("zoo-tiny", "x")
    assert result.exit_code == 1
    assert "zoo build zoo-tiny" in result.stderr


def test_a_built_model_runs_by_its_name(package, tmp_path, monkeypatch, engine) -> None:
    store = tmp_path / "home" / "packages"
    store.mkdir(parents=True)
    (store / "tiny").symlink_to(package)
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    wanted = engine.generate("Once upon a time", max_new_tokens=6).text
    assert run("zoo-tiny", "Once upon a time", "--max-new-tokens", 6).stdout == wanted
    assert run("zoo-tiny", "Once upon a time", "--max-new-tokens", 6, "-p", "fp32").stdout == wanted
    assert run("zoo-tiny", "x", "-p", "int4").exit_code == 1
    assert run("zoo-tiny", "x", "-p", "int5").exit_code == 2


def test_a_folder_of_another_precision_is_wrong_usage(package) -> None:
    assert run(package, "Once upon a time", "--max-new-tokens", 2, "-p", "fp32").exit_code == 0
    for command in (["run", str(package), "x"], ["rm", str(package)]):
        result = CliRunner().invoke(app, [*command, "-p", "int8"])
        assert result.exit_code == 2
        assert "tiny was built as fp32, not int8; leave -p out" in result.stderr
    assert package.is_dir()


SLOWLY = """
import os, pathlib, sys, time
from zoo.engine.session import Session

step = Session.step
def slow(self, slots, rows, **how):
    time.sleep(0.05)
    if len(slots.tokens[0]) > 12 and "STARTED" in os.environ:
        pathlib.Path(os.environ["STARTED"]).touch()
    return step(self, slots, rows, **how)
Session.step = slow
from zoo.cli import app
app(sys.argv[1:], prog_name="zoo")
"""
"""The command line over a session that takes its time, so that there is time to interrupt it."""


def start_slowly(*args: object, **options) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", SLOWLY, "run", *(str(one) for one in args)]
    return subprocess.Popen(command, cwd=Path(__file__).parents[2], **options)


RAMBLE = ("--temperature", "1.2", "--seed", "1", "--max-new-tokens", "400")


def test_an_interrupt_ends_it_with_130(package) -> None:
    running = start_slowly(package, "Once upon a time", *RAMBLE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    first = running.stdout.read(5)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert first
    assert err == b""


def test_an_interrupted_json_says_so(package, tmp_path) -> None:
    begun = tmp_path / "begun"
    running = start_slowly(
        package, "Once upon a time", *RAMBLE, "--json",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"STARTED": str(begun)},
    )  # fmt: skip
    end = time.monotonic() + 60
    while not begun.exists():
        assert time.monotonic() < end
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert (running.returncode, err) == (130, b"")
    found = json.loads(out)
    assert found["finish_reason"] == "interrupt"
    assert len(found["token_ids"]) > 3


def test_a_reader_that_has_had_enough_ends_it_quietly(package) -> None:
    running = start_slowly(package, "Once upon a time", *RAMBLE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert running.stdout.read(3)
    running.stdout.close()
    assert running.stderr.read() == b""
    assert running.wait(timeout=60) == 0


class Terminal:
    """A process at a terminal of its own."""

    def __init__(self, *args: object, slowly: bool = False) -> None:
        import pty

        main, side = pty.openpty()
        options = {"stdin": side, "stdout": side, "stderr": subprocess.PIPE, "start_new_session": True}
        self.process = (start_slowly if slowly else start)(*args, env=os.environ | {"TERM": "dumb"}, **options)
        os.close(side)
        self.main = main
        self.seen = ""

    def read_until(self, wanted: str, timeout: float = 60) -> str:
        """Wait until the terminal showed a text since the last call; return what it showed."""
        end = time.monotonic() + timeout
        while wanted not in self.seen:
            ready, _, _ = select.select([self.main], [], [], max(0, end - time.monotonic()))
            assert ready, f"{wanted!r} did not come, but {self.seen!r}"
            try:
                self.seen += os.read(self.main, 4096).decode("utf-8", "replace")
            except OSError:
                raise AssertionError(f"ended after {self.seen!r}, {self.process.communicate()[1]!r}") from None
        shown, _, self.seen = self.seen.partition(wanted)
        return shown

    def type(self, text: str) -> None:
        os.write(self.main, text.encode())

    def end(self, timeout: float = 60) -> tuple[int, str]:
        """Wait for the end; return the exit code and stderr."""
        _, err = self.process.communicate(timeout=timeout)
        os.close(self.main)
        return self.process.returncode, err.decode()


needs_terminal = pytest.mark.skipif(sys.platform == "win32", reason="no pseudo terminals")


@needs_terminal
def test_a_prompt_loop_continues_each_line(package, engine) -> None:
    terminal = Terminal(package, "--max-new-tokens", "6")
    for prompt in ("Once upon a time", "The sky is"):
        terminal.read_until("> ")
        terminal.type(prompt + "\n")
        terminal.read_until(prompt)
        terminal.read_until(engine.generate(prompt, max_new_tokens=6).text.strip())
    terminal.read_until("> ")
    terminal.type("/exit\n")
    code, err = terminal.end()
    assert code == 0
    assert "Ctrl-D" in err


@needs_terminal
def test_a_conversation_remembers_and_ends_at_end_of_file(package, engine) -> None:
    terminal = Terminal(package, "--chat", "--max-new-tokens", "20")
    messages = []
    for said in ("Who are you?", "What is the sky?"):
        terminal.read_until("> ")
        terminal.type(said + "\n")
        messages.append({"role": "user", "content": said})
        answer = engine.generate(messages=messages, max_new_tokens=20).text
        messages.append({"role": "assistant", "content": answer})
        terminal.read_until(said)
        terminal.read_until(answer.strip())
    terminal.read_until("> ")
    terminal.type("\x04")
    assert terminal.end()[0] == 0


@needs_terminal
def test_ctrl_c_stops_an_answer_and_then_leaves(package) -> None:
    terminal = Terminal(package, *RAMBLE, slowly=True)
    terminal.read_until("> ")
    terminal.type("Once upon a time\n")
    terminal.read_until("Once upon a time")
    time.sleep(1)
    terminal.process.send_signal(signal.SIGINT)
    terminal.read_until("> ")
    time.sleep(0.3)
    terminal.process.send_signal(signal.SIGINT)
    code, err = terminal.end()
    assert code == 130
    assert "(stopped)" in err
    assert "Traceback" not in err


@needs_terminal
def test_an_error_in_the_loop_does_not_end_it(package) -> None:
    terminal = Terminal(package, "--max-new-tokens", "3")
    terminal.read_until("> ")
    # Longer than the context, in a line that a terminal takes.
    terminal.type("a b c d e f g h " * 80 + "\n")
    terminal.read_until("> ")
    terminal.type("/exit\n")
    code, err = terminal.end()
    assert code == 0
    assert "takes at most" in err


def test_history_that_no_longer_fits_loses_its_oldest_turns(engine) -> None:
    from zoo.cli.answers import Answers
    from zoo.cli.prompt_loop import fit

    answers = Answers(engine, {"max_new_tokens": 64})
    talk = [{"role": "system", "content": "Be kind."}]
    for turn in range(40):
        talk += [{"role": "user", "content": f"Number {turn}?"}, {"role": "assistant", "content": "It is a number."}]
    talk.append({"role": "user", "content": "And now?"})
    kept = fit(answers, talk, 1)
    assert kept[0] == talk[0]
    assert kept[1]["role"] == "user"
    assert kept[-1] == talk[-1]
    assert kept[1:] == talk[-len(kept) + 1 :]
    assert len(engine.encode_chat(kept)) + 64 <= engine.context_length
    longer = [talk[0], *talk[-len(kept) - 1 :]]
    assert len(engine.encode_chat(longer)) + 64 > engine.context_length
    assert fit(answers, talk[:2], 1) == talk[:2]


@pytest.fixture(scope="module")
def sampled(tmp_path_factory) -> Path:
    """The bundled model with sampling of its authors', whose configuration does not know the end of a turn."""
    folder = tmp_path_factory.mktemp("sampled") / "ck"
    shutil.copytree(Path(zoo.__file__).parents[1] / "plugins/tiny/zoo_tiny/checkpoint", folder)
    stated = {"bos_token_id": 1, "eos_token_id": 2, "do_sample": True, "temperature": 3.5, "top_k": 50}
    (folder / "generation_config.json").write_text(json.dumps(stated))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "eos_token_id": 2}))
    return zoo.build(str(folder), "fp32", output=folder.parent / "package").path


def test_chat_samples_as_the_authors_say_and_options_override_single_fields(sampled) -> None:
    question = ("What is the opposite of hot?", "--max-new-tokens", 12, "-v")

    def say(*options: object) -> tuple[str, str]:
        result = run(sampled, *question, *options)
        assert result.exit_code == 0, result.output
        return result.stdout, result.stderr.splitlines()[0]

    greedy, how = say("--chat", "--temperature", 0)
    assert (greedy, how) == ("The opposite of hot is cold.", "sampling greedy")
    sampled_text, how = say("--chat", "--seed", 1)
    assert how == "sampling temperature 3.5, top_k 50, top_p 1"
    assert sampled_text != greedy
    assert say("--chat", "--top-k", 1, "--seed", 1) == (greedy, "sampling temperature 3.5, top_k 1, top_p 1")
    assert say()[1] == "sampling greedy"  # a continuation is no conversation


def test_a_special_token_ends_an_answer_by_its_text_and_by_its_id(package, engine) -> None:
    end = engine.tokenizer.id_of("<|end|>")
    messages = [{"role": "user", "content": "What is the opposite of hot?"}]
    for options in ({"stop": ["<|end|>"]}, {"stop_token_ids": [end]}):
        answer = engine.generate(messages=messages, ignore_eos=True, max_new_tokens=40, **options)
        assert (answer.text, answer.finish_reason) == ("The opposite of hot is cold.", "stop")
    first = engine.generate("Once upon a time", max_new_tokens=3).token_ids[0]
    result = run(package, "Once upon a time", "--stop-token-ids", f"{first}, 99", "--json")
    assert json.loads(result.stdout)["finish_reason"] == "stop"
    assert json.loads(result.stdout)["token_ids"] == []


@pytest.mark.parametrize("ids", ["", "x", "1,", "1;2", "-1", "1.5", "²", "1" * 30])
def test_stop_ids_that_are_not_ids(package, ids) -> None:
    result = run(package, "x", f"--stop-token-ids={ids}")
    assert result.exit_code == 2
    assert "--stop-token-ids takes token ids with commas between them" in result.stderr


def test_show_says_how_a_package_is_sampled_in_conversation(sampled) -> None:
    shown = json.loads(CliRunner().invoke(app, ["show", str(sampled), "--json"]).stdout)["fields"]["sampling"]
    assert shown["temperature"] == {"value": 3.5, "origin": "generation_config.json"}
    assert shown["top_p"] == {"value": 1.0, "origin": "default"}
