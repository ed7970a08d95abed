#!/usr/bin/env bash
# Writes requirements/*.txt anew from setup.cfg's extras, with hashes. Needs uv (pip install uv).
set -euo pipefail
cd "$(dirname "$0")/../.."

compile() { # output, then uv's arguments
  local out=$1; shift
  echo "· $out"
  uv pip compile --quiet --python-version 3.11 --generate-hashes --custom-compile-command "make lock" -o "$out" "$@"
}
all=requirements/development.txt
compile $all setup.cfg --extra unit --extra gateway --extra demo --extra training --extra development
compile requirements/unit.txt setup.cfg --extra unit -c $all
compile requirements/gateway.txt setup.cfg --extra gateway -c $all
compile requirements/demo.txt setup.cfg --extra unit --extra gateway --extra demo -c $all
compile requirements/training.txt setup.cfg --extra training -c $all
for bare in without-dependencies development-without-dependencies; do
  compile requirements/$bare.txt requirements/$bare.in --no-deps
done
