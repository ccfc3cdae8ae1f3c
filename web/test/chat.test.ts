import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Chat } from "../src/core/chat.js";
import { readRanges, randomId } from "../src/core/entry.js";
import { Ranges } from "../src/core/ranges.js";
import { entry } from "./fake.js";

const group = () => new Chat("climbing", "ann");
const direct = () => new Chat("@bob", "ann", "bob");
const texts = (chat: Chat) => chat.items().map(({ text }) => text);

describe("ranges", () => {
  it("merge where they touch, and know what is missing", () => {
    const ranges = new Ranges();
    ranges.add(5, 6);
    ranges.add(1, 2);
    ranges.add(9, 9);
    expect(ranges.missing(1, 10)).toEqual([[3, 4], [7, 8], [10, 10]]);
    ranges.add(3, 4);
    expect(ranges.toJSON()).toEqual([[1, 6], [9, 9]]);
    ranges.add(2, 20);
    expect(ranges.toJSON()).toEqual([[1, 20]]);
    expect(ranges.missing(21, 20)).toEqual([]);
    expect([ranges.has(0), ranges.has(20)]).toEqual([false, true]);
  });

  it("are the same as a set of numbers, whatever is added", () => {
    let seed = 7;
    const below = (n: number) => (seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31) % n;
    for (let round = 0; round < 200; round += 1) {
      const [ranges, set] = [new Ranges(), new Set<number>()];
      for (let n = 0; n < 8; n += 1) {
        const from = below(30);
        const to = from + below(6);
        ranges.add(from, to);
        for (let one = from; one <= to; one += 1) set.add(one);
      }
      const missing = ranges.missing(0, 40).flatMap(([from, to]) => Array.from({ length: to - from + 1 }, (_, n) => from + n));
      expect(missing).toEqual(Array.from({ length: 41 }, (_, n) => n).filter((n) => !set.has(n)));
    }
  });

  it("are read with care", () => {
    expect(readRanges([[1, 2], [3, 2], ["1", 2], [1], 7, null])).toEqual([[1, 2]]);
    expect(readRanges({})).toEqual([]);
  });
});

describe("what is said of an entry", () => {
  it("edits it where its author says so, also before it came itself", () => {
    const chat = group();
    chat.take([entry(3, "bob", "hello", { kind: "edit", ref: 1 }), entry(4, "eve", "spam", { kind: "edit", ref: 1 })]);
    chat.take([entry(1, "bob", "helo")]);
    expect(chat.items()).toMatchObject([{ text: "hello", edited: true }]);
    chat.take([entry(5, "bob", "hello!", { kind: "edit", ref: 1 })]);
    expect(texts(chat)).toEqual(["hello!"]);
  });

  it("is one reaction of each, the last one, and an empty one takes it back", () => {
    const chat = group();
    const say = (seq: number, from: string, text: string) => chat.take([entry(seq, from, text, { kind: "reaction", ref: 1 })]);
    chat.take([entry(1, "bob", "hi")]);
    say(3, "ann", "👍");
    say(2, "ann", "😮");
    say(4, "cid", "😂");
    expect([...(chat.items()[0]?.reactions ?? [])]).toEqual([["ann", "👍"], ["cid", "😂"]]);
    say(5, "cid", "");
    expect(chat.items()[0]?.reactions.size).toBe(1);
  });

  it("deletes it for all, for oneself, and all there was", () => {
    const chat = direct();
    chat.take([1, 2, 3].map((seq) => entry(seq, "bob", `m${seq}`)));
    chat.take([entry(4, "bob", "everyone", { kind: "delete", ref: 1 }), entry(5, "ann", "me", { kind: "delete", ref: 2 })]);
    expect(chat.items().map(({ text, deleted }) => [text, deleted])).toEqual([["", true], ["m3", false]]);
    chat.take([entry(6, "ann", "all", { kind: "delete", ref: 5 }), entry(7, "bob", "anew")]);
    expect(texts(chat)).toEqual(["anew"]);
  });

  it("shows nothing of a kind that nobody knows", () => {
    const chat = direct();
    chat.take([entry(1, "bob", "x", { kind: "poll" }), entry(2, "bob", "y")]);
    expect(texts(chat)).toEqual(["y"]);
    expect(chat.missing()).toEqual([]);
  });
});

describe("ticks", () => {
  it("follow the other's cursor and never go back", () => {
    const chat = direct();
    chat.take([entry(1, "ann", "one"), entry(2, "ann", "two")]);
    const ticks = () => chat.items().map((item) => chat.tick(item));
    expect(ticks()).toEqual(["sent", "sent"]);
    chat.receipt({ user: "bob", delivered: 2, read: 1 });
    expect(ticks()).toEqual(["read", "delivered"]);
    chat.receipt({ user: "bob", delivered: 1, read: 0 });
    expect(ticks()).toEqual(["read", "delivered"]);
  });

  it("are those of the slowest in a small group, and counted in a larger one", () => {
    const chat = group();
    chat.take([entry(1, "ann", "one")]);
    const [item] = chat.items();
    if (!item) throw new Error("no item");
    chat.receipt({ user: "bob", delivered: 1, read: 1 });
    expect(chat.tick(item)).toBe("read");
    chat.receipt({ user: "cid", delivered: 0, read: 0 });
    expect(chat.tick(item)).toBe("sent");
    chat.receipt({ seq: 1, delivered: 30, read: 3, members: 30 });
    expect(chat.tick(item)).toBe("delivered");
  });

  it("of one's own other devices say what is read", () => {
    const chat = direct();
    chat.take([entry(1, "bob", "one"), entry(2, "bob", "two")]);
    expect(chat.unread).toBe(2);
    chat.receipt({ user: "ann", read: 1 });
    expect([chat.read, chat.unread]).toEqual([1, 1]);
  });
});

describe("time", () => {
  beforeEach(() => void vi.useFakeTimers({ now: 1_000 }));
  afterEach(() => void vi.useRealTimers());

  it("takes what expires, while somebody looks", () => {
    const chat = direct();
    const changed = vi.fn();
    chat.take([entry(1, "bob", "soon", { expires: 2_000 }), entry(2, "bob", "stays")]);
    chat.watch(changed);
    vi.advanceTimersByTime(1_000);
    expect(texts(chat)).toEqual(["stays"]);
    expect(changed).toHaveBeenCalled();
    expect(chat.entries.has(1)).toBe(false);
    expect(chat.missing()).toEqual([]);
  });
});

it("makes ids that the protocol takes", () => {
  const ids = new Set(Array.from({ length: 100 }, () => randomId()));
  expect(ids.size).toBe(100);
  for (const id of ids) expect(id).toMatch(/^[a-z0-9]{16}$/);
});
