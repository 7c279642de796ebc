#!/bin/sh
# The whole batch script: what to run comes as its arguments, so nothing is ever written into a shell's words.
exec "$@"
