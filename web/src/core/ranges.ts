// Which numbers of a log are known: disjoint ranges in order, merged as they touch.

import type { Range } from "./entry.js";

export class Ranges {
  #ranges: [number, number][] = [];

  add(from: number, to: number): void {
    if (from > to) return;
    const kept: [number, number][] = [];
    let [low, high] = [from, to];
    for (const range of this.#ranges) {
      if (range[1] + 1 < low || range[0] > high + 1) kept.push(range);
      else [low, high] = [Math.min(low, range[0]), Math.max(high, range[1])];
    }
    kept.push([low, high]);
    this.#ranges = kept.sort((a, b) => a[0] - b[0]);
  }

  has(number: number): boolean {
    return this.#ranges.some(([from, to]) => from <= number && number <= to);
  }

  /** What is not known from `from` to `to`, both included. */
  missing(from: number, to: number): Range[] {
    const holes: Range[] = [];
    let next = from;
    for (const [low, high] of this.#ranges) {
      if (high < next) continue;
      if (low > to) break;
      if (low > next) holes.push([next, low - 1]);
      next = high + 1;
    }
    if (next <= to) holes.push([next, to]);
    return holes;
  }

  /** The first and the last number that is known. */
  get ends(): Range | undefined {
    const [first, last] = [this.#ranges[0], this.#ranges.at(-1)];
    return first && last ? [first[0], last[1]] : undefined;
  }

  toJSON(): Range[] {
    return this.#ranges;
  }
}
