#!/bin/sh
# Writes what the program consists of into a folder: sbom.cdx.json (CycloneDX), THIRD-PARTY-LICENSES
# and our LICENSE. Argument: FOLDER. Needs cargo-about and cargo-cyclonedx.
set -eu
here=$(dirname "$0")
folder=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
host=$(rustc -vV | sed -n 's/^host: //p')
cargo fetch --quiet --locked --target "$host"

# The packages in the program. Both tools take all of the workspace together, with what its tests and
# its build use.
cargo tree --locked --package workflows-sink --target "$host" --edges normal,no-proc-macro \
    --prefix none --format '{p}' | sed -n 's/^\([^ ]*\) v\([^ ]*\).*/\1 \2/p' | sort -u >"$work/packages"
cargo metadata --locked --format-version 1 --filter-platform "$host" >"$work/metadata.json"
cargo about generate --locked --offline --config "$here/about.toml" --format json \
    --output-file "$work/licences.json"
# It writes beside each Cargo.toml of the workspace.
cargo cyclonedx --quiet --format json --spec-version 1.5 --target "$host" \
    --override-filename sbom.cdx
mv sbom.cdx.json "$work/sbom.json"

mkdir -p "$folder"
perl "$here/about.pl" "$work" "$folder"
cp LICENSE "$folder/LICENSE"
