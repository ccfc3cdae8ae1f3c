// One chat as this device knows it: its log by number, what is on its way, ticks and typing.

import { readEntries, readRanges, isCount, isObject, type Entry, type Json, type Range } from "./entry.js";
import { Ranges } from "./ranges.js";
import { Watched } from "./watched.js";

/** A command that is sent until it is acknowledged. */
export interface Pending {
  readonly id: string;
  readonly chat: string;
  readonly verb: "send" | "edit" | "react" | "delete";
  /** The entry it is about. */
  readonly about?: number;
  readonly payload: string;
  readonly type?: string;
  /** What it replies to. */
  readonly ref?: number;
  readonly time: number;
  failed?: { code: string; text: string };
}

/** A message as it is shown: with its last edit, and what others say of it. */
export interface Item {
  /** The same from when it is written to when it is stored. */
  readonly key: string;
  readonly seq?: number;
  readonly from: string;
  readonly mine: boolean;
  readonly time: number;
  readonly text: string;
  readonly type?: string;
  readonly edited: boolean;
  readonly deleted: boolean;
  /** Who says what. */
  readonly reactions: ReadonlyMap<string, string>;
  readonly ref?: number;
  /** What changed the chat, in place of a message. */
  readonly system?: Json;
  readonly failed?: { code: string; text: string };
}

export type Tick = "waiting" | "failed" | "sent" | "delivered" | "read";

export interface Cursor {
  readonly delivered: number;
  readonly read: number;
}

/** For how long typing counts that is not said again. */
export const TYPING_MS = 6_000;

/** How chats end: by one, by going on, by leaving, by time; `closed`: it opens no more. */
export interface Ended {
  readonly why: string;
  /** Whether this device asked for it. */
  readonly mine: boolean;
}

export class Chat extends Watched {
  readonly entries = new Map<number, Entry>();
  readonly known = new Ranges();
  readonly pending: Pending[] = [];
  readonly others = new Map<string, Cursor>();
  /** Of a larger group: how many have the newest of what one wrote. */
  counts: { seq: number; delivered: number; read: number; members: number } | undefined;
  /** The first number that is wanted; what is before it comes when one scrolls. */
  low = Number.POSITIVE_INFINITY;
  /** The newest number there is. */
  last = 0;
  read = 0;
  /** What the server counted as unread up to `counted`; what came later is counted here. */
  counted = { unread: 0, last: 0 };
  title = "";
  /** The newest that says something, where the entries themselves are not in memory. */
  preview: { text: string; time: number; mine: boolean; from: string } | undefined;
  role: string | undefined;
  members: { user: string; role: string }[] | undefined;
  stranger = false;
  ended: Ended | undefined;
  ending: { at: number; why: string } | undefined;

  #edits = new Map<number, Entry[]>();
  #reactions = new Map<number, Map<string, Entry>>();
  #deleted = new Map<number, "everyone" | "me">();
  #deletedTo = 0;
  /** Whose content is to go from wherever it was kept, since it was last asked. */
  #wiped = new Set<number>();
  /** Is told what has expired. */
  expired: ((seqs: number[]) => void) | undefined;
  #items = new Map<number, Item>();
  #shown: Item[] | undefined;
  #typing = new Map<string, { state: string; timer: ReturnType<typeof setTimeout> }>();
  #expiry: ReturnType<typeof setTimeout> | undefined;

  constructor(
    readonly name: string,
    /** The user's own name; of guests nobody knows it. */
    readonly me: string,
    /** The other one of two. */
    readonly peer?: string,
  ) {
    super();
    // A room begins with all there is, so everything from the first on is wanted.
    if (name.startsWith("~")) this.low = 1;
  }

  get group(): boolean {
    return !this.name.startsWith("@") && !this.name.startsWith("~");
  }

  isMine(from: string): boolean {
    return from === this.me || (this.peer !== undefined && this.peer !== this.me && from !== this.peer);
  }

  /** Takes what came, and says which of it was not known. */
  take(entries: readonly Entry[]): Entry[] {
    const fresh = entries.filter(({ seq }) => !this.known.has(seq));
    for (const entry of fresh) this.#insert(entry);
    if (fresh.length > 0) this.#refresh();
    return fresh;
  }

  /** What this device kept: known already, and not in memory. */
  restore(entries: readonly Entry[]): void {
    for (const entry of entries) if (!this.entries.has(entry.seq)) this.#insert(entry);
    this.#refresh();
  }

