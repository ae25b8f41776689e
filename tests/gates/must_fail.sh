#!/bin/sh
# must_fail.sh PATTERN COMMAND...: passes when the command fails and its output has the pattern. A command
# that cannot be run has not failed.
set -u
pattern=$1
shift
said=$("$@" 2>&1)
status=$?
printf '%s\n' "$said"
case $status in
0)
    echo "it did not fail"
    exit 1
    ;;
126 | 127)
    exit 1
    ;;
esac
printf '%s\n' "$said" | grep -q -e "$pattern"
