// A server that says what a test tells it to, and keeps what it heard.

import { vi } from "vitest";
import type { Ack, Dial, Hears, Login, Publish } from "../src/core/line.js";
import { Session, type SessionOptions } from "../src/core/session.js";

interface Sent extends Publish {
  readonly ack: (ack: Ack) => Promise<void>;
}

export class FakeServer {
  readonly sent: Sent[] = [];
  readonly subscribed: string[] = [];
  readonly logins: Login[] = [];
  hears: Hears | undefined;
  /** Answers by itself, in order, if it is set. */
  answer: ((publish: Publish) => Ack) | undefined;

  readonly dial: Dial = (login, hears) => {
    this.logins.push(login);
    this.hears = hears;
    const open = new Set<(error: Error) => void>();
    return {
      publish: (publish) =>
        new Promise((resolve, reject) => {
          open.add(reject);
          const ack = async (what: Ack) => {
            open.delete(reject);
            resolve(what);
            await settle();
          };
          this.sent.push({ ...publish, ack });
          if (this.answer && publish.qos === 1) resolve(this.answer(publish));
          else if (publish.qos === 0) resolve({});
        }),
      subscribe: async (filter) => {
        this.subscribed.push(filter);
      },
      unsubscribe: () => undefined,
      end: () => {
        for (const reject of open) reject(new Error("lost"));
      },
    };
  };

  async up(present = false): Promise<void> {
    this.hears?.up(present);
    await settle();
  }

  async down(reason?: number): Promise<void> {
    this.hears?.down({ text: "lost", ...(reason !== undefined && { reason }) });
    await settle();
  }

  async say(topic: string, body: unknown): Promise<void> {
    const heard = this.hears?.message(topic, new TextEncoder().encode(JSON.stringify(body)));
    await settle();
    await heard;
  }

  topics(): string[] {
    return this.sent.map(({ topic }) => topic);
  }

  last(topic: string): Sent {
    const found = this.sent.filter((one) => one.topic.startsWith(topic)).at(-1);
    if (!found) throw new Error(`nothing was published to ${topic}, but to ${this.topics().join(", ")}`);
    return found;
  }
}

/** Lets what waits for nothing but its turn have it. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn += 1) await Promise.resolve();
}

export async function sessionOf(server: FakeServer, more: Partial<SessionOptions> = {}): Promise<Session> {
  const login = { url: "ws://x", user: "ann", device: "tab", keep: true };
  const session = new Session({ login, dial: server.dial, me: "ann", ...more });
  await session.start();
  await server.up();
  return session;
}

export const entry = (seq: number, from: string, text: string, more: object = {}) => ({
  seq,
  from,
  time: 1_000_000 + seq,
  id: `${from}-${seq}`,
  text,
  ...more,
});

export const forward = async (ms: number): Promise<void> => {
  await vi.advanceTimersByTimeAsync(ms);
  await settle();
};
