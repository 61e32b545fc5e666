"""A server as it is put to use: behind a proxy, for pages of other origins, at a socket, by TLS, under other names."""

from __future__ import annotations

import json
import re
import shlex
import socket
import ssl
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import httpx2
import pytest
from typer.testing import CliRunner
from zoo_server.listening import bind_path, check_certificate, close
from zoo_server.settings import ServerSettings

from tests.server.serving import post, read_all, serving
from zoo.cli import app
from zoo.errors import UsageError, ZooError

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "serve.md"
DASHBOARD = GUIDE.with_name("grafana.json")
ASK = {"prompt": "Once", "max_tokens": 2, "temperature": 0}


def test_a_path_that_a_proxy_mounts_it_at(package) -> None:
    with serving([package], threads=1, root_path="/zoo/a") as served:
        origin = f"http://127.0.0.1:{served.port}"
        assert served.url == f"{origin}/zoo/a"
        for base in (origin, served.url):  # a proxy may take its path off, or leave it
            assert httpx2.get(f"{base}/v1/models").status_code == 200
            assert httpx2.get(f"{base}/").text.startswith("<!doctype html>")
        found = httpx2.get(served.url)
        assert (found.status_code, found.headers["location"]) == (307, "/zoo/a/")
        assert post(served, "/v1/completions", {"model": "zoo-tiny", **ASK})[0] == 200
        for path in ("/zoo/ab/v1/models", "/zoo/v1/models"):
            assert httpx2.get(origin + path).status_code == 404


def test_the_page_has_relative_addresses_only() -> None:
    page = Path(__file__).parents[2] / "plugins/server/zoo_server/page"
    for file in (*page.glob("*.js"), page / "index.html"):
        for address in re.findall(r"""(?:src|href)="([^"]*)"|ask\([`"]([^`"]*)""", file.read_text()):
            assert not "".join(address).startswith("/"), f"{file.name}: {address}"


def test_pages_of_other_origins(package) -> None:
    with serving([package], threads=1, api_key="secret", cors_origin=("https://bees.example",)) as served:
        for origin, allowed in (("https://bees.example", True), ("https://wasps.example", False)):
            asked = {
                "origin": origin, "access-control-request-method": "POST",
                "access-control-request-headers": "authorization,content-type",
            }  # fmt: skip
            found = httpx2.options(f"{served.url}/v1/completions", headers=asked)
            assert (found.headers.get("access-control-allow-origin") == origin) == allowed
            key = {"authorization": "Bearer secret", "origin": origin}
            found = httpx2.get(f"{served.url}/v1/models", headers=key)
            assert (found.headers.get("access-control-allow-origin") == origin) == allowed
            assert httpx2.get(f"{served.url}/v1/models", headers={"origin": origin}).status_code == 401
    with serving([package], threads=1) as served:
        found = httpx2.get(f"{served.url}/v1/models", headers={"origin": "https://bees.example"})
        assert "access-control-allow-origin" not in found.headers


def test_other_names_for_a_model(package) -> None:
    with serving([package], threads=1, aliases={"gpt-4o": "zoo-tiny"}) as served:
        status, _, found = post(served, "/v1/completions", {"model": "gpt-4o", **ASK})
        assert (status, found["model"]) == (200, "gpt-4o")
        listed = httpx2.get(f"{served.url}/v1/models").json()["data"]
        assert [(model["id"], model["root"]) for model in listed] == [("zoo-tiny", "zoo-tiny"), ("gpt-4o", "zoo-tiny")]
        assert len(served.pool.running) == 1
        assert served.events("request")[0]["model"] == "zoo-tiny"
        assert 'model="gpt-4o"' not in httpx2.get(f"{served.url}/metrics").text


def test_a_connection_waits_for_its_next_request(package) -> None:
    with serving([package], threads=1, keep_alive=1) as served, served.connect() as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        started = time.monotonic()
        assert read_all(connection).startswith(b"HTTP/1.1 200")
        assert 0.5 < time.monotonic() - started < 5


