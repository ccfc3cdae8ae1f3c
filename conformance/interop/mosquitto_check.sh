#!/usr/bin/env bash
# mosquitto's clients against a running broker: `mosquitto_check.sh NAME PORT [OPTIONS]`, the options
# for both clients, such as `--cafile ca.pem`.
#
# Each check runs in MQTT 3.1.1 and in 5.0. Prints a line per check and `N passed, N failed` last.
set -u
name=$1 port=$2
shift 2
options=(-p "$port" "$@")
passed=0 failed=0

hear() { timeout 10 mosquitto_sub "${options[@]}" -V "$version" "$@"; }
say() { timeout 10 mosquitto_pub "${options[@]}" -V "$version" "$@"; }

# Nobody tells when the subscriber is there: it is said until the one with this number has heard it.
say_until_heard() {
  local heard=$1
  shift
  while kill -0 "$heard" 2>/dev/null; do say "$@" || return 1; done
}

every_qos() {
  local qos found
  for qos in 0 1 2; do
    exec 3< <(hear -t "$topic/+" -q "$qos" -C 1 -F '%q %t %p')
    say_until_heard $! -t "$topic/$qos" -q "$qos" -m hello
    read -r found <&3 && [ "$found" = "$qos $topic/$qos hello" ] || return 1
  done
}

retained() {
  say -t "$topic" -q 1 -r -m kept && [ "$(hear -t "$topic" -q 1 -C 1 -F '%r %p')" = '1 kept' ] &&
    say -t "$topic" -q 1 -r -n
}

shared() {
  exec 3< <(hear -t "\$share/group/$topic" -q 1 -C 1)
  say_until_heard $! -t "$topic" -q 1 -m one
  [ "$(cat <&3)" = one ]
}

messages_wait_for_an_offline_session() {
  local session=(-i "$topic" -c -q 1 -t "$topic")
  [ "$version" = mqttv5 ] && session+=(-x 600)
  hear "${session[@]}" -E
  seq 100 | say -t "$topic" -q 1 -l && [ "$(hear "${session[@]}" -C 100)" = "$(seq 100)" ] &&
    hear -i "$topic" -t "$topic" -E
}

will_of_a_killed_client() {
  local found hearer
  exec 3< <(hear -t "$topic/will" -q 1 -C 1)
  hearer=$!
  while kill -0 "$hearer" 2>/dev/null; do
    mosquitto_sub "${options[@]}" -V "$version" -t "$topic/none" -t "$topic/sign" -C 2 \
      --will-topic "$topic/will" --will-payload gone --will-qos 1 >/dev/null &
    found=$!
    say -t "$topic/sign" -m here && kill -9 "$found"
    wait "$found" 2>/dev/null
  done
  [ "$(cat <&3)" = gone ]
}

for version in mqttv311 mqttv5; do
  for check in every_qos retained shared messages_wait_for_an_offline_session \
    will_of_a_killed_client; do
    topic="mosquitto-$RANDOM-$$"
    if "$check" 2>/dev/null; then
      passed=$((passed + 1))
      echo "ok      $name $version $check"
    else
      failed=$((failed + 1))
      echo "FAILED  $name $version $check"
    fi
  done
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
