// A user's session with the server: comes back by itself, sorts what it hears into chats, asks for
// what is missing, and sends what is waiting until it is acknowledged.

import { Backoff } from "./backoff.js";
import { Chat, type Pending } from "./chat.js";
import { ChatError, isCount, isObject, randomId, readEntries, readJson, type Entry, type Json } from "./entry.js";
import { Gaps } from "./gaps.js";
import type { Dial, Down, Line, Login } from "./line.js";
import { Outbox } from "./outbox.js";
import { NoStore, type SavedChat, type Store } from "./store.js";
import { Watched } from "./watched.js";
import { at, explain } from "./words.js";

export type Connection =
  | { readonly state: "connecting" | "online" | "stopped" }
  | { readonly state: "waiting"; readonly until: number }
  /** It does not come back by itself: the login is refused, or this device was logged out. */
  | { readonly state: "refused"; readonly reason: number; readonly text: string };

export interface Presence {
  readonly state: string;
  readonly lastSeen: number;
  readonly epoch: number;
}

/** What happens once, and is no state. */
export interface Happens {
  online?(sessionPresent: boolean): void;
  fresh?(chat: Chat, mine: boolean): void;
  ended?(chat: Chat): void;
  paired?(chat: Chat, said: Json): void;
  unpaired?(): void;
  signal?(chat: Chat, text: string): void;
  notice?(text: string): void;
}

export interface SessionOptions {
  readonly login: Login;
  readonly dial: Dial;
  readonly me: string;
  /** The other one, where the chat's name does not say who it is. */
  readonly peer?: string;
  readonly store?: Store;
  readonly backoff?: Backoff;
}

/** Bad user name or password, not authorized, banned, taken over, logged out by somebody. */
const FOR_GOOD = new Set([0x86, 0x87, 0x8a, 0x8e, 0x98]);
const ANSWER_MS = 15_000;
const TYPING_AGAIN_MS = 3_000;