  #insert(entry: Entry): void {
    const { seq, ref, kind } = entry;
    this.known.add(seq, seq);
    this.low = Math.min(this.low, seq);
    this.last = Math.max(this.last, seq);
    this.entries.set(seq, entry);
    if (ref !== undefined && kind === "edit") {
      if (this.#deleted.has(ref)) this.#wipe(seq);
      this.#edits.set(ref, [...(this.#edits.get(ref) ?? []), entry].sort((a, b) => a.seq - b.seq));
    } else if (ref !== undefined && kind === "reaction") {
      const said = this.#reactions.get(ref) ?? new Map<string, Entry>();
      if ((said.get(entry.from)?.seq ?? 0) < seq) said.set(entry.from, entry);
      this.#reactions.set(ref, said);
    } else if (ref !== undefined && kind === "delete") {
      if (entry.text === "all") {
        this.#deletedTo = Math.max(this.#deletedTo, ref);
        for (const one of this.entries.keys()) if (one <= ref) this.#wipe(one);
        this.#items.clear();
      } else {
        this.#deleted.set(ref, entry.text === "me" ? "me" : "everyone");
        this.#wipe(ref);
        for (const edit of this.#edits.get(ref) ?? []) this.#wipe(edit.seq);
      }
    } else if (kind === undefined) {
      this.ending = undefined;
      this.#quiet(entry.from);
      if (this.group) this.ended = undefined;
      if (this.isMine(entry.from)) this.settle(entry.id);
    } else if (kind === "system") this.#system(entry);
    if (ref !== undefined) this.#items.delete(ref);
  }

  /** The place of an entry stays, its content goes. */
  #wipe(seq: number): void {
    const entry = this.entries.get(seq);
    this.#wiped.add(seq);
    if (!entry || entry.kind === "delete") return;
    const { data: _, ...rest } = entry;
    this.entries.set(seq, { ...rest, text: "" });
  }

  /** What was wiped since it was last asked: entries as they are now, or numbers of what is elsewhere. */
  takeWiped(): { entries: Entry[]; elsewhere: number[] } {
    const seqs = [...this.#wiped];
    this.#wiped.clear();
    return {
      entries: seqs.flatMap((seq) => this.entries.get(seq) ?? []),
      elsewhere: seqs.filter((seq) => !this.entries.has(seq)),
    };
  }

  /** A command is done, or not wanted any more. */
  settle(id: string): Pending | undefined {
    const place = this.pending.findIndex((one) => one.id === id);
    return place < 0 ? undefined : this.pending.splice(place, 1)[0];
  }

  #system({ text, from }: Entry): void {
    const said = text === undefined ? undefined : safeJson(text);
    if (!isObject(said)) return;
    if (typeof said.title === "string") this.title = said.title;
    if (said.action === "role" && said.user === this.me && typeof said.role === "string") this.role = said.role;
    if (said.action === "create" && from === this.me) this.role = "owner";
    // Who is in it is asked again when it is looked at.
    this.members = undefined;
  }

  /** An answer to `history`: entries, and what is gone. */
  takeHistory(answer: Json): Entry[] {
    for (const [from, to] of readRanges(answer.gone)) this.known.add(from, to);
    if (isCount(answer.last)) this.last = Math.max(this.last, answer.last);
    const fresh = this.take(readEntries(answer.entries));
    // Without entries nothing was refreshed, but a hole may have closed.
    if (fresh.length === 0) this.#refresh();
    return fresh;
  }

  /** What is to be asked for: between the first that is wanted and the newest there is. */
  missing(): Range[] {
    return Number.isFinite(this.low) ? this.known.missing(this.low, this.last) : [];
  }

  receipt(body: Json): void {
    if (typeof body.user === "string") this.setCursor(body.user, body.delivered, body.read);
    else if (isCount(body.seq) && isCount(body.delivered) && isCount(body.members)) {
      const { seq, delivered, members } = body;
      this.counts = { seq, delivered, members, read: isCount(body.read) ? body.read : 0 };
    }
    this.changed();
  }

  setCursor(user: string, delivered: unknown, read: unknown): void {
    if (user === this.me) {
      if (isCount(read)) this.setRead(read);
      return;
    }
    const known = this.others.get(user) ?? { delivered: 0, read: 0 };
    const far = isCount(read) ? Math.max(known.read, read) : known.read;
    const reached = isCount(delivered) ? Math.max(known.delivered, delivered) : known.delivered;
    this.others.set(user, { delivered: Math.max(reached, far), read: far });
  }

  setRead(seq: number): boolean {
    if (seq <= this.read) return false;
    this.read = seq;
    if (seq >= this.counted.last) this.counted = { unread: 0, last: seq };
    this.changed();
    return true;
  }

  /** How many messages of others lie behind what was read. */
  get unread(): number {
    const from = this.read + 1;
    const all = this.low <= from && this.known.missing(from, this.last).length === 0;
    const after = all ? this.read : Math.max(this.read, this.counted.last);
    let count = all ? 0 : this.counted.unread;
    for (const { seq, kind, from: who } of this.entries.values()) {
      if (seq > after && kind === undefined && !this.isMine(who)) count += 1;
    }
    return count;
  }

