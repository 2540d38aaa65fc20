#!/usr/bin/env bash
# Runs a command in a virtual environment with the packages of a list, made once and kept outside of the tree:
#   run.sh LIST COMMAND...       LIST: test, wheel, spark, ray; python is the environment's
# Where the packages cannot be had it says SKIPPED and why, which ctest takes for a skipped test.
set -euo pipefail
list=$1
shift
case $list in
  test) packages=(numpy pillow pytest) ;;
  wheel) packages=(scikit-build-core) ;;
  spark) packages=(pyspark pandas pyarrow numpy pillow pytest) ;;
  ray) packages=("ray[data]" pydantic aiohttp numpy pillow pytest) ;;
  *) echo "run.sh: no list $list" >&2; exit 2 ;;
esac
skip() { echo "SKIPPED: $*"; exit 0; }
python=${GLIMPSE_TEST_PYTHON:-/usr/bin/python3}
[[ -x $python ]] || python=python3
command -v "$python" >/dev/null || skip "no python3"
if [[ $list == spark ]]; then command -v java >/dev/null || skip "no java"; fi

root=${GLIMPSE_TEST_VENVS:-${XDG_CACHE_HOME:-$HOME/.cache}/glimpse/venvs}
name=$list-$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-$(cksum <<<"${packages[*]}" | cut -d' ' -f1)
mkdir -p "$root"
exec 9>"$root/$name.lock"
flock 9
if [[ ! -e $root/$name/complete ]]; then
  rm -rf "${root:?}/$name"
  log=$("$python" -m venv "$root/$name" 2>&1) || skip "no virtual environment: ${log##*$'\n'}"
  log=$("$root/$name/bin/python" -m pip install --quiet --no-input --disable-pip-version-check --prefer-binary \
        "${packages[@]}" 2>&1) || skip "pip install ${packages[*]}: ${log##*$'\n'}"
  touch "$root/$name/complete"
fi
exec 9>&-
PATH=$root/$name/bin:$PATH VIRTUAL_ENV=$root/$name exec "$@"
