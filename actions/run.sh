#!/usr/bin/env bash
# The one step of every action here: run the action's binary.
#
# If checksums.txt lists a binary for this platform, it is downloaded and run
# only if its SHA-256 is the one listed; a mismatch ends with 3 before anything
# is executed. Otherwise, or where the download fails, this very commit is
# built with the Go on PATH. So the commit that a workflow pins covers the
# script, the source and the binary at once.
#
# Inputs stay in the environment; nothing here looks at them.
set -euo pipefail

actions=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
action=$(basename -- "${GITHUB_ACTION_PATH:?is set by the runner}")

quit() { # quit <exit code> <message>
  echo "::error title=$action::$2"
  exit "$1"
}
note() { echo "::notice title=$action::$1"; }

[[ $action =~ ^[a-z]+(-[a-z]+)*$ ]] || { action=run.sh && quit 2 "the directory of the action has no action's name"; }
case ${AUDIT_SIGNER_BUILD_FROM_SOURCE:-false} in
  true | false) ;;
  *) quit 2 "build-from-source is neither true nor false" ;;
esac

os=$(uname -s)
arch=$(uname -m)
case $os in
  Linux) os=linux ;;
  Darwin) os=darwin ;;
esac
case $arch in
  x86_64 | amd64) arch=amd64 ;;
  aarch64 | arm64) arch=arm64 ;;
esac

tmp=$(mktemp -d "${RUNNER_TEMP:-${TMPDIR:-/tmp}}/audit-signer.XXXXXXXX")
trap 'rm -rf -- "$tmp"' EXIT
binary=$tmp/$action

sha256() { # sha256 <file>
  if command -v sha256sum >/dev/null; then
    sha256sum <"$1"
  else
    shasum -a 256 <"$1"
  fi | cut -d ' ' -f 1
}

# Prints "<sha256> <url>" of the listed binary, or nothing.
listed() {
  local sum name url
  while read -r sum name url; do
    if [[ $name == "${action}_${os}_${arch}" && $sum != '#'* ]]; then
      echo "$sum $url"
      return
    fi
  done <"$actions/checksums.txt"
}

# Downloads the binary to run. Ends with 1 if there is none to be had.
download() {
  local entry want url got
  entry=$(listed)
  if [[ -z $entry ]]; then
    note "no binary is listed for ${os}_${arch}: building this commit from source"
    return 1
  fi
  want=${entry%% *} url=${entry#* }
  if ! curl --fail --silent --show-error --location --proto '=https' --retry 2 --max-time 300 --output "$binary" -- "$url"; then
    note "the binary cannot be downloaded: building this commit from source"
    return 1
  fi
  got=$(sha256 "$binary")
  if [[ $got != "$want" ]]; then
    quit 3 "could not tell: the downloaded binary has SHA-256 $got, but this commit lists $want. Nothing was executed. Do not retry blindly: report it, or set build-from-source: true"
  fi
}

build() {
  command -v go >/dev/null ||
    quit 3 "could not tell: there is no Go on PATH to build this action with: add actions/setup-go before it, or pin a release that lists a binary for ${os}_${arch}"
  (
    cd -- "$actions/.."
    GOOS='' GOARCH='' GOWORK=off GOFLAGS=-mod=readonly CGO_ENABLED=0 \
      go build -trimpath -buildvcs=false -ldflags='-s -w' -o "$binary" "./actions/$action"
  ) || quit 3 "could not tell: this action cannot be built from source: see the lines above"
}

if [[ ${AUDIT_SIGNER_BUILD_FROM_SOURCE:-false} == true ]]; then
  note "building this commit from source, as asked"
  build
elif ! download; then
  build
fi

chmod +x "$binary"
exec "$binary"
