#!/usr/bin/env bash
# See that a Chromium is here for the page tests: the machine's own, else Debian's package.
set -euo pipefail

for name in "${NEXUS_CHROMIUM:-}" chromium chromium-browser google-chrome google-chrome-stable; do
  if [ -n "$name" ] && command -v "$name" >/dev/null 2>&1; then
    exit 0
  fi
done

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  echo "  installing Debian's chromium"
  export DEBIAN_FRONTEND=noninteractive
  log="$(mktemp)"
  if { apt-get update -q && apt-get install -q -y --no-install-recommends chromium; } >"$log" 2>&1; then
    rm -f "$log"
    exit 0
  fi
  tail -n 15 "$log" >&2
fi

cat >&2 <<'EOF'
error: no Chromium or Chrome was found for the page tests
  → Install one (on Debian, as root: apt-get install chromium), or name one: NEXUS_CHROMIUM=/path/to/chrome make test
EOF
exit 1
