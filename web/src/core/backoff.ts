// How long to wait before the next try: longer each time, and never the same for everybody, so
// that a server that comes back is not met by all at once.

const FIRST_MS = 400;
const MOST_MS = 30_000;

export class Backoff {
  #tries = 0;

  constructor(private readonly random: () => number = Math.random) {}

  /** Between half of the step and all of it; the step doubles. */
  next(): number {
    const step = Math.min(MOST_MS, FIRST_MS * 2 ** this.#tries);
    this.#tries += 1;
    return Math.round(step * (0.5 + this.random() / 2));
  }

  reset(): void {
    this.#tries = 0;
  }
}
