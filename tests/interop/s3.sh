#!/usr/bin/env bash
# s3.sh MOTO_SERVER [CARGO ARGS…]: runs the tests that need an S3 against moto's server process, whose
# conditional writes are right under racing writers. MOTO_SERVER is the path of `moto_server`
# (PyPI `moto[server]`). The server ends with this script.
set -euo pipefail
cd "$(dirname "$0")/../.."
moto=$1; shift
port=${MOTO_PORT:-5555}

"$moto" -H 127.0.0.1 -p "$port" >/dev/null 2>&1 &
server=$!
trap 'kill $server 2>/dev/null || true' EXIT
endpoint=http://127.0.0.1:$port
for _ in $(seq 100); do
  curl -fs -o /dev/null "$endpoint/moto-api/" && break
  kill -0 $server 2>/dev/null || { echo "s3.sh: moto_server did not start" >&2; exit 1; }
  sleep 0.2
done
curl -fs -o /dev/null -X PUT "$endpoint/meltwater"
MELTWATER_TEST_S3=$endpoint cargo test --features s3 --lib "$@" -- on_s3
