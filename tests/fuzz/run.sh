#!/bin/sh
# Fuzzes one target for so many seconds, without changing what is checked in: run.sh TARGET SECONDS [FOUND]
set -eu
cd "$(dirname "$0")/../.."
found=${3:-${CARGO_TARGET_DIR:-target}/fuzz/$1}
mkdir -p "$found/corpus" "$found/artifacts"
# No sanitizer: the crate has no unsafe code that these reach, and stable Rust has none.
exec cargo fuzz run --fuzz-dir tests/fuzz --sanitizer none "$1" "$found/corpus" "tests/fuzz/corpus/$1" -- \
    -max_total_time="$2" -dict="tests/fuzz/dictionaries/$1.dict" -artifact_prefix="$found/artifacts/" \
    -max_len=16384 -timeout=20 -rss_limit_mb=4096 -print_final_stats=1
