#!/bin/sh
# Breaks the service in the ways of tests/mutants/*.patch and lets the fault harness find each break.
# Each patch names in its second line the rounds that find it; the service as it is must pass the same rounds.
#
#   tests/mutants/run.sh [NAME...]      all of them, or these
set -eu
cd "$(dirname "$0")/../.."
mkdir -p "${CARGO_TARGET_DIR:-target}/mutants/logs"
work=$(cd "${CARGO_TARGET_DIR:-target}/mutants" && pwd)
tree=$work/tree
MUTANT_SECONDS_MAX=900
RULES='Evidence|Acknowledged|Documents|DeadLetters|Checkpoints|Order|Transaction|Owner|Outside|Committed|Memory|Exit|Recovery|Progress|Alive|Ready|Counted'

# shellcheck disable=SC2012,SC2046 # a name is one word
[ $# -gt 0 ] || set -- $(cd tests/mutants && ls -- *.patch | sed 's/\.patch$//')

# One tree and one target folder for all: only the crate itself is built again for each. What git does not know is
# left out.
commit=$(git stash create)
commit=${commit:-$(git rev-parse HEAD)}
[ -e "$tree/.git" ] || git worktree add --quiet --force --detach "$tree"
restore() {
    git -C "$tree" checkout --quiet --force --detach "$commit"
}
build() {
    (cd "$tree" && CARGO_TARGET_DIR=$work/build cargo build --quiet --locked --workspace --bin workflows-sink) &&
        mkdir -p "$work/bin" && cp "$work/build/debug/workflows-sink" "$work/bin/$1"
}

# Runs the harness's rounds $2 with the binary $1; 0 if the promise held. Where $2 is a test instead (TEST="target
# name"), runs it on the source as it stands in the tree.
rounds() {
    case $2 in
    TEST=*)
        eval "$2"
        (cd "$tree" && CARGO_TARGET_DIR=$work/build timeout $MUTANT_SECONDS_MAX \
            cargo test --locked --test "${TEST% *}" -- --exact "${TEST#* }") >"$work/logs/$3.log" 2>&1
        return
        ;;
    esac
    eval "env ROUNDS=1 $2 WORKFLOWS_SINK='$work/bin/$1' timeout $MUTANT_SECONDS_MAX \
        cargo test --quiet --locked --workspace --test faults -- --nocapture the_promise" >"$work/logs/$3.log" 2>&1
}

# The rules that a log names, each once; where the rounds $2 are a test, that it failed. A round can also fail
# since a server did not start: that finds nothing.
rules() {
    case $2 in
    TEST=*)
        if grep -q '^test result: FAILED' "$work/logs/$1.log"; then
            echo "its test fails"
        fi
        return
        ;;
    esac
    grep -oE "^ *($RULES)( |:)" "$work/logs/$1.log" | tr -d ' :' | sort -u | paste -sd ' ' -
}

restore
build unbroken
faults=0
row() { printf '%-34s %-72s %7s  %s\n' "$@"; }
row mutant rounds seconds found
passed=
for name in "$@"; do
    found_by=$(sed -n '2s/^Found by: //p' "tests/mutants/$name.patch")
    restore
    git -C "$tree" apply "$PWD/tests/mutants/$name.patch"
    began=$(date +%s)
    if ! build "$name"; then
        faults=$((faults + 1))
        row "$name" "$found_by" $(($(date +%s) - began)) "DOES NOT BUILD: mend tests/mutants/$name.patch"
        continue
    fi
    began=$(date +%s)
    if rounds "$name" "$found_by" "$name"; then
        found="SURVIVED: nothing was found"
    else
        found=$(rules "$name" "$found_by")
        [ -n "$found" ] || found="ENDED without a verdict: see $work/logs/$name.log"
    fi
    case $found in *:*) faults=$((faults + 1)) ;; esac
    row "$name" "$found_by" $(($(date +%s) - began)) "$found"
    case "$passed" in
    *"|$found_by|"*) continue ;;
    esac
    passed="$passed|$found_by|"
    restore
    began=$(date +%s)
    if rounds unbroken "$found_by" "unbroken-$name"; then
        row "(unbroken)" "$found_by" $(($(date +%s) - began)) "nothing, as it must"
    else
        faults=$((faults + 1))
        row "(unbroken)" "$found_by" $(($(date +%s) - began)) "FALSE ALARM: $(rules "unbroken-$name" "$found_by")"
    fi
done
restore
exit $((faults > 0))
