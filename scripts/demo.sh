#!/usr/bin/env bash
# The first five minutes: these are the commands that a user types, and nothing else.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"

nexus launch examples/digits/job.yaml --yes --follow
echo
nexus models digits
link=$(nexus open /runs --no-browser)

cat <<END

The run, its curve and its model stay. Try next:

  .venv/bin/nexus show digits                             everything about the run
  .venv/bin/nexus deploy examples/serve-digits/job.yaml   the model behind an endpoint, two replicas
  .venv/bin/nexus down                                    stop Nexus (what it keeps, stays)

  (export PATH="\$PWD/.venv/bin:\$PATH", and it is just \`nexus\`)

  $link
  (logs your browser in, once; \`.venv/bin/nexus open\` makes another)
END
