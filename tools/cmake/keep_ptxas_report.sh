#!/bin/sh
# Runs a compiler command; what ptxas says about registers goes to OBJECT.ptxas, everything else to standard error.
object=
previous=
for argument in "$@"; do
  [ "$previous" = -o ] && object=$argument
  previous=$argument
done
[ -n "$object" ] || exec "$@"
report="$object.ptxas"
"$@" 2>"$report.tmp"
status=$?
grep '^ptxas info\|bytes stack frame\|Performance Loss' "$report.tmp" >"$report"
grep -v '^ptxas info\|bytes stack frame\|^ *$' "$report.tmp" >&2
rm -f "$report.tmp"
exit $status
