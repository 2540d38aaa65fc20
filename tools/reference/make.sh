#!/bin/sh
# The API reference as web pages: tools/reference/make.sh FOLDER. Any warning of Doxygen's is an error.
set -e
[ $# -eq 1 ] || { echo "usage: $0 FOLDER" >&2; exit 2; }
mkdir -p "$1"
out=$(cd "$1" && pwd)
cd "$(dirname "$0")/../.."
(cat tools/reference/Doxyfile; echo "OUTPUT_DIRECTORY = \"$out\"") | doxygen -
echo "$out/html/index.html"
