# Shell functions for the scripts that make environments; to be read with `.`.

say() { echo "==> $*"; }
give_up() { echo "callreel: $*" >&2; exit 1; }

# make_venv PYTHON VENV: make VENV unless it works already.
make_venv() {
    "$2/bin/python" -c '' >/dev/null 2>&1 && return
    say "creating $2"
    rm -rf "$2"
    # Debian keeps ensurepip in a package of its own: without it the venv has no pip yet.
    "$1" -m venv "$2" >/dev/null 2>&1 || {
        rm -rf "$2"
        "$1" -m venv --without-pip "$2" ||
            give_up "$1 has no venv module; install it (Debian: apt-get install python3-venv)"
    }
}

# install_into PYTHON VENV ARGUMENT...: pip's or uv's "install" for VENV, whichever there is.
install_into() {
    base_python=$1 into=$2
    shift 2
    if "$into/bin/python" -m pip --version >/dev/null 2>&1; then
        "$into/bin/python" -m pip install --quiet "$@"
    elif command -v uv >/dev/null 2>&1; then
        VIRTUAL_ENV=$(cd "$into" && pwd) uv pip install --quiet "$@"
    elif "$base_python" -m pip --version >/dev/null 2>&1; then
        "$base_python" -m pip --python "$into/bin/python" install --quiet "$@"
    else
        give_up "neither pip nor uv found; install one (Debian: apt-get install python3-venv)"
    fi
}
