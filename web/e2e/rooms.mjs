// Rooms for two: made by two names, opened by link and code, talked in, reloaded, ended.

import { Broker, serveApp } from "./server.mjs";
import { assert, equal, fit, line, person, say, shot, ticked, until } from "./harness.mjs";

export async function make(page, one, two) {
  await page.goto("/");
  await page.getByLabel("Your name").fill(one);
  await page.getByLabel("The other’s name").fill(two);
  await page.getByRole("button", { name: "Make a room" }).click();
  const seat = page.getByRole("region", { name: `For ${two}` });
  return {
    link: await seat.getByLabel("Link", { exact: true }).inputValue(),
    code: await seat.getByLabel("Code", { exact: true }).inputValue(),
  };
}

export async function enter(page, { link, code }) {
  await page.goto(link);
  await page.getByLabel("Code").fill(code);
  await page.getByRole("button", { name: "Open the chat" }).click();
  await page.getByRole("textbox", { name: "Message" }).waitFor();
}

export const own = (page) => page.getByRole("button", { name: "Open the chat" }).click();

export default [
  [
    "a room: made, both seats taken, messages and ticks both ways, reloaded, ended by one and seen by the other",
    async ({ browser, url }) => {
      const ann = await person(browser, url);
      await ann.goto("/");
      await ann.getByLabel("Your name").waitFor();
      await shot(ann, "start");
      await fit(ann, "start");
      const seat = await make(ann, "Ann", "Ben");
      assert(/\/r\/[^/#~]+#Ben$/.test(seat.link), `the link ${seat.link}`);
      assert(/^[A-Z2-9]{4}-[A-Z2-9]{4}$/.test(seat.code), `the code ${seat.code}`);
      await shot(ann, "room-made");
      await fit(ann, "room made");
      await own(ann);
      await ann.getByText("not here yet").waitFor();
      const ben = await person(browser, url);
      await ben.goto(seat.link);
      await ben.getByRole("heading", { name: "Hello Ben" }).waitFor();
      await fit(ben, "door");
      await ben.getByLabel("Code").pressSequentially("aaaabbbb");
      equal(await ben.getByLabel("Code").inputValue(), "AAAA-BBBB", "the code as it is typed");
      await ben.keyboard.press("Enter");
      await ben.getByText("This code does not open the chat").waitFor();
      await shot(ben, "room-door");
      await fit(ben, "door, wrong code");
      // As people type: small letters, no hyphen.
      await ben.getByLabel("Code").fill(seat.code.toLowerCase().replace("-", " "));
      await ben.keyboard.press("Enter");
      await ben.getByRole("heading", { name: "Ann", exact: true }).waitFor();
      await ann.getByText("online", { exact: true }).waitFor();
      await say(ann, "hello Ben");
      await ticked(ann, "hello Ben", "read");
      await ben.getByRole("textbox", { name: "Message" }).pressSequentially("hello ");
      await ann.locator(".typing").waitFor();
      await ben.getByRole("textbox", { name: "Message" }).pressSequentially("Ann");
      await ben.keyboard.press("Enter");
      await ticked(ben, "hello Ann", "read");
      for (const text of ["How was the climb?", "I heard it was windy up there."]) await say(ann, text);
      await say(ben, "Windy, and the best view of the year.");
      await line(ann, "best view").waitFor();
      await ticked(ben, "best view", "read");
      await shot(ann, "room-chat");
      await fit(ann, "chat");
      // A reload keeps everything, the ticks and the draft too.
      await ben.getByRole("textbox", { name: "Message" }).fill("half a thou");
      await ben.reload();
      await line(ben, "best view").waitFor();
      await ticked(ben, "best view", "read");
      equal(await ben.getByRole("textbox", { name: "Message" }).inputValue(), "half a thou", "the draft");
      const texts = (await ben.locator(".line .text").allTextContents()).map((text) => text.trim());
      equal(texts.length, 5, "messages after the reload");
      // The same link and code on another device show the chat as it is.
      const phone = await person(browser, url);
      await enter(phone, seat);
      await line(phone, "best view").waitFor();
      await line(phone, "best view").locator(".tick").waitFor();
      await say(phone, "from my phone");
      await line(ann, "from my phone").waitFor();
      await line(ben, "from my phone").locator(".tick").waitFor();
      await ann.getByRole("button", { name: "End chat" }).click();
      await ann.getByRole("heading", { name: "End the chat?" }).waitFor();
      await shot(ann, "room-end");
      await fit(ann, "end?");
      await ann.getByRole("button", { name: "Cancel" }).click();
      await ann.getByRole("button", { name: "End chat" }).click();
      await ann.getByRole("dialog").getByRole("button", { name: "End chat" }).click();
      await ann.getByText("You ended the chat.").waitFor();
      for (const page of [ben, phone]) await page.getByText("Ann ended the chat.").waitFor();
      await shot(ben, "room-ended");
      await fit(ben, "ended");
      await ben.reload();
      await ben.getByLabel("Code").fill(seat.code);
      await ben.keyboard.press("Enter");
      await ben.getByText("This code does not open the chat").waitFor();
      const left = await ben.evaluate(() => JSON.stringify([{ ...sessionStorage }, { ...localStorage }]));
      equal(left, "[{},{}]", "what the browser keeps of an ended room");
      return [ann, ben, phone];
    },
  ],
  [
    "a room: what is written without a connection is sent when there is one",
    async ({ browser, url }) => {
      const [ann, ben] = [await person(browser, url), await person(browser, url)];
      const sockets = [];
      let online = true;
      await ben.routeWebSocket(/\/mqtt$/, (socket) => {
        sockets.push(socket);
        if (online) socket.connectToServer();
        else void socket.close({ code: 1001 });
      });
      const seat = await make(ann, "Ann", "Ben");
      await own(ann);
      await enter(ben, seat);
      await say(ben, "hello");
      await ticked(ben, "hello", "read");
      online = false;
      await sockets.at(-1).close({ code: 1001 });
      await say(ben, "first");
      await say(ben, "second");
      await line(ben, "second").locator(".tick.waiting").waitFor();
      await ben.getByText(/No connection/).waitFor();
      online = true;
      await ticked(ben, "second", "read");
      const texts = (await ann.locator(".line .text").allTextContents()).map((text) => text.trim());
      equal(texts, ["hello", "first", "second"], "what arrived");
      return [ann, ben];
    },
  ],
  [
    "a room: guesses are limited, and the page counts down",
    async ({ browser, url }) => {
      const ann = await person(browser, url);
      const { link } = await make(ann, "Ann", "Ben");
      await ann.goto(link);
      const wait = ann.getByText(/^\s*Wait \d:\d\d/);
      for (let guess = 1; (await wait.count()) === 0; guess += 1) {
        assert(guess <= 12, "twelve wrong codes and no wait");
        await ann.getByLabel("Code").fill(`AAAA-AAA${guess % 8 + 2}`);
        await Promise.all([ann.waitForResponse("**/api/seats"), ann.keyboard.press("Enter")]);
        await ann.getByRole("alert").filter({ hasText: "code" }).waitFor();
        await until("the answer", async () => (await ann.getByRole("button", { name: "Opening…" }).count()) === 0);
      }
      assert(await ann.getByRole("button", { name: "Open the chat" }).isDisabled(), "one can guess on");
      return [ann];
    },
  ],
  [
    "a room: a warning with a countdown before it ends of itself, and one may stay",
    async ({ browser }) => {
      const broker = new Broker("--set", "chat.room_idle_s=7", "--set", "chat.room_warning_s=6");
      await broker.start();
      const app = await serveApp(broker);
      try {
        const [ann, ben] = [await person(browser, app.url), await person(browser, app.url)];
        const seat = await make(ann, "Ann", "Ben");
        await own(ann);
        await enter(ben, seat);
        await ann.getByText(/the chat ends in\s+0:0\d/).waitFor();
        await shot(ann, "room-idle");
        await fit(ann, "about to end");
        await ann.getByRole("button", { name: "Keep it open" }).click();
        await ann.getByText(/the chat ends in\s+0:0\d/).waitFor({ state: "detached" });
        await ann.getByText("Nobody had written for a while.").waitFor();
        await ben.getByText("Nobody had written for a while.").waitFor();
        return [ann, ben];
      } finally {
        app.close();
        await broker.destroy();
      }
    },
  ],
  [
    "a room: over with the server, and the page says so",
    async ({ browser }) => {
      const broker = new Broker();
      await broker.start();
      const app = await serveApp(broker);
      try {
        const ann = await person(browser, app.url);
        await make(ann, "Ann", "Ben");
        await own(ann);
        await say(ann, "hello");
        await ticked(ann, "hello", "sent");
        await broker.stop("SIGKILL");
        await ann.getByText(/No connection|Connecting/).waitFor();
        await broker.start();
        await ann.getByText("It was ended, or its time was over.").waitFor();
        return [ann];
      } finally {
        app.close();
        await broker.destroy();
      }
    },
  ],
  [
    "a room: made, opened and talked in with the keyboard alone",
    async ({ browser, url }) => {
      const page = await person(browser, url, { viewport: { width: 900, height: 700 } });
      await page.goto("/");
      await page.getByLabel("Your name").waitFor();
      await page.keyboard.type("Ann");
      await page.keyboard.press("Tab");
      await page.keyboard.type("Ben");
      await page.keyboard.press("Enter");
      await page.getByRole("heading", { name: "The room is ready" }).waitFor();
      const focused = () => page.evaluate(() => document.activeElement?.getAttribute("aria-label") ?? document.activeElement?.textContent?.trim());
      for (let tab = 0; (await focused()) !== "Open the chat"; tab += 1) {
        assert(tab < 15, "the button is not reached by Tab");
        await page.keyboard.press("Tab");
      }
      await page.keyboard.press("Enter");
      await page.getByRole("textbox", { name: "Message" }).waitFor();
      await page.keyboard.type("one");
      await page.keyboard.press("Enter");
      await ticked(page, "one", "sent");
      await page.keyboard.type("two");
      await page.keyboard.press("Enter");
      await ticked(page, "two", "sent");
      // Back over the button for files to the newest message, up to the one before, and its menu.
      await page.keyboard.press("Shift+Tab");
      await page.keyboard.press("Shift+Tab");
      equal(await focused(), "More about this message", "what is before the field");
      await page.keyboard.press("ArrowUp");
      await page.keyboard.press("Enter");
      await page.getByRole("menu").waitFor();
      await page.keyboard.press("Escape");
      equal(await focused(), "More about this message", "where the focus is after the menu");
      await page.keyboard.press("Enter");
      await page.getByRole("menu").waitFor();
      await page.keyboard.press("End");
      await page.keyboard.press("Enter");
      await line(page, "This message was deleted").waitFor();
      equal(await line(page, "one").count(), 0, "what was deleted");
      return [page];
    },
  ],
];
