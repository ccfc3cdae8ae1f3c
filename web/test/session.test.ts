import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Backoff } from "../src/core/backoff.js";
import type { Pending } from "../src/core/chat.js";
import type { Entry } from "../src/core/entry.js";
import { NoStore, TabStore, type SavedChat } from "../src/core/store.js";
import { entry, FakeServer, forward, sessionOf, settle } from "./fake.js";

beforeEach(() => void vi.useFakeTimers({ now: 2_000_000 }));
afterEach(() => void vi.useRealTimers());

describe("the connection", () => {
  it("subscribes where the server knows no session, and not where it does", async () => {
    const server = new FakeServer();
    await sessionOf(server);
    expect(server.subscribed).toEqual(["me/json/#"]);
    await server.down();
    await forward(30_000);
    await server.up(true);
    expect(server.subscribed).toEqual(["me/json/#"]);
  });

  it("comes back, and waits longer each time until it is there", async () => {
    const server = new FakeServer();
    const session = await sessionOf(server, { backoff: new Backoff(() => 1) });
    await server.down();
    expect(session.connection).toMatchObject({ state: "waiting", until: 2_000_400 });
    await forward(400);
    expect(server.logins).toHaveLength(2);
    await server.down();
    expect(session.connection).toMatchObject({ until: 2_000_400 + 800 });
    await forward(800);
    await server.up();
    await server.down();
    expect(session.connection).toMatchObject({ until: Date.now() + 400 });
  });

  it("never waits the same for everybody, nor for ever", () => {
    const [early, late] = [new Backoff(() => 0), new Backoff(() => 1)];
    const [a, b] = [1, 2].map(() => 0).map(() => [early.next(), late.next()])[0] as [number, number];
    expect(a).toBeLessThan(b);
    for (let n = 0; n < 20; n += 1) late.next();
    expect(late.next()).toBe(30_000);
  });

  it("does not come back when the login is refused", async () => {
    const server = new FakeServer();
    const session = await sessionOf(server);
    await server.down(0x86);
    await forward(60_000);
    expect(session.connection.state).toBe("refused");
    expect(server.logins).toHaveLength(1);
  });

  it("hears nothing from a connection that was given up", async () => {
    const server = new FakeServer();
    const session = await sessionOf(server);
    const old = server.hears;
    session.reconnect();
    old?.down({ text: "late", reason: 0x86 });
    expect(session.connection.state).toBe("connecting");
  });
});

