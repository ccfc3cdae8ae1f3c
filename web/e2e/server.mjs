// A `tidings serve` of its own for each run: ports given by the system, data in a temporary folder.

import { spawn } from "node:child_process";
import { createReadStream, existsSync, mkdtempSync, rmSync } from "node:fs";
import { createServer, request } from "node:http";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { extname, join, resolve } from "node:path";

const root = resolve(import.meta.dirname, "../..");
const target = process.env.CARGO_TARGET_DIR ?? join(root, "target");
const binary =
  process.env.TIDINGS_BIN ??
  [join(target, "release/tidings"), join(target, "debug/tidings")].find((path) => existsSync(path));

/** A server that can be killed and started again with the same data and ports. */
export class Broker {
  #args;
  #process;
  data = mkdtempSync(join(tmpdir(), "tidings-web-"));
  ports = { mqtt: 0, http: 0 };

  constructor(...args) {
    this.#args = args;
  }

  async start() {
    const { mqtt, http } = this.ports;
    const args = ["serve", "--data", this.data, "--listen", `127.0.0.1:${mqtt}`, "--http", `127.0.0.1:${http}`];
    args.push("--set", "chat.pairing=on", ...this.#args);
    this.#process = spawn(binary, args, { stdio: ["ignore", "pipe", "pipe"] });
    let said = "";
    await new Promise((ready, failed) => {
      const hear = (chunk) => {
        said += chunk;
        const ports = ["mqtt", "http"].map((scheme) => new RegExp(`\\b${scheme}://127\\.0\\.0\\.1:(\\d+)`).exec(said)?.[1]);
        if (!ports.every(Boolean)) return;
        this.ports = { mqtt: Number(ports[0]), http: Number(ports[1]) };
        ready();
      };
      this.#process.stdout.on("data", hear);
      this.#process.stderr.on("data", hear);
      this.#process.once("exit", (code) => failed(new Error(`tidings ended with ${code}: ${said}`)));
    });
    this.#process.removeAllListeners("exit");
  }

  get url() {
    return `http://127.0.0.1:${this.ports.http}`;
  }

  async stop(signal = "SIGTERM") {
    if (!this.#process) return;
    const ended = new Promise((resolve) => this.#process.once("exit", resolve));
    this.#process.kill(signal);
    await ended;
    this.#process = undefined;
  }

  async destroy() {
    await this.stop("SIGKILL");
    rmSync(this.data, { recursive: true, force: true });
  }
}

const TYPES = { ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml" };
const CSP =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src blob:; " +
  "connect-src 'self' ws:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/** The app as the binary serves it; of a binary without it, from `dist`. */
export async function serveApp(broker) {
  const page = await fetch(broker.url);
  // FROM_DIST spares the time to build the binary anew.
  const embedded = !process.env.FROM_DIST;
  if (embedded && page.ok && page.headers.get("content-type")?.startsWith("text/html")) {
    return { url: broker.url, close: () => undefined };
  }
  console.log("      the app is served from dist, its API and MQTT by the binary");
  const dist = resolve(import.meta.dirname, "../dist");
  const server = createServer((incoming, response) => {
    const path = new URL(incoming.url, "http://x").pathname;
    response.setHeader("content-security-policy", CSP);
    if (path.startsWith("/api/")) {
      const { method, headers } = incoming;
      const outgoing = request({ host: "127.0.0.1", port: broker.ports.http, path: incoming.url, method, headers }, (answer) => {
        response.writeHead(answer.statusCode, answer.headers);
        answer.pipe(response);
      });
      outgoing.on("error", () => response.writeHead(502).end());
      return incoming.pipe(outgoing);
    }
    const file = join(dist, /^\/(assets\/[\w.-]+|icon\.svg)$/.test(path) ? path : "index.html");
    if (!existsSync(file)) return response.writeHead(404).end();
    response.setHeader("content-type", TYPES[extname(file)] ?? "application/octet-stream");
    createReadStream(file).pipe(response);
  });
  server.on("upgrade", (incoming, socket, head) => {
    const upstream = connect(broker.ports.http, "127.0.0.1", () => {
      const headers = Object.entries(incoming.headers).map(([name, value]) => `${name}: ${value}\r\n`);
      upstream.write(`GET ${incoming.url} HTTP/1.1\r\n${headers.join("")}\r\n`);
      upstream.write(head);
      upstream.pipe(socket).pipe(upstream);
    });
    upstream.on("error", () => socket.destroy());
    socket.on("error", () => upstream.destroy());
    upstream.on("close", () => socket.destroy());
    socket.on("close", () => upstream.destroy());
  });
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  return { url: `http://127.0.0.1:${server.address().port}`, close: () => server.close() };
}
