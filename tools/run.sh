#!/usr/bin/env bash
# Installs what is missing, builds Release, answers a question about a picture.
#
#   tools/run.sh                              a sample picture and a built-in model
#   tools/run.sh -m model.gguf --mmproj mmproj.gguf --image cat.jpg "Describe this image."
#                                             your own; any option of `glimpse run`
set -euo pipefail
here="$PWD"
root="$(cd "$(dirname "$0")/.." && pwd)"

case "${1:-}" in
  -h|--help) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 0 ;;
esac

cd "$root"
tools/install_deps.sh
launcher=()
command -v ccache >/dev/null && launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
glimpse="$root/build/release/glimpse"
[[ -x $glimpse ]] || echo "Building glimpse (once, a few minutes) ..." >&2
cmake --preset release "${launcher[@]}" >/dev/null
cmake --build --preset release --target glimpse_cli -j "$(nproc)" -- --quiet >&2
cd "$here"

if [[ $# -gt 0 ]]; then
  exec "$glimpse" run "$@"
fi

# Without a trained model of its own, glimpse shows the whole road with a tiny random one: the answer is noise.
demo="$root/build/demo"
mkdir -p "$demo"
[[ -f $demo/tiny.gguf ]] || "$glimpse" synth --preset tiny --type Q8_0 -m "$demo/tiny.gguf"
[[ -f $demo/tiny-mmproj.gguf ]] || "$glimpse" synth --preset tiny --mmproj "$demo/tiny-mmproj.gguf"
echo "A tiny model with random weights looks at tests/data/chelsea.jpg (its answer is noise):" >&2
exec "$glimpse" run -m "$demo/tiny.gguf" --mmproj "$demo/tiny-mmproj.gguf" --image "$root/tests/data/chelsea.jpg" \
  -n 16 --verbose "What is in this picture?"
