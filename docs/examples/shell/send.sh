#!/bin/sh
# send.sh USER CHAT ID TEXT: sends a message until it is stored. The id makes that safe: the same id again is
# the same message. MQTT 5 tells in the acknowledgement why a message was refused.
port=${MQTT_PORT:-1883} user=$1 chat=$2 id=$3 text=$4
while :; do
  said=$(mosquitto_pub -V mqttv5 -p "$port" -u "$user" -i "$user-send" -q 1 \
    -t "chat/$chat/send/$id" -m "$text" 2>&1) && break
  echo "not yet: $said" >&2
  sleep 1
done
case $said in
*failed*) echo "refused: $said" >&2 && exit 1 ;;
*) echo "✓ $id" ;;
esac
