// What the end-to-end tests share: a browser, people in contexts of their own, pictures.

import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { chromium } from "playwright-core";

export const WAIT_MS = 15_000;
const shots = process.env.SHOTS && resolve(process.env.SHOTS);
if (shots) mkdirSync(shots, { recursive: true });

export async function launch() {
  return await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"],
  });
}

/** A person: a context of its own. What the page complains of fails the test. */
export async function person(browser, url, options = {}) {
  const context = await browser.newContext({ viewport: { width: 390, height: 780 }, baseURL: url, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(WAIT_MS);
  page.complaints = [];
  page.on("pageerror", (error) => page.complaints.push(`${error.message}\n${error.stack}`));
  page.on("console", (message) => {
    // A refused code is an answer of the server, which the browser reports by itself.
    const expected = /Failed to load resource|WebSocket connection to|WebSocket is already in CLOSING/.test(message.text());
    if (message.type() === "error" && !expected) page.complaints.push(message.text());
  });
  return page;
}

/** Takes a picture of the page in both colour schemes, where SHOTS names a folder. */
export async function shot(page, name) {
  if (!shots) return;
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    await page.screenshot({ path: join(shots, `${name}-${colorScheme}.png`) });
  }
  await page.emulateMedia({ colorScheme: null });
}

export function assert(holds, text) {
  if (!holds) throw new Error(text);
}

export function equal(found, expected, text) {
  const [a, b] = [JSON.stringify(found), JSON.stringify(expected)];
  assert(a === b, `${text}: expected ${b}, found ${a}`);
}

/** Until it holds, for as long as anything may take. */
export async function until(what, holds) {
  const end = Date.now() + WAIT_MS;
  for (;;) {
    const found = await holds();
    if (found) return found;
    if (Date.now() > end) throw new Error(`it never came about: ${what}`);
    await new Promise((next) => setTimeout(next, 40));
  }
}

export const say = async (page, text) => {
  await page.getByRole("textbox", { name: "Message" }).fill(text);
  await page.keyboard.press("Enter");
};

export const line = (page, text) => page.locator(".line", { hasText: text });

/** The message with this text has this tick. */
export const ticked = (page, text, tick) => line(page, text).locator(`.tick.${tick}`).waitFor();

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** What a page must be wherever one looks: accessible in both colour schemes, and no wider than a small phone. */
export async function fit(page, where) {
  await page.evaluate(axe);
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    const findings = await page.evaluate(async () => {
      const { violations } = await window.axe.run(document, {
        runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
      });
      return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 160)).join(" | ")}`);
    });
    equal(findings, [], `axe on ${where}, ${colorScheme}`);
  }
  await page.emulateMedia({ colorScheme: null });
  const size = page.viewportSize();
  await page.setViewportSize({ width: 320, height: 640 });
  const wide = await page.evaluate(() =>
    [...document.querySelectorAll("body *")]
      .filter((element) => !element.closest(".hidden") && element.getBoundingClientRect().right > innerWidth + 1)
      .map((element) => element.outerHTML.slice(0, 120)),
  );
  equal(wide, [], `what is wider than 320 px on ${where}`);
  await page.setViewportSize(size);
}