def start(*args: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "zoo", "serve", *(str(arg) for arg in args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    assert process.wait(30) == 0


def test_a_socket_in_the_file_system(package, tmp_path) -> None:
    path = tmp_path / "zoo.sock"
    process = start(package, "--uds", path)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().decode().strip() == f"unix:{path}"
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            connection.sendall(b"GET /v1/models HTTP/1.1\r\nHost: any.example\r\nConnection: close\r\n\r\n")
            assert b'"zoo-tiny"' in read_all(connection)
        with pytest.raises(ZooError, match="another server is listening there"):
            bind_path(path)
    finally:
        stop(process)
    assert not path.exists()


def test_what_lies_at_the_path_of_a_socket(tmp_path) -> None:
    left = tmp_path / "left.sock"
    with closing(socket.socket(socket.AF_UNIX)) as dead:
        dead.bind(str(left))
    close(bind_path(left), left)  # one that a server left behind is replaced
    assert not left.exists()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="not a socket"):
        bind_path(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"
    with pytest.raises(UsageError, match="No such file"):
        bind_path(tmp_path / "absent" / "zoo.sock")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    files = folder / "cert.pem", folder / "key.pem"
    command = [
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
        "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-out", str(files[0]), "-keyout", str(files[1]),
    ]  # fmt: skip
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("needs the command openssl, to make a certificate")
    return files


def test_tls(package, certificate) -> None:
    cert, key = certificate
    with serving([package], threads=1, ssl_certfile=cert, ssl_keyfile=key) as served:
        assert served.url.startswith("https://")
        trust = ssl.create_default_context(cafile=str(cert))
        assert httpx2.get(f"https://localhost:{served.port}/v1/models", verify=trust).status_code == 200
        with served.connect() as connection:  # plain HTTP gets nothing, and harms nothing
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"200" not in read_all(connection)[:20]
        assert httpx2.get(f"https://localhost:{served.port}/health", verify=trust).status_code == 200


def test_tls_files_that_do_not_fit(certificate, tmp_path) -> None:
    cert, key = certificate
    check_certificate(cert, key)
    (tmp_path / "odd.pem").write_text("odd")
    for pair, said in (
        ((None, key), "--ssl-keyfile needs --ssl-certfile"),
        ((tmp_path / "absent.pem", key), "--ssl-certfile .*: No such file"),
        ((tmp_path / "odd.pem", key), "not a certificate"),
        ((cert, tmp_path / "odd.pem"), "not a certificate"),
        ((cert, None), "not a certificate"),
    ):
        with pytest.raises(UsageError, match=said):
            check_certificate(*pair)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--root-path", "zoo"], "--root-path is a path"),
        (["--root-path", "/zoo/"], "without a slash"),
        (["--cors-origin", "bees.example"], "--cors-origin is an origin"),
        (["--cors-origin", "https://bees.example/path"], "--cors-origin is an origin"),
        (["--alias", "zoo-tiny"], "NAME=MODEL"),
        (["--alias", "zoo-tiny=zoo-tiny"], "taken already"),
        (["--alias", "a=absent"], "unknown model 'absent'"),
        (["--uds", "zoo.sock", "--port", "1"], "--uds and --port cannot be used together"),
        (["--ssl-keyfile", "key.pem"], "needs --ssl-certfile"),
    ],
)
def test_options_that_mean_nothing(package, options, said) -> None:
    found = CliRunner().invoke(app, ["serve", str(package), *options])
    assert found.exit_code == 2, found.output
    assert said in found.stderr


def blocks(name: str) -> list[str]:
    """Take the guide's blocks of a language."""
    return re.findall(rf"^```{name}\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)


def test_the_steps_of_the_dockerfile_run(package, tmp_path) -> None:
    """No builder is at hand: the command and the health check are run as they stand, for this folder and port."""
    (dockerfile,) = blocks("dockerfile")
    lines = dockerfile.replace("\\\n", " ").splitlines()
    step = {line.split()[0]: line.split(maxsplit=1)[1] for line in lines if line and not line.startswith("#")}
    assert step["USER"] not in ("root", "0")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [word.replace("8000", port) for word in json.loads(step["ENTRYPOINT"]) + json.loads(step["CMD"])]
    (tmp_path / "models").symlink_to(package.parent)
    command = [word.replace("/models/", f"{package.parent}/").replace("my-model", package.name) for word in command]
    assert command[:2] == ["zoo", "serve"]
    process = start(*command[2:])
    probe = step["HEALTHCHECK"].partition("CMD ")[2].replace("8000", port)
    probed = [sys.executable if word == "python" else word for word in shlex.split(probe)]
    try:
        assert process.stdout is not None
        assert process.stdout.readline()
        assert subprocess.run(probed, timeout=30).returncode == 0
    finally:
        stop(process)
    assert subprocess.run(probed, timeout=30, capture_output=True).returncode != 0


def test_the_unit_starts_what_there_is() -> None:
    (unit,) = blocks("ini")
    command = re.search(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    assert command is not None
    words = shlex.split(command[1])
    assert words[0].endswith("/zoo")
    known = CliRunner().invoke(app, ["serve", "--help"], env={"COLUMNS": "200"}).output
    assert all(word in known for word in words if word.startswith("--"))
    assert "DynamicUser=yes" in unit


def test_the_dashboard_asks_for_what_the_server_measures(package) -> None:
    text = DASHBOARD.read_text()
    json.loads(text)
    with serving([package], threads=1) as served:
        assert post(served, "/v1/completions", {"model": "zoo-tiny", **ASK})[0] == 200
        exported = httpx2.get(f"{served.url}/metrics").text
    names = set(re.findall(r"\b(?:zoo|process)_[a-z_]+", text))
    assert len(names) > 10
    for name in names | set(re.findall(r"^\| `(zoo_[a-z_]+)`", GUIDE.read_text(), re.MULTILINE)):
        assert re.search(rf"^{name}[ {{]", exported, re.MULTILINE), name


def test_settings_are_checked() -> None:
    ServerSettings(root_path="/a/b", cors_origin=("*", "http://localhost:3000")).check()
