// What a user of MQTT.js does first, in Node and in a browser alike: nothing here knows which.

import mqtt from "mqtt";

const PATIENCE = 10_000;

/** Where the broker is; `run` says it. */
const broker = { url: "", options: {} };

/** A client whose messages can be waited for. */
class Client {
  constructor(protocolVersion, options = {}) {
    const properties =
      protocolVersion === 5 && options.clean === false ? { sessionExpiryInterval: 600 } : undefined;
    this.waiting = [];
    this.messages = [];
    this.mqtt = mqtt.connect(broker.url, {
      ...broker.options, protocolVersion, properties, clientId: crypto.randomUUID(), reconnectPeriod: 0,
      ...options,
    });
    this.mqtt.on("message", (topic, payload, packet) => {
      const message = { topic, text: payload.toString(), packet };
      const waits = this.waiting.shift();
      waits ? waits(message) : this.messages.push(message);
    });
  }

  static async open(version, options) {
    const client = new Client(version, options);
    await soon(new Promise((resolve, reject) => {
      client.mqtt.once("error", reject);
      client.mqtt.once("connect", (connack) => {
        client.sessionPresent = connack.sessionPresent;
        resolve();
      });
    }), "CONNACK");
    return client;
  }

  next() {
    if (this.messages.length > 0) return Promise.resolve(this.messages.shift());
    return soon(new Promise((resolve) => this.waiting.push(resolve)), "a message");
  }

  async nextJson(topic) {
    for (;;) {
      const message = await this.next();
      if (message.topic === topic) return JSON.parse(message.text);
    }
  }

  subscribe(topic, qos) { return soon(this.mqtt.subscribeAsync(topic, { qos }), "SUBACK"); }
  publish(topic, payload, options = { qos: 1 }) {
    return soon(this.mqtt.publishAsync(topic, payload, options), "the acknowledgement");
  }
  close() { return this.mqtt.endAsync(); }
}

function soon(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no ${what} in ${PATIENCE} ms`)), PATIENCE);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

function equal(found, expected) {
  const [left, right] = [JSON.stringify(found), JSON.stringify(expected)];
  if (left !== right) throw new Error(`expected ${right}, found ${left}`);
}

async function everyQos(version) {
  const root = crypto.randomUUID();
  const client = await Client.open(version);
  await client.subscribe(`${root}/#`, 2);
  for (const qos of [0, 1, 2]) {
    await client.publish(`${root}/${qos}`, `${qos}`, { qos });
    const { topic, text, packet } = await client.next();
    equal([topic, text, packet.qos], [`${root}/${qos}`, `${qos}`, qos]);
  }
  await client.close();
}

async function retained(version) {
  const topic = crypto.randomUUID();
  const client = await Client.open(version);
  await client.publish(topic, "kept", { qos: 1, retain: true });
  await client.subscribe(topic, 1);
  const { text, packet } = await client.next();
  equal([text, packet.retain], ["kept", true]);
  await client.publish(topic, "", { qos: 1, retain: true });
  await client.close();
}

async function willOfABrokenConnection(version) {
  const topic = crypto.randomUUID();
  const hears = await Client.open(version);
  await hears.subscribe(topic, 1);
  const dies = await Client.open(version, { will: { topic, payload: "gone", qos: 1 } });
  dies.mqtt.stream.destroy();
  equal((await hears.next()).text, "gone");
  await hears.close();
}

async function messagesWaitForAnOfflineSession(version) {
  const topic = crypto.randomUUID();
  const options = { clientId: crypto.randomUUID(), clean: false };
  const first = await Client.open(version, options);
  equal(first.sessionPresent, false);
  await first.subscribe(topic, 1);
  await first.close();
  const sender = await Client.open(version);
  for (let number = 0; number < 200; number += 1) await sender.publish(topic, `${number}`);
  await sender.close();
  const again = await Client.open(version, options);
  equal(again.sessionPresent, true);
  for (let number = 0; number < 200; number += 1) equal((await again.next()).text, `${number}`);
  await again.close();
  await (await Client.open(version, { ...options, clean: true })).close();
}

async function chatWithTicks(version) {
  const [alice, bob] = ["alice", "bob"].map((name) => `${name}-${crypto.randomUUID().slice(0, 8)}`);
  const phone = await Client.open(version, { username: bob });
  await phone.subscribe("me/json/#", 1);
  // Strangers hear no ticks.
  await phone.publish("me/state", JSON.stringify({ accept: [alice] }));
  const laptop = await Client.open(version, { username: alice });
  await laptop.subscribe("me/json/#", 1);
  await laptop.publish(`chat/@${bob}/send/m1`, "hello");
  const { seq, from, id, text } = await phone.nextJson(`me/json/@${alice}/message`);
  equal([seq, from, id, text], [1, alice, "m1", "hello"]);
  const receipt = await laptop.nextJson(`me/json/@${bob}/receipt`);
  equal([receipt.user, receipt.delivered], [bob, 1]);
  await phone.publish(`chat/@${alice}/read`, "1");
  while ((await laptop.nextJson(`me/json/@${bob}/receipt`)).read !== 1);
  await phone.close();
  await laptop.close();
}

const CHECKS =
  [everyQos, retained, willOfABrokenConnection, messagesWaitForAnOfflineSession, chatWithTicks];
/** Runs every check in both versions against `url`; `print` gets a line each. */
export async function run(url, label, print, options = {}) {
  Object.assign(broker, { url, options });
  const count = { passed: 0, failed: 0 };
  for (const [version, spoken] of [[4, "3.1.1"], [5, "5.0"]]) {
    for (const check of CHECKS) {
      const name = `${label} ${spoken} ${check.name}`;
      try {
        await check(version);
        count.passed += 1;
        print(`ok      ${name}`);
      } catch (error) {
        count.failed += 1;
        print(`FAILED  ${name}: ${error.message}`);
      }
    }
  }
  return count;
}