  tick(item: Item): Tick {
    if (item.failed) return "failed";
    const { seq } = item;
    if (seq === undefined) return "waiting";
    if (this.counts && this.counts.seq >= seq) {
      const { delivered, read, members } = this.counts;
      return read >= members ? "read" : delivered >= members ? "delivered" : "sent";
    }
    const cursors = [...this.others.values()];
    const all = cursors.length > 0 ? cursors : [{ delivered: 0, read: 0 }];
    if (all.every(({ read }) => read >= seq)) return "read";
    return all.every(({ delivered }) => delivered >= seq) ? "delivered" : "sent";
  }

  /** Somebody types, records, or has stopped. */
  setTyping(user: string, state: string): void {
    this.#quiet(user);
    if (state !== "stopped" && user !== this.me) {
      const timer = setTimeout(() => {
        this.#quiet(user);
        this.changed();
      }, TYPING_MS);
      this.#typing.set(user, { state, timer });
    }
    this.changed();
  }

  #quiet(user: string): void {
    clearTimeout(this.#typing.get(user)?.timer);
    this.#typing.delete(user);
  }

  get typing(): string[] {
    return [...this.#typing.keys()];
  }

  /** All that is to be shown, in order, and behind it what is not yet stored. */
  items(): Item[] {
    this.#shown ??= [...this.entries.keys()]
      .sort((a, b) => a - b)
      .flatMap((seq) => this.item(seq) ?? []);
    const waiting = this.pending.filter(({ verb }) => verb === "send");
    return waiting.length === 0 ? this.#shown : [...this.#shown, ...waiting.map((one) => this.#waiting(one))];
  }

  /** The newest that says something. */
  get newest(): Item | undefined {
    return this.items().at(-1);
  }

  item(seq: number): Item | undefined {
    const known = this.#items.get(seq);
    if (known) return known;
    const entry = this.entries.get(seq);
    const item = entry && this.#item(entry);
    if (item) this.#items.set(seq, item);
    return item;
  }

  #item(entry: Entry): Item | undefined {
    const { seq, from, time, id, kind, type, expires } = entry;
    const deleted = this.#deleted.get(seq);
    if (deleted === "me" || seq <= this.#deletedTo) return undefined;
    if (expires !== undefined && expires <= Date.now()) return undefined;
    if (kind !== undefined && kind !== "system") return undefined;
    const mine = this.isMine(from);
    const said = (this.#edits.get(seq) ?? []).filter((edit) => edit.from === from).at(-1);
    const system = kind === "system" ? safeJson(entry.text ?? "") : undefined;
    if (kind === "system" && !isObject(system)) return undefined;
    const reactions = [...(this.#reactions.get(seq) ?? [])].flatMap(([user, { text }]) =>
      text ? [[user, text] as const] : [],
    );
    return {
      key: `${mine ? "me" : from}/${id}`,
      seq,
      from,
      mine,
      time,
      text: deleted ? "" : ((said ?? entry).text ?? ""),
      ...(type !== undefined && { type }),
      edited: said !== undefined,
      deleted: deleted === "everyone",
      reactions: new Map(reactions),
      ...(entry.ref !== undefined && { ref: entry.ref }),
      ...(isObject(system) && { system }),
    };
  }

  #waiting({ id, time, payload, type, ref, failed }: Pending): Item {
    return {
      key: `me/${id}`,
      from: this.me,
      mine: true,
      time,
      text: payload,
      ...(type !== undefined && { type }),
      edited: false,
      deleted: false,
      reactions: new Map(),
      ...(ref !== undefined && { ref }),
      ...(failed && { failed }),
    };
  }

  #refresh(): void {
    this.#shown = undefined;
    this.#watchExpiry();
    this.changed();
  }

  /** What has expired disappears by itself. */
  #watchExpiry(): void {
    clearTimeout(this.#expiry);
    const now = Date.now();
    const times = [...this.entries.values()].flatMap(({ expires }) => expires ?? []);
    const over = [...this.entries.values()].filter(({ expires }) => expires !== undefined && expires <= now);
    for (const { seq } of over) {
      this.entries.delete(seq);
      this.#items.delete(seq);
    }
    if (over.length > 0) this.expired?.(over.map(({ seq }) => seq));
    const next = Math.min(...times.filter((time) => time > now));
    // A timer holds 31 bits.
    if (Number.isFinite(next)) {
      this.#expiry = setTimeout(() => this.#refresh(), Math.min(next - now, 2 ** 31 - 1));
    }
  }

  /** Nothing of it is kept, and no timer runs on. */
  forget(): void {
    clearTimeout(this.#expiry);
    for (const { timer } of this.#typing.values()) clearTimeout(timer);
    this.#typing.clear();
    this.entries.clear();
    this.#items.clear();
    this.#edits.clear();
    this.#reactions.clear();
    this.pending.length = 0;
    this.#refresh();
  }
}

function safeJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
