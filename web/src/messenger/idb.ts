// What a device keeps of its chats, in IndexedDB: shared by all tabs, so that what one of them
// writes never takes away what another knows.

import type { Pending } from "../core/chat.js";
import type { Entry } from "../core/entry.js";
import { Ranges } from "../core/ranges.js";
import type { SavedChat, Store } from "../core/store.js";

const VERSION = 1;

function done(transaction: IDBTransaction): Promise<void> {
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onerror = transaction.onabort = () => reject(transaction.error ?? new Error("aborted"));
  });
}

function result<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

const nameOf = (user: string): string => `tidings:${user}`;

export class IdbStore implements Store {
  private constructor(private readonly db: IDBDatabase) {}

  static async open(user: string): Promise<IdbStore> {
    const request = indexedDB.open(nameOf(user), VERSION);
    request.onupgradeneeded = () => {
      request.result.createObjectStore("entries", { keyPath: ["chat", "seq"] });
      request.result.createObjectStore("chats", { keyPath: "name" });
      request.result.createObjectStore("pending", { keyPath: "id" });
    };
    const db = await result(request);
    // Another tab deletes or upgrades it: do not stand in the way.
    db.onversionchange = () => db.close();
    return new IdbStore(db);
  }

  static async destroy(user: string): Promise<void> {
    const request = indexedDB.deleteDatabase(nameOf(user));
    await new Promise<void>((resolve) => {
      request.onsuccess = request.onerror = request.onblocked = () => resolve();
    });
  }

  close(): void {
    this.db.close();
  }

  async keep(chat: SavedChat, entries: readonly Entry[]): Promise<void> {
    const transaction = this.db.transaction(["entries", "chats"], "readwrite", { durability: "strict" });
    const kept = transaction.objectStore("entries");
    for (const entry of entries) kept.put({ ...entry, chat: chat.name });
    const chats = transaction.objectStore("chats");
    const request = chats.get(chat.name) as IDBRequest<SavedChat | undefined>;
    request.onsuccess = () => {
      const before = request.result;
      const known = new Ranges();
      for (const [from, to] of [...chat.known, ...(before?.known ?? [])]) known.add(from, to);
      const newer = before && before.preview.time > chat.preview.time;
      chats.put({
        ...chat,
        known: known.toJSON(),
        last: Math.max(chat.last, before?.last ?? 0),
        read: Math.max(chat.read, before?.read ?? 0),
        preview: newer ? before.preview : chat.preview,
      });
    };
    await done(transaction);
  }

  async drop(chat: string, seqs: readonly number[] | "all"): Promise<void> {
    const transaction = this.db.transaction(["entries", "chats"], "readwrite");
    const kept = transaction.objectStore("entries");
    if (seqs === "all") {
      kept.delete(IDBKeyRange.bound([chat, 0], [chat, Number.MAX_SAFE_INTEGER]));
      transaction.objectStore("chats").delete(chat);
    } else for (const seq of seqs) kept.delete([chat, seq]);
    await done(transaction);
  }

  async savePending(pending: Pending): Promise<void> {
    const transaction = this.db.transaction("pending", "readwrite", { durability: "strict" });
    transaction.objectStore("pending").put(pending);
    await done(transaction);
  }

  async dropPending(id: string): Promise<void> {
    const transaction = this.db.transaction("pending", "readwrite");
    transaction.objectStore("pending").delete(id);
    await done(transaction);
  }

  async loadPending(): Promise<Pending[]> {
    const all = await result(this.db.transaction("pending").objectStore("pending").getAll());
    return (all as Pending[]).sort((a, b) => a.time - b.time);
  }

  async loadChats(): Promise<SavedChat[]> {
    return (await result(this.db.transaction("chats").objectStore("chats").getAll())) as SavedChat[];
  }

  /** The last entries of a chat before `below`, in order. */
  loadEntries(chat: string, below: number, count: number): Promise<Entry[]> {
    const range = IDBKeyRange.bound([chat, 0], [chat, below], false, true);
    const request = this.db.transaction("entries").objectStore("entries").openCursor(range, "prev");
    const found: Entry[] = [];
    return new Promise((resolve, reject) => {
      request.onerror = () => reject(request.error);
      request.onsuccess = () => {
        const cursor = request.result;
        if (!cursor || found.length === count) return resolve(found.reverse());
        const { chat: _, ...entry } = cursor.value as Entry & { chat: string };
        found.push(entry);
        cursor.continue();
      };
    });
  }
}
