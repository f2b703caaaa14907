#!/bin/sh
# The real MongoDB operator takes the cluster of deploy/mongodb: what it makes of it.
set -eu
cd "$(dirname "$0")/../.."
exec cargo test --locked --workspace --features cluster --test cluster -- --nocapture the_real_operator