describe("the outbox", () => {
  it("says it again with the same id until it is acknowledged", async () => {
    const server = new FakeServer();
    const session = await sessionOf(server);
    const chat = session.chat("@bob");
    session.send(chat, "hello");
    await settle();
    const first = server.last("chat/@bob/send/").topic;
    expect(chat.items().map((item) => chat.tick(item))).toEqual(["waiting"]);
    await server.down();
    await forward(1_000);
    await server.up(true);
    const again = server.last("chat/@bob/send/");
    expect(again.topic).toBe(first);
    expect(server.topics().filter((topic) => topic === first)).toHaveLength(2);
    await again.ack({ seq: 1, time: 5 });
    expect(chat.pending).toEqual([]);
    expect(chat.items().map(({ seq, text, time }) => [seq, text, time])).toEqual([[1, "hello", 5]]);
  });

  it("keeps the order of a chat, over refusals that pass, and holds no other chat up", async () => {
    const server = new FakeServer();
    const session = await sessionOf(server);
    const [bob, cid] = [session.chat("@bob"), session.chat("@cid")];
    session.send(bob, "one");
    session.send(bob, "two");
    session.send(cid, "other");
    await settle();
    const sends = () => server.sent.filter(({ topic }) => topic.includes("/send/")).map(({ payload }) => payload);
    expect(sends()).toEqual(["one", "other"]);
    await server.sent.find(({ payload }) => payload === "one")?.ack({ code: "limit", retryAfter: 500 });
    await forward(400);
    expect(sends()).toEqual(["one", "other"]);
    await forward(200);
    expect(sends()).toEqual(["one", "other", "one"]);
    await server.last("chat/@bob/send/").ack({ seq: 1 });
    expect(sends()).toEqual(["one", "other", "one", "two"]);
  });

  it("shows what is refused for good, and goes on with the next", async () => {
    const server = new FakeServer();
    const session = await sessionOf(server);
    const chat = session.chat("@bob");
    session.send(chat, "no");
    session.send(chat, "yes");
    await settle();
    await server.last("chat/@bob/send/").ack({ code: "forbidden" });
    expect(chat.items().map((item) => chat.tick(item))).toEqual(["failed", "waiting"]);
    await server.last("chat/@bob/send/").ack({ seq: 1 });
    const failed = chat.items().find(({ failed }) => failed);
    await session.outbox.again(chat, failed?.key ?? "", "fresh");
    await settle();
    expect(server.last("chat/@bob/send/")).toMatchObject({ topic: "chat/@bob/send/fresh", payload: "no" });
  });

  it("takes its own entry in the log for the acknowledgement that was lost", async () => {
    const server = new FakeServer();
    const session = await sessionOf(server);
    const chat = session.chat("@bob");
    session.send(chat, "hello");
    const id = chat.pending[0]?.id;
    await server.say("me/json/@bob/message", entry(1, "ann", "hello", { id }));
    expect(chat.pending).toEqual([]);
    expect(chat.items()).toHaveLength(1);
  });

  it("gives a connection up that answers nothing", async () => {
    const server = new FakeServer();
    const session = await sessionOf(server);
    session.send(session.chat("@bob"), "hello");
    await forward(20_000);
    expect(server.logins).toHaveLength(2);
  });

  it("outlives a reload of the tab", async () => {
    const shelf = new Map<string, string>();
    const storage = {
      getItem: (key: string) => shelf.get(key) ?? null,
      setItem: (key: string, value: string) => void shelf.set(key, value),
      removeItem: (key: string) => void shelf.delete(key),
    };
    const before = new FakeServer();
    const first = await sessionOf(before, { store: new TabStore(storage, "outbox") });
    await before.down();
    first.send(first.chat("~r"), "still here");
    await settle();
    first.stop();
    const after = new FakeServer();
    const second = await sessionOf(after, { store: new TabStore(storage, "outbox") });
    expect(after.last("chat/~/send/").payload).toBe("still here");
    await after.last("chat/~/send/").ack({ seq: 1 });
    expect(second.chat("~r").items()).toHaveLength(1);
    expect(shelf.size).toBe(0);
  });

  it("edits, reacts and deletes as commands about an entry", async () => {
    const server = new FakeServer();
    const session = await sessionOf(server);
    const chat = session.chat("@bob");
    await server.say("me/json/@bob/message", entry(1, "bob", "hi"));
    session.send(chat, "helo", { ref: 1 });
    await settle();
    expect(server.last("chat/@bob/send/").user).toEqual({ ref: "1" });
    await server.last("chat/@bob/send/").ack({ seq: 2 });
    session.edit(chat, 2, "hello");
    session.react(chat, 1, "👍");
    await settle();
    await server.last("chat/@bob/edit/2/").ack({ seq: 3 });
    await server.last("chat/@bob/react/1/").ack({ seq: 4 });
    session.delete(chat, 1, "me");
    await settle();
    await server.last("chat/@bob/delete/1").ack({ seq: 5 });
    expect(chat.items().map(({ text, edited, ref }) => [text, edited, ref])).toEqual([["hello", true, 1]]);
  });
});

