"""send.py USER CHAT ID TEXT: sends a message until it is stored. The id makes that safe to repeat."""

import os
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

user, chat, message_id, text = sys.argv[1:]
client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"{user}-send", protocol=mqtt.MQTTv5)
client.username_pw_set(user)


def on_connect(client, userdata, flags, reason, properties):
    # After a lost connection too: what was stored already is acknowledged with the place it has.
    client.publish(f"chat/{chat}/send/{message_id}", text, qos=1)


def on_publish(client, userdata, mid, reason, properties):
    if reason.is_failure:
        print("refused:", reason, dict(getattr(properties, "UserProperty", [])), file=sys.stderr)
    else:
        print("✓", message_id, "is number", dict(properties.UserProperty)["seq"])
    client.user_data_set(reason.is_failure)
    client.disconnect()


client.on_connect, client.on_publish = on_connect, on_publish
client.connect("127.0.0.1", int(os.environ.get("MQTT_PORT", 1883)))
client.loop_forever(retry_first_connection=True)
sys.exit(client.user_data_get())
