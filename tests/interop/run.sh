#!/usr/bin/env bash
# run.sh JUDGES: builds the binary, writes tables with it and has the judges of setup.sh read them.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
judges=$(realpath "$1")
cd "$here/../.."
cargo build -q
. "$judges/env.sh"
exec "$judges/venv/bin/python" "$here/check.py" "${CARGO_TARGET_DIR:-target}/debug/meltwater"
