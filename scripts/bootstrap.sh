#!/bin/sh
# Makes the environment that the Makefile uses: a venv with exactly what requirements.lock names,
# every file checked against its hash, and callreel itself from this folder.
set -eu
. "$(dirname "$0")/venv.sh"

venv=$1
python=${PYTHON:-python3}

command -v "$python" >/dev/null 2>&1 || give_up "no $python found; install Python 3.11 or newer, or set PYTHON="
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    give_up "$python is $("$python" -V 2>&1); callreel needs Python 3.11 or newer (set PYTHON=)"

make_venv "$python" "$venv"
say "installing what requirements.lock names"
install_into "$python" "$venv" --only-binary :all: --require-hashes -r requirements.lock
install_into "$python" "$venv" --no-deps --no-build-isolation -e .
say "ready"
