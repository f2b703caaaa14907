#!/bin/sh
# The real KEDA looks at a real broker: how many workers it asks for.
set -eu
cd "$(dirname "$0")/../.."
exec cargo test --locked --workspace --features cluster --test cluster -- --nocapture keda_asks
