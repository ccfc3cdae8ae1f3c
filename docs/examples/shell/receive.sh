#!/bin/sh
# receive.sh USER: hears what is sent to a user, also what came while this device was away, and says that it
# was read. mosquitto_sub acknowledges each message: that is the second tick.
port=${MQTT_PORT:-1883} user=$1
mosquitto_sub -p "$port" -u "$user" -i "$user-phone" -c -q 1 -t 'me/json/+/message' -F '%t %p' |
  while read -r topic message; do
    chat=${topic#me/json/} chat=${chat%/message}
    echo "$chat $message"
    seq=$(echo "$message" | sed 's/^{"seq":\([0-9]*\).*/\1/')
    mosquitto_pub -p "$port" -u "$user" -i "$user-read" -q 1 -t "chat/$chat/read" -m "$seq"
  done
