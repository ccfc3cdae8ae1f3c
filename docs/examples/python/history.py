"""history.py USER CHAT: the newest messages of a chat, and what of them is gone."""

import json
import os
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

user, chat = sys.argv[1:]
client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"{user}-history")
client.username_pw_set(user)


def on_connect(client, userdata, flags, reason, properties):
    client.subscribe([(f"me/json/{chat}/history", 1), (f"me/json/{chat}/error", 1)])


def on_subscribe(client, userdata, mid, reasons, properties):
    client.publish(f"chat/{chat}/history", '{"limit":20}', qos=1)


def on_message(client, userdata, message):
    answer = json.loads(message.payload)
    for entry in answer.get("entries", []):
        print(entry["seq"], entry["from"], entry.get("text", entry.get("data")))
    print("gone:", answer["gone"]) if "gone" in answer else print(answer, file=sys.stderr)
    client.disconnect()


client.on_connect, client.on_subscribe, client.on_message = on_connect, on_subscribe, on_message
client.connect("127.0.0.1", int(os.environ.get("MQTT_PORT", 1883)))
client.loop_forever()
