# On a host: run one verb of the parcel (see nexus/agent/host.py), or say what is missing. Any POSIX shell.
#   sh -c THIS nexus FOLDER DIGEST VERB PYTHON REQUIRES
# Exit codes beside the verb's: 43 there is no Python; 44 the parcel is not here; 45 it does not work here.
set -u
umask 077
folder=$1 digest=$2 verb=$3 wanted=$4 requires=$5
PATH=$PATH:$HOME/.local/bin:/usr/local/bin:/opt/homebrew/bin
case $folder in "~"/*) folder=$HOME/${folder#"~/"} ;; esac
place=$folder/parcels/$digest

find_python() {
  for name in $wanted python3 python3.14 python3.13 python3.12 python3.11; do
    found=$(command -v "$name" 2>/dev/null) || continue
    if "$found" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      printf '%s' "$found"
      return 0
    fi
  done
  uv=$(command -v uv 2>/dev/null) && "$uv" python find '>=3.11' 2>/dev/null
}

unpack() {
  python=$(find_python) || {
    echo "no Python 3.11 or newer (asked: $wanted python3, and uv)" >&2
    exit 43
  }
  draft=$folder/parcels/.$digest.$$
  trap 'rm -rf "$draft"' EXIT
  mkdir -p "$draft" || exit 45
  gzip -dc | tar -xf - -C "$draft" || exit 45
  if ! "$python" -I -c 'import sys; sys.path.insert(0, sys.argv[1]); import msgspec' "$draft" 2>/dev/null; then
    rm -rf "$draft/msgspec"
    uv=$(command -v uv 2>/dev/null) || uv=
    if [ -n "$uv" ]; then
      "$uv" pip install --quiet --python "$python" --target "$draft" "$requires" >&2 || exit 45
    else
      "$python" -m pip install --quiet --disable-pip-version-check --target "$draft" "$requires" >&2 || exit 45
    fi
  fi
  printf '%s' "$python" >"$draft/python"
  mv "$draft" "$place" 2>/dev/null || [ -f "$place/python" ] || exit 45 # else somebody else was faster
}

if [ "$verb" = unpack ]; then
  [ -f "$place/python" ] || unpack
  exit 0
fi
[ -f "$place/python" ] || exit 44
exec "$(cat "$place/python")" -I "$place" host "$verb"
