#!/usr/bin/env bash
# Installs what tools/packages.sh made on bare systems, and asks the demo model about its picture there:
#
#   Debian 11   the static command (with glimpse serve); the wheel with Python 3.9
#   Debian 12   the static command; the .deb (apt finds its dependencies) and its removal; the .tar.gz with those libraries; the wheel
#   here        the wheel with each Python of GLIMPSE_PYTHONS (paths, separated by spaces)
#
#   sudo tools/check_packages.sh [FOLDER] [static] [debian] [wheel]
#
# The systems are roots made by debootstrap (a Debian package) and kept in GLIMPSE_ROOTS, /var/cache/glimpse/roots by default; each check
# gets a fresh copy. Needs root, for chroot, and Debian's servers; GLIMPSE_DEBIAN_MIRROR is another one.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
case "${1:-}" in
  -h|--help) sed -n '2,13s/^# \{0,1\}//p' "$0"; exit 0 ;;
esac
dist=$here/dist
[[ $# -gt 0 && ! $1 =~ ^(static|debian|wheel)$ ]] && { dist=$(cd "$1" && pwd); shift; }
[[ $# -gt 0 ]] || set -- static debian wheel
roots=${GLIMPSE_ROOTS:-/var/cache/glimpse/roots}
mirror=${GLIMPSE_DEBIAN_MIRROR:-http://deb.debian.org/debian}
[[ $(id -u) -eq 0 ]] || { echo "check_packages.sh: want root (chroot)" >&2; exit 1; }
command -v debootstrap >/dev/null || { echo "check_packages.sh: apt-get install debootstrap" >&2; exit 1; }
answer="An orange ring, a green square, a blue heart and a green circle on a yellow background."
question="Describe this picture."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

fail() { echo "FAILED: $*" >&2; exit 1; }
found() {  # found NAME PATTERN: the one file of this name
  local file
  file=$(find "$dist" -maxdepth 1 -name "$2" | sort | tail -1)
  [[ -n $file ]] || fail "no $1 ($2) in $dist; tools/packages.sh makes it"
  echo "$file"
}

# fresh SUITE: a copy of a bare system, with the demo model in /demo, whose path it prints.
fresh() {
  local suite=$1 root
  if [[ ! -e $roots/$suite.complete ]]; then
    mkdir -p "$roots" && rm -rf "${roots:?}/$suite"
    debootstrap --variant=minbase "$suite" "$roots/$suite" "$mirror" >"$roots/$suite.log" 2>&1 || fail "debootstrap: $roots/$suite.log"
    touch "$roots/$suite.complete"
  fi
  root=$(mktemp -d "$scratch/$suite.XXXX")
  cp -a "$roots/$suite/." "$root"
  cp /etc/resolv.conf "$root/etc/resolv.conf"
  [[ -e $root/etc/hosts ]] || echo "127.0.0.1 localhost" >"$root/etc/hosts"  # every installed system has it, debootstrap's roots not
  mkdir "$root/demo"
  cp "$here"/models/demo-Q8_0.gguf "$here"/models/mmproj-demo-f16.gguf "$here"/models/sample.png "$root/demo"
  echo "$root"
}
inside() {  # inside ROOT COMMAND...: with nothing of ours but a terminal's path
  local root=$1
  shift
  chroot "$root" env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root DEBIAN_FRONTEND=noninteractive \
    LC_ALL=C.UTF-8 "$@"
}
answers() {  # answers ROOT PROGRAM
  local said
  said=$(inside "$1" "$2" run -m /demo/demo-Q8_0.gguf --mmproj /demo/mmproj-demo-f16.gguf --image /demo/sample.png "$question") || fail "$2 in $1"
  [[ $said == "$answer" ]] || fail "$2 in $1 said: $said"
  inside "$1" "$2" --version
}

# One request to glimpse serve by bash alone.
serves() {
  inside "$1" bash -c '
    "$1" serve -m /demo/demo-Q8_0.gguf --mmproj /demo/mmproj-demo-f16.gguf --host localhost --port 8099 >/tmp/serve.log 2>&1 &
    for _ in {1..200}; do (exec 3<>/dev/tcp/127.0.0.1/8099) 2>/dev/null && break; sleep 0.1; done
    body="{\"max_tokens\":60,\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:image/png;base64,$(base64 -w0 /demo/sample.png)\"}},{\"type\":\"text\",\"text\":\"$2\"}]}]}"
    for _ in {1..200}; do grep -q "^ready" /tmp/serve.log && break; sleep 0.1; done
    exec 3<>/dev/tcp/127.0.0.1/8099
    printf "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" ${#body} "$body" >&3
    cat <&3
    kill $!; wait $! || true; cat /tmp/serve.log >&2' serves "$2" "$question" >"$scratch/said" 2>"$scratch/log" || true
  grep -qF "$answer" "$scratch/said" || fail "$2 serve: $(cat "$scratch/said" "$scratch/log")"
  echo "serves"
}

check_static() {
  local suite root name
  name=$(basename "$(found "the static command" 'glimpse-*-static.tar.gz')" .tar.gz)
  for suite in bullseye bookworm; do
    echo "== static command on $suite"
    root=$(fresh "$suite")
    tar -C "$root/opt" -xzf "$dist/$name.tar.gz"
    answers "$root" "/opt/$name/glimpse"
    serves "$root" "/opt/$name/glimpse"
    for file in LICENSE man/man1/glimpse-run.1 bash-completion/completions/glimpse licenses/libpng-dev.txt; do
      [[ -s $root/opt/$name/$file ]] || fail "$name has no $file"
    done
  done
}

check_debian() {
  local root deb archive name
  deb=$(found "the Debian package" 'glimpse_*.deb')
  archive=$(found "the archive" 'glimpse-*-Linux-x86_64.tar.gz')
  echo "== .deb on bookworm"
  root=$(fresh bookworm)
  cp "$deb" "$root/tmp/glimpse.deb"
  inside "$root" apt-get update -qq
  inside "$root" apt-get install -y -qq --no-install-recommends /tmp/glimpse.deb >"$scratch/apt.log" 2>&1 || fail "apt-get install: $(cat "$scratch/apt.log")"
  answers "$root" glimpse
  serves "$root" glimpse
  for file in share/man/man1/glimpse-run.1 share/bash-completion/completions/glimpse share/doc/glimpse/LICENSE include/glimpse/glimpse.h; do
    [[ -s $root/usr/$file ]] || fail "the package has no /usr/$file"
  done
  echo "== .tar.gz on bookworm, in a prefix of its own"
  inside "$root" dpkg --purge glimpse >/dev/null
  [[ -z $(find "$root/usr" -name '*glimpse*' -print -quit) ]] || fail "removed, the package leaves $(find "$root/usr" -name '*glimpse*')"
  tar -C "$root/opt" -xzf "$archive"
  name=$(basename "$archive" .tar.gz)
  answers "$root" "/opt/$name/bin/glimpse"
  [[ -s $root/opt/$name/share/doc/glimpse/LICENSE && -s $root/opt/$name/share/man/man1/glimpse.1 ]] || fail "$archive is not whole"
}

# The README's Python lines where nothing else is.
lines() {
  cat <<PYTHON
import sys
import glimpse

model = glimpse.demo()
answer = model.ask("$question", glimpse.demo_files()["image"])
assert str(answer) == "$answer", answer
assert [box.label for box in model.ask("Give the box of the orange ring.", glimpse.demo_files()["image"]).boxes] == ["orange ring"]
print("Python", sys.version.split()[0] + ":", answer)
PYTHON
}

check_wheel() {
  local wheel suite root python
  wheel=$(found "the wheel" 'glimpse-*-manylinux*.whl')
  lines >"$scratch/lines.py"
  for suite in bullseye bookworm; do
    echo "== wheel on $suite"
    root=$(fresh "$suite")
    inside "$root" apt-get update -qq
    inside "$root" apt-get install -y -qq --no-install-recommends python3-venv >"$scratch/apt.log" 2>&1 || fail "apt-get install: $(cat "$scratch/apt.log")"
    cp "$wheel" "$scratch/lines.py" "$root/tmp"
    inside "$root" python3 -m venv /opt/venv
    inside "$root" /opt/venv/bin/pip install -q --no-index "/tmp/$(basename "$wheel")"
    inside "$root" /opt/venv/bin/python -W error -I /tmp/lines.py
  done
  for python in ${GLIMPSE_PYTHONS:-}; do
    echo "== wheel with $python"
    rm -rf "$scratch/venv"
    "$python" -m venv "$scratch/venv"
    "$scratch/venv/bin/pip" install -q --no-index "$wheel"
    (cd "$scratch" && env -i "$scratch/venv/bin/python" -W error -I "$scratch/lines.py")
  done
}

for what in "$@"; do "check_$what"; done
echo "all of it answers"
