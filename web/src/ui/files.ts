// Images and files in a chat: chosen, made small, sent with their progress, shown and saved.

import { html, nothing, type TemplateResult } from "lit";
import type { Chat, Item } from "../core/chat.js";
import { ChatError } from "../core/entry.js";
import { download, FILE_TYPE, readFile, upload, type FileNote } from "../core/media.js";
import type { Session } from "../core/session.js";
import { Watched } from "../core/watched.js";
import { icons } from "./icons.js";

/** What browsers show safely as a picture; everything else is to be saved. */
const PICTURES = new Set(["image/jpeg", "image/png", "image/webp", "image/gif", "image/avif"]);
const THUMB_BYTES_MAX = 6 * 1024;
const THUMB_SIDE = 240;
/** Up to this size a picture is fetched without being asked for. */
const FETCH_BYTES_MAX = 5 * 1024 * 1024;
/** How many files are held in memory; the oldest goes. */
const HELD_MAX = 40;

interface Sending {
  readonly name: string;
  readonly size: number;
  readonly stop: AbortController;
  sent: number;
  error?: string;
}

/** "1.4 MB" */
export function bytes(size: number): string {
  const units = ["bytes", "KB", "MB", "GB"];
  let [value, unit] = [size, 0];
  while (value >= 1000 && unit < units.length - 1) [value, unit] = [value / 1000, unit + 1];
  return `${unit === 0 ? value : value.toFixed(value < 10 ? 1 : 0)} ${units[unit]}`;
}

/** What a message says in one line. */
export function summary({ text, type, deleted }: Pick<Item, "text" | "deleted"> & { type?: string }): string {
  if (deleted) return "deleted";
  const note = type === FILE_TYPE ? readFile(text) : undefined;
  return note ? note.text || (PICTURES.has(note.type) ? `Picture ${note.name}` : note.name) : text;
}

export class Files extends Watched {
  readonly sending = new Map<Chat, Sending[]>();
  #held = new Map<string, string>();
  #asked = new Set<string>();
  #failed = new Map<string, string>();

  constructor(
    private readonly session: Session,
    private readonly bearer: string,
    private readonly bytesMax: number,
  ) {
    super();
  }

  /** Sends each as a message of its own, in the order they were chosen. */
  async send(chat: Chat, files: readonly File[]): Promise<void> {
    const all = files.map((file) => ({ file, state: { name: file.name, size: file.size, sent: 0, stop: new AbortController() } as Sending }));
    this.sending.set(chat, [...(this.sending.get(chat) ?? []), ...all.map(({ state }) => state)]);
    this.changed();
    for (const { file, state } of all) await this.#sendOne(chat, file, state);
  }

