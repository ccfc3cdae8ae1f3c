// What waits to be acknowledged: sent in order, one at a time in each chat, and again with the same
// id wherever nothing came back. The server stores each id once, so saying it twice does no harm.

import type { Chat, Pending } from "./chat.js";
import type { Ack, Publish } from "./line.js";
import type { Store } from "./store.js";
import { at, explain } from "./words.js";

/** For how long a connection may leave a message unanswered before it counts as dead. */
const STUCK_MS = 20_000;
/** How many messages may wait, over all chats. */
export const OUTBOX_MAX = 1_000;

export interface Post {
  publish(publish: Publish): Promise<Ack>;
  online(): boolean;
  done(chat: Chat, pending: Pending, ack: Ack): void;
  failed(chat: Chat, pending: Pending): void;
  /** Nothing comes back on this connection. */
  stuck(): void;
}

export class Outbox {
  #chats = new Set<Chat>();
  /** Which chats have one on its way; of an older connection it does not count. */
  #sending = new Map<Chat, symbol>();
  #later = new Map<Chat, ReturnType<typeof setTimeout>>();

  constructor(
    private readonly store: Store,
    private readonly post: Post,
  ) {}

  /** How many wait. */
  get size(): number {
    return [...this.#chats].reduce((sum, { pending }) => sum + pending.length, 0);
  }

  /** What was stored before this page was there. */
  take(chat: Chat, pending: Pending): void {
    if (chat.pending.some(({ id }) => id === pending.id)) return;
    this.#chats.add(chat);
    chat.pending.push(pending);
    chat.changed();
    this.#next(chat);
  }

  add(chat: Chat, pending: Pending): void {
    if (this.size >= OUTBOX_MAX) {
      pending.failed = { code: "limit", text: "Too much waits to be sent already." };
    }
    this.#chats.add(chat);
    chat.pending.push(pending);
    chat.changed();
    if (pending.failed) return this.post.failed(chat, pending);
    // Kept before it is sent: a page that goes away between the two loses nothing.
    void this.store.savePending(pending).finally(() => this.#next(chat));
  }

  /** Tries again what failed, as a new message. */
  async again(chat: Chat, key: string, fresh: string): Promise<void> {
    const failed = await this.discard(chat, key);
    if (!failed) return;
    const { failed: _, ...rest } = failed;
    this.add(chat, { ...rest, id: fresh, time: Date.now() });
  }

  async discard(chat: Chat, key: string): Promise<Pending | undefined> {
    const one = chat.pending.find(({ id }) => key === `me/${id}`);
    if (!one) return undefined;
    chat.settle(one.id);
    chat.changed();
    await this.store.dropPending(one.id);
    this.#next(chat);
    return one;
  }

  /** There is a connection: whatever waits goes. */
  flush(): void {
    for (const chat of this.#chats) this.#next(chat);
  }

  /** The connection is gone, and with it what was on its way. */
  lost(): void {
    this.#sending.clear();
    for (const timer of this.#later.values()) clearTimeout(timer);
    this.#later.clear();
  }

  #next(chat: Chat): void {
    if (!this.post.online() || this.#sending.has(chat) || this.#later.has(chat)) return;
    const pending = chat.pending.find(({ failed }) => !failed);
    if (!pending) {
      if (chat.pending.length === 0) this.#chats.delete(chat);
      return;
    }
    const way = Symbol(pending.id);
    this.#sending.set(chat, way);
    const mine = (): boolean => this.#sending.get(chat) === way;
    const stuck = setTimeout(() => {
      if (mine()) this.post.stuck();
    }, STUCK_MS);
    this.post
      .publish(publishOf(chat, pending))
      .then((ack) => {
        if (!mine()) return;
        this.#sending.delete(chat);
        this.#answered(chat, pending, ack);
        this.#next(chat);
      })
      // Nobody knows whether it came: the next connection says it again.
      .catch(() => {
        if (mine()) this.#sending.delete(chat);
      })
      .finally(() => clearTimeout(stuck));
  }

  #answered(chat: Chat, pending: Pending, ack: Ack): void {
    if (!ack.code) return this.post.done(chat, pending, ack);
    if (ack.retryAfter !== undefined) {
      const timer = setTimeout(() => {
        this.#later.delete(chat);
        this.#next(chat);
      }, ack.retryAfter);
      return void this.#later.set(chat, timer);
    }
    pending.failed = { code: ack.code, text: explain(ack.code) };
    if (pending.verb === "send") void this.store.savePending(pending);
    else {
      chat.settle(pending.id);
      void this.store.dropPending(pending.id);
    }
    this.post.failed(chat, pending);
  }
}

function publishOf(chat: Chat, { id, verb, about, payload, type, ref }: Pending): Publish {
  const place = `${at(chat)}/${verb}`;
  const topic =
    verb === "send" ? `${place}/${id}` : verb === "delete" ? `${place}/${about}` : `${place}/${about}/${id}`;
  return {
    topic,
    payload,
    qos: 1,
    ...(type !== undefined && { type }),
    ...(ref !== undefined && verb === "send" && { user: { ref: String(ref) } }),
  };
}
