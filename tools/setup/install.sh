#!/usr/bin/env bash
# Installs everything one role needs: system packages, the virtual environment, the locked dependencies.
# Usage: tools/setup/install.sh demo|development    Can be run again; what is there already is left alone.
set -euo pipefail
cd "$(dirname "$0")/../.."

role=${1:?role: demo or development}
venv=${VENV:-.venv}
packages="mosquitto portaudio19-dev libsystemd-dev libcap-dev pkg-config gcc"
locks="requirements/demo.txt"
bare="requirements/without-dependencies.txt"
case $role in
  demo) ;;
  development)
    packages="$packages pulseaudio pulseaudio-utils libasound2-plugins alsa-utils chromium fonts-dejavu-core iproute2 libfaketime"
    locks="requirements/development.txt"
    bare="$bare requirements/development-without-dependencies.txt" ;;
  *) echo "install: unknown role '$role': demo or development" >&2; exit 2 ;;
esac

say() { printf '\033[1m· %s\033[0m\n' "$*"; }

find_python() {
  local candidate
  for candidate in "${PYTHON:-}" python3.11 python3; do
    if [ -n "$candidate" ] && "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
      command -v "$candidate"; return
    fi
  done
  return 1
}

install_packages() {
  local missing=() package as_root=()
  command -v dpkg-query >/dev/null || { say "Not a Debian system: install yourself: $packages"; return; }
  for package in $packages; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "install: needs root for: apt-get install ${missing[*]}" >&2; exit 1; }
    as_root=(sudo)
  fi
  say "Installing system packages: ${missing[*]}"
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

if ! python=$(find_python); then
  packages="$packages python3.11 python3.11-venv python3.11-dev"
elif ! "$python" -c 'import ensurepip, sysconfig, os, sys; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' 2>/dev/null; then
  packages="$packages python3.11-venv python3.11-dev"
fi
install_packages
python=$(find_python) || { echo "install: Python 3.11 is needed (tflite-runtime has no newer wheel); set PYTHON=/path/to/python3.11" >&2; exit 1; }

wanted=$(cat setup.cfg $locks $bare | sha256sum | cut -d' ' -f1)
stamp="$venv/.installed"
# The development environment holds everything the demo needs.
if grep -qs -e "^$role $wanted" -e "^development $(cat setup.cfg requirements/development.txt requirements/without-dependencies.txt requirements/development-without-dependencies.txt | sha256sum | cut -d' ' -f1)" "$stamp"; then
  exit 0
fi
if [ ! -x "$venv/bin/python" ]; then
  say "Making the virtual environment $venv with $("$python" --version)"
  "$python" -m venv "$venv"
fi
say "Installing locked dependencies ($locks); the first time takes a few minutes"
pip=("$venv/bin/python" -m pip --disable-pip-version-check install --quiet --no-input)
# A lock is complete, so nothing is resolved again: Bookworm's pip would try a newer release for a dependency with an
# extra (coverage[toml]) and then refuse it, because the lock has no hash for it.
for lock in $locks $bare; do "${pip[@]}" --require-hashes --no-deps -r "$lock"; done
# Setuptools warns at every editable install; what it says matters only when it fails.
"${pip[@]}" --no-deps --editable . 2>"$venv/install.log" || { cat "$venv/install.log" >&2; exit 1; }
echo "$role $wanted" > "$stamp"
say "Ready: $venv"
