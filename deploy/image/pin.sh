#!/bin/sh
# Writes the digests that the bases of the image have now behind their names in the Dockerfile, so
# that each later build begins with the same. To be run for a release. Argument: [--dry-run]
set -eu
case $*:$# in
--dry-run:1) dry=1 ;;
:0) dry= ;;
*)
    echo "usage: $0 [--dry-run]" >&2
    exit 64
    ;;
esac
file=$(dirname "$0")/Dockerfile
names=$(sed -n 's/^FROM \([^ @]*:[^ @]*\).*/\1/p' "$file" | sort -u)
changes=
for name in $names; do
    # Of the list for all processors, where there is one.
    set -- skopeo inspect --format '{{.Digest}}' "docker://$name"
    if [ -n "$dry" ]; then
        echo "$1 $2 $3 '$4' $5"
        continue
    fi
    digest=$("$@")
    case ${digest#sha256:} in
    "$digest" | *[!0-9a-f]*) valid= ;;
    *) valid=${#digest} ;;
    esac
    if [ "$valid" != 71 ]; then
        echo "$name: no digest: $digest" >&2
        exit 1
    fi
    echo "$name@$digest"
    changes="$changes s|^FROM $name\(@[^ ]*\)\{0,1\}|FROM $name@$digest|;"
done
[ -z "$dry" ] || exit 0
# Only once all are known, and in the file as it is, with its rights.
text=$(sed "$changes" "$file")
printf '%s\n' "$text" >"$file"
