#!/bin/sh
# Fetches what the console's pages load besides their own style and script (htmx, wavesurfer.js), as
# console-assets/package-lock.json names it, and copies it to where the package holds it. Once, and
# again when the lock changes. Where there is no Node, or no network, the pages work without.
set -eu

assets=console-assets
into=src/callreel/console/static/vendor
what="the console works all the same, without waveforms"

say() { echo "==> $*"; }

if [ -e "$into/.ready" ] && [ -z "$(find "$assets/package-lock.json" "$0" -newer "$into/.ready")" ]; then
    exit 0
fi
if ! command -v npm >/dev/null 2>&1; then
    say "npm is not installed: $what (Debian: apt-get install nodejs npm)"
    exit 0
fi
say "fetching htmx and wavesurfer.js for the console"
export npm_config_fetch_retries=1 npm_config_fetch_retry_mintimeout=1000
if ! (cd "$assets" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null); then
    say "htmx and wavesurfer.js could not be fetched: $what"
    exit 0
fi
modules=$assets/node_modules
mkdir -p "$into"
cp "$modules/htmx.org/dist/htmx.min.js" "$into/htmx.js"
cp "$modules/htmx.org/LICENSE" "$into/htmx.LICENSE.txt"
cp "$modules/wavesurfer.js/dist/wavesurfer.min.js" "$into/wavesurfer.js"
cp "$modules/wavesurfer.js/dist/plugins/regions.min.js" "$into/regions.js"
cp "$modules/wavesurfer.js/dist/plugins/timeline.min.js" "$into/timeline.js"
cp "$modules/wavesurfer.js/LICENSE" "$into/wavesurfer.LICENSE.txt"
touch "$into/.ready"
