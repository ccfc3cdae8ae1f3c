// State that others look at: who watches is called when it has changed.

export class Watched {
  #watchers = new Set<() => void>();

  /** Calls `watcher` after each change, until what is returned is called. */
  watch(watcher: () => void): () => void {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  changed(): void {
    for (const watcher of [...this.#watchers]) watcher();
  }
}
