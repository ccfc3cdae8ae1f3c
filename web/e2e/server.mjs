// A `tidings serve` of its own for each run: ports given by the system, data in a temporary folder.

import { spawn } from "node:child_process";
import { createReadStream, existsSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { extname, join, resolve } from "node:path";

const root = resolve(import.meta.dirname, "../..");
const target = process.env.CARGO_TARGET_DIR ?? join(root, "target");
const binary =
  process.env.TIDINGS_BIN ??
  [join(target, "release/tidings"), join(target, "debug/tidings")].find((path) => existsSync(path));

/** A broker that can be killed and started again with the same data and ports. */
export class Broker {
  #args;
  #process;
  data = mkdtempSync(join(tmpdir(), "tidings-web-"));

  constructor(...args) {
    this.#args = args;
  }

  async start(ports = { listen: 0, ws: 0 }) {
    const args = ["serve", "--data", this.data, "--listen", `127.0.0.1:${ports.listen}`];
    args.push("--set", `listen_ws=["127.0.0.1:${ports.ws}"]`, "--set", "chat.pairing=true", ...this.#args);
    this.#process = spawn(binary, args, { stdio: ["ignore", "pipe", "pipe"] });
    let said = "";
    await new Promise((ready, failed) => {
      const hear = (chunk) => {
        said += chunk;
        const ws = /[^a-z]ws:\/\/127\.0\.0\.1:(\d+)/.exec(said);
        const mqtt = /[^a-z]mqtt:\/\/127\.0\.0\.1:(\d+)/.exec(said);
        if (ws && mqtt) {
          this.ports = { listen: Number(mqtt[1]), ws: Number(ws[1]) };
          ready();
        }
      };
      this.#process.stdout.on("data", hear);
      this.#process.stderr.on("data", hear);
      this.#process.once("exit", (code) => failed(new Error(`tidings ended with ${code}: ${said}`)));
    });
    this.#process.removeAllListeners("exit");
  }

  async stop(signal = "SIGTERM") {
    if (!this.#process) return;
    const ended = new Promise((resolve) => this.#process.once("exit", resolve));
    this.#process.kill(signal);
    await ended;
    this.#process = undefined;
  }

  async restart() {
    await this.stop("SIGKILL");
    await this.start(this.ports);
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

/** The app of `dist`, and what it asks for, until the binary serves both itself. */
export async function serveApp(broker) {
  const dist = process.env.DIST ?? resolve(import.meta.dirname, "../dist");
  const server = createServer((request, response) => {
    const path = new URL(request.url, "http://x").pathname;
    response.setHeader("content-security-policy", CSP);
    if (path === "/api/config") {
      response.setHeader("content-type", "application/json");
      return response.end(JSON.stringify({ version: "0", open: true, pairing: true, rooms: false, media_bytes_max: 0, ice_servers: [] }));
    }
    if (path === "/api/login") {
      let body = "";
      request.on("data", (chunk) => (body += chunk));
      return request.on("end", () => {
        response.setHeader("content-type", "application/json");
        response.end(JSON.stringify({ user: JSON.parse(body).user, token: "open", expires: 0 }));
      });
    }
    const file = join(dist, /^\/(assets\/[\w.-]+|icon\.svg)$/.test(path) ? path : "index.html");
    if (!existsSync(file)) return response.writeHead(404).end();
    response.setHeader("content-type", TYPES[extname(file)] ?? "application/octet-stream");
    createReadStream(file).pipe(response);
  });
  server.on("upgrade", (request, socket, head) => {
    const upstream = connect(broker.ports.ws, "127.0.0.1", () => {
      const headers = Object.entries(request.headers).map(([name, value]) => `${name}: ${value}\r\n`);
      upstream.write(`GET ${request.url} HTTP/1.1\r\n${headers.join("")}\r\n`);
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


