// A line over MQTT.js, the only file that names it. Each connection is a client of its own: what
// is sent again, and when, is for the outbox to say.

import mqtt, { type IClientPublishOptions } from "mqtt";
import type { Ack, Dial } from "./line.js";

/** How long an orderly end may take. */
const END_MS = 2_000;
const KEEP_S = 30 * 24 * 3600;

type Properties = Record<string, string | string[]> | undefined;

interface PubackPacket {
  cmd: string;
  reasonCode?: number;
  properties?: { userProperties?: Properties; reasonString?: string };
}

export const dial: Dial = (login, hears) => {
  const client = mqtt.connect(login.url, {
    protocolVersion: 5,
    clientId: login.device,
    username: login.user,
    ...(login.password !== undefined && { password: login.password }),
    clean: !login.keep,
    // Timers of a page in the background run once a minute: leave them time.
    keepalive: 90,
    connectTimeout: 10_000,
    reconnectPeriod: 0,
    resubscribe: false,
    queueQoSZero: false,
    // The other variant makes a Worker of a blob, which our Content-Security-Policy forbids.
    timerVariant: "native",
    properties: {
      sessionExpiryInterval: login.keep ? KEEP_S : 0,
      receiveMaximum: 64,
      userProperties: { batch: "1" },
    },
  });
  let over = false;
  let why = { text: "the connection was lost" } as { reason?: number; text: string };
  let acknowledged: PubackPacket | undefined;
  const unanswered = new Set<(error: Error) => void>();
  const down = () => {
    if (over) return;
    over = true;
    client.end(true);
    for (const reject of unanswered) reject(new Error(why.text));
    hears.down(why);
  };
  client.on("connect", ({ sessionPresent }) => {
    if (!over) hears.up(sessionPresent);
  });
  client.on("packetreceive", (packet) => {
    if (packet.cmd !== "puback") return;
    acknowledged = packet as PubackPacket;
    // Nobody waited for it: it is not the answer to what comes next.
    queueMicrotask(() => (acknowledged = undefined));
  });
  client.on("disconnect", ({ reasonCode }) => {
    why = { ...(reasonCode !== undefined && { reason: reasonCode }), text: "the server ended it" };
  });
  client.on("error", (error) => {
    const code = "code" in error && typeof error.code === "number" ? error.code : undefined;
    why = { ...(code !== undefined && { reason: code }), text: error.message };
    down();
  });
  client.on("close", down);
  client.handleMessage = (packet, done) => {
    const payload = packet.payload as Uint8Array;
    // What could not be kept is not acknowledged: it comes again on the next connection.
    hears.message(packet.topic, payload).then(
      () => done(),
      (error: unknown) => {
        why = { text: `what came could not be kept: ${String(error)}` };
        down();
      },
    );
  };
  return {
    publish: ({ topic, payload, qos, type, user }) =>
      new Promise<Ack>((resolve, reject) => {
        if (over || !client.connected) return reject(new Error(why.text));
        if (qos === 1) unanswered.add(reject);
        const options: IClientPublishOptions = {
          qos,
          properties: {
            ...(type !== undefined && { contentType: type }),
            ...(user && { userProperties: user }),
          },
        };
        client.publish(topic, payload, options, (error) => {
          unanswered.delete(reject);
          // MQTT.js calls back inside the handling of the PUBACK, so it is the last one heard.
          const packet = qos === 1 ? acknowledged : undefined;
          acknowledged = undefined;
          if (packet) resolve(readAck(packet));
          else if (error) reject(error);
          else resolve({});
        });
      }),
    subscribe: (filter, qos) =>
      new Promise((resolve, reject) => {
        client.subscribe(filter, { qos }, (error) => (error ? reject(error) : resolve()));
      }),
    unsubscribe: (filter) => {
      if (client.connected) client.unsubscribe(filter);
    },
    end: () => {
      over = true;
      for (const reject of unanswered) reject(new Error("ended"));
      // An orderly DISCONNECT, so that the others hear at once that this device is gone; it waits
      // for what is not acknowledged, which a dead connection never does.
      client.end(false);
      setTimeout(() => client.end(true), END_MS);
    },
  };
};

function readAck({ reasonCode = 0, properties }: PubackPacket): Ack {
  const said = properties?.userProperties ?? {};
  const number = (name: string) => {
    const value = Number(said[name]);
    return said[name] !== undefined && Number.isFinite(value) ? value : undefined;
  };
  const [seq, time, retryAfter] = [number("seq"), number("time"), number("retry_after")];
  const code = reasonCode < 0x80 ? undefined : String(said.code ?? "unavailable");
  return {
    ...(seq !== undefined && { seq }),
    ...(time !== undefined && { time }),
    ...(typeof said.id === "string" && { id: said.id }),
    ...(code !== undefined && { code }),
    ...(retryAfter !== undefined && { retryAfter }),
  };
}
