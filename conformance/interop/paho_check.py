"""paho-mqtt against a running broker: `paho_check.py mqtt://HOST:PORT [CA-FILE]`.

The URL may also begin with mqtts, ws or wss. Each check is a function, written as a new user would;
every one runs in MQTT 3.1.1 and in 5.0. Prints a line per check and `N passed, N failed` last.
"""

import json
import queue
import sys
import time
import urllib.parse
import uuid

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

BROKER = urllib.parse.urlsplit(sys.argv[1])
HOST, PORT = BROKER.hostname, BROKER.port
CA_FILE = sys.argv[2] if len(sys.argv) > 2 else None
TRANSPORT = "websockets" if BROKER.scheme in ("ws", "wss") else "tcp"
PATIENCE = 10.0


class Client:
    """A client whose messages can be waited for."""

    def __init__(self, version, name=None, user=None, clean=True, will=None):
        v5 = version == mqtt.MQTTv5
        options = {} if v5 else {"clean_session": clean}
        self.name = name or uuid.uuid4().hex
        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2,
            client_id=self.name, protocol=version, transport=TRANSPORT, **options,
        )
        if BROKER.scheme in ("mqtts", "wss"):
            self.client.tls_set(CA_FILE)
        if user:
            self.client.username_pw_set(user)
        if will:
            self.client.will_set(*will)
        self.messages, self.events = queue.Queue(), queue.Queue()
        self.client.on_message = lambda _c, _u, message: self.messages.put(message)
        self.client.on_connect = lambda *event: self.events.put(("connect", event))
        self.client.on_subscribe = lambda *event: self.events.put(("subscribe", event))
        if v5:
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = 0 if clean else 600
            self.client.connect(HOST, PORT, clean_start=clean, properties=properties)
        else:
            self.client.connect(HOST, PORT)
        self.client.loop_start()
        flags, reason = self.wait("connect")[2:4]
        assert not reason.is_failure, reason
        self.session_present = flags.session_present

    def wait(self, kind):
        """Waits for an event of this kind; others are left out."""
        while True:
            found, event = self.events.get(timeout=PATIENCE)
            if found == kind:
                return event

    def subscribe(self, topic, qos):
        self.client.subscribe(topic, qos)
        self.wait("subscribe")

    def publish(self, topic, payload, qos=1, retain=False):
        self.client.publish(topic, payload, qos, retain).wait_for_publish(PATIENCE)

    def next(self):
        return self.messages.get(timeout=PATIENCE)

    def next_json(self, topic):
        """The next message on this topic, read as JSON."""
        while True:
            message = self.next()
            if message.topic == topic:
                return json.loads(message.payload)

    def break_off(self):
        """Ends the connection without DISCONNECT."""
        self.client.loop_stop()
        self.client.socket().close()

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


def every_qos(version):
    root = uuid.uuid4().hex
    client = Client(version)
    client.subscribe(f"{root}/#", 2)
    for qos in (0, 1, 2):
        client.publish(f"{root}/{qos}", str(qos), qos)
        message = client.next()
        assert (message.topic, message.payload, message.qos) == (
            f"{root}/{qos}", str(qos).encode(), qos)
    client.close()


def retained(version):
    topic = uuid.uuid4().hex
    client = Client(version)
    client.publish(topic, "kept", retain=True)
    client.subscribe(topic, 1)
    message = client.next()
    assert message.payload == b"kept" and message.retain
    client.publish(topic, "", retain=True)
    client.close()


def will_of_a_broken_connection(version):
    topic = uuid.uuid4().hex
    hears = Client(version)
    hears.subscribe(topic, 1)
    Client(version, will=(topic, "gone", 1, False)).break_off()
    assert hears.next().payload == b"gone"
    hears.close()


def messages_wait_for_an_offline_session(version):
    topic, name = uuid.uuid4().hex, uuid.uuid4().hex
    first = Client(version, name, clean=False)
    assert not first.session_present
    first.subscribe(topic, 1)
    first.close()
    sender = Client(version)
    for number in range(200):
        sender.publish(topic, str(number))
    sender.close()
    again = Client(version, name, clean=False)
    assert again.session_present
    assert [int(again.next().payload) for _ in range(200)] == list(range(200))
    again.close()
    Client(version, name, clean=True).close()


def chat_with_ticks(version):
    alice, bob = f"alice-{uuid.uuid4().hex[:8]}", f"bob-{uuid.uuid4().hex[:8]}"
    phone = Client(version, user=bob)
    phone.subscribe("me/json/#", 1)
    # Strangers hear no ticks.
    phone.publish("me/state", json.dumps({"accept": [alice]}))
    laptop = Client(version, user=alice)
    laptop.subscribe("me/json/#", 1)
    laptop.publish(f"chat/@{bob}/send/m1", "hello")
    entry = phone.next_json(f"me/json/@{alice}/message")
    assert (entry["seq"], entry["from"], entry["id"], entry["text"]) == (1, alice, "m1", "hello")
    receipt = laptop.next_json(f"me/json/@{bob}/receipt")
    assert (receipt["user"], receipt["delivered"]) == (bob, 1), receipt
    phone.publish(f"chat/@{alice}/read", "1")
    deadline = time.monotonic() + PATIENCE
    while laptop.next_json(f"me/json/@{bob}/receipt")["read"] != 1:
        assert time.monotonic() < deadline
    phone.close()
    laptop.close()


CHECKS = [
    every_qos, retained, will_of_a_broken_connection, messages_wait_for_an_offline_session,
    chat_with_ticks,
]


def main():
    passed = failed = 0
    for version, label in ((mqtt.MQTTv311, "3.1.1"), (mqtt.MQTTv5, "5.0")):
        for check in CHECKS:
            name = f"paho-mqtt over {BROKER.scheme} {label} {check.__name__}"
            try:
                check(version)
                passed += 1
                print(f"ok      {name}", flush=True)
            except Exception as error:  # pylint: disable=broad-except
                failed += 1
                print(f"FAILED  {name}: {error!r}", flush=True)
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed > 0)


main()
