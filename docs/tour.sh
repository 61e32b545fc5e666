#!/usr/bin/env bash
# A zoo that a team keeps, from an empty environment to a verified package: install, lock, check, build, push, pull.
#
#   docs/tour.sh [FOLDER]      needs docker-registry (Debian) on the PATH, and the extras ci and share in this Python
#
# CI_OPTIONS narrows the conformance kit (`--plugin pico`); by default it runs over every declared family.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
work=${1:-$(mktemp -d)}
python=${PYTHON:-python3}
mkdir -p "$work" && cd "$work"

echo "== an environment of its own, which sees what this one has"
"$python" -m venv --without-pip venv
"$python" - <<'PY'
import glob, sysconfig
paths = sorted({sysconfig.get_path(name) for name in ("purelib", "platlib")})
for site in glob.glob("venv/lib/python*/site-packages"):
    with open(f"{site}/outer.pth", "w") as file:
        file.writelines(f"import site; site.addsitedir({path!r})\n" for path in paths)
PY
zoo() { venv/bin/python -m zoo "$@"; }
export ZOO_HOME=$work/home HF_HOME=$work/hf

echo "== a plugin from a local index"
"$python" -m pip wheel -q --no-deps --no-build-isolation -w index "$root/docs/example_plugin"
zoo install zoo-plugin-pico --find-links index

echo "== lock, and check every family"
printf '[[model]]\nname = "zoo-tiny"\nprecision = "int8"\n[model.limits]\nkl_mean = 0.05\ntop1 = 0.9\n' > zoo.toml
zoo lock
# shellcheck disable=SC2086
time zoo ci --tier tiny ${CI_OPTIONS:-} --junit checks.xml --markdown summary.md 2> ci.log
tail -n +3 summary.md

echo "== build what is locked, twice: the same bytes on an empty home"
zoo sync
zoo lock
ZOO_HOME=$work/second zoo sync
diff -r --exclude=zoo.json home/packages second/packages
zoo sync --check

echo "== a damaged package is found and built again"
printf 'x' | dd of="$(echo home/packages/*/model.onnx.data)" bs=1 seek=100 conv=notrunc status=none
if zoo sync --check; then echo "overlooked!"; exit 1; fi
zoo sync
diff -r --exclude=zoo.json home/packages second/packages

echo "== push to a registry, signed"
openssl ecparam -name prime256v1 -genkey -noout -out team.pem
openssl ec -in team.pem -pubout -out team.pub 2> /dev/null
port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
printf 'version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: "127.0.0.1:%s"}\n' \
  "$work/registry" "$port" > registry.yml
docker-registry serve registry.yml > registry.log 2>&1 &
registry=$!
trap 'kill $registry' EXIT
for _ in $(seq 100); do (: < "/dev/tcp/127.0.0.1/$port") 2> /dev/null && break; sleep 0.1; done
export HF_HUB_OFFLINE=0
zoo push zoo-tiny -p int8 "oci://127.0.0.1:$port/team/tiny:v1" --sign team.pem

echo "== pull, checked and verified"
zoo pull "oci://127.0.0.1:$port/team/tiny:v1" -o pulled --key team.pub
zoo verify pulled --files
zoo run pulled "Once upon a time" --max-new-tokens 10; echo

echo "== a changed layer is refused"
layer=$(venv/bin/python -c 'import json; print(json.load(open("pulled/zoo.json"))["files"]["model.onnx.data"]["sha256"])')
printf 'x' | dd of="registry/docker/registry/v2/blobs/sha256/${layer:0:2}/$layer/data" bs=1 seek=100 conv=notrunc status=none
if zoo pull "oci://127.0.0.1:$port/team/tiny:v1" -o changed --key team.pub; then echo "taken!"; exit 1; fi
test ! -e changed
echo "== done"
