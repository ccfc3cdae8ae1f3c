// A user on this device: who it is over reloads, which of the tabs speaks for the device, and what
// is known of all chats.

import type { Chat } from "../core/chat.js";
import { ChatError, isCount, isObject, randomId, type Json } from "../core/entry.js";
import type { Dial, Login } from "../core/line.js";
import { saved, Session } from "../core/session.js";
import { at } from "../core/words.js";
import { Files } from "../ui/files.js";
import { IdbStore } from "./idb.js";

export interface Account {
  readonly user: string;
  readonly token: string;
}

/** How many entries of a chat are read at a time, from here or from the server. */
const PAGE = 60;
/** Of how many chats the newest entries are in memory from the start. */
const WARM = 30;
/** What comes by itself after a reconnect has this long, before history is asked for it. */
const CATCH_UP_MS = 3_000;

export function keptAccount(): Account | undefined {
  try {
    const kept: unknown = JSON.parse(localStorage.getItem("account") ?? "null");
    if (!isObject(kept) || typeof kept.user !== "string" || typeof kept.token !== "string") return undefined;
    return { user: kept.user, token: kept.token };
  } catch {
    return undefined;
  }
}

export function keepAccount({ user, token }: Account): void {
  localStorage.setItem("account", JSON.stringify({ user, token }));
}

/** The name of this device: the same in all tabs and for ever. */
function deviceOf(user: string): string {
  const key = `device:${user}`;
  const kept = localStorage.getItem(key);
  if (kept) return kept;
  const made = `web-${randomId()}`;
  localStorage.setItem(key, made);
  return made;
}

export class Messenger {
  readonly session: Session;
  files: Files | undefined;
  /** Whether this tab speaks for the device: keeps its session and sends what others left. */
  primary = false;
  readonly #login: Login;
  #release: (() => void) | undefined;
  #stopped = false;
  #previews = false;

