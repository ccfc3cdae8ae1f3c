// Whether `dist` is what the sources make: builds to a temporary folder and compares.

import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { build } from "vite";

const root = resolve(import.meta.dirname, "..");
const made = mkdtempSync(join(tmpdir(), "tidings-dist-"));

function files(folder) {
  const all = readdirSync(folder, { recursive: true }).filter((name) => statSync(join(folder, name)).isFile());
  return new Map(all.sort().map((name) => [name, readFileSync(join(folder, name))]));
}

await build({ root, logLevel: "error", build: { outDir: made, emptyOutDir: true } });
const [is, should] = [files(join(root, "dist")), files(made)];
rmSync(made, { recursive: true });
const wrong = [...new Set([...is.keys(), ...should.keys()])].filter((name) => {
  const [a, b] = [is.get(name), should.get(name)];
  return !a || !b || !a.equals(b);
});
for (const name of wrong) {
  const how = is.has(name) ? (should.has(name) ? "differs" : "is left over") : "is missing";
  console.error(`dist/${name} ${how}`);
}
if (wrong.length > 0) {
  console.error("dist is not what the sources make: run `npm run build` in web/ and commit dist");
  process.exit(1);
}
console.log(`dist is what the sources make: ${is.size} files`);
