#!/bin/sh
# Makes the environments in which tests/sdk runs the vendors' SDKs, each as its lock file says and
# once: signalwire (Python) in one venv, both Node SDKs in one node_modules, Twilio's own schema. And
# one for SIPVicious, which tests/peers has scan the server.
# What cannot be made here (no npm, no network) is said and left out: the tests of it then skip.
set -eu
. "$(dirname "$0")/venv.sh"

sdks=$1
python=${PYTHON:-python3}
locks=tests/sdk
cli_core=9.0.0

# Without a network give up soon.
export PIP_RETRIES=1 npm_config_fetch_retries=1 npm_config_fetch_retry_mintimeout=1000

# fresh STAMP FILE...: whether STAMP is newer than every FILE.
fresh() {
    stamp=$1
    shift
    [ -e "$stamp" ] && [ -z "$(find "$@" -newer "$stamp")" ]
}

signalwire() (
    set -e
    venv=$sdks/signalwire
    fresh "$venv/.ready" "$locks/signalwire-build.txt" "$locks/signalwire-requirements.txt" && return
    say "setting up PyPI's signalwire in $venv"
    make_venv "$python" "$venv"
    install_into "$python" "$venv" --require-hashes --only-binary :all: \
        -r "$locks/signalwire-build.txt"
    PIP_USE_PEP517=1 install_into "$python" "$venv" --require-hashes --no-deps \
        --only-binary :all: --no-binary twilio --no-build-isolation \
        -r "$locks/signalwire-requirements.txt"
    touch "$venv/.ready"
)

sipvicious() (
    set -e
    venv=$sdks/sipvicious
    fresh "$venv/.ready" tests/peers/sipvicious-requirements.txt && return
    say "setting up PyPI's sipvicious in $venv"
    make_venv "$python" "$venv"
    install_into "$python" "$venv" --require-hashes --no-deps --only-binary :all: \
        -r tests/peers/sipvicious-requirements.txt
    touch "$venv/.ready"
)

node() (
    set -e
    folder=$sdks/node
    fresh "$folder/.ready" "$locks/node/package.json" "$locks/node/package-lock.json" && return
    say "setting up npm's twilio and @signalwire/compatibility-api in $folder"
    mkdir -p "$folder"
    cp "$locks/node/package.json" "$locks/node/package-lock.json" "$folder"
    (cd "$folder" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null)
    touch "$folder/.ready"
)

# The package is the command line tool's; only its description of the API is taken.
twilio_schema() (
    set -e
    folder=$sdks/twilio-schema
    fresh "$folder/.ready" "$locks/node/twilio-schema.sha512" && return
    say "fetching Twilio's description of its API"
    rm -rf "$folder"
    mkdir -p "$folder"
    checksum=$(cat "$locks/node/twilio-schema.sha512")
    cd "$folder"
    npm pack --ignore-scripts --loglevel=error "@twilio/cli-core@$cli_core" >/dev/null
    echo "$checksum  twilio-cli-core-$cli_core.tgz" | sha512sum --check --status
    tar -xzf "twilio-cli-core-$cli_core.tgz" --strip-components=4 \
        package/src/services/twilio-api/twilio_api_v2010.json
    touch .ready
)

# What a condition calls goes on after an error, `set -e` or not; a job that is waited for does not.
attempt() {
    "$1" &
    wait $! || say "$1: not set up; its tests will be skipped"
}

attempt signalwire
attempt sipvicious
if command -v npm >/dev/null 2>&1; then
    attempt node
    attempt twilio_schema
else
    say "npm is not installed: the tests of the Node SDKs will be skipped"
fi
