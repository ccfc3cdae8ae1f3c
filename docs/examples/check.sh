#!/usr/bin/env bash
# The examples against a running broker, as a reader would run them: `check.sh PORT`. Wants mosquitto's
# clients, python3 with paho-mqtt, node with MQTT.js beside the scripts, and a C compiler with libmosquitto;
# PYTHON and MODULES (a node_modules folder) may say where. Ends with `N passed, N failed`.
set -u
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
export MQTT_PORT=$1
passed=0 failed=0
running=()
# Each in a group of its own, which ends with all it has started.
set -m
trap 'for group in "${running[@]}"; do kill -- "-$group" 2>/dev/null; done; rm -rf "$work"' EXIT

check() {
  if "${@:2}" >>"$work/said" 2>&1; then
    passed=$((passed + 1)) && echo "ok   $language: $1"
  else
    failed=$((failed + 1)) && echo "FAIL $language: $1" && cat "$work/said"
  fi
  : >"$work/said"
}

# Waits until a file has a line like this, while it may still come.
comes() {
  for _ in $(seq 300); do
    grep -qE "$2" "$1" && return 0
    sleep 0.1
  done
  cat "$1" && return 1
}

# Sends until the author has heard that it was read: nobody says when who waits for ticks is there.
send_until_read() {
  local nth
  for nth in $(seq 30); do
    run send "$alice" "@$bob" "more$nth" "again" || return 1
    for _ in $(seq 10); do
      grep -qE "$1" "$work/$language.ticks" && return 0
      sleep 0.1
    done
  done
  cat "$work/$language.ticks" && return 1
}

refused() { ! run send "$@"; }

history_has() {
  local answer
  answer=$(run history "${@:2}" 2>&1)
  echo "$answer"
  [[ $answer == *"$1"* ]]
}

run() {
  local what=$1 && shift
  case $language in
  shell) "$here/shell/$what.sh" "$@" ;;
  python) "${PYTHON:-python3}" "$here/python/$what.py" "$@" ;;
  javascript) node "$work/javascript/$what.mjs" "$@" ;;
  c) "$work/c/$what" "$@" ;;
  esac
}

for language in shell python javascript c; do
  alice=alice-$language bob=bob-$language
  case $language in
  javascript) cp -r "$here/javascript" "$work" && ln -s "$MODULES" "$work/javascript/node_modules" ;;
  c)
    mkdir "$work/c"
    for what in send receive ticks history; do
      check "$what compiles" cc -std=gnu11 -Wall -Werror -o "$work/c/$what" "$here/c/$what.c" -lmosquitto
    done
    ;;
  esac
  check 'a message is sent while the other is away' run send "$alice" "@$bob" m1 'hello, it is me'
  check 'the same again is the same message' run send "$alice" "@$bob" m1 'hello, it is me'
  check 'the same id for another message is refused' refused "$alice" "@$bob" m1 'or is it'
  run receive "$bob" >"$work/$language.heard" 2>&1 &
  running+=($!)
  check 'it waits for who comes' comes "$work/$language.heard" "@$alice .*1.*hello, it is me"
  check 'who is answered hears ticks' run send "$bob" "@$alice" m1 'hello you'
  run ticks "$alice" >"$work/$language.ticks" 2>&1 &
  running+=($!)
  check 'its author hears of ticks' send_until_read "@$bob.*$bob.*delivered[^0-9]*([2-9]|[1-9][0-9]).*read[^0-9]*([2-9]|[1-9][0-9])"
  check 'it came once' test "$(grep -c 'it is me' "$work/$language.heard")" = 1
  check 'history has it' history_has 'it is me' "$alice" "@$bob"
done

printf '%s passed, %s failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
