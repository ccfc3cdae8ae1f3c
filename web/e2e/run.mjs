// End-to-end tests: a real `tidings`, a real browser. `node e2e/run.mjs [PART OF A NAME]`; SHOTS
// names a folder for pictures, TIDINGS_BIN the binary. Prints `N passed, N failed` last.

import { launch, shot, assert } from "./harness.mjs";
import { Broker, serveApp } from "./server.mjs";
import admin from "./admin.mjs";
import budget from "./budget.mjs";
import files from "./files.mjs";
import messenger from "./messenger.mjs";
import rooms from "./rooms.mjs";
import strangers from "./strangers.mjs";

const [wanted = ""] = process.argv.slice(2);
const tests = [...budget, ...rooms, ...strangers, ...messenger, ...files, ...admin].filter(([name]) => name.includes(wanted));
const broker = new Broker(...(process.env.TIDINGS_ARGS ?? "").split(" ").filter(Boolean));
await broker.start();
const app = await serveApp(broker);
const browser = await launch();
let [passed, failed] = [0, 0];
for (const [name, run] of tests) {
  const began = Date.now();
  let pages = [];
  try {
    pages = (await run({ browser, url: app.url, broker })) ?? [];
    const complaints = pages.flatMap((page) => page.complaints);
    assert(complaints.length === 0, `the page complained: ${complaints.join("; ")}`);
    console.log(`ok    ${name} (${Date.now() - began} ms)`);
    passed += 1;
  } catch (error) {
    console.log(`FAIL  ${name}: ${error.stack}`);
    let count = 0;
    for (const context of browser.contexts()) {
      for (const page of context.pages()) {
        console.log(`      page ${page.url()}: ${page.complaints?.join("; ")}`);
        await shot(page, `failed-${(count += 1)}`).catch(() => undefined);
      }
    }
    failed += 1;
  }
  for (const context of browser.contexts()) await context.close();
}
await browser.close();
app.close();
await broker.destroy();
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed > 0 || passed === 0 ? 1 : 0);