describe("the log", () => {
  it("shows each entry once and acknowledges it when it is kept", async () => {
    const server = new FakeServer();
    let stored = () => {};
    class Slow extends NoStore {
      override keep(): Promise<void> {
        return new Promise((resolve) => (stored = resolve));
      }
    }
    const session = await sessionOf(server, { store: new Slow() });
    let acknowledged = false;
    const said = server.say("me/json/@bob/message", entry(1, "bob", "hi")).then(() => (acknowledged = true));
    for (let turn = 0; turn < 5; turn += 1) await settle();
    expect(acknowledged).toBe(false);
    stored();
    await said;
    await server.say("me/json/@bob/message", entry(1, "bob", "hi"));
    expect(session.chat("@bob").items()).toHaveLength(1);
  });

  it("keeps nothing of what was deleted or has expired, nor of its edits", async () => {
    const server = new FakeServer();
    const kept = new Map<number, Entry>();
    class Shelf extends NoStore {
      override async keep(_: SavedChat, entries: readonly Entry[]): Promise<void> {
        for (const one of entries) kept.set(one.seq, one);
      }
      override async drop(_: string, seqs: readonly number[] | "all"): Promise<void> {
        if (seqs !== "all") for (const seq of seqs) kept.delete(seq);
      }
    }
    const session = await sessionOf(server, { store: new Shelf() });
    const chat = session.chat("@bob");
    const say = (...entries: object[]) => server.say("me/json/@bob/batch", entries);
    await say(entry(1, "bob", "secret"), entry(2, "bob", "secret 2", { kind: "edit", ref: 1 }));
    await say(entry(3, "bob", "soon", { expires: Date.now() + 1_000 }), entry(4, "bob", "everyone", { kind: "delete", ref: 1 }));
    await say(entry(5, "bob", "secret 3", { kind: "edit", ref: 1 }));
    expect([...kept.values()].map(({ text }) => text)).toEqual(["", "", "soon", "everyone", ""]);
    await forward(1_000);
    expect(kept.has(3)).toBe(false);
    expect(chat.items()).toMatchObject([{ deleted: true, text: "" }]);
    // What is deleted and not in memory goes from where it is kept.
    kept.set(9, entry(9, "bob", "old"));
    await say(entry(10, "bob", "me", { kind: "delete", ref: 9 }));
    expect(kept.has(9)).toBe(false);
    await say(entry(11, "bob", "x"), entry(12, "ann", "all", { kind: "delete", ref: 11 }));
    expect(kept.get(11)?.text).toBe("");
  });

  it("asks for a gap once what is on its way has had time, and closes it with what is gone", async () => {
    const server = new FakeServer();
    const session = await sessionOf(server);
    const chat = session.chat("@bob");
    await server.say("me/json/@bob/message", entry(1, "bob", "one"));
    await server.say("me/json/@bob/batch", [entry(5, "bob", "five"), entry(6, "bob", "six")]);
    await forward(200);
    expect(server.topics()).toEqual([]);
    await forward(100);
    const asked = server.last("chat/@bob/history");
    const { request, ...range } = JSON.parse(asked.payload);
    expect(range).toEqual({ from: 2, to: 4, limit: 200 });
    await asked.ack({});
    await server.say("me/json/@bob/history", { request, from: 2, to: 4, last: 6, entries: [entry(3, "bob", "three")], gone: [[2, 2], [4, 4]] });
    await forward(1_000);
    expect(chat.missing()).toEqual([]);
    expect(chat.items().map(({ text }) => text)).toEqual(["one", "three", "five", "six"]);
    expect(server.topics()).toHaveLength(1);
  });

  it("asks again for a gap when it is told to wait", async () => {
    const server = new FakeServer();
    await sessionOf(server);
    await server.say("me/json/@bob/batch", [entry(1, "bob", "one"), entry(3, "bob", "three")]);
    await forward(300);
    await server.last("chat/@bob/history").ack({ code: "limit", retryAfter: 2_000 });
    await forward(1_900);
    expect(server.topics()).toHaveLength(1);
    await forward(200);
    expect(server.topics()).toHaveLength(2);
  });

  it("asks for nothing where what was missing came by itself", async () => {
    const server = new FakeServer();
    await sessionOf(server);
    await server.say("me/json/@bob/message", entry(1, "bob", "one"));
    await server.say("me/json/@bob/message", entry(3, "bob", "three"));
    await forward(200);
    await server.say("me/json/@bob/message", entry(2, "bob", "two"));
    await forward(1_000);
    expect(server.topics()).toEqual([]);
  });

  it("takes nothing that is no entry", async () => {
    const server = new FakeServer();
    const session = await sessionOf(server);
    for (const body of [null, 7, "x", [], { seq: 0, from: "bob" }, { seq: 1 }, { seq: -1, from: "b" }, { seq: 1.5, from: "b" }]) {
      await server.say("me/json/@bob/message", body);
    }
    await server.hears?.message("me/json/@bob/message", new TextEncoder().encode("{"));
    expect(session.chat("@bob").items()).toEqual([]);
  });
});

