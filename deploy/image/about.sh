#!/bin/sh
# Writes what the program of a package consists of into a folder: sbom.cdx.json (CycloneDX),
# THIRD-PARTY-LICENSES and our LICENSE. Arguments: PACKAGE FOLDER. Needs cargo-about and
# cargo-cyclonedx.
set -eu
here=$(dirname "$0")
package=$1
folder=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
host=$(rustc -vV | sed -n 's/^host: //p')
# For every platform: cargo-about looks at all of them before it takes the one that is asked for.
cargo fetch --quiet --locked

# The packages in the program. Both tools take all of the workspace together, with what its tests and
# its build use.
cargo tree --locked --package "$package" --target "$host" --edges normal,no-proc-macro \
    --prefix none --format '{p}' | sed -n 's/^\([^ ]*\) v\([^ ]*\).*/\1 \2/p' | sort -u >"$work/packages"
cargo metadata --locked --format-version 1 --filter-platform "$host" >"$work/metadata.json"
cargo about generate --workspace --locked --offline --config "$here/about.toml" --format json \
    --output-file "$work/licences.json"
# It writes beside each Cargo.toml of the workspace.
cargo cyclonedx --quiet --format json --spec-version 1.5 --target "$host" \
    --override-filename sbom.cdx
place=$(cargo pkgid --locked "$package" | sed -n 's|^path+file://\([^#]*\)#.*|\1|p')
mv "$place/sbom.cdx.json" "$work/sbom.json"

mkdir -p "$folder"
perl "$here/about.pl" "$package" "$work" "$folder"
cp LICENSE "$folder/LICENSE"
