"""ticks.py USER: how far others have got, and read, what the user sent."""

import json
import os
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

user = sys.argv[1]
client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"{user}-ticks")
client.username_pw_set(user)


def on_connect(client, userdata, flags, reason, properties):
    client.subscribe("me/json/+/receipt")


def on_message(client, userdata, message):
    ticks = json.loads(message.payload)
    if "user" in ticks:
        print(message.topic.split("/")[2], ticks["user"], end=" ")
        print("delivered", ticks.get("delivered"), "read", ticks.get("read"), flush=True)


client.on_connect, client.on_message = on_connect, on_message
client.connect("127.0.0.1", int(os.environ.get("MQTT_PORT", 1883)))
client.loop_forever(retry_first_connection=True)