describe("signals", () => {
  it("lets typing expire after six seconds, and says it again no sooner than every three", async () => {
    const server = new FakeServer();
    const session = await sessionOf(server);
    const chat = session.chat("@bob");
    await server.say("me/json/@bob/typing", { user: "bob", state: "typing" });
    await forward(5_900);
    expect(chat.typing).toEqual(["bob"]);
    await forward(200);
    expect(chat.typing).toEqual([]);
    for (let n = 0; n < 4; n += 1) {
      session.type(chat);
      await forward(1_000);
    }
    expect(server.sent.map(({ payload }) => payload)).toEqual(["typing", "typing"]);
    session.stopTyping(chat);
    expect(server.last("chat/@bob/typing").payload).toBe("stopped");
  });

  it("stops typing where the message came", async () => {
    const server = new FakeServer();
    const session = await sessionOf(server);
    const chat = session.chat("@bob");
    await server.say("me/json/@bob/typing", { user: "bob", state: "typing" });
    expect(chat.typing).toEqual(["bob"]);
    await server.say("me/json/@bob/message", entry(1, "bob", "hi"));
    expect(chat.typing).toEqual([]);
  });

  it("keeps the presence with the highest epoch", async () => {
    const server = new FakeServer();
    const session = await sessionOf(server);
    session.watchPresence("bob");
    expect(server.subscribed).toContain("presence/bob");
    await server.say("presence/bob", { state: "online", last_seen: 1, epoch: 5 });
    await server.say("presence/bob", { state: "offline", last_seen: 2, epoch: 4 });
    expect(session.presence.get("bob")?.state).toBe("online");
  });

  it("says what was read, and says it again where it was lost", async () => {
    const server = new FakeServer();
    const session = await sessionOf(server);
    const chat = session.chat("@bob");
    await server.say("me/json/@bob/message", entry(1, "bob", "hi"));
    expect(chat.unread).toBe(1);
    session.markRead(chat);
    expect([chat.unread, server.last("chat/@bob/read").payload]).toEqual([0, "1"]);
    await server.down();
    await forward(1_000);
    await server.up(true);
    expect(server.topics().filter((topic) => topic === "chat/@bob/read")).toHaveLength(2);
    await server.last("chat/@bob/read").ack({});
    session.markRead(chat);
    expect(server.topics().filter((topic) => topic === "chat/@bob/read")).toHaveLength(2);
  });
});

describe("what is read", () => {
  it("is said of what came late, behind what one wrote", async () => {
    const server = new FakeServer();
    const session = await sessionOf(server);
    const chat = session.chat("@bob");
    session.send(chat, "mine");
    await settle();
    await server.last("chat/@bob/send/").ack({ seq: 2 });
    session.markRead(chat);
    await server.say("me/json/@bob/message", entry(1, "bob", "theirs"));
    session.markRead(chat);
    expect(server.last("chat/@bob/read").payload).toBe("1");
  });
});

describe("rooms", () => {
  it("are over when the server says so, and nothing of them is left", async () => {
    const server = new FakeServer();
    const session = await sessionOf(server, { me: "~r.1", peer: "~r.2" });
    const chat = session.chat("~r");
    const ended = vi.fn();
    session.on.ended = ended;
    await server.say("me/json/~r/message", entry(1, "~r.2", "hi"));
    await server.say("me/json/~r/ending", { at: 2_060_000, why: "idle" });
    expect(chat.ending).toEqual({ at: 2_060_000, why: "idle" });
    await server.say("me/json/~r/message", entry(2, "~r.2", "still here"));
    expect(chat.ending).toBeUndefined();
    await server.say("me/json/~r/ended", { seq: 2, why: "end" });
    expect(chat.ended).toEqual({ why: "end", mine: false });
    expect(chat.items()).toEqual([]);
    expect(ended).toHaveBeenCalledOnce();
  });

  it("are ended by oneself once the server has said so", async () => {
    const server = new FakeServer();
    const session = await sessionOf(server, { me: "~r.1", peer: "~r.2" });
    const chat = session.chat("~r");
    const done = session.end(chat);
    expect(chat.ended).toBeUndefined();
    // Both hear of it, who ended it too.
    await server.say("me/json/~r/ended", { seq: 0, why: "end" });
    await server.last("chat/~/end").ack({});
    await done;
    expect(chat.ended).toEqual({ why: "end", mine: true });
  });

  it("know who wrote what although a guest does not know its own name", async () => {
    const server = new FakeServer();
    const session = await sessionOf(server, { me: "" });
    let name = "";
    session.on.paired = (chat) => (name = chat.name);
    await server.say("me/json/~q/paired", { chat: "~q", pool: "text", interest: "jazz", partner: "~anon-2" });
    const chat = session.chat(name);
    await server.say("me/json/~q/batch", [entry(1, "~anon-1", "mine"), entry(2, "~anon-2", "theirs")]);
    expect(chat.items().map(({ mine }) => mine)).toEqual([true, false]);
  });
});

it("puts no more into the outbox than it holds", async () => {
  const server = new FakeServer();
  const session = await sessionOf(server);
  await server.down();
  const chat = session.chat("@bob");
  const { OUTBOX_MAX } = await import("../src/core/outbox.js");
  for (let n = 0; n < OUTBOX_MAX; n += 1) {
    chat.pending.push({ id: `m${n}`, chat: "@bob", verb: "send", payload: "x", time: 0 } satisfies Pending);
  }
  session.outbox.take(chat, { id: "m", chat: "@bob", verb: "send", payload: "x", time: 0 });
  session.send(chat, "one too many");
  expect(chat.items().at(-1)?.failed?.code).toBe("limit");
});
