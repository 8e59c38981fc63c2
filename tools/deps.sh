#!/usr/bin/env bash
# Installs the programs that are named and missing: tools/deps.sh git postgresql
# Where it must not or cannot, it says what to install and ends with 1.
set -euo pipefail

# Debian keeps the server's programs out of PATH.
has() {
  case $1 in
    postgresql)
      command -v initdb >/dev/null || [[ -x ${PGBIN:-}/initdb ]] || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null
      ;;
    python3-venv) python3 -c 'import ensurepip' 2>/dev/null ;;
    nodejs) command -v node >/dev/null ;;
    chromium-headless-shell)
      command -v chromium-headless-shell >/dev/null || command -v chromium >/dev/null || command -v google-chrome >/dev/null
      ;;
    *) command -v "$1" >/dev/null ;;
  esac
}

missing=()
for program in "$@"; do
  has "$program" || missing+=("$program")
done
((${#missing[@]})) || exit 0

as_root=()
if ((EUID)); then
  as_root=(sudo -n)
fi
if ! command -v apt-get >/dev/null || ! "${as_root[@]}" true 2>/dev/null; then
  echo "missing: ${missing[*]}. Install them with this system's package manager, then run this again." >&2
  exit 1
fi

echo "installing: ${missing[*]}"
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
  apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 "${missing[@]}" >/dev/null
for program in "${missing[@]}"; do
  has "$program" || { echo "$program was installed and is still not found" >&2; exit 1; }
done
