// MQTT.js in Node against a running broker: `mqttjs_check.mjs mqtt://HOST:PORT [CA-FILE]`.
//
// The URL may also begin with mqtts, ws or wss. Each check runs in MQTT 3.1.1 and in 5.0. Prints a
// line per check and `N passed, N failed` last.

import { readFileSync } from "node:fs";
import { run } from "./checks.mjs";

const [url, caFile] = process.argv.slice(2);
const options = caFile === undefined ? {} : { ca: readFileSync(caFile) };
const label = `MQTT.js over ${new URL(url).protocol.slice(0, -1)}`;
const { passed, failed } = await run(url, label, console.log, options);
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed > 0 ? 1 : 0);
