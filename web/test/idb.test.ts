import "fake-indexeddb/auto";
import { beforeEach, expect, it } from "vitest";
import { Chat } from "../src/core/chat.js";
import { saved } from "../src/core/session.js";
import { IdbStore } from "../src/messenger/idb.js";
import { groupName, usersOf } from "../src/messenger/dialogs.js";
import { entry } from "./fake.js";

let user = "";
beforeEach(() => void (user = `u${Math.random()}`));

const chatWith = (...seqs: number[]) => {
  const chat = new Chat("@bob", "ann", "bob");
  chat.low = 1;
  const entries = chat.take(seqs.map((seq) => entry(seq, "bob", `m${seq}`)));
  return [saved(chat), entries] as const;
};

it("keeps entries in order and gives the last ones before a number", async () => {
  const store = await IdbStore.open(user);
  await store.keep(...chatWith(2, 10, 9, 1));
  const seqs = async (below: number, count: number) => (await store.loadEntries("@bob", below, count)).map(({ seq }) => seq);
  expect(await seqs(Number.MAX_SAFE_INTEGER, 3)).toEqual([2, 9, 10]);
  expect(await seqs(9, 9)).toEqual([1, 2]);
  expect(await seqs(1, 9)).toEqual([]);
});

it("lets no tab take away what another knows", async () => {
  const [one, two] = [await IdbStore.open(user), await IdbStore.open(user)];
  await one.keep(...chatWith(1, 2, 3));
  await two.keep(...chatWith(5));
  const [chat] = await one.loadChats();
  expect(chat).toMatchObject({ known: [[1, 3], [5, 5]], last: 5 });
  await two.keep(...chatWith(1));
  expect((await one.loadChats())[0]).toMatchObject({ last: 5, preview: { text: "m5" } });
});

it("keeps what waits to be sent, in the order it was written, until it is acknowledged", async () => {
  const store = await IdbStore.open(user);
  const pending = (id: string, time: number) => ({ id, chat: "@bob", verb: "send" as const, payload: id, time });
  await store.savePending(pending("b", 2));
  await store.savePending(pending("a", 1));
  store.close();
  const again = await IdbStore.open(user);
  expect((await again.loadPending()).map(({ id }) => id)).toEqual(["a", "b"]);
  await again.dropPending("a");
  expect((await again.loadPending()).map(({ id }) => id)).toEqual(["b"]);
});

it("forgets a chat, and with the login everything", async () => {
  const store = await IdbStore.open(user);
  await store.keep(...chatWith(1, 2));
  await store.drop("@bob", "all");
  expect([await store.loadChats(), await store.loadEntries("@bob", 99, 9)]).toEqual([[], []]);
  await store.keep(...chatWith(1));
  store.close();
  await IdbStore.destroy(user);
  expect(await (await IdbStore.open(user)).loadChats()).toEqual([]);
});

it("makes names that the protocol takes out of whatever is typed", () => {
  for (const title of ["Climbing on Friday", "Ünïcödé", "🦊", "a".repeat(200), "--x--"]) {
    expect(groupName(title)).toMatch(/^[a-z0-9][a-z0-9-]{1,47}$/);
  }
  expect(groupName("x")).not.toBe(groupName("x"));
  expect(usersOf(" bob, @carol  bob,,dora\n")).toEqual(["bob", "carol", "dora"]);
});
