#!/usr/bin/env bash
# Install everything lg-field needs into .venv. Run it, or source it from a script to have .venv first on PATH.
# A second run installs nothing; an interrupted one is repaired by the next. PYTHON=... chooses the interpreter.
set -euo pipefail
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."

say() { echo "setup: $*" >&2; }

# step TEXT COMMAND...: run a command and say what it does and how long it took.
step() {
    local text=$1 begin=$SECONDS
    shift
    say "$text ..."
    "$@" || { say "$text: failed" && return 1; }
    say "$text: done, $((SECONDS - begin)) s"
}

choose_python() {
    python=${PYTHON:-python3}
    if ! command -v "$python" >/dev/null; then
        say "$python not found: install Python 3.10, 3.11 or 3.12, or name it with PYTHON=/path/to/python"
        exit 1
    fi
    if ! "$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))'; then
        say "$python is $("$python" --version 2>&1): Python 3.10, 3.11 or 3.12 is needed (nerfstudio 1.1.5 needs" \
            "numpy 1, which is not built for later ones); name one with PYTHON=/path/to/python"
        exit 1
    fi
}

# Debian packages that are missing, one a line.
missing_packages() {
    if [ "$(uname)" = Linux ] && ! PATH=$PATH:/sbin:/usr/sbin ldconfig -p | grep -F libusb-1.0.so >/dev/null; then
        echo libusb-1.0-0 # for open3d
    fi
    command -v ffmpeg >/dev/null || echo ffmpeg # for videos by ns-render
    command -v chromium >/dev/null || command -v chromium-browser >/dev/null || echo chromium # for the viewer's tests
    command -v npm >/dev/null || echo nodejs npm # for the tests of the web page
    command -v c++ >/dev/null || command -v g++ >/dev/null || echo g++ # builds fpsample and pyliblzfse
    "$python" -c 'import os, sysconfig as s; os.stat(s.get_path("include") + "/Python.h")' 2>/dev/null || echo python3-dev
    "$python" -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
}

apt() { ${sudo:-} env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 "$@" >/dev/null; }

install_packages() {
    local missing sudo=
    missing=$(missing_packages | xargs)
    if [ -z "$missing" ]; then return; fi
    if [ "$(id -u)" != 0 ]; then sudo="sudo -n"; fi
    if command -v apt-get >/dev/null && { [ -z "$sudo" ] || $sudo true 2>/dev/null; }; then
        step "apt-get update" apt update || say "apt-get update failed, trying with the lists that are there"
        # shellcheck disable=SC2086
        step "apt-get install $missing" apt install -y --no-install-recommends $missing && return
    fi
    say "missing: $missing (Debian's names). Please install them; going on without."
}

install_python_packages() {
    local pip=(.venv/bin/python -m pip install --quiet --disable-pip-version-check -c scripts/constraints.txt)
    "${pip[@]}" -e '.[all,dev]' &&
        "${pip[@]}" --no-deps nerfbaselines # it asks for opencv-python, which would overwrite opencv-python-headless
}

# TypeScript, which checks the web page's modules. The tests of that say what they need where it is missing.
install_node_packages() {
    if command -v npm >/dev/null; then (cd tests/web && npm ci --silent --no-audit --no-fund); fi
}

# What .venv should hold: a hash of the files that say so. Fails where there is no working .venv.
fingerprint() {
    .venv/bin/python - pyproject.toml setup.py scripts/constraints.txt tests/web/package-lock.json 2>/dev/null <<'END'
import hashlib, sys
print(hashlib.sha256(b"".join(open(name, "rb").read() for name in sys.argv[1:])).hexdigest())
END
}

# A .venv holds its own path, so one that was moved or copied is made anew, as is a broken one.
make_venv() {
    if grep -qF "$PWD/.venv" .venv/bin/activate && .venv/bin/python -m pip --version; then return; fi &>/dev/null
    step "making .venv with $("$python" --version)" "$python" -m venv --clear .venv
}

is_installed() {
    local want have
    want=$(fingerprint) && have=$(cat .venv/lg-field-installed 2>/dev/null) && [ "$have" = "$want $PWD" ]
}

if ! is_installed; then
    choose_python
    install_packages
    make_venv
    rm -f .venv/lg-field-installed
    step "installing Python packages into .venv (the first time: 8 GB, a few minutes)" install_python_packages ||
        step "installing them once more, an index may have been away for a moment" install_python_packages
    step "installing TypeScript into tests/web" install_node_packages || say "going on without TypeScript"
    echo "$(fingerprint) $PWD" >.venv/lg-field-installed # only now: an interrupted one starts again
fi
export PATH=$PWD/.venv/bin:$PATH
