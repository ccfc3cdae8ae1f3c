// What the server tells of a chat, as `docs/protocol.md` has it, read with care: a field of the
// wrong kind makes an entry nobody sees, never an exception.

export interface Entry {
  readonly seq: number;
  readonly from: string;
  readonly time: number;
  readonly id: string;
  readonly text?: string;
  readonly data?: string;
  readonly type?: string;
  readonly kind?: string;
  readonly ref?: number;
  readonly expires?: number;
}

export type Json = Record<string, unknown>;

export function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

function text(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}

/** An entry, or nothing where what came is none. */
export function readEntry(value: unknown): Entry | undefined {
  if (!isObject(value) || !isCount(value.seq) || value.seq === 0) return undefined;
  const from = text(value.from);
  if (from === undefined) return undefined;
  return {
    seq: value.seq,
    from,
    time: isCount(value.time) ? value.time : 0,
    id: text(value.id) ?? "",
    ...(text(value.text) !== undefined && { text: text(value.text) }),
    ...(text(value.data) !== undefined && { data: text(value.data) }),
    ...(text(value.type) !== undefined && { type: text(value.type) }),
    ...(text(value.kind) !== undefined && { kind: text(value.kind) }),
    ...(isCount(value.ref) && { ref: value.ref }),
    ...(isCount(value.expires) && { expires: value.expires }),
  } as Entry;
}

export function readEntries(value: unknown): Entry[] {
  return Array.isArray(value) ? value.flatMap((one) => readEntry(one) ?? []) : [];
}

export type Range = readonly [from: number, to: number];

/** Pairs of numbers, both ends included, such as `gone` of a history. */
export function readRanges(value: unknown): Range[] {
  if (!Array.isArray(value)) return [];
  return value.flatMap((pair: unknown) =>
    Array.isArray(pair) && isCount(pair[0]) && isCount(pair[1]) && pair[0] <= pair[1]
      ? [[pair[0], pair[1]] as const]
      : [],
  );
}

export function readJson(payload: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(payload));
  } catch {
    return undefined;
  }
}

/** The reason behind a refusal; act on `code`, the sentence is for people. */
export class ChatError extends Error {
  constructor(
    readonly code: string,
    text: string,
    /** After how many ms trying again may help. */
    readonly retryAfter?: number,
    /** Of HTTP, where it came from there. */
    readonly status?: number,
  ) {
    super(text);
    this.name = "ChatError";
  }
}

const LETTERS = "0123456789abcdefghijklmnopqrstuvwxyz";

/** A name nobody else makes up: 16 letters, 82 bits. */
export function randomId(length = 16): string {
  // Of 256 values the last four would make some letters likelier than others.
  let id = "";
  while (id.length < length) {
    for (const byte of crypto.getRandomValues(new Uint8Array(length))) {
      if (byte < 252 && id.length < length) id += LETTERS[byte % 36];
    }
  }
  return id;
}
