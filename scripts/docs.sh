#!/usr/bin/env bash
# Build the documentation into docs/_build/html; warnings are errors. Arguments go to sphinx-build.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/setup.sh
python -m sphinx -W --keep-going -q -b html "$@" docs docs/_build/html
echo "docs/_build/html/index.html"
