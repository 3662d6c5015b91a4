#!/usr/bin/env bash
# Install what is missing, then lint, check types and run the tests on two cores. Arguments go to pytest; -n 0: one after
# the other in one process.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/setup.sh

failed=()
check() {
    echo "\$ $*"
    "$@" || failed+=("$*")
}

check ruff check
check ruff format --check
check mypy
if [ ${#failed[@]} -gt 0 ]; then printf 'FAILED: %s\n' "${failed[@]}"; fi
check python -m pytest -n 2 --dist loadfile "$@" # last, so that its summary is the last line
[ ${#failed[@]} -eq 0 ]
