#!/usr/bin/env bash
# Installs the Debian packages that building and testing glimpse needs and that are missing; silent when none is.
#   tools/install_deps.sh tests     also what tests alone use and are skipped without: Python's environments, Java for Spark
set -euo pipefail

packages=(
  g++ cmake ninja-build pkg-config          # build
  libjpeg62-turbo-dev libpng-dev libwebp-dev libgif-dev libtiff-dev libheif-dev libutf8proc-dev   # the library
  libcli11-dev nlohmann-json3-dev libcpp-httplib-dev libedit-dev   # the glimpse command
  libgtest-dev libgmock-dev libbenchmark-dev doxygen   # tests, benchmarks and the API reference
)
[[ ${1:-} == tests ]] && packages+=(python3-venv default-jre-headless)

missing=()
for package in "${packages[@]}"; do
  status=$(dpkg-query -W -f='${db:Status-Abbrev}' "$package" 2>/dev/null || true)
  [[ $status == ii* ]] || missing+=("$package")
done
[[ ${#missing[@]} -gt 0 ]] || exit 0

sudo=()
if [[ $(id -u) -ne 0 ]]; then
  command -v sudo >/dev/null || { echo "glimpse needs these packages: ${missing[*]}; install them as root" >&2; exit 1; }
  sudo=(sudo)
fi
echo "Installing: ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
"${sudo[@]}" apt-get update -qq >&2
"${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
