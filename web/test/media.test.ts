import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { download, FILE_TYPE, readFile, upload } from "../src/core/media.js";
import { bytes, summary } from "../src/ui/files.js";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const HASH = "ab".repeat(32);

/** A server of tus: it takes what `allow` says of each piece. */
class Tus {
  size = 0;
  have = 0;
  said: string[] = [];
  auth: string | null = "";
  metadata = "";
  allow: (piece: number) => number | "lost" | { status: number; body: object } = (piece) => piece;

  readonly get = (async (url: string, { method = "GET", headers = {}, body }: RequestInit) => {
    const head = new Headers(headers);
    this.said.push(`${method} ${url}`);
    this.auth = head.get("Authorization");
    if (method === "POST") {
      this.size = Number(head.get("Upload-Length"));
      this.metadata = head.get("Upload-Metadata") ?? "";
      return new Response(null, { status: 201, headers: { Location: "/api/media/uploads/7" } });
    }
    if (method === "HEAD") return new Response(null, { headers: { "Upload-Offset": String(this.have) } });
    expect(Number(head.get("Upload-Offset"))).toBe(this.have);
    const taken = this.allow((body as Blob).size);
    if (typeof taken === "object") return new Response(JSON.stringify(taken.body), { status: taken.status });
    if (taken === "lost") {
      // It arrived in part, and nobody heard so.
      this.have += 1000;
      throw new TypeError("network");
    }
    this.have += taken;
    const whole = this.have === this.size ? { "Tidings-Media": HASH } : undefined;
    return new Response(null, { status: 204, headers: { "Upload-Offset": String(this.have), ...whole } });
  }) as unknown as typeof fetch;
}

const file = (size: number, progress = (_: number) => {}) => ({
  data: new Blob([new Uint8Array(size)]),
  chat: "@bob",
  name: "Kätzchen.jpg",
  type: "image/jpeg",
  bearer: "token",
  progress,
  signal: new AbortController().signal,
});

describe("an upload", () => {
  it("goes in pieces, tells how far it is, and says whose it is", async () => {
    const tus = new Tus();
    const told: number[] = [];
    const size = 2.5 * 1024 * 1024;
    expect(await upload(file(size, (sent) => told.push(sent)), tus.get)).toBe(HASH);
    expect(told).toEqual([1024 * 1024, 2 * 1024 * 1024, size]);
    expect(tus.auth).toBe("Bearer token");
    const [chat, , name] = tus.metadata.split(",").map((pair) => pair.split(" ")[1] ?? "");
    expect(Buffer.from(chat ?? "", "base64").toString()).toBe("@bob");
    expect(Buffer.from(name ?? "", "base64").toString()).toBe("Kätzchen.jpg");
  });

  it("goes on where the connection broke off, and sends nothing twice", async () => {
    const tus = new Tus();
    let piece = 0;
    tus.allow = (size) => ((piece += 1) === 2 ? "lost" : size);
    const done = upload(file(3 * 1024 * 1024), tus.get);
    await vi.advanceTimersByTimeAsync(1_000);
    expect(await done).toBe(HASH);
    expect(tus.said.filter((one) => one.startsWith("POST"))).toHaveLength(1);
    expect(tus.said.filter((one) => one.startsWith("HEAD"))).toHaveLength(2);
  });

  it("is given up where the server says no, and after some tries without an answer", async () => {
    const tus = new Tus();
    tus.allow = () => ({ status: 413, body: { code: "size", text: "too large" } });
    await expect(upload(file(10), tus.get)).rejects.toMatchObject({ code: "size", message: "too large" });
    const dead = (async () => {
      throw new TypeError("network");
    }) as unknown as typeof fetch;
    const failed = expect(upload(file(10), dead)).rejects.toThrow("network");
    await vi.advanceTimersByTimeAsync(60_000);
    await failed;
  });

  it("begins anew where the upload is gone, and not for ever", async () => {
    const tus = new Tus();
    let posts = 0;
    const get = (async (url: string, init: RequestInit) => {
      if (init.method === "POST") [posts, tus.have] = [posts + 1, 0];
      if (init.method === "HEAD" && posts === 1) return new Response("{}", { status: 404 });
      return await tus.get(url, init);
    }) as unknown as typeof fetch;
    const done = upload(file(10), get);
    await vi.advanceTimersByTimeAsync(1_000);
    expect([await done, posts]).toEqual([HASH, 2]);
    const never = (async (_: string, { method }: RequestInit) =>
      method === "POST"
        ? new Response(null, { status: 201, headers: { Location: "/x" } })
        : new Response("{}", { status: 404 })) as unknown as typeof fetch;
    const failed = expect(upload(file(10), never)).rejects.toMatchObject({ status: 404 });
    await vi.advanceTimersByTimeAsync(60_000);
    await failed;
  });

  it("waits as long as it is told to", async () => {
    const tus = new Tus();
    let first = true;
    tus.allow = (size) => {
      if (!first) return size;
      first = false;
      return { status: 429, body: { code: "limit", text: "slow", retry_after: 5_000 } };
    };
    const done = upload(file(10), tus.get);
    await vi.advanceTimersByTimeAsync(4_900);
    expect(tus.have).toBe(0);
    await vi.advanceTimersByTimeAsync(200);
    expect(await done).toBe(HASH);
  });
});

it("fetches by hash, for a chat", async () => {
  const asked: string[] = [];
  const get = (async (url: string) => {
    asked.push(url);
    return new Response("bytes");
  }) as unknown as typeof fetch;
  expect(await (await download(HASH, "@bob", "t", get)).text()).toBe("bytes");
  expect(asked).toEqual([`/api/media/${HASH}?chat=%40bob`]);
});

describe("a message with a file", () => {
  it("is read with care", () => {
    const note = { media: HASH, name: "cat.jpg", type: "image/jpeg", size: 7, width: 4, height: 3, thumb: "AAAA" };
    expect(readFile(JSON.stringify(note))).toEqual(note);
    expect(readFile(JSON.stringify({ media: HASH, width: -1, height: "3", thumb: "<script>", name: 7 }))).toEqual({
      media: HASH,
      name: "file",
      type: "application/octet-stream",
      size: 0,
    });
    for (const text of ["", "{", "null", "7", "[]", '{"media":"../../etc"}', '{"media":7}']) {
      expect(readFile(text)).toBeUndefined();
    }
  });

  it("is told in one line", () => {
    const text = JSON.stringify({ media: HASH, name: "a.pdf", type: "application/pdf" });
    expect(summary({ text, type: FILE_TYPE, deleted: false })).toBe("a.pdf");
    expect(summary({ text: "{}", type: FILE_TYPE, deleted: false })).toBe("{}");
    expect(summary({ text, type: FILE_TYPE, deleted: true })).toBe("deleted");
    expect([0, 999, 1_400, 26_214_400].map(bytes)).toEqual(["0 bytes", "999 bytes", "1.4 KB", "26 MB"]);
  });
});
