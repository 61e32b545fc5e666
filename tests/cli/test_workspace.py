"""``zoo lock``, ``zoo sync`` and ``zoo ci`` on a model that a plugin ships."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner, Result
from zoo_team import ci as stage

from tests.conftest import REGISTER_FAMILY
from zoo.cli import app
from zoo.plugins import host
from zoo.stages.kit import Check
from zoo.tomlfile import toml_text

WANTED = '[[model]]\nname = "zoo-tiny"\nprecision = "int8"\n\n[[model]]\nname = "zoo-tiny"\nprecision = "int4"\n'


def zoo(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "team"
    folder.mkdir()
    (folder / "zoo.toml").write_text(WANTED)
    monkeypatch.chdir(folder)
    return folder


def hashes(home: Path) -> dict[str, str]:
    files = (path for path in sorted((home / "packages").rglob("*")) if path.is_file() and path.name != "zoo.json")
    return {str(path.relative_to(home)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_lock_builds_the_same_bytes_on_an_empty_home(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert zoo("lock").exit_code == 0
    assert "contents" not in (workspace / "zoo.lock").read_text()
    drifted = zoo("sync", "--check")
    assert (drifted.exit_code, drifted.stdout.count("not built")) == (1, 2)
    assert zoo("sync").stdout.count("built zoo-tiny") == 2
    assert zoo("lock").stdout.endswith("changed\n")
    assert zoo("lock").stdout.endswith("as it was\n")
    assert zoo("sync", "--check").exit_code == 0
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "empty"))
    assert zoo("sync").exit_code == 0
    assert hashes(tmp_path / "empty") == hashes(tmp_path / "zoo-home") != {}
    # Other bytes under the same recipe are told from those that were locked.
    locked = (workspace / "zoo.lock").read_text()
    first = tomllib.loads(locked)["model"][0]["contents"]
    (workspace / "zoo.lock").write_text(locked.replace(first, "0" * 64))
    assert "other bytes" in zoo("sync", "--check").stdout
    assert "other bytes" in zoo("sync").stderr


def test_what_is_damaged_is_built_again(workspace: Path, tmp_path: Path) -> None:
    """Whatever happened to a package, a check names it in one line and a sync ends in the bytes that were locked."""
    (workspace / "zoo.toml").write_text('[[model]]\nname = "zoo-tiny"\n')
    zoo("lock")
    zoo("sync")
    zoo("lock")
    (package,) = (tmp_path / "zoo-home" / "packages").iterdir()
    data, manifest, whole = package / "model.onnx.data", package / "zoo.json", hashes(tmp_path / "zoo-home")

    def flipped(path: Path) -> bytes:
        raw = bytearray(path.read_bytes())
        raw[len(raw) // 2] ^= 1
        return bytes(raw)

    def spoil_all() -> None:
        manifest.unlink()
        data.write_bytes(data.read_bytes()[:1000])
        (package / "tokenizer.json").unlink()

    for spoil, said in (
        (lambda: data.write_bytes(flipped(data)), "model.onnx.data: its SHA-256 is not the one in zoo.json"),
        (lambda: os.truncate(data, 1000), "model.onnx.data: 1000 bytes, zoo.json says "),
        (lambda: (package / "tokenizer.json").unlink(), "tokenizer.json: missing"),
        (lambda: os.truncate(manifest, 900), "zoo.json: not JSON"),
        (manifest.unlink, "not a package, it holds no zoo.json"),
        (spoil_all, "not a package, it holds no zoo.json"),
    ):
        spoil()
        checked = zoo("sync", "--check")
        assert (checked.exit_code, checked.stdout.count("\n")) == (1, 1)
        assert said in checked.stdout
        assert checked.stdout.endswith("; `zoo sync` builds it again\n")
        done = zoo("sync")
        assert done.exit_code == 0, done.stderr
        assert done.stdout.startswith("built zoo-tiny int8: ")
        assert (said in done.stderr, done.stderr.count("; it is built again\n")) == (True, 1)
        assert hashes(tmp_path / "zoo-home") == whole
        assert zoo("sync", "--check").exit_code == 0
    (package / "notes.txt").write_text("mine")
    manifest.unlink()
    done = zoo("sync")
    assert done.exit_code == 1
    assert "holds what zoo did not make: notes.txt" in done.stderr
    assert (package / "notes.txt").read_text() == "mine"


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_sync_goes_on_to_the_same_bytes(workspace: Path, tmp_path: Path) -> None:
    """``ZOO_KILLS=200`` kills more often."""
    zoo("lock")
    zoo("sync")
    draw, home, left = random.Random(5), tmp_path / "killed", int(os.environ.get("ZOO_KILLS", "3"))
    command = [sys.executable, "-m", "zoo", "sync"]
    inside = 0
    while True:
        process = subprocess.Popen(
            command, env={**os.environ, "ZOO_HOME": str(home)}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        begun = [*home.glob("packages/*")]
        while left and process.poll() is None and [*home.glob("packages/*")] == begun:
            time.sleep(0.002)
        if left:
            time.sleep(draw.random() * 0.2)
            process.kill()
            left -= 1
        said = process.communicate()[1].decode()
        inside += bool([*home.glob("packages/.*.zoo-partial")])
        if process.returncode == 0:
            assert hashes(home) == hashes(tmp_path / "zoo-home")
            assert not [*home.glob("packages/.*")]
            if not left:
                break
            spoilt = draw.choice([*home.glob("packages/*/model.onnx.data")])
            match draw.randrange(3):
                case 0:
                    shutil.rmtree(home)
                case 1:
                    os.truncate(spoilt, 1000)
                case 2:
                    (spoilt.parent / "zoo.json").unlink()
        else:
            assert process.returncode == -signal.SIGKILL, said
    assert inside > 0


def test_what_drifted_is_named(workspace: Path) -> None:
    zoo("lock")
    lock = workspace / "zoo.lock"
    text = lock.read_text()
    recipe = tomllib.loads(text)["model"][0]["recipe_hash"]
    lock.write_text(text.replace("rms_norm_eps = 1e-05", "rms_norm_eps = 0.5").replace(recipe, "0" * 64))
    said = zoo("sync", "--check").stdout
    assert "zoo-tiny int4: not what was locked: architecture.rms_norm_eps is 1e-05, locked 0.5" in said
    done = zoo("sync")
    assert done.exit_code == 1
    assert "architecture.rms_norm_eps" in done.stderr
    lock.write_text(text)
    (workspace / "zoo.toml").write_text('[[model]]\nname = "zoo-tiny"\nprecision = "fp32"\n')
    done = zoo("sync")
    assert done.exit_code == 1
    assert "zoo-tiny fp32: zoo.toml asks for it and zoo.lock does not have it" in done.stderr
    assert zoo("sync", "--check").stdout.count("zoo.toml does not ask for it") == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[model]]\nprecision = 'int8'\n", "zoo.toml: model.0.name: this field is required"),
        ("[[model]]\nname = 'a'\nsize = 1\n", "zoo.toml: model.0.size: unknown field"),
        ("[[model]]\nname = 'a'\n[model.limits]\ntop1 = 2\n", "model.0.limits.top1: must be at most 1.0, not 2"),
        ("[[model]\n", "zoo.toml: not TOML: "),
        (WANTED + WANTED, "is listed twice"),
    ],
)
def test_a_wrong_workspace_is_told_in_one_line(workspace: Path, text: str, said: str) -> None:
    (workspace / "zoo.toml").write_text(text)
    done = zoo("lock")
    assert done.exit_code in (1, 2)
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (workspace / "zoo.lock").exists()


def test_toml_reads_back() -> None:
    data = {"b": 1, "a": 'say "x"\n\x7f\\', "t": {"x y": {"é": [1.5, True]}}, "l": [{"n": {"k": "v"}}, {"n": {}}]}
    assert tomllib.loads(toml_text({**data, "none": None})) == {**data, "l": [{"n": {"k": "v"}}, {}]}


def test_ci_runs_the_kit_and_holds_packages_against_their_limits(workspace: Path) -> None:
    """Limits that hold pass, one that cannot fails; both files say the same as the exit code."""
    (workspace / "zoo.toml").write_text(
        '[[model]]\nname = "zoo-tiny"\n[model.limits]\nkl_mean = 0.5\ntop1 = 0.5\ndecode_tok_s = 1e9\n'
    )
    zoo("lock")
    done = zoo(
        "ci", "--tier", "declare", "--plugin", "tiny", "--workers", "1", "--junit", "j.xml", "--markdown", "m.md"
    )
    assert done.exit_code == 0, done.output
    assert "| tiny | 4 | 0 | 1 |" in (workspace / "m.md").read_text()
    suite = ElementTree.parse("j.xml").find("testsuite[@name='zoo.lock']")
    assert suite is not None
    assert suite.get("tests") == "1"
    workspaces = stage.read_both(Path("zoo.toml"))
    checks = {check.name: check for check in stage.real_checks(host().registry, *workspaces)}
    assert [checks[name].status for name in ("builds what is locked", "verify", "decode")] == [
        "passed", "passed", "failed",
    ]  # fmt: skip
    assert "tokens/s, zoo.toml asks for 1e+09" in checks["decode"].message
    (workspace / "zoo.toml").write_text('[[model]]\nname = "zoo-tiny"\n[model.limits]\nkl_mean = 1e-12\n')
    checks = {check.name: check for check in stage.real_checks(host().registry, *stage.read_both(Path("zoo.toml")))}
    assert "zoo.toml allows 1e-12" in checks["verify"].message


def test_a_failing_plugin_fails_ci(workspace: Path, install_plugin) -> None:
    (workspace / "zoo.toml").unlink()
    install_plugin("broken", "raise ValueError('no')")
    done = zoo("ci", "--tier", "declare", "--plugin", "yi", "--changed", "HEAD")
    assert done.exit_code == 2, "there is no repository here"
    assert "--changed HEAD: " in done.stderr
    assert [check.status for check in stage.plugin_checks(host()) if check.suite == "broken"] == ["failed"]


def test_changed_files_choose_the_plugins(install_plugin, family_yaml, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = install_plugin("mine", REGISTER_FAMILY, family__yaml=family_yaml("mine"))
    (folder.parent / ".gitignore").write_text("__pycache__/\n")  # what is imported is compiled there
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *command], cwd=folder.parent, check=True)
    monkeypatch.chdir(folder.parent)
    assert stage.choose_plugins(host(), changed="HEAD") == []
    (folder / "family.yaml").write_text(family_yaml("mine", "other"))
    assert stage.choose_plugins(host(), changed="HEAD") == ["mine"]
    assert stage.choose_plugins(host(), ["tiny"]) == ["tiny"]


def test_summaries_hold_what_xml_and_tables_cannot() -> None:
    checks = [Check("a|b", "x", "failed", 1.0, "first\x1b[1m\n<last>"), Check("a|b", "y", "skipped", 0.0, "why")]
    case = ElementTree.fromstring(stage.junit(checks).encode()).find(".//failure")
    assert case is not None
    assert case.get("message") == "<last>"
    assert "\x1b" not in (case.text or "")
    assert stage.markdown(checks).splitlines()[2] == "| a\\|b | 0 | 1 | 1 | 1.0 |"
