#!/bin/sh
# ticks.sh USER: how far others have got, and read, what the user sent.
port=${MQTT_PORT:-1883} user=$1
mosquitto_sub -p "$port" -u "$user" -i "$user-ticks" -t 'me/json/+/receipt' -F '%t %p' |
  while read -r topic ticks; do
    chat=${topic#me/json/}
    echo "${chat%/receipt} $ticks"
  done
