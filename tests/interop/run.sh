#!/usr/bin/env bash
# run.sh JUDGES: builds the binary, writes tables with it and has the judges of setup.sh read them; then
# PyIceberg and the binary share one catalog file, and the catalog contract runs on an S3.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
judges=$(realpath "$1")
cd "$here/../.."
cargo build -q
. "$judges/env.sh"
binary=${CARGO_TARGET_DIR:-target}/debug/meltwater
"$judges/venv/bin/python" "$here/check.py" "$binary"
"$judges/venv/bin/python" "$here/pyiceberg_catalog.py" "$binary"
bash "$here/s3.sh" "$judges/venv/bin/moto_server"
