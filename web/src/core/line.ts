// What chat needs of a connection. `mqtt.ts` makes one over MQTT.js; tests make their own.

/** What PUBACK says of a publish. */
export interface Ack {
  readonly seq?: number;
  readonly time?: number;
  readonly id?: string;
  /** Why it was refused. */
  readonly code?: string;
  readonly retryAfter?: number;
}

export interface Publish {
  readonly topic: string;
  readonly payload: string;
  readonly qos: 0 | 1;
  readonly type?: string;
  readonly user?: Record<string, string>;
}

/** Why a connection ended, or never was one. */
export interface Down {
  /** The Reason Code of CONNACK or DISCONNECT, if there was one. */
  readonly reason?: number;
  readonly text: string;
}

export interface Line {
  /** Rejects when the connection is lost before PUBACK: nobody knows then. */
  publish(publish: Publish): Promise<Ack>;
  subscribe(filter: string, qos: 0 | 1): Promise<void>;
  unsubscribe(filter: string): void;
  end(): void;
}

export interface Hears {
  up(sessionPresent: boolean): void;
  /** The message is acknowledged when this resolves. */
  message(topic: string, payload: Uint8Array): Promise<void>;
  /** Once, and nothing after it. */
  down(why: Down): void;
}

export interface Login {
  readonly url: string;
  readonly user: string;
  readonly password?: string;
  /** The Client Identifier. */
  readonly device: string;
  /** Whether the server keeps the session while this device is away. */
  readonly keep: boolean;
}

export type Dial = (login: Login, hears: Hears) => Line;
