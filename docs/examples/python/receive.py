"""receive.py USER: hears what is sent to a user, also what came while this device was away, and reads it."""

import json
import os
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

user = sys.argv[1]
# A session that stays: the broker remembers how far this device is.
client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"{user}-phone", clean_session=False)
client.username_pw_set(user)


def on_connect(client, userdata, flags, reason, properties):
    client.subscribe("me/json/+/message", qos=1)


def on_message(client, userdata, message):
    chat = message.topic.split("/")[2]
    entry = json.loads(message.payload)
    # Number, sender and text; what is not UTF-8 is "data", in base64.
    print(chat, entry["seq"], entry["from"], entry.get("text", entry.get("data")), flush=True)
    # Behind this function paho acknowledges the message: the second tick. This makes it blue.
    client.publish(f"chat/{chat}/read", entry["seq"], qos=1)


client.on_connect, client.on_message = on_connect, on_message
client.connect("127.0.0.1", int(os.environ.get("MQTT_PORT", 1883)))
client.loop_forever(retry_first_connection=True)
