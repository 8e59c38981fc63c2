#!/usr/bin/env bash
# Builds the six actions of this checkout for release: build.sh DIRECTORY [PLATFORM...]
# The result depends on the source alone: everything else that could change a
# byte is pinned here, the Go release among it. It writes the binaries
# <action>_<os>_<arch> and SHA256SUMS.
set -euo pipefail

out=${1:?the directory to write to}
shift
platforms=("$@")
((${#platforms[@]})) || platforms=(linux/amd64 linux/arm64 darwin/amd64 darwin/arm64)
mkdir -p -- "$out"
out=$(cd -- "$out" && pwd)
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

unset GOEXPERIMENT GODEBUG GOFIPS140 GOENV
export GOTOOLCHAIN=go1.26.8 GOENV=off GOWORK=off GOFLAGS=-mod=readonly CGO_ENABLED=0 GOAMD64=v1 GOARM64=v8.0
for platform in "${platforms[@]}"; do
  for main in actions/*/main.go; do
    action=$(basename -- "$(dirname -- "$main")")
    GOOS=${platform%/*} GOARCH=${platform#*/} \
      go build -trimpath -buildvcs=false -ldflags='-s -w' -o "$out/${action}_${platform%/*}_${platform#*/}" "./actions/$action"
  done
done
cd -- "$out"
if command -v sha256sum >/dev/null; then
  sha256sum -- *_*_* >SHA256SUMS
else
  shasum -a 256 -- *_*_* >SHA256SUMS
fi
