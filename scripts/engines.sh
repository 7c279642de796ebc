#!/usr/bin/env bash
# See that the real programs that some tests run are here: sshd, Slurm, podman, bubblewrap.
# As root on Debian they are installed; elsewhere a test whose program is missing is skipped, and says so.
set -euo pipefail

declare -A package=(
  [sshd]=openssh-server [slurmctld]=slurmctld [slurmd]=slurmd [sbatch]=slurm-client [munged]=munge
  [podman]=podman [runc]=runc [bwrap]=bubblewrap
)
missing=()
for program in "${!package[@]}"; do
  command -v "$program" >/dev/null 2>&1 || [ -x "/usr/sbin/$program" ] || missing+=("${package[$program]}")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
  echo "  not here, so their tests are skipped: ${missing[*]} (on Debian, as root: apt-get install ${missing[*]})" >&2
  exit 0
fi

echo "  installing Debian's ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
log="$(mktemp)"
# podman needs its network helpers by name, since what packages recommend is left out.
if ! { apt-get update -q && apt-get install -q -y --no-install-recommends "${missing[@]}" netavark aardvark-dns uidmap; } >"$log" 2>&1; then
  tail -n 15 "$log" >&2
  echo "error: Debian's packages could not be installed" >&2
  echo "  → Read the lines above, or run the tests without them: python -m pytest -n 4 --dist loadfile" >&2
  exit 1
fi
rm -f "$log"
