// What outlives a page, told apart by how much of it should.

import type { Pending } from "./chat.js";
import { isCount, isObject, type Entry, type Range } from "./entry.js";

/** What is kept of a chat beside its entries. */
export interface SavedChat {
  readonly name: string;
  readonly known: readonly Range[];
  readonly last: number;
  readonly read: number;
  readonly stranger: boolean;
  readonly preview: { text: string; time: number; mine: boolean; from: string };
  readonly title: string;
  readonly others: readonly (readonly [string, { delivered: number; read: number }])[];
}

export interface Store {
  /** Resolves when the entries survive this page. */
  keep(chat: SavedChat, entries: readonly Entry[]): Promise<void>;
  drop(chat: string, seqs: readonly number[] | "all"): Promise<void>;
  savePending(pending: Pending): Promise<void>;
  dropPending(id: string): Promise<void>;
  loadPending(): Promise<Pending[]>;
}

/** For strangers: nothing outlives the page. */
export class NoStore implements Store {
  async keep(_chat: SavedChat, _entries: readonly Entry[]): Promise<void> {}
  async drop(_chat: string, _seqs: readonly number[] | "all"): Promise<void> {}
  async savePending(_pending: Pending): Promise<void> {}
  async dropPending(_id: string): Promise<void> {}
  async loadPending(): Promise<Pending[]> {
    return [];
  }
}

/** The part of `Storage` that is needed. */
export type Shelf = Pick<Storage, "getItem" | "setItem" | "removeItem">;

/**
 * For rooms: the server shows all there is to whoever has the link and the code, so only what it
 * has not acknowledged yet is kept, and no longer than the tab.
 */
export class TabStore extends NoStore {
  #pending = new Map<string, Pending>();

  constructor(
    private readonly shelf: Shelf,
    private readonly key: string,
  ) {
    super();
  }

  override async savePending(pending: Pending): Promise<void> {
    this.#pending.set(pending.id, pending);
    this.#write();
  }

  override async dropPending(id: string): Promise<void> {
    if (this.#pending.delete(id)) this.#write();
  }

  override async loadPending(): Promise<Pending[]> {
    try {
      const saved: unknown = JSON.parse(this.shelf.getItem(this.key) ?? "[]");
      for (const one of Array.isArray(saved) ? saved : []) {
        if (isPending(one)) this.#pending.set(one.id, one);
      }
    } catch {
      // What somebody else wrote there is nothing of ours.
    }
    return [...this.#pending.values()];
  }

  #write(): void {
    try {
      if (this.#pending.size === 0) this.shelf.removeItem(this.key);
      else this.shelf.setItem(this.key, JSON.stringify([...this.#pending.values()]));
    } catch {
      // A full or forbidden storage: it is sent all the same, as long as the page is there.
    }
  }
}

function isPending(value: unknown): value is Pending {
  return (
    isObject(value) &&
    typeof value.id === "string" &&
    typeof value.chat === "string" &&
    typeof value.verb === "string" &&
    typeof value.payload === "string" &&
    isCount(value.time)
  );
}
