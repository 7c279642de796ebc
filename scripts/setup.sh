#!/usr/bin/env bash
# Make .venv from nothing but Python 3.11+ and git. Safe to run again: what is done is not done twice.
#
#   scripts/setup.sh core    what a server, a command line and an agent need        marker .venv/.core
#   scripts/setup.sh full    that, and what the tests and the heavy examples need   marker .venv/.ready
#
# Versions and hashes come from requirements/. torch stands beside them: pip finds a CPU build where uv takes a CUDA
# build of several gigabytes (docs/decisions).
set -euo pipefail
cd "$(dirname "$0")/.."

level="${1:-full}"
torch="2.13.0"
export UV_SYSTEM_CERTS="${UV_SYSTEM_CERTS:-1}" # machines behind a company's proxy have its certificate in the system
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

say() { printf '  %s\n' "$*"; }
die() {
  printf 'error: %s\n  → %s\n' "$1" "$2" >&2
  exit 1
}
quietly() { # runs a step; its output is only shown when it fails
  local log
  log="$(mktemp)"
  if ! "$@" >"$log" 2>&1; then
    tail -n 30 "$log" >&2
    rm -f "$log"
    die "this step failed: $*" "Read the lines above; run the set-up again when it is mended: it goes on from here."
  fi
  rm -f "$log"
}

find_python() {
  local name
  for name in ${PYTHON:-} python3 python3.13 python3.12 python3.11 python3.14 python; do
    if "$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
      printf '%s' "$name"
      return
    fi
  done
  die "no Python 3.11 or newer with the venv module was found" \
    "Install one (on Debian: apt-get install python3 python3-venv), or name one: PYTHON=/path/to/python3 make setup"
}

case "$level" in core | full) ;; *) die "unknown level: $level" "Use: scripts/setup.sh core|full" ;; esac

if [ ! -x .venv/bin/python ]; then
  python="$(find_python)"
  say "making .venv with $("$python" --version)"
  quietly "$python" -m venv .venv
fi

uv="$(sed -n 's/^uv==\([0-9.]*\).*/\1/p' requirements/lock.txt)"
if [ "$(.venv/bin/uv --version 2>/dev/null | cut -d' ' -f2)" != "$uv" ]; then
  say "installing uv $uv"
  quietly .venv/bin/python -m pip install --quiet "uv==$uv"
fi

lock=requirements/core.txt
[ "$level" = core ] || lock=requirements/lock.txt
say "installing $(grep -c '^[a-z].*==' "$lock") locked packages"
quietly .venv/bin/uv pip install --python .venv/bin/python --require-hashes --no-deps -r "$lock"

if [ "$level" = full ] && ! .venv/bin/python -c "import sys, importlib.metadata as m; sys.exit(m.version('torch').split('+')[0] != '$torch')" 2>/dev/null; then
  say "installing torch $torch (a CPU build where the package index has one)"
  .venv/bin/python -m pip install --quiet "torch==$torch+cpu" >/dev/null 2>&1 ||
    quietly .venv/bin/python -m pip install --quiet "torch==$torch"
fi

say "installing nexus itself"
quietly .venv/bin/uv pip install --python .venv/bin/python --no-deps --editable .

say "copying the web pages' assets"
bash scripts/assets.sh

touch .venv/.core
[ "$level" = core ] || touch .venv/.ready
say "ready: .venv/bin/nexus --help"
