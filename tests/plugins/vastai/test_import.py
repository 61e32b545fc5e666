"""`zoo vamc import`: existing files become declarations, and what is wrong with them is said."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

LLAMA70 = {
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "vocab_size": 32000,
    "max_position_embeddings": 4096,
}


def compile_file(
    checkpoint: str = "/path/to/Llama-2-7b-hf",
    precision: str = "fp16",
    *,
    tp: int = 4,
    name: str | None = None,
    **changes,
) -> dict:
    """Write a file as people wrote them."""
    shapes = changes.pop("shapes", [1024, 2048])
    folder = checkpoint.rsplit("/", 1)[-1]
    frontend = {
        "checkpoint": checkpoint,
        "type": "huggingface",
        "shape": {"input_ids": [[one] for one in shapes]},
        "model_kwargs": {"tp": tp, "b2s": True, "model_arch": "vacc", **changes.pop("model_kwargs", {})},
    }
    if precision == "int8":
        frontend["quantize"] = {"type": "w8a16_gptq"}
    document = {
        "name": name or f"{folder}-{precision}-tp{tp}-{shapes[0]}-{shapes[1]}",
        "frontend": frontend,
        "backend": {
            "type": "tvm_vacc",
            "dtype": precision,
            "merge_params": True,
            "compile": {"data_type": 0, "gather_data_vccl_dsp_enable": True},
        },
        "workspace": {"path": "./vacc_deploy", "workers": 4},
    }
    for key, value in changes.items():
        document[key] = {**document.get(key, {}), **value}
    return document


def quant_file(dataset: str, seqlen: int, checkpoint: str = "/path/to/Llama-2-7b-hf", samples: int = 128) -> dict:
    document = compile_file(checkpoint, "int8")
    document["frontend"]["quantize"] |= {"device": "cuda:5", "calib_args": {"true_sequential": False}}
    document["dataset"] = {
        "type": "huggingface",
        "nsamples": samples,
        "name": dataset,
        "path": "/path/to/data",
        "seqlen": seqlen,
    }
    return document


@pytest.fixture
def hand(tmp_path: Path):
    """Write files into a folder."""
    folder = tmp_path / "hand"
    folder.mkdir()

    def write(**documents: dict | str) -> Path:
        for name, document in documents.items():
            text = document if isinstance(document, str) else yaml.safe_dump(document)
            (folder / f"{name}.yaml").write_text(text)
        return folder

    return write


def findings(result) -> list[tuple[str, str, str]]:
    return [(one["file"], one["kind"], one["message"]) for one in json.loads(result.stdout)["findings"]]


def without_places(document: dict) -> dict:
    document["frontend"].pop("checkpoint")
    if "dataset" in document:
        document["dataset"].pop("path")
    return document


FILES = {
    "fp16": compile_file(),
    "int8": compile_file(precision="int8"),
    "quant": quant_file("c4", 2048, samples=64),
    "latency": compile_file("/path/to/Llama-2-7b-chat-hf", tp=2, model_kwargs={"b2s": False}),
    "gqa": compile_file("/path/to/Llama-2-70b-hf", tp=16, model_kwargs={"align_qkv": True}),
    "kv8": {**compile_file("/path/to/Llama-2-13b-hf")},
    "odd": compile_file(
        "/path/to/Llama-2-13b-chat-hf",
        shapes=[512, 4096],
        backend={"compile": {"data_type": 2, "gather_data_vccl_dsp_enable": True, "cluster_mode": 1}},
        workspace={"path": "./elsewhere", "workers": 16},
    ),
}
FILES["kv8"] |= {"name": f"{FILES['kv8']['name']}-kv8"}
FILES["kv8"]["frontend"]["quantize"] = {"type": "w16kv8"}


def test_round_trip(zoo, tmp_path, hand, monkeypatch) -> None:
    """File → declaration → the same file, for every kind of departure."""
    from zoo import plugins

    declarations = tmp_path / "declarations"
    result = zoo("vamc", "import", hand(**FILES), "-o", declarations, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["declarations"] == [str(declarations / "vamc-llama2.yaml")]
    assert set(report["commands"]) == {f"{name}.yaml" for name in FILES}
    monkeypatch.setenv("ZOO_PATH", str(declarations))
    plugins.host.cache_clear()
    for name, document in FILES.items():
        out = tmp_path / f"built-{name}"
        words = shlex.split(report["commands"][f"{name}.yaml"])
        built = zoo(*words[1:], "-o", out)
        assert built.exit_code == 0, built.output
        suffix = "-quant-c4" if name == "quant" else ""
        found = yaml.safe_load((out / f"{document['name']}{suffix}.yaml").read_bytes())
        assert without_places(found) == without_places(json.loads(json.dumps(document)))


def test_what_the_zoo_writes_comes_back(zoo, tmp_path, monkeypatch) -> None:
    from zoo import plugins

    first, second, declarations = tmp_path / "first", tmp_path / "second", tmp_path / "declarations"
    assert zoo("build", "llama-33b", "--target", "vamc", "--tp", "2", "-o", first).exit_code == 0
    (first / "zoo.json").unlink()
    assert zoo("vamc", "import", first, "-o", declarations).exit_code == 0
    monkeypatch.setenv("ZOO_PATH", str(declarations))
    plugins.host.cache_clear()
    # Its departure (tp 2) is in the declaration now.
    assert zoo("build", "llama-33b-hf", "--target", "vamc", "-o", second).exit_code == 0
    for file in first.iterdir():
        assert (second / file.name).read_bytes() == file.read_bytes()


def test_the_declaration_carries_numbers_licence_and_settings(zoo, tmp_path, hand) -> None:
    folder = hand(chat=compile_file("/x/Llama-2-7b-chat-hf", tp=2), quant=quant_file("alpaca", 256))
    assert zoo("vamc", "import", folder, "-o", tmp_path).exit_code == 0
    family = yaml.safe_load((tmp_path / "vamc-llama2.yaml").read_bytes())
    assert family["licence"]["id"] == "llama2"
    models = {one["name"]: one for one in family["models"]}
    chat = models["llama-2-7b-chat-hf"]
    assert chat["weights"] == {"hub": "meta-llama/Llama-2-7b-chat-hf"}
    assert chat["targets"] == {"vamc": {"tp": 2}}
    assert chat["chat"] is True
    assert "[INST]" in chat["chat_template"]
    assert chat["architecture"]["intermediate_size"] == 11008
    assert {"dataset": "alpaca", "sequence_length": 256} in family["datasets"]["calibration"]
    assert "targets" not in models["llama-2-7b-hf"]


def test_numbers_come_from_a_folder_of_checkpoints(zoo, tmp_path, hand, config_folder) -> None:
    checkpoint = config_folder("Other-Llama-HF")
    folder = hand(own=compile_file("/path/to/Other-Llama-HF", tp=2, shapes=[256, 512]))
    unknown = zoo("vamc", "import", folder, "-o", tmp_path / "a", "--json")
    assert unknown.exit_code == 1
    ((_, kind, message),) = findings(unknown)
    assert (kind, "--checkpoints" in message) == ("unknown numbers", True)
    result = zoo("vamc", "import", folder, "-o", tmp_path / "b", "--checkpoints", tmp_path)
    assert result.exit_code == 0, result.output
    (model,) = yaml.safe_load((tmp_path / "b" / "vamc-llama.yaml").read_bytes())["models"]
    assert model["weights"] == {"path": str(checkpoint)}
    assert model["architecture"]["num_key_value_heads"] == 2


CONTRADICTIONS = {
    "another version": ("qwen1.5-7b", compile_file("/x/Qwen2-7B"), "qwen 1.5 is not qwen 2"),
    "another family": ("mistral-7b", compile_file(), "mistral is not llama"),
    "another size": ("llama2-13b-fp16", compile_file(), "13B is not 7B"),
    "a size that no checkpoint has": ("llama2-13b-fp16", compile_file(), "the checkpoint, which has 6.7B parameters"),
    "another precision": ("a", compile_file(name="Llama-2-7b-hf-int8-tp4-1024-2048"), "builds Llama-2-7b-hf-fp16-tp4"),
    "another tp": ("a", compile_file(name="Llama-2-7b-hf-fp16-tp2-1024-2048"), "builds Llama-2-7b-hf-fp16-tp4"),
    "other shapes": ("a", compile_file(name="Llama-2-7b-hf-fp16-tp4-512-1024"), "fp16-tp4-1024-2048"),
    "other layers": ("a", compile_file(model_kwargs={"num_hidden_layers": 40}), "num_hidden_layers 40 is not"),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_contradictions(zoo, tmp_path, hand, case) -> None:
    name, document, message = CONTRADICTIONS[case]
    result = zoo("vamc", "import", hand(**{name: document}), "-o", tmp_path, "--json")
    assert result.exit_code == 1
    assert any(kind == "contradiction" and message in text for _, kind, text in findings(result)), findings(result)


BROKEN = {
    "shape": (compile_file(shapes=[1000, 2048]), "not a multiple of 16"),
    "context": (compile_file(shapes=[1024, 8192]), "longer than the context of 4096"),
    "heads": (compile_file(tp=3), "does not divide the 32 attention heads"),
    "align missing": (compile_file("/x/Llama-2-70b-hf", tp=16), "align_qkv is missing"),
    "align for nothing": (compile_file(model_kwargs={"align_qkv": True}), "nothing to align"),
    "int8 unquantized": (
        compile_file(backend={"dtype": "int8"}, name="Llama-2-7b-hf-int8-tp4-1024-2048"),
        "w8a16_gptq",
    ),
    "unknown dtype": (compile_file(precision="int4"), "dtype int4"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_rules(zoo, tmp_path, hand, case) -> None:
    document, message = BROKEN[case]
    result = zoo("vamc", "import", hand(file=document), "-o", tmp_path / "out", "--json")
    assert result.exit_code == 1
    assert any(kind == "broken rule" and message in text for _, kind, text in findings(result)), findings(result)
    # A file that breaks a rule is not carried on.
    assert not list((tmp_path / "out").glob("*.yaml"))


def test_duplicates(zoo, tmp_path, hand) -> None:
    other = compile_file(workspace={"workers": 8})
    folder = hand(a=compile_file(), b=compile_file("/elsewhere/Llama-2-7b-hf"), c=other)
    result = zoo("vamc", "import", folder, "-o", tmp_path, "--json")
    said = {file: (kind, text) for file, kind, text in findings(result) if kind != "note"}
    assert said == {
        "b.yaml": ("duplicate", "says the same as a.yaml"),
        "c.yaml": ("contradiction", "builds the same as a.yaml, but says it differently"),
    }
    assert result.exit_code == 1


def test_an_8_bit_cache_makes_another_build(zoo, tmp_path, hand) -> None:
    cache, mixed = (
        compile_file(precision=precision, name=f"Llama-2-7b-hf-{precision}-tp4-1024-2048-kv8")
        for precision in ("fp16", "int8")
    )
    for document in (cache, mixed):
        document["frontend"]["quantize"] = {"type": "w16kv8"}
    folder = hand(a=compile_file(), b=compile_file(precision="int8"), c=cache, d=mixed)
    result = zoo("vamc", "import", folder, "-o", tmp_path, "--json")
    commands = json.loads(result.stdout)["commands"]
    assert {file: "--kv-cache int8" in command for file, command in commands.items()} == {
        "a.yaml": False, "b.yaml": False, "c.yaml": True,
    }  # fmt: skip
    # Not a duplicate of the int8 build either: its weights have 16 bits by one key and 8 by another.
    ((_, kind, message),) = [finding for finding in findings(result) if finding[0] == "d.yaml"]
    assert (kind, "w16kv8" in message) == ("broken rule", True)


def test_files_of_one_name_are_told_apart(zoo, tmp_path, monkeypatch) -> None:
    """As people keep them: a folder for each family, the same names in each; every file is accounted for."""
    from zoo import plugins

    folder = tmp_path / "hand"
    checkpoints = {"one": "Llama-2-7b-hf", "two": "Qwen3-8B", "three": "nobody-knows", "four": "gemma-2b-it"}
    for name, checkpoint in checkpoints.items():
        (folder / name).mkdir(parents=True)
        document = compile_file(f"/path/to/{checkpoint}", tp=1)
        (folder / name / "hf_fp16.yaml").write_text(yaml.safe_dump(document))
    declarations = tmp_path / "declarations"
    result = zoo("vamc", "import", folder, "-o", declarations, "--json")
    report = json.loads(result.stdout)
    assert report["files"] == 4
    assert set(report["commands"]) == {"one/hf_fp16.yaml", "two/hf_fp16.yaml", "four/hf_fp16.yaml"}
    said = [(file, kind) for file, kind, _ in findings(result) if kind != "note"]
    assert said == [("three/hf_fp16.yaml", "unknown numbers")]
    # The bare name is declared twice now; the printed commands name the family.
    monkeypatch.setenv("ZOO_PATH", str(declarations))
    plugins.host.cache_clear()
    assert zoo("build", "qwen3-8b", "--target", "vamc", "-o", tmp_path / "bare").exit_code == 2
    for name, command in report["commands"].items():
        built = zoo(*shlex.split(command)[1:], "-o", tmp_path / "built" / name)
        assert built.exit_code == 0, built.output
    shown = zoo("vamc", "import", folder, "-o", declarations, "--force").stdout
    assert "4 files: 3 taken over, 1 unknown numbers" in shown


def test_duplicates_alone_are_no_failure(zoo, tmp_path, hand) -> None:
    assert zoo("vamc", "import", hand(a=compile_file(), b=compile_file()), "-o", tmp_path).exit_code == 0


UNREADABLE = {
    "no yaml": "a: [",
    "no mapping": "- 1",
    "another file": "version: 3",
    "a key twice": "frontend: 1\nfrontend: 2\nbackend: 3",
    "no shape": "name: a\nfrontend: {checkpoint: a, model_kwargs: {}}\nbackend: {dtype: fp16}",
    "three shapes": yaml.safe_dump(compile_file(frontend={"shape": {"input_ids": [[16], [32], [48]]}})),
    "no tp": yaml.safe_dump(compile_file(model_kwargs={"tp": "four"})),
    "odd dataset": yaml.safe_dump({**quant_file("c4", 128), "dataset": {"name": "Not A Name", "seqlen": 1}}),
    "odd workers": yaml.safe_dump(compile_file(workspace={"workers": "many"})),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_bad_file_is_named_and_the_others_go_on(zoo, tmp_path, hand, case) -> None:
    folder = hand(bad=UNREADABLE[case], good=compile_file("/x/Llama-2-13b-hf"))
    result = zoo("vamc", "import", folder, "-o", tmp_path, "--json")
    assert result.exit_code == 1, result.output
    assert [(file, kind) for file, kind, _ in findings(result) if kind != "note"] == [("bad.yaml", "unreadable")]
    assert json.loads(result.stdout)["commands"].keys() == {"good.yaml"}


def test_nothing_is_overwritten_unasked(zoo, tmp_path, hand) -> None:
    folder = hand(a=compile_file())
    assert zoo("vamc", "import", folder, "-o", tmp_path / "out").exit_code == 0
    again = zoo("vamc", "import", folder, "-o", tmp_path / "out")
    assert (again.exit_code, "--force" in again.stderr) == (1, True)
    assert zoo("vamc", "import", folder, "-o", tmp_path / "out", "--force").exit_code == 0


def test_no_such_file(zoo, tmp_path) -> None:
    result = zoo("vamc", "import", tmp_path / "nowhere")
    assert (result.exit_code, "there is no" in result.stderr) == (1, True)
    (tmp_path / "empty").mkdir()
    assert zoo("vamc", "import", tmp_path / "empty").exit_code == 1


HOSTILE = ("./x; touch PWNED #", "$(touch PWNED)", "`touch PWNED`", "x' ; touch PWNED; '", 'a"b && touch PWNED')


@pytest.mark.attack("v01_vamc_injection.sh", "a compile file whose values are shell commands, printed to be copied")
@pytest.mark.parametrize("value", HOSTILE)
def test_printed_commands_are_words_to_a_shell(value, zoo, tmp_path, hand) -> None:
    """A value of a file does not run, in whichever option it stands."""
    folder = hand(
        a=compile_file(),
        b=compile_file(shapes=[512, 2048], workspace={"path": value, "workers": 4}),
        c=compile_file(shapes=[256, 2048], backend={"compile": {"data_type": value}}),
    )
    result = zoo("vamc", "import", folder, "-o", tmp_path / "out", "--json")
    commands = json.loads(result.stdout)["commands"].values()
    assert any(value in shlex.split(command) for command in commands), result.output
    shown = zoo("vamc", "import", folder, "-o", tmp_path / "out", "--force").stdout
    lines = [line.strip() for line in shown.splitlines() if "zoo build" in line]
    assert len(lines) == 3
    script = "zoo() { printf '%s\\n' \"$@\"; }\n" + "\n".join(lines)
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert not (tmp_path / "PWNED").exists()
    assert value in done.stdout.splitlines()


def test_a_file_name_cannot_add_a_command(zoo, tmp_path, hand) -> None:
    folder = hand(**{"a\ntouch PWNED\n\x1b[2J": compile_file()})
    shown = zoo("vamc", "import", folder, "-o", tmp_path / "out").stdout
    assert "\x1b" not in shown
    assert not any(line.lstrip().startswith("touch") for line in shown.splitlines())
