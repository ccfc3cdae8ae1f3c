// Images and files: sent and seen in a room and in the messenger, also where the connection breaks.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { equal, fit, line, person, shot, until } from "./harness.mjs";
import { make, enter as takeSeat, own } from "./rooms.mjs";
import { begin, enter, names, openChat, wide } from "./messenger.mjs";

/** A picture that is no two times the same, drawn by the browser. */
async function picture(page, name) {
  const data = await page.evaluate(() => {
    const canvas = Object.assign(document.createElement("canvas"), { width: 800, height: 600 });
    const context = canvas.getContext("2d");
    const sky = context.createLinearGradient(0, 0, 0, 600);
    sky.addColorStop(0, "#3a6ea5");
    sky.addColorStop(1, `hsl(${Math.random() * 60}, 80%, 75%)`);
    context.fillStyle = sky;
    context.fillRect(0, 0, 800, 600);
    context.fillStyle = "#22313f";
    context.beginPath();
    for (const [x, y] of [[0, 600], [0, 430], [180, 250], [320, 400], [500, 160], [800, 470], [800, 600]]) context.lineTo(x, y);
    context.fill();
    return canvas.toDataURL("image/png").split(",")[1];
  });
  return { name, mimeType: "image/png", buffer: Buffer.from(data, "base64") };
}

const choose = (page, file) => page.getByLabel("Send an image or a file").setInputFiles(file);

/** The image is drawn, at its full size. */
const seen = (page, name) =>
  until(`${name} is seen`, () =>
    page.getByAltText(name).evaluateAll((images) => images.some((image) => image.src.startsWith("blob:") && image.complete && image.naturalWidth === 800)),
  );

export default [
  [
    "a room: an image is sent and seen, and gone with the room",
    async ({ browser, url }) => {
      const [ann, ben] = [await person(browser, url), await person(browser, url)];
      const seat = await make(ann, "Ann", "Ben");
      await own(ann);
      await ann.getByRole("textbox", { name: "Message" }).waitFor();
      await takeSeat(ben, seat);
      await choose(ann, await picture(ann, "summit.png"));
      await seen(ann, "summit.png");
      await seen(ben, "summit.png");
      await ann.locator(".line .tick.read").waitFor();
      await shot(ben, "room-image");
      await fit(ben, "an image in a chat");
      await ben.getByRole("button", { name: "Show summit.png" }).click();
      await ben.getByRole("dialog", { name: "summit.png" }).getByRole("img").waitFor();
      await fit(ben, "an image at its full size");
      await ben.getByRole("button", { name: "Close" }).click();
      await ben.reload();
      await seen(ben, "summit.png");
      await ann.getByRole("button", { name: "End chat" }).click();
      await ann.getByRole("dialog").getByRole("button", { name: "End chat" }).click();
      await ben.getByText("Ann ended the chat.").waitFor();
      return [ann, ben];
    },
  ],
  [
    "messenger: a file arrives byte for byte although the connection breaks three times, and an image after it",
    async ({ browser, url }) => {
      const [alice, bob] = names("alice", "bob");
      const [a, b] = [await person(browser, url, wide), await person(browser, url, { acceptDownloads: true })];
      await enter(b, bob);
      await enter(a, alice);
      await begin(a, bob);
      const bytes = Buffer.from(Uint8Array.from({ length: 3_000_000 }, (_, n) => (n * 7919 + (n >> 8)) & 255));
      let pieces = 0;
      await a.route("**/api/media/uploads/*", async (route) => {
        if (route.request().method() !== "PATCH") return await route.continue();
        pieces += 1;
        // One never arrives; of two others, the last one too, nobody hears that they did.
        if (pieces === 2) return await route.abort("connectionreset");
        if (pieces === 3 || pieces === 4) {
          await route.fetch();
          return await route.abort("connectionreset");
        }
        await route.continue();
      });
      await choose(a, { name: "notes.bin", mimeType: "application/x-notes", buffer: bytes });
      await line(b, "notes.bin").or(b.getByText("notes.bin")).first().waitFor();
      await openChat(b, alice);
      const [saved] = await Promise.all([b.waitForEvent("download"), b.getByRole("button", { name: "notes.bin" }).click()]);
      equal(saved.suggestedFilename(), "notes.bin", "the name of the file");
      const hash = (data) => createHash("sha256").update(data).digest("hex");
      equal(hash(readFileSync(await saved.path())), hash(bytes), "the file");
      await choose(a, await picture(a, "lake.png"));
      await seen(b, "lake.png");
      await a.getByText("Picture lake.png").waitFor();
      await shot(a, "messenger-files");
      await fit(a, "files in the messenger");
      return [a, b];
    },
  ],
  [
    "a file that is too large, or empty, is refused before it is sent",
    async ({ browser, url }) => {
      const ann = await person(browser, url);
      await make(ann, "Ann", "Ben");
      await own(ann);
      await ann.getByRole("textbox", { name: "Message" }).waitFor();
      await choose(ann, { name: "nothing.txt", mimeType: "text/plain", buffer: Buffer.alloc(0) });
      await ann.getByText("It is empty.").waitFor();
      await choose(ann, { name: "huge.bin", mimeType: "text/plain", buffer: Buffer.alloc(26_214_401) });
      await ann.getByText("It is larger than 26 MB.").waitFor();
      await fit(ann, "files that were refused");
      await ann.getByRole("button", { name: "Discard" }).first().click();
      await ann.getByRole("button", { name: "Discard" }).click();
      equal(await ann.locator(".sending").count(), 0, "what is left");
      return [ann];
    },
  ],
];
