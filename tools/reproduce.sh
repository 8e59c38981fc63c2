#!/usr/bin/env bash
# Builds this checkout twice, in two folders with two caches, and compares every
# binary; then compares them with what actions/checksums.txt lists, if it does.
# Ends with 1 at any difference.
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
tmp=$(mktemp -d)
trap 'chmod -R u+w -- "$tmp"; rm -rf -- "$tmp"' EXIT
platforms=("$@")
((${#platforms[@]})) || platforms=(linux/amd64 linux/arm64)

for n in 1 2; do
  dir="$tmp/somewhere-$n/$(printf 'deeper/%.0s' $(seq "$n"))source"
  mkdir -p -- "$dir"
  (cd -- "$root" && git ls-files -z --cached --others --exclude-standard -- . ':(exclude)*testdata*' | xargs -0 tar cf -) | tar xf - -C "$dir"
  GOCACHE="$tmp/cache-$n" "$dir/tools/build.sh" "$tmp/out-$n" "${platforms[@]}"
done

failed=0
while read -r sum name; do
  other=$(awk -v name="$name" '$2 == name { print $1 }' "$tmp/out-2/SHA256SUMS")
  listed=$(awk -v name="$name" '$2 == name { print $1 }' "$root/actions/checksums.txt")
  verdict="the same in both folders"
  if [[ $sum != "$other" ]]; then
    verdict="DIFFERENT: $other in the second folder" failed=1
  elif [[ -n $listed && $listed != "$sum" ]]; then
    verdict="DIFFERENT from the release: checksums.txt lists $listed" failed=1
  elif [[ -n $listed ]]; then
    verdict="the same in both folders and in checksums.txt"
  fi
  printf '%s  %-32s %s\n' "$sum" "$name" "$verdict"
done <"$tmp/out-1/SHA256SUMS"
exit "$failed"
