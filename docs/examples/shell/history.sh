#!/bin/sh
# history.sh USER CHAT: the newest messages of a chat. The answer goes to the Response Topic.
port=${MQTT_PORT:-1883} user=$1 chat=$2
mosquitto_rr -V mqttv5 -p "$port" -u "$user" -i "$user-history" -q 1 \
  -t "chat/$chat/history" -e "me/json/$chat/history" -m '{"limit":20}'
