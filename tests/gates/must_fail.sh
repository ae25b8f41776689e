#!/bin/sh
# must_fail.sh PATTERN COMMAND...: passes when the command fails and its output has the pattern.
set -u
pattern=$1
shift
if said=$("$@" 2>&1); then
    printf '%s\n' "$said" "it did not fail"
    exit 1
fi
printf '%s\n' "$said"
printf '%s\n' "$said" | grep -q -e "$pattern"
