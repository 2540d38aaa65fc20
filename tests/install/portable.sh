#!/usr/bin/env bash
# Whether programs and libraries run elsewhere: nothing of this machine but, at most, the C library of Debian 11 (glibc 2.31).
#   portable.sh FILE...              ELF files, or wheels with one inside; says what it found, fails where one would not run
#   portable.sh --test COMMAND FILE...   that it refuses COMMAND, which is linked with this machine's libraries; then the FILEs that exist
set -euo pipefail
most=2.31

check() {
  local file=$1 needed newest
  needed=$(readelf -dW "$file" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
  if [[ -z $needed ]]; then
    if readelf -lW "$file" | grep -q INTERP; then echo "$file names a loader and no library"; return 1; fi
    echo "$file: everything is inside"
    return 0
  fi
  if needed=$(grep -vE '^(libc|libm|libpthread|libdl|librt)\.so|^ld-linux-x86-64\.so' <<<"$needed"); then
    echo "$file needs ${needed//$'\n'/ }"
    return 1
  fi
  newest=$(readelf -VW "$file" | grep -oE 'GLIBC_[0-9.]+' | sed 's/GLIBC_//' | sort -uV | tail -1)
  if [[ $(printf '%s\n' "$most" "$newest" | sort -V | tail -1) != "$most" ]]; then
    echo "$file needs glibc $newest: want $most at most"
    return 1
  fi
  echo "$file: glibc $newest and later"
}

self_test=
[[ ${1:-} == --test ]] && { self_test=$2; shift 2; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
if [[ -n $self_test ]] && check "$self_test"; then echo "it was linked here, and is said to run anywhere"; exit 1; fi
for file in "$@"; do
  if [[ -n $self_test && ! -e $file ]]; then continue; fi
  if [[ $file == *.whl ]]; then
    python3 -m zipfile -e "$file" "$scratch/wheel"
    file=$scratch/wheel/glimpse/lib/libglimpse.so
  fi
  check "$file"
done
