#!/bin/sh
# Runs a command in the sources' last commit on a machine that has nothing: a bare Debian 12 with
# make and this Rust.
#
#   tests/fresh/run.sh COMMAND [ARGUMENT...]
#
# The machine is a folder, with namespaces of its own for what is mounted in it and what runs in it.
# Both end with this script, however it ends.
set -eu
cd "$(dirname "$0")/../.."
if [ "$(id -u)" != 0 ]; then
    echo "only root can set up a system in a folder" >&2
    exit 69
fi
sh deploy/local/ensure.sh debootstrap git
work=${CARGO_TARGET_DIR:-target}/fresh
mkdir -p "$work"
work=$(cd "$work" && pwd)
machine=
# shellcheck disable=SC2046,SC2317 # the ids are words; the trap runs it
remove() {
    # Its first process takes all others with it, and is waited for.
    [ -z "$machine" ] || kill -KILL $(cat "/proc/$machine/task/$machine/children") || true
    [ -z "$machine" ] || wait "$machine" || true
    rm -rf "$work"
} 2>/dev/null
trap remove EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
rm -rf "$work/tree"
setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child \
    sh tests/fresh/machine.sh "$work/tree" "$@" &
machine=$!
code=0
wait "$machine" || code=$?
machine=
exit "$code"
