#!/usr/bin/env bash
# Installs what is missing, builds, runs the tests. The last lines are ctest's.
#
#   tools/test.sh                 the dev preset: every test
#   tools/test.sh asan tsan ...   the named presets (dev, release, asan, tsan)
#   tools/test.sh dev -R Gguf     everything after the presets goes to ctest
#
# Tests of the label `timing` are left out, for they need a machine of their own: ctest --preset dev -L timing.
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-}" in
  -h|--help) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 0 ;;
esac
presets=()
while [[ $# -gt 0 && $1 =~ ^(dev|release|asan|tsan)$ ]]; do presets+=("$1"); shift; done
[[ ${#presets[@]} -gt 0 ]] || presets=(dev)

tools/install_deps.sh tests
jobs=$(nproc)
launcher=()
command -v ccache >/dev/null && launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)

for preset in "${presets[@]}"; do
  echo "== $preset: build" >&2
  cmake --preset "$preset" "${launcher[@]}" -DGLIMPSE_BUILD_TESTS=ON >/dev/null  # packages.sh leaves them out
  cmake --build --preset "$preset" -j "$jobs" -- --quiet
  echo "== $preset: test" >&2
  ctest --preset "$preset" -j "$jobs" --progress -LE '^timing$' "$@"
done
