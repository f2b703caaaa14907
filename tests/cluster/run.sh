#!/bin/sh
# Runs what is tried of the cluster and takes long: every script beside this one, or PARTS="image …".
# A script says a line a check, and LEFT OUT where it cannot try something here.
set -eu
cd "$(dirname "$0")/../.."
said=$(mktemp)
trap 'rm -f "$said"' EXIT
failed=
for part in ${PARTS:-$(cd tests/cluster && echo *.sh)}; do
    part=${part%.sh}
    [ "$part" != run ] || continue
    echo "== $part"
    # Its status is behind all that it said: a pipe has only that of `tee`.
    { sh "tests/cluster/$part.sh" 2>&1 || echo "FAILED   $part: exit status $?"; } | tee -a "$said"
    ! grep -q "^FAILED   $part: exit status" "$said" || failed="$failed $part"
done
if grep -q '^LEFT OUT' "$said"; then
    echo "== left out"
    grep '^LEFT OUT' "$said"
fi
if [ -n "$failed" ]; then
    echo "== failed:$failed"
    exit 1
fi
