import { defineConfig } from "vitest/config";

// While developing, everything but the app is asked of a `tidings serve` (TIDINGS names its HTTP
// listener).
const server = process.env.TIDINGS ?? "http://127.0.0.1:8080";

export default defineConfig({
  build: {
    target: "es2022",
    // What a page loads is a file of ours: no part of it stands in another as data.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
  test: { include: ["test/**/*.test.ts"], reporters: ["default", "./test/count.ts"] },
  server: {
    proxy: { "/api": server, "/mqtt": { target: server, ws: true } },
  },
});
