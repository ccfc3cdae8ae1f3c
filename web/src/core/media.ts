// Files: sent by tus 1.0, which goes on where a connection broke off, and fetched by their hash.

import { ChatError, isCount, isObject, type Json } from "./entry.js";

/** The Content Type of a message that carries a file. */
export const FILE_TYPE = "application/vnd.tidings.file+json";

const PIECE_BYTES = 1024 * 1024;
const TRIES = 6;
const FIRST_WAIT_MS = 500;

export interface FileNote {
  readonly media: string;
  readonly name: string;
  readonly type: string;
  readonly size: number;
  readonly width?: number;
  readonly height?: number;
  /** A small picture of it, in base64. */
  readonly thumb?: string;
  readonly text?: string;
}

/** What a message says of its file; nothing where it is not understood. */
export function readFile(text: string): FileNote | undefined {
  let said: unknown;
  try {
    said = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!isObject(said) || typeof said.media !== "string" || !/^[0-9a-f]{64}$/.test(said.media)) return undefined;
  const { media, name, type, size, width, height, thumb } = said;
  const side = (value: unknown) => isCount(value) && value > 0 && value <= 65_535;
  const small = typeof thumb === "string" && thumb.length <= 16_384 && /^[A-Za-z0-9+/]+=*$/.test(thumb);
  return {
    media,
    name: typeof name === "string" && name !== "" ? name.slice(0, 200) : "file",
    type: typeof type === "string" ? type : "application/octet-stream",
    size: isCount(size) ? size : 0,
    ...(side(width) && side(height) && { width: width as number, height: height as number }),
    ...(small && { thumb }),
    ...(typeof said.text === "string" && { text: said.text }),
  };
}

export interface Upload {
  readonly data: Blob;
  readonly chat: string;
  readonly name: string;
  readonly type: string;
  readonly bearer: string;
  readonly progress: (sent: number) => void;
  readonly signal: AbortSignal;
}

const base64 = (text: string): string => btoa(String.fromCharCode(...new TextEncoder().encode(text)));

/** Sends all of it, and resolves with its hash. What is sent already is not sent again. */
export async function upload(file: Upload, get: typeof fetch = fetch): Promise<string> {
  const common = { "Tus-Resumable": "1.0.0", Authorization: `Bearer ${file.bearer}` };
  let place: string | undefined;
  for (let tries = 0; ; ) {
    try {
      if (place === undefined) {
        const { chat, type, name } = file;
        const said = Object.entries({ chat, type, name }).map(([key, value]) => `${key} ${base64(value)}`);
        const made = await get("/api/media", {
          method: "POST",
          headers: { ...common, "Upload-Length": String(file.data.size), "Upload-Metadata": said.join(",") },
          signal: file.signal,
        });
        await accepted(made);
        const whole = made.headers.get("Tidings-Media");
        if (whole) return whole;
        place = made.headers.get("Location") ?? undefined;
        if (place === undefined) throw new ChatError("unavailable", "The server does not say where the file goes.");
      }
      return await rest(place, file, common, get, () => (tries = 0));
    } catch (error) {
      // An upload that is not there any more was whole and nobody heard so, or too old: it begins anew.
      const gone = place !== undefined && error instanceof ChatError && error.status === 404;
      if (gone) place = undefined;
      const passes = gone || !(error instanceof ChatError) || error.retryAfter !== undefined;
      tries += 1;
      if (file.signal.aborted || !passes || tries > TRIES) throw error;
      const wait = error instanceof ChatError ? (error.retryAfter ?? 0) : FIRST_WAIT_MS * 2 ** (tries - 1);
      await new Promise((next) => setTimeout(next, wait));
    }
  }
}

/** From where the server is, piece after piece. */
async function rest(
  place: string,
  { data, progress, signal }: Upload,
  common: Record<string, string>,
  get: typeof fetch,
  moved: () => void,
): Promise<string> {
  const asked = await get(place, { method: "HEAD", headers: common, signal });
  await accepted(asked);
  let offset = Number(asked.headers.get("Upload-Offset"));
  for (;;) {
    const sent = await get(place, {
      method: "PATCH",
      headers: { ...common, "Upload-Offset": String(offset), "Content-Type": "application/offset+octet-stream" },
      body: data.slice(offset, offset + PIECE_BYTES),
      signal,
    });
    await accepted(sent);
    const next = Number(sent.headers.get("Upload-Offset"));
    const whole = sent.headers.get("Tidings-Media");
    progress(whole ? data.size : next);
    if (whole) return whole;
    if (!(next > offset)) throw new ChatError("unavailable", "The server does not take the file.");
    offset = next;
    moved();
  }
}

async function accepted(answer: Response): Promise<void> {
  if (answer.ok) return;
  const said: unknown = await answer.json().catch(() => undefined);
  const { code, text, retry_after: wait } = isObject(said) ? said : ({} as Json);
  // What another try may mend is no verdict.
  const passes = answer.status >= 500 || answer.status === 409 || answer.status === 423;
  throw new ChatError(
    typeof code === "string" ? code : "unavailable",
    typeof text === "string" ? text : `The server answered ${answer.status}.`,
    isCount(wait) ? wait : passes ? FIRST_WAIT_MS : undefined,
    answer.status,
  );
}

/** Fetches a file that a message of a chat carries. */
export async function download(media: string, chat: string, bearer: string, get: typeof fetch = fetch): Promise<Blob> {
  const answer = await get(`/api/media/${media}?chat=${encodeURIComponent(chat)}`, {
    headers: { Authorization: `Bearer ${bearer}` },
  });
  await accepted(answer);
  return await answer.blob();
}
