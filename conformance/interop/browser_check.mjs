// MQTT.js in a browser against a running broker: `browser_check.mjs ws://HOST:PORT/mqtt`.
//
// A page served from this machine runs the checks of `checks.mjs` in a headless Chromium, the
// system's own (CHROMIUM names another one). Prints a line per check and `N passed, N failed` last.

import { createReadStream } from "node:fs";
import { createServer } from "node:http";
import { chromium } from "playwright-core";

const [url] = process.argv.slice(2);
const PAGE = `<!doctype html><meta charset="utf-8"><title>MQTT.js</title>
<script type="importmap">{ "imports": { "mqtt": "/mqtt.js" } }</script>`;
const FILES = {
  "/checks.mjs": new URL("checks.mjs", import.meta.url),
  "/mqtt.js": new URL("node_modules/mqtt/dist/mqtt.esm.js", import.meta.url),
};

const server = createServer((request, response) => {
  const file = FILES[request.url];
  response.setHeader("content-type", file ? "text/javascript" : "text/html");
  if (file) createReadStream(file).pipe(response);
  else response.end(PAGE);
});
await new Promise((listening) => server.listen(0, "127.0.0.1", listening));

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox"],
});
const page = await browser.newPage();
page.on("pageerror", (error) => console.log(`page: ${error.message}`));
await page.exposeFunction("printLine", (line) => console.log(line));
await page.goto(`http://127.0.0.1:${server.address().port}/`);
const { passed, failed } = await page.evaluate(
  async (broker) => (await import("/checks.mjs")).run(broker, "browser", window.printLine),
  url,
);
await browser.close();
server.close();
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed > 0 ? 1 : 0);
