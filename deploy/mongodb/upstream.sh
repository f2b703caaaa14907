#!/bin/sh
# Fetches the operator's bundle.yaml (CRDs, roles, Deployment) into operator/. Arguments: [--module]
# [VERSION]
#
# VERSION is the pinned one unless it is given. That one must have the pinned checksum; of another,
# what differs from the pinned one is shown, and the line to pin it with. Our patches are in
# operator/kustomization.yaml, which stays as it is. It comes from the tag; with --module, and where
# that cannot be reached, from the Go module of the same tag.
set -eu
folder=$(cd "$(dirname "$0")" && pwd)/operator
project=percona/percona-server-mongodb-operator
read -r pinned pinned_sha256 <"$folder/pinned"

from=tag
if [ "${1-}" = --module ]; then
    from=module
    shift
fi
version=${1:-$pinned}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

of_tag() {
    curl --fail --silent --show-error --location --connect-timeout 10 --max-time 120 --output "$2" \
        "https://raw.githubusercontent.com/$project/v$1/deploy/bundle.yaml"
}

# Go checks what it fetches against its checksum database.
of_module() {
    module=$(cd "$work" && go mod download -json "github.com/$project@v$1")
    directory=$(printf '%s\n' "$module" | sed -n 's/^[[:space:]]*"Dir": "\(.*\)",*$/\1/p')
    cp "$directory/deploy/bundle.yaml" "$2"
    chmod u+w "$2"
}

fetch() {
    if [ "$from" = tag ] && of_tag "$@"; then
        return
    fi
    of_module "$@"
}

sha256() {
    sha256sum "$1" | cut -d ' ' -f 1
}

# The pinned one is fetched always: it is what another is compared with.
fetch "$pinned" "$work/pinned.yaml"
found=$(sha256 "$work/pinned.yaml")
if [ "$found" != "$pinned_sha256" ]; then
    echo "bundle.yaml of $pinned has the checksum $found, and $pinned_sha256 is pinned" >&2
    exit 1
fi
if [ "$version" = "$pinned" ]; then
    cp "$work/pinned.yaml" "$folder/bundle.yaml"
    echo "$folder/bundle.yaml is $pinned, as it is pinned"
    exit
fi
fetch "$version" "$work/bundle.yaml"
diff -u --label "$pinned" --label "$version" "$work/pinned.yaml" "$work/bundle.yaml" || [ $? = 1 ]
cp "$work/bundle.yaml" "$folder/bundle.yaml"
echo "$folder/bundle.yaml is $version, which is not pinned. To pin it, once the difference above was read:" >&2
echo "    echo $version $(sha256 "$work/bundle.yaml") >$folder/pinned" >&2
