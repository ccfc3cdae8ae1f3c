// MQTT.js against a running broker, as a new user would write it: `mqttjs_check.mjs HOST PORT`.
//
// Each check runs in MQTT 3.1.1 and in 5.0. Prints a line per check and `N passed, N failed` last.

import { randomUUID } from "node:crypto";
import mqtt from "mqtt";

const [host, port] = process.argv.slice(2);
const PATIENCE = 10_000;

/** A client whose messages can be waited for. */
class Client {
  constructor(protocolVersion, options = {}) {
    const properties =
      protocolVersion === 5 && options.clean === false ? { sessionExpiryInterval: 600 } : undefined;
    this.waiting = [];
    this.messages = [];
    this.mqtt = mqtt.connect({
      host, port: Number(port), protocolVersion, properties, clientId: randomUUID(),
      reconnectPeriod: 0, ...options,
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
  const root = randomUUID();
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
  const topic = randomUUID();
  const client = await Client.open(version);
  await client.publish(topic, "kept", { qos: 1, retain: true });
  await client.subscribe(topic, 1);
  const { text, packet } = await client.next();
  equal([text, packet.retain], ["kept", true]);
  await client.publish(topic, "", { qos: 1, retain: true });
  await client.close();
}

async function willOfABrokenConnection(version) {
  const topic = randomUUID();
  const hears = await Client.open(version);
  await hears.subscribe(topic, 1);
  const dies = await Client.open(version, { will: { topic, payload: "gone", qos: 1 } });
  dies.mqtt.stream.destroy();
  equal((await hears.next()).text, "gone");
  await hears.close();
}

async function messagesWaitForAnOfflineSession(version) {
  const topic = randomUUID();
  const options = { clientId: randomUUID(), clean: false };
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
  const [alice, bob] = ["alice", "bob"].map((name) => `${name}-${randomUUID().slice(0, 8)}`);
  const phone = await Client.open(version, { username: bob });
  await phone.subscribe("me/json/#", 1);
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
let passed = 0;
let failed = 0;
for (const [version, label] of [[4, "3.1.1"], [5, "5.0"]]) {
  for (const check of CHECKS) {
    const name = `MQTT.js ${label} ${check.name}`;
    try {
      await check(version);
      passed += 1;
      console.log(`ok      ${name}`);
    } catch (error) {
      failed += 1;
      console.log(`FAILED  ${name}: ${error.message}`);
    }
  }
}
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed > 0 ? 1 : 0);
