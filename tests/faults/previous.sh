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
if ! commit=$(git rev-parse --quiet --verify --short=12 "$RELEASE^{commit}"); then
    echo "$RELEASE is not in this clone: where it is shallow, git fetch --unshallow" >&2
    exit 1
fi
previous=$work/workflows-sink-$commit
if [ ! -x "$previous" ]; then
    tree=$work/tree
    git worktree remove --force "$tree" 2>/dev/null || true
    # Also where the build fails or is broken off.
    trap 'git worktree remove --force "$tree" 2>/dev/null || true' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    git worktree add --quiet --force --detach "$tree" "$commit"
    (cd "$tree" && CARGO_TARGET_DIR=$work/build cargo build --locked --bin workflows-sink)
    cp "$work/build/debug/workflows-sink" "$previous"
    git worktree remove --force "$tree"
    trap - EXIT INT TERM
    rm -r "$work/build"
fi
PREVIOUS=$previous FAULTS=$FAULTS exec cargo test --locked --workspace --test faults -- --nocapture the_promise
