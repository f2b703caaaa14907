#!/bin/sh
# Rounds of the fault harness in which every other worker is of the release before: an upgrade, or the
# way back, whose pods take turns. That release is built once and kept.
# It does not know what this one learned since, so the faults are those that both have to survive.
set -eu
cd "$(dirname "$0")/../.."
# 0.1.0, as CHANGELOG.md has it.
RELEASE=fbc1c3f
FAULTS=${FAULTS:-WorkerStopped PrimarySteppedDown WorkerAdded LeadershipMoved WorkerKilled WorkerRemoved Poison}
target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target/previous"
work=$(cd "$target/previous" && pwd)
commit=$(git rev-parse --short=12 "$RELEASE")
previous=$work/workflows-sink-$commit
if [ ! -x "$previous" ]; then
    tree=$work/tree
    git worktree remove --force "$tree" 2>/dev/null || true
    git worktree add --quiet --force --detach "$tree" "$commit"
    (cd "$tree" && CARGO_TARGET_DIR=$work/build cargo build --locked --bin workflows-sink)
    cp "$work/build/debug/workflows-sink" "$previous"
    git worktree remove --force "$tree"
    rm -r "$work/build"
fi
PREVIOUS=$previous FAULTS=$FAULTS exec cargo test --locked --workspace --test faults -- --nocapture the_promise
