// What is missing between the entries of a chat: asked for once what may be on its way has had time
// to come, one hole after the other.

import type { Chat } from "./chat.js";
import { ChatError } from "./entry.js";

const GAP_MS = 300;
/** Asked again, the answer would be the same. */
const NEVER = new Set(["forbidden", "unknown_chat", "ended"]);

export class Gaps {
  #timers = new Map<Chat, ReturnType<typeof setTimeout>>();

  constructor(
    private readonly ask: (chat: Chat, from: number, to: number) => Promise<unknown>,
    private readonly online: () => boolean,
  ) {}

  mend(chat: Chat, wait = GAP_MS): void {
    if (this.#timers.has(chat) || chat.ended || chat.missing().length === 0) return;
    const timer = setTimeout(() => void this.#fill(chat), wait);
    this.#timers.set(chat, timer);
  }

  forget(chat: Chat): void {
    clearTimeout(this.#timers.get(chat));
    this.#timers.delete(chat);
  }

  /** Without a connection nothing is asked. */
  lost(): void {
    for (const timer of this.#timers.values()) clearTimeout(timer);
    this.#timers.clear();
  }

  async #fill(chat: Chat): Promise<void> {
    const hole = chat.missing()[0];
    let wait: number | undefined = GAP_MS;
    try {
      if (hole && this.online()) await this.ask(chat, hole[0], hole[1]);
    } catch (error) {
      // It is asked again with the next entry or connection; what will never be known is let go.
      const { code = "", retryAfter } = error instanceof ChatError ? error : {};
      if (hole && NEVER.has(code)) chat.known.add(...hole);
      wait = retryAfter;
    }
    this.#timers.delete(chat);
    if (wait !== undefined && this.online()) this.mend(chat, wait);
  }
}
