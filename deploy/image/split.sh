#!/bin/sh
# Copies a program into a folder without its symbols, and those beside it. Arguments: PROGRAM FOLDER
#
# FOLDER/NAME names NAME.debug and its checksum: gdb and perf find the symbols beside it.
set -eu
program=$2/${1##*/}
mkdir -p "$2"
objcopy --only-keep-debug "$1" "$program.debug"
objcopy --strip-all --add-gnu-debuglink="$program.debug" "$1" "$program"