  private constructor(
    readonly account: Account,
    private readonly store: IdbStore,
    url: string,
    dial: Dial,
  ) {
    const { user, token } = account;
    this.#login = { url, user, password: token, device: deviceOf(user), keep: true };
    const tab = { ...this.#login, device: `${this.#login.device}-${randomId(8)}`, keep: false };
    this.session = new Session({ login: tab, dial, me: user, store });
    this.session.on.online = () => void this.#online();
  }

  static async start(account: Account, url: string, dial: Dial, bytesMax: number): Promise<Messenger> {
    const store = await IdbStore.open(account.user);
    const messenger = new Messenger(account, store, url, dial);
    await messenger.#load();
    if (bytesMax > 0) messenger.files = new Files(messenger.session, account.token, bytesMax);
    await messenger.#lead();
    return messenger;
  }

  stop(): void {
    this.#stopped = true;
    this.session.stop();
    this.files?.stop();
    this.#release?.();
    this.store.close();
  }

  /** Ends this device's session on the server, and forgets all that was kept here. */
  async logout(): Promise<void> {
    const { user } = this.account;
    await this.session.command("me/devices", { logout: this.#login.device }).catch(() => undefined);
    this.stop();
    localStorage.removeItem("account");
    localStorage.removeItem(`device:${user}`);
    await IdbStore.destroy(user);
  }

  /** The tab that has the lock speaks for the device; the others are guests until it goes. */
  async #lead(): Promise<void> {
    if (!navigator.locks) return await this.session.start();
    const name = `tidings-device-${this.#login.device}`;
    const free = await new Promise<boolean>((resolve) => {
      void navigator.locks.request(name, { ifAvailable: true }, (lock) => {
        resolve(lock !== null);
        return lock && this.#hold();
      });
    });
    if (free) return await this.#become();
    this.session.become({ ...this.#login, device: `${this.#login.device}-${randomId(8)}`, keep: false });
    void navigator.locks.request(name, () => {
      if (this.#stopped) return;
      void this.#become();
      return this.#hold();
    });
  }

  #hold(): Promise<void> {
    return new Promise((release) => (this.#release = release));
  }

  async #become(): Promise<void> {
    this.primary = true;
    await this.session.takePending();
    this.session.become(this.#login);
  }

  async #load(): Promise<void> {
    const kept = await this.store.loadChats();
    kept.sort((a, b) => b.preview.time - a.preview.time);
    for (const [place, one] of kept.entries()) {
      const chat = this.session.chat(one.name);
      for (const [from, to] of one.known) chat.known.add(from, to);
      [chat.last, chat.read, chat.title, chat.stranger] = [one.last, one.read, one.title, one.stranger];
      for (const [user, { delivered, read }] of one.others) chat.setCursor(user, delivered, read);
      if (one.preview.time > 0) chat.preview = one.preview;
      if (place < WARM) chat.restore(await this.store.loadEntries(one.name, Number.MAX_SAFE_INTEGER, PAGE));
    }
  }

  async #online(): Promise<void> {
    try {
      let after: unknown;
      // 10,000 chats are the most a user has, 200 a page.
      for (let page = 0; page < 50; page += 1) {
        const answer = await this.session.ask("me/sync", { limit: 200, ...(typeof after === "string" && { after }) });
        for (const one of Array.isArray(answer.chats) ? answer.chats : []) if (isObject(one)) this.#sync(one);
        after = answer.next;
        if (typeof after !== "string") break;
      }
    } catch (error) {
      if (error instanceof ChatError && error.retryAfter !== undefined) {
        setTimeout(() => this.session.connection.state === "online" && void this.#online(), error.retryAfter);
      }
      return;
    }
    this.session.changed();
    setTimeout(() => void this.#catchUp(), CATCH_UP_MS);
    void this.#preview();
  }

  #sync(one: Json): void {
    if (typeof one.chat !== "string" || !isCount(one.last)) return;
    const chat = this.session.chat(one.chat);
    if (isCount(one.read)) chat.setRead(one.read);
    chat.counted = { unread: isCount(one.unread) ? one.unread : 0, last: one.last };
    chat.stranger = one.stranger === true;
    if (typeof one.title === "string") chat.title = one.title;
    if (!chat.newest && !chat.preview && isCount(one.time)) {
      chat.preview = { text: "", time: one.time, mine: false, from: "" };
    }
    for (const other of Array.isArray(one.others) ? one.others : []) {
      if (isObject(other) && typeof other.user === "string") chat.setCursor(other.user, other.delivered, other.read);
    }
  }

  /** What did not come by itself is asked for. */
  async #catchUp(): Promise<void> {
    for (const chat of this.session.chats.values()) {
      if (chat.counted.last > chat.last && chat.entries.size > 0) {
        await this.session.history(chat, { from: chat.last + 1, limit: 200 }).catch(() => undefined);
      }
    }
  }

  /** Chats of which nothing is here show what was said last, one after the other. */
  async #preview(): Promise<void> {
    if (this.#previews) return;
    this.#previews = true;
    const bare = [...this.session.chats.values()].filter(
      (chat) => chat.entries.size === 0 && (chat.preview?.text ?? "") === "" && chat.counted.last > 0,
    );
    bare.sort((a, b) => (b.preview?.time ?? 0) - (a.preview?.time ?? 0));
    for (const chat of bare.slice(0, WARM)) {
      if (this.#stopped || this.session.connection.state !== "online") break;
      await this.session.history(chat, { limit: 20 }).catch((error: unknown) => {
        const wait = error instanceof ChatError ? (error.retryAfter ?? 0) : 0;
        return new Promise((next) => setTimeout(next, wait));
      });
    }
    this.#previews = false;
  }

  /** A chat is looked at: its newest entries, and who is there. */
  async look(chat: Chat): Promise<void> {
    if (chat.entries.size === 0) chat.restore(await this.store.loadEntries(chat.name, Number.MAX_SAFE_INTEGER, PAGE));
    if (this.session.connection.state !== "online") return;
    if (chat.entries.size === 0) {
      await this.session.history(chat, { limit: PAGE }).catch(() => undefined);
    }
    if (chat.group) await this.info(chat).catch(() => undefined);
    else if (chat.peer !== undefined) this.session.watchPresence(chat.peer);
  }

  /** Who is in a group; the first page, which is all of the usual ones. */
  async info(chat: Chat): Promise<void> {
    const answer = await this.session.ask(`${at(chat)}/info`, { limit: 500 });
    chat.title = typeof answer.title === "string" ? answer.title : "";
    chat.role = typeof answer.role === "string" ? answer.role : undefined;
    const members = Array.isArray(answer.members) ? answer.members : [];
    chat.members = members.flatMap((one: unknown) =>
      isObject(one) && typeof one.user === "string" ? [{ user: one.user, role: String(one.role) }] : [],
    );
    await this.store.keep(saved(chat), []);
    chat.changed();
    this.session.changed();
  }

  /** A page of what is before the first that is in memory; whether there was one. */
  async earlier(chat: Chat): Promise<boolean> {
    const below = chat.low;
    if (!Number.isFinite(below) || below <= 1) return false;
    const from = Math.max(1, below - PAGE);
    if (chat.known.missing(from, below - 1).length > 0) {
      try {
        const answer = await this.session.history(chat, { to: below - 1, limit: PAGE });
        chat.low = Math.max(1, Math.min(chat.low, isCount(answer.from) ? answer.from : from));
      } catch {
        return false;
      }
    } else chat.low = from;
    // What was asked for may be here in part.
    chat.restore(await this.store.loadEntries(chat.name, below, PAGE));
    return true;
  }
}
