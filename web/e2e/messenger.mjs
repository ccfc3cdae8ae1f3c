// The messenger: direct chats with ticks, edits, reactions, deleting, replies; groups; several tabs;
// a server that is killed while two write.

import { assert, equal, fit, line, person, say, shot, ticked, until } from "./harness.mjs";

let runs = 0;
/** Names of their own for each test: one server has them all. */
export const names = (...all) => {
  runs += 1;
  return all.map((name) => `${name}${runs}`);
};

export async function enter(page, user) {
  await page.goto("/chats");
  await page.getByLabel("Name").fill(user);
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByRole("heading", { name: "Chats" }).waitFor();
}

export async function begin(page, user) {
  await page.getByRole("button", { name: "New chat" }).click();
  await page.getByLabel("Their name").fill(user);
  await page.getByRole("button", { name: "Begin" }).click();
  await page.getByRole("textbox", { name: "Message" }).waitFor();
}

export const openChat = (page, name) => page.getByRole("link", { name }).click();

async function choose(page, text, action) {
  await line(page, text).hover();
  await line(page, text).getByRole("button", { name: "More about this message" }).click();
  await page.getByRole("menuitem", { name: action }).or(page.getByRole("menuitemradio", { name: action })).click();
}

export const wide = { viewport: { width: 1000, height: 700 } };

