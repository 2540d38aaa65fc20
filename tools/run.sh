#!/usr/bin/env bash
# Installs what is missing, builds Release, answers a question about a picture.
#
#   tools/run.sh                              the built-in model describes a sample picture
#   tools/run.sh --image a.png "How many?"    the built-in model looks at yours
#   tools/run.sh -m model.gguf --mmproj mmproj.gguf --image cat.jpg "Describe this image."
#                                             your own model; any option of `glimpse run`
set -euo pipefail
here="$PWD"
root="$(cd "$(dirname "$0")/.." && pwd)"

case "${1:-}" in
  -h|--help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;;
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

models="$root/models"
[[ $# -gt 0 ]] || set -- --image "$models/sample.png" "Describe this picture."
own=
for argument in "$@"; do
  case "$argument" in -m|--model|--model=*) own=1 ;; esac
done
[[ -n $own ]] || set -- -m "$models/demo-Q8_0.gguf" --mmproj "$models/mmproj-demo-f16.gguf" "$@"
exec "$glimpse" run "$@"