export class Session extends Watched {
  readonly chats = new Map<string, Chat>();
  readonly presence = new Map<string, Presence>();
  readonly on: Happens = {};
  readonly me: string;
  readonly outbox: Outbox;
  connection: Connection = { state: "stopped" };
  readonly #options: SessionOptions;
  readonly #store: Store;
  #login: Login;
  readonly #backoff: Backoff;
  #line: Line | undefined;
  #again: ReturnType<typeof setTimeout> | undefined;
  #watching = new Set<string>();
  readonly #gaps = new Gaps(
    (chat, from, to) => this.history(chat, { from, to, limit: 200 }),
    () => this.connection.state === "online",
  );
  #asked = new Map<string, { resolve(answer: Json): void; reject(error: Error): void }>();
  #unsaid = new Set<Chat>();
  #typed = new Map<Chat, number>();
  #away = false;
  /** The chat that is being ended from here. */
  #ends: Chat | undefined;

  constructor(options: SessionOptions) {
    super();
    this.#options = options;
    this.#login = options.login;
    this.#store = options.store ?? new NoStore();
    this.#backoff = options.backoff ?? new Backoff();
    this.me = options.me;
    this.outbox = new Outbox(this.#store, {
      publish: (publish) => this.#publish(publish),
      online: () => this.connection.state === "online",
      done: (chat, pending, ack) => void this.#done(chat, pending, ack),
      failed: (chat, pending) => {
        if (pending.failed?.code === "ended") this.#end(chat, "closed");
        if (pending.verb !== "send" && pending.failed) this.on.notice?.(pending.failed.text);
        chat.changed();
      },
      stuck: () => this.reconnect(),
    });
  }

  /** Reads what was waiting when the page went, and connects. */
  async start(): Promise<void> {
    await this.takePending();
    this.#connect();
  }

  /** What another page left unsent is this one's to send. */
  async takePending(): Promise<void> {
    for (const pending of await this.#store.loadPending()) {
      this.outbox.take(this.chat(pending.chat), pending);
    }
  }

  /** Goes on as another device. */
  become(login: Login): void {
    this.#login = login;
    if (this.connection.state === "stopped") this.#connect();
    else this.reconnect();
  }

  stop(): void {
    this.#drop();
    this.#set({ state: "stopped" });
  }

  /** Tries at once, in place of waiting; a connection there is begins anew. */
  reconnect(): void {
    const { state } = this.connection;
    if (state === "stopped" || state === "refused") return;
    this.#drop();
    this.#connect();
  }

  /** The network is there again: no reason to wait any longer. */
  hurry(): void {
    if (this.connection.state === "waiting") this.reconnect();
  }

  chat(name: string): Chat {
    let chat = this.chats.get(name);
    if (!chat) {
      const peer = name.startsWith("@") ? name.slice(1) : this.#options.peer;
      chat = new Chat(name, this.me, name.startsWith("@") || name.startsWith("~") ? peer : undefined);
      this.add(chat);
    }
    return chat;
  }

  add(chat: Chat): void {
    chat.expired = (seqs) => void this.#store.drop(chat.name, seqs).catch(() => undefined);
    this.chats.set(chat.name, chat);
    this.changed();
  }

  /** Drops a chat: nothing of it is known any more. */
  async forget(chat: Chat): Promise<void> {
    this.chats.delete(chat.name);
    this.#gaps.forget(chat);
    for (const { id } of [...chat.pending]) await this.#store.dropPending(id);
    chat.forget();
    await this.#store.drop(chat.name, "all");
    this.changed();
  }

  send(chat: Chat, text: string, more: { type?: string; ref?: number } = {}): void {
    this.#say(chat, { verb: "send", payload: text, ...more });
    this.stopTyping(chat);
  }

  edit(chat: Chat, seq: number, text: string): void {
    this.#say(chat, { verb: "edit", about: seq, payload: text });
  }

  /** Empty takes it back. */
  react(chat: Chat, seq: number, reaction: string): void {
    this.#say(chat, { verb: "react", about: seq, payload: reaction });
  }

  delete(chat: Chat, seq: number, whose: "everyone" | "me"): void {
    this.#say(chat, { verb: "delete", about: seq, payload: whose });
  }

  #say(chat: Chat, what: Omit<Pending, "id" | "chat" | "time">): void {
    this.outbox.add(chat, { id: randomId(), chat: chat.name, time: Date.now(), ...what });
  }

  /** Ends a room for both, or deletes one's side of a direct chat. */
  async end(chat: Chat): Promise<void> {
    // Both hear that it has ended, and one of them before PUBACK.
    this.#ends = chat;
    try {
      await this.command(`${at(chat)}/end`, "");
    } finally {
      this.#ends = undefined;
    }
    if (chat.name.startsWith("~")) this.#end(chat, "end", true);
    else await this.forget(chat);
  }

  /** All that is there has been seen. */
  markRead(chat: Chat): void {
    const newest = this.newestOfOthers(chat);
    if (newest === 0 || !chat.setRead(newest)) return;
    this.#unsaid.add(chat);
    this.#sayRead();
    this.changed();
  }

  newestOfOthers(chat: Chat): number {
    let newest = 0;
    for (const { seq, from, kind } of chat.entries.values()) {
      if (kind === undefined && seq > newest && !chat.isMine(from)) newest = seq;
    }
    return newest;
  }

  #sayRead(): void {
    if (this.connection.state !== "online") return;
    for (const chat of this.#unsaid) {
      this.#unsaid.delete(chat);
      this.#publish({ topic: `${at(chat)}/read`, payload: String(chat.read), qos: 1 }).catch(() => {
        this.#unsaid.add(chat);
      });
    }
  }

  /** Something was typed; said again every few seconds while it lasts. */
  type(chat: Chat): void {
    const now = Date.now();
    if (now - (this.#typed.get(chat) ?? 0) < TYPING_AGAIN_MS) return;
    this.#typed.set(chat, now);
    this.#signal(chat, "typing");
  }

  stopTyping(chat: Chat): void {
    if (this.#typed.delete(chat)) this.#signal(chat, "stopped");
  }

  #signal(chat: Chat, state: string): void {
    if (this.connection.state !== "online") return;
    this.#publish({ topic: `${at(chat)}/typing`, payload: state, qos: 0 }).catch(() => undefined);
  }

  /** Nobody looks at this device, or somebody does again. */
  setAway(away: boolean): void {
    if (away === this.#away) return;
    this.#away = away;
    if (this.connection.state === "online") this.#sayAway();
  }

  #sayAway(): void {
    this.command("me/state", { away: this.#away }).catch(() => undefined);
  }

  /** How somebody is; without a connection nobody knows. */
  presenceOf(user: string): Presence | undefined {
    return this.connection.state === "online" ? this.presence.get(user) : undefined;
  }

  /** Hears of somebody's presence from now on. */
  watchPresence(user: string): void {
    if (this.#watching.has(user)) return;
    this.#watching.add(user);
    if (this.connection.state === "online") {
      this.#line?.subscribe(`presence/${user}`, 0).catch(() => undefined);
    }
  }

  /** Does something; rejects with what the server has against it. */
  async command(topic: string, body: Json | string, user?: Record<string, string>): Promise<void> {
    const payload = typeof body === "string" ? body : JSON.stringify(body);
    const ack = await this.#publish({ topic, payload, qos: 1, ...(user && { user }) });
    if (ack.code) throw new ChatError(ack.code, explain(ack.code, ack.retryAfter), ack.retryAfter);
  }

  /** Asks something, and resolves with the answer. */
  async ask(topic: string, body: Json): Promise<Json> {
    const request = randomId(8);
    let timer: ReturnType<typeof setTimeout> | undefined;
    try {
      return await new Promise<Json>((resolve, reject) => {
        this.#asked.set(request, { resolve, reject });
        timer = setTimeout(() => reject(new ChatError("unavailable", "no answer came")), ANSWER_MS);
        this.command(topic, { ...body, request }).catch(reject);
      });
    } finally {
      clearTimeout(timer);
      this.#asked.delete(request);
    }
  }

  /** Asks for a part of the log; without `from` for the newest there are up to `to`. */
  async history(chat: Chat, range: { from?: number; to?: number; limit?: number }): Promise<Json> {
    const answer = await this.ask(`${at(chat)}/history`, range);
    const fresh = chat.takeHistory(answer);
    await this.#keep(chat, fresh, true);
    return answer;
  }

  #publish: Line["publish"] = (publish) =>
    this.#line ? this.#line.publish(publish) : Promise.reject(new ChatError("unavailable", "no connection"));

  #set(connection: Connection): void {
    this.connection = connection;
    this.changed();
  }

  #connect(): void {
    this.#set({ state: "connecting" });
    // What a connection says after its end is nothing to the next one.
    const current = (): boolean => this.#line === line;
    const line: Line = this.#options.dial(this.#login, {
      up: (present) => {
        if (current()) void this.#up(line, present);
      },
      message: async (topic, payload) => {
        if (current()) await this.#hear(topic, payload);
      },
      down: (why) => {
        if (current()) this.#down(why);
      },
    });
    this.#line = line;
  }

  async #up(line: Line, present: boolean): Promise<void> {
    try {
      if (!present) await line.subscribe("me/json/#", 1);
      if (this.#line !== line) return;
      this.#backoff.reset();
      this.#set({ state: "online" });
      for (const user of this.#watching) line.subscribe(`presence/${user}`, 0).catch(() => undefined);
      if (this.#away) this.#sayAway();
      this.outbox.flush();
      this.#sayRead();
      for (const chat of this.chats.values()) this.#gaps.mend(chat);
      this.on.online?.(present);
    } catch {
      if (this.#line === line) this.reconnect();
    }
  }

  #down(why: Down): void {
    this.#drop();
    if (why.reason !== undefined && FOR_GOOD.has(why.reason)) {
      this.#set({ state: "refused", reason: why.reason, text: why.text });
      return;
    }
    const wait = this.#backoff.next();
    this.#again = setTimeout(() => this.#connect(), wait);
    this.#set({ state: "waiting", until: Date.now() + wait });
  }

  #drop(): void {
    clearTimeout(this.#again);
    const line = this.#line;
    this.#line = undefined;
    line?.end();
    this.outbox.lost();
    this.#gaps.lost();
  }

  async #hear(topic: string, payload: Uint8Array): Promise<void> {
    const parts = topic.split("/");
    const body = readJson(payload);
    if (parts[0] === "presence" && parts[1] !== undefined) return this.#hearPresence(parts[1], body);
    const [, , name = "-", kind = ""] = parts;
    if (parts[0] !== "me" || parts[1] !== "json") return;
    if (kind === "message" || kind === "batch") {
      return await this.#hearEntries(this.chat(name), kind === "batch" ? body : [body]);
    }
    if (!isObject(body)) return;
    if (typeof body.request === "string" && this.#asked.has(body.request)) {
      return this.#asked.get(body.request)?.resolve(body);
    }
    if (kind === "unpaired") return this.on.unpaired?.();
    if (kind === "paired") return this.#hearPaired(body);
    const chat = this.chats.get(name);
    if (chat) this.#hearOf(chat, kind, body);
    // A request may come before the message it tells of.
    else if (kind === "request") this.chat(name).stranger = body.stranger === true;
  }

  async #hearEntries(chat: Chat, body: unknown): Promise<void> {
    const entries = readEntries(body);
    // What one sent and heard no PUBACK of is known to be stored when the log shows it.
    for (const { id, from } of entries) {
      if (chat.isMine(from) && chat.pending.some((one) => one.id === id)) await this.#store.dropPending(id);
    }
    const fresh = chat.take(entries);
    await this.#keep(chat, fresh);
    this.#gaps.mend(chat);
    if (fresh.some(({ kind }) => kind === undefined)) {
      this.on.fresh?.(chat, fresh.every(({ from }) => chat.isMine(from)));
    }
    this.changed();
  }

  /** Keeps what came, and nothing more of what was deleted by it. */
  async #keep(chat: Chat, fresh: readonly Entry[], always = false): Promise<void> {
    const { entries, elsewhere } = chat.takeWiped();
    if (elsewhere.length > 0) await this.#store.drop(chat.name, elsewhere);
    const all = new Map([...fresh, ...entries].map((entry) => [entry.seq, entry]));
    if (always || all.size > 0) await this.#store.keep(saved(chat), [...all.values()]);
  }

  #hearOf(chat: Chat, kind: string, body: Json): void {
    switch (kind) {
      case "receipt":
        chat.receipt(body);
        void this.#store.keep(saved(chat), []);
        return this.changed();
      case "typing":
        if (typeof body.user === "string") chat.setTyping(body.user, String(body.state));
        return this.changed();
      case "ended":
        return this.#end(chat, typeof body.why === "string" ? body.why : "left", this.#ends === chat);
      case "ending":
        if (isCount(body.at)) chat.ending = { at: body.at, why: String(body.why) };
        return chat.changed();
      case "signal":
        if (typeof body.text === "string") this.on.signal?.(chat, body.text);
        return;
      case "request":
        chat.stranger = body.stranger === true;
        return this.changed();
      case "error":
        // Said in PUBACK as well, which the outbox and commands act on.
        return;
    }
  }

  #hearPaired(body: Json): void {
    if (typeof body.chat !== "string") return;
    const partner = typeof body.partner === "string" ? body.partner : undefined;
    const chat = new Chat(body.chat, this.me, partner);
    this.add(chat);
    this.on.paired?.(chat, body);
  }

  #hearPresence(user: string, body: unknown): void {
    if (!isObject(body)) return;
    const epoch = isCount(body.epoch) ? body.epoch : 0;
    if (epoch < (this.presence.get(user)?.epoch ?? 0)) return;
    const lastSeen = isCount(body.last_seen) ? body.last_seen : 0;
    this.presence.set(user, { state: String(body.state), lastSeen, epoch });
    this.changed();
  }

  #end(chat: Chat, why: string, mine = false): void {
    if (chat.ended) return;
    chat.ended = { why, mine };
    chat.ending = undefined;
    if (chat.name.startsWith("~")) void this.forget(chat);
    chat.changed();
    this.on.ended?.(chat);
    this.changed();
  }

  /** A command was taken: what it says has its place. */
  async #done(chat: Chat, pending: Pending, ack: { seq?: number; time?: number }): Promise<void> {
    const { id, verb, payload, about, type, ref } = pending;
    chat.settle(id);
    if (ack.seq !== undefined) {
      const kind = { send: undefined, edit: "edit", react: "reaction", delete: "delete" }[verb];
      const entry: Entry = {
        seq: ack.seq,
        // Guests do not know their own name; nobody else has this one.
        from: this.me,
        time: ack.time ?? Date.now(),
        id,
        text: payload,
        ...(type !== undefined && { type }),
        ...(kind !== undefined && { kind }),
        ...((about ?? ref) !== undefined && { ref: about ?? ref }),
      };
      const fresh = chat.take([entry]);
      await this.#keep(chat, fresh);
      this.#gaps.mend(chat);
    }
    await this.#store.dropPending(id);
    chat.changed();
    this.changed();
  }
}

export function saved(chat: Chat): SavedChat {
  const { name, known, last, read, title, others, stranger, newest } = chat;
  const { text, time, mine, from } = newest ?? chat.preview ?? { text: "", time: 0, mine: false, from: "" };
  // What has a type of its own is no text for people.
  const preview = { text: newest?.type === undefined ? text.slice(0, 200) : "File", time, mine, from };
  return { name, known: known.toJSON(), last, read, title, others: [...others], stranger, preview };
}
