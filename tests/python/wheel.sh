#!/usr/bin/env bash
# The wheel as its users meet it: built around LIBRARY, installed into an empty environment, the lines of its README run.
#   wheel.sh LIBRARY SCRATCH
set -euo pipefail
source_dir=$(cd "$(dirname "$0")/../.." && pwd)
library=$1 scratch=$2
rm -rf "$scratch" && mkdir -p "$scratch"
python -m pip wheel --quiet --disable-pip-version-check --no-build-isolation --no-deps -w "$scratch" "$source_dir" \
  --config-settings=build-dir="$scratch/build" --config-settings=cmake.define.GLIMPSE_PYTHON_LIBRARY="$library"
wheel=$(ls "$scratch"/glimpse-*-py3-none-*.whl)
python -m venv "$scratch/clean"
"$scratch/clean/bin/python" -m pip install --quiet --disable-pip-version-check --no-index --no-deps "$wheel"
cd "$scratch"
"$scratch/clean/bin/python" -W error -I - <<'PYTHON'
import importlib.metadata
import pathlib
import glimpse

assert glimpse.__version__ == importlib.metadata.version("glimpse")
assert (pathlib.Path(glimpse.__file__).parent / "py.typed").exists()
model = glimpse.demo()
answer = model.ask("Describe this picture.", glimpse.demo_files()["image"])
assert answer.text == "An orange ring, a green square, a blue heart and a green circle on a yellow background.", answer
assert answer._repr_png_() is None and "base64" in answer._repr_html_(), "without NumPy and Pillow"
print("the wheel answers:", answer)
PYTHON
