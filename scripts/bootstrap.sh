#!/bin/sh
# Makes the environment that the Makefile uses: a venv with exactly what requirements.lock names,
# every file checked against its hash, and callreel itself from this folder.
set -eu

venv=$1
python=${PYTHON:-python3}

say() { echo "==> $*"; }
give_up() { echo "callreel: $*" >&2; exit 1; }

command -v "$python" >/dev/null 2>&1 || give_up "no $python found; install Python 3.11 or newer, or set PYTHON="
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    give_up "$python is $("$python" -V 2>&1); callreel needs Python 3.11 or newer (set PYTHON=)"

if ! "$venv/bin/python" -c '' >/dev/null 2>&1; then
    say "creating $venv"
    rm -rf "$venv"
    # Debian keeps ensurepip in a package of its own: without it the venv has no pip yet.
    "$python" -m venv "$venv" >/dev/null 2>&1 || {
        rm -rf "$venv"
        "$python" -m venv --without-pip "$venv" ||
            give_up "$python has no venv module; install it (Debian: apt-get install python3-venv)"
    }
fi

say "installing what requirements.lock names"
if "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    set -- "$venv/bin/python" -m pip
elif command -v uv >/dev/null 2>&1; then
    set -- uv pip
    VIRTUAL_ENV=$(cd "$venv" && pwd)
    export VIRTUAL_ENV
elif "$python" -m pip --version >/dev/null 2>&1; then
    set -- "$python" -m pip --python "$venv/bin/python"
else
    give_up "neither pip nor uv found; install one (Debian: apt-get install python3-venv)"
fi
"$@" install --quiet --only-binary :all: --require-hashes -r requirements.lock
"$@" install --quiet --no-deps --no-build-isolation -e .
say "ready"
