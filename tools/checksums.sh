#!/usr/bin/env bash
# Writes actions/checksums.txt of a release: checksums.sh VERSION SHA256SUMS
# Nothing else may change in the commit that holds it (see actions/run.sh).
set -euo pipefail

version=$1 sums=$2
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
kept=$(grep '^#' actions/checksums.txt)
{
  echo "$kept"
  while read -r sum name; do
    echo "$sum  $name  https://github.com/agent-manager/audit-signer-rotation/releases/download/v$version/$name"
  done
} <"$sums" >actions/checksums.txt
