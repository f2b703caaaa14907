#!/bin/sh
# The shipped rules and the tests that look through a Prometheus, with its third major version.
set -eu
cd "$(dirname "$0")/../.."
programs=$(cargo run --quiet --locked --package local-stack -- later-prometheus)
PATH=$programs:$PATH
"$programs/promtool" --version | head -n 1
cargo test --locked --workspace --test documents -- rules::
cargo test --locked --workspace --test service -- observability:: observed::
cargo test --locked --workspace --test admin -- observed::