  async #sendOne(chat: Chat, file: File, state: Sending): Promise<void> {
    try {
      if (file.size > this.bytesMax) throw new ChatError("size", `It is larger than ${bytes(this.bytesMax)}.`);
      if (file.size === 0) throw new ChatError("size", "It is empty.");
      const picture = PICTURES.has(file.type) ? await small(file).catch(() => undefined) : undefined;
      const type = file.type || "application/octet-stream";
      const media = await upload({
        data: file,
        chat: chat.name,
        name: file.name,
        type,
        bearer: this.bearer,
        signal: state.stop.signal,
        progress: (sent) => {
          state.sent = sent;
          this.changed();
        },
      });
      const note: FileNote = { media, name: file.name, type, size: file.size, ...picture };
      if (PICTURES.has(type)) this.#hold(media, file);
      this.session.send(chat, JSON.stringify(note), { type: FILE_TYPE });
      this.drop(chat, state);
    } catch (error) {
      if (state.stop.signal.aborted) return this.drop(chat, state);
      state.error = error instanceof ChatError ? error.message : "The connection was lost. Try again.";
      this.changed();
    }
  }

  drop(chat: Chat, state: Sending): void {
    state.stop.abort();
    const left = (this.sending.get(chat) ?? []).filter((one) => one !== state);
    if (left.length > 0) this.sending.set(chat, left);
    else this.sending.delete(chat);
    this.changed();
  }

  #hold(media: string, data: Blob): string {
    const url = URL.createObjectURL(data);
    this.#held.set(media, url);
    for (const [oldest, old] of this.#held) {
      if (this.#held.size <= HELD_MAX) break;
      this.#held.delete(oldest);
      this.#asked.delete(oldest);
      URL.revokeObjectURL(old);
    }
    return url;
  }

  async #fetch(chat: Chat, { media, type }: FileNote): Promise<string | undefined> {
    const held = this.#held.get(media);
    if (held) return held;
    this.#failed.delete(media);
    try {
      const data = await download(media, chat.name, this.bearer);
      // Whatever the sender calls it: only a picture is ever taken for more than bytes.
      const kind = PICTURES.has(type) ? type : "application/octet-stream";
      return this.#hold(media, new Blob([data], { type: kind }));
    } catch (error) {
      this.#failed.set(media, error instanceof ChatError ? error.message : "It could not be loaded.");
      return undefined;
    } finally {
      this.changed();
    }
  }

  async #save(chat: Chat, note: FileNote): Promise<void> {
    const url = await this.#fetch(chat, note);
    if (!url) return;
    const link = document.createElement("a");
    link.href = url;
    link.download = note.name;
    link.click();
  }

  /** A message that carries a file. */
  show(chat: Chat, item: Item): TemplateResult | undefined {
    if (item.type !== FILE_TYPE) return undefined;
    const note = readFile(item.text);
    if (!note) return html`<em class="text">A file that this app does not understand</em>`;
    const failed = this.#failed.get(note.media);
    const caption = note.text ? html`<span class="text">${note.text}</span>` : nothing;
    const problem = failed ? html`<span class="failed">${failed}</span>` : nothing;
    if (!PICTURES.has(note.type)) {
      return html`<button class="file" @click=${() => void this.#save(chat, note)}>
          ${icons.file}<span><b>${note.name}</b><span>${bytes(note.size)}</span></span>
        </button>
        ${problem} ${caption}`;
    }
    const url = this.#held.get(note.media);
    if (!url && note.size <= FETCH_BYTES_MAX && !this.#asked.has(note.media)) {
      this.#asked.add(note.media);
      void this.#fetch(chat, note);
    }
    const source = url ?? (note.thumb ? `data:image/webp;base64,${note.thumb}` : undefined);
    return html`<button class="picture" aria-label=${`Show ${note.name}`} @click=${() => void this.#enlarge(chat, note)}>
        ${source
          ? html`<img src=${source} alt=${note.text || note.name} width=${note.width ?? 240} height=${note.height ?? 180} class=${url ? "" : "coarse"} />`
          : html`<span>${note.name}, ${bytes(note.size)}</span>`}
      </button>
      ${problem} ${caption}`;
  }

  async #enlarge(chat: Chat, note: FileNote): Promise<void> {
    const url = await this.#fetch(chat, note);
    if (!url) return;
    const dialog = document.createElement("dialog");
    dialog.className = "large";
    dialog.setAttribute("aria-label", note.name);
    const image = Object.assign(document.createElement("img"), { src: url, alt: note.text || note.name });
    const close = Object.assign(document.createElement("button"), { textContent: "Close" });
    const save = Object.assign(document.createElement("button"), { textContent: "Save" });
    close.addEventListener("click", () => dialog.close());
    save.addEventListener("click", () => void this.#save(chat, note));
    dialog.append(image, save, close);
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
  }

  /** What is on its way in a chat. */
  progress(chat: Chat): TemplateResult | typeof nothing {
    const all = this.sending.get(chat);
    if (!all) return nothing;
    return html`<ul class="sending" aria-label="Being sent">
      ${all.map(
        (one) =>
          html`<li>
            <span>${one.name}${one.error ? html`: <span class="failed" role="alert">${one.error}</span>` : nothing}</span>
            ${one.error ? nothing : html`<progress max=${one.size} value=${one.sent} aria-label=${`Sending ${one.name}`}></progress>`}
            <button class="link" @click=${() => this.drop(chat, one)}>${one.error ? "Discard" : "Stop"}</button>
          </li>`,
      )}
    </ul>`;
  }

  stop(): void {
    for (const [chat, all] of this.sending) for (const one of [...all]) this.drop(chat, one);
    for (const url of this.#held.values()) URL.revokeObjectURL(url);
    this.#held.clear();
  }
}

/** How large a picture is, and a small one of it that fits into a message. */
async function small(file: File): Promise<{ width: number; height: number; thumb?: string }> {
  const bitmap = await createImageBitmap(file);
  const { width, height } = bitmap;
  let side = Math.min(THUMB_SIDE, Math.max(width, height));
  for (let tries = 0; tries < 6; tries += 1) {
    const scale = side / Math.max(width, height);
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, Math.round(width * scale));
    canvas.height = Math.max(1, Math.round(height * scale));
    canvas.getContext("2d")?.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    const made = await new Promise<Blob | null>((resolve) => canvas.toBlob(resolve, "image/webp", 0.6));
    if (made && made.size <= THUMB_BYTES_MAX) {
      const letters = String.fromCharCode(...new Uint8Array(await made.arrayBuffer()));
      return { width, height, thumb: btoa(letters) };
    }
    side = Math.round(side * 0.7);
  }
  return { width, height };
}