export default [
  [
    "messenger: two write, with ticks, typing, last seen, replies, edits, reactions and deleting",
    async ({ browser, url }) => {
      const [alice, bob] = names("alice", "bob");
      const a = await person(browser, url, wide);
      await a.goto("/chats");
      await a.getByLabel("Name").waitFor();
      await shot(a, "messenger-login");
      await fit(a, "login");
      await enter(a, alice);
      await begin(a, bob);
      await say(a, "hello");
      await ticked(a, "hello", "sent");
      const b = await person(browser, url);
      await enter(b, bob);
      await b.locator(".badge").waitFor();
      await shot(b, "messenger-list");
      await fit(b, "list of chats");
      await openChat(b, alice);
      await line(b, "hello").waitFor();
      await b.getByText("is not one of your contacts").waitFor();
      await b.getByRole("button", { name: "Accept" }).click();
      await ticked(a, "hello", "read");
      await a.getByText("online", { exact: true }).waitFor();
      await b.getByRole("textbox", { name: "Message" }).pressSequentially("hi");
      await a.locator(".pane .typing").waitFor();
      await b.keyboard.press("Enter");
      await line(a, "hi").waitFor();
      await choose(a, "hi", "Reply");
      await say(a, "how are you?");
      await line(b, "how are you").locator(".quote", { hasText: "hi" }).waitFor();
      await choose(b, "how are you", "👍");
      await line(a, "how are you").locator(".reaction", { hasText: "👍" }).waitFor();
      await choose(a, "how are you", "Edit");
      await say(a, "how are you doing?");
      await line(b, "how are you doing?").getByText("edited").waitFor();
      await say(b, "a slip");
      await line(a, "a slip").waitFor();
      await choose(b, "a slip", "Delete for everyone");
      await a.getByText("This message was deleted").waitFor();
      await say(a, "see https://example.org/x.");
      equal(await line(b, "see").locator("a").getAttribute("href"), "https://example.org/x", "the link");
      await shot(a, "messenger");
      await fit(a, "messenger");
      await line(a, "hello").hover();
      await line(a, "hello").getByRole("button", { name: "More about this message" }).click();
      await fit(a, "menu of a message");
      await a.keyboard.press("Escape");
      await a.getByRole("button", { name: "New group" }).click();
      await fit(a, "dialog of a new group");
      await a.keyboard.press("Escape");
      await shot(b, "messenger-phone");
      await b.close();
      await a.getByText("last seen at").waitFor();
      return [a];
    },
  ],
  [
    "messenger: what was there is there after a reload, in another tab, and scrolled to from long ago",
    async ({ browser, url }) => {
      const [alice, bob] = names("alice", "bob");
      const a = await person(browser, url, wide);
      await enter(a, alice);
      await begin(a, bob);
      for (let n = 1; n <= 170; n += 1) await say(a, `number ${n}.`);
      await ticked(a, "number 170.", "sent");
      await a.reload();
      await line(a, "number 170.").waitFor();
      const second = await a.context().newPage();
      second.setDefaultTimeout(15_000);
      await second.goto(`/chats#@${bob}`);
      await line(second, "number 170.").waitFor();
      await say(second, "from the second tab");
      await line(a, "from the second tab").waitFor();
      await ticked(a, "from the second tab", "sent");
      // A device that was never there sees what is said from now on, and fetches the rest.
      const phone = await person(browser, url);
      await enter(phone, alice);
      await openChat(phone, bob);
      await line(phone, "number 170.").waitFor();
      const log = phone.locator(".log");
      await until("the first message", async () => {
        await log.evaluate((element) => (element.scrollTop = 0));
        return (await line(phone, "number 1.").count()) > 0;
      });
      const shown = await phone.locator(".line .text").allTextContents();
      const numbers = shown.map((text) => /^number (\d+)\./.exec(text)?.[1]).filter(Boolean).map(Number);
      equal(numbers, Array.from({ length: 170 }, (_, n) => n + 1), "each once, in order");
      return [a, phone];
    },
  ],
  [
    "messenger: when the tab that speaks for the device is closed another one takes over",
    async ({ browser, url }) => {
      const [alice, bob] = names("alice", "bob");
      const [a, b] = [await person(browser, url, wide), await person(browser, url)];
      await enter(b, bob);
      await enter(a, alice);
      await begin(a, bob);
      await say(a, "from the first");
      await line(a, "from the first").locator(".tick.sent, .tick.delivered").waitFor();
      const second = await a.context().newPage();
      second.setDefaultTimeout(15_000);
      await second.goto(`/chats#@${bob}`);
      await line(second, "from the first").waitFor();
      await a.close();
      await say(second, "from the second");
      await line(second, "from the second").locator(".tick.sent, .tick.delivered").waitFor();
      await openChat(b, alice);
      for (const text of ["from the first", "from the second"]) await line(b, text).waitFor();
      await say(b, "to whoever is there");
      await line(second, "to whoever is there").waitFor();
      equal(await second.locator(".line").count(), 3, "messages, each once");
      return [b];
    },
  ],
  [
    "messenger: three in a group, until one is removed",
    async ({ browser, url }) => {
      const [alice, bob, carol] = names("alice", "bob", "carol");
      const [a, b, c] = [await person(browser, url, wide), await person(browser, url), await person(browser, url)];
      await enter(b, bob);
      await enter(c, carol);
      await enter(a, alice);
      await a.getByRole("button", { name: "New group" }).click();
      await a.getByLabel("What is it called?").fill("Climbing on Friday");
      await a.getByLabel("Who is in it?").fill(`${bob}, ${carol}`);
      await a.getByRole("button", { name: "Make it" }).click();
      await say(a, "who comes?");
      for (const page of [b, c]) {
        await openChat(page, "Climbing on Friday");
        await line(page, "who comes?").waitFor();
      }
      await ticked(a, "who comes?", "read");
      await say(b, "me");
      await say(c, "me too");
      await line(a, "me too").waitFor();
      await line(a, "me too").locator(".who", { hasText: carol }).waitFor();
      await shot(a, "messenger-group");
      await a.getByRole("button", { name: "Group", exact: true }).click();
      await a.getByRole("button", { name: `Remove ${carol}` }).waitFor();
      await shot(a, "messenger-members");
      await fit(a, "members of a group");
      await a.getByRole("button", { name: `Remove ${carol}` }).click();
      await c.getByText("You are not in this group any more.").waitFor();
      await a.getByRole("button", { name: "Close" }).click();
      await say(a, "just us");
      await line(b, "just us").waitFor();
      await b.getByText(`removed ${carol}`).waitFor();
      equal(await line(c, "just us").count(), 0, "what the removed sees");
      return [a, b, c];
    },
  ],
  [
    "messenger: nothing is lost when the server is killed while both write",
    async ({ browser, url, broker }) => {
      const [alice, bob] = names("alice", "bob");
      const [a, b] = [await person(browser, url, wide), await person(browser, url)];
      await enter(a, alice);
      await enter(b, bob);
      await begin(a, bob);
      await begin(b, alice);
      await say(a, "a0");
      await line(b, "a0").waitFor();
      for (let n = 1; n <= 10; n += 1) {
        await say(a, `a${n};`);
        await say(b, `b${n};`);
        if (n === 5) await broker.stop("SIGKILL");
      }
      await a.getByText(/No connection|Connecting/).first().waitFor();
      await shot(a, "messenger-offline");
      await fit(b, "chat without a connection");
      await broker.start();
      for (const page of [a, b]) {
        await until("everything stored", async () => (await page.locator(".tick.waiting").count()) === 0);
        for (const text of ["a10;", "b10;"]) await line(page, text).waitFor();
        const shown = (await page.locator(".line .text").allTextContents()).map((text) => text.trim());
        for (const side of ["a", "b"]) {
          const found = shown.filter((text) => new RegExp(`^${side}\\d+;$`).test(text));
          equal(found, Array.from({ length: 10 }, (_, n) => `${side}${n + 1};`), `what ${side} wrote`);
        }
      }
      assert((await a.locator(".bar").count()) === 0, "the page says it has no connection, and has one");
      return [a, b];
    },
  ],
];
