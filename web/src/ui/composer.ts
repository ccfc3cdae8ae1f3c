// Where one writes: a field that grows, what it replies to or edits, and the button to send.

import { html, nothing, type PropertyValues, type TemplateResult } from "lit";
import { customElement, property, query, state } from "lit/decorators.js";
import type { Chat, Item } from "../core/chat.js";
import type { Session } from "../core/session.js";
import { draft, keepDraft } from "./draft.js";
import { summary, type Files } from "./files.js";
import { icons } from "./icons.js";
import { Part } from "./page.js";

/** The server's default bound, in bytes. */
const BYTES_MAX = 64 * 1024;

@customElement("t-composer")
export class Composer extends Part {
  @property({ attribute: false }) chat!: Chat;
  @property({ attribute: false }) session!: Session;
  @property({ attribute: false }) nameOf: (user: string) => string = (user) => user;
  /** Takes images and files; without it none can be chosen. */
  @property({ attribute: false }) files: Files | undefined;
  @state() private replyTo: Item | undefined;
  @state() private editing: Item | undefined;
  @state() private empty = true;
  @state() private error = "";
  @query("textarea") private field!: HTMLTextAreaElement;
  #stopped: ReturnType<typeof setTimeout> | undefined;

  override updated(changed: PropertyValues<this>): void {
    if (!changed.has("chat")) return;
    this.field.value = draft(this.chat.name);
    [this.replyTo, this.editing] = [undefined, undefined];
    this.#grow();
  }

  override focus(): void {
    this.field?.focus();
  }

  reply(item: Item): void {
    this.#leave();
    this.replyTo = item;
    this.focus();
  }

  edit(item: Item): void {
    this.replyTo = undefined;
    this.editing = item;
    this.field.value = item.text;
    this.#grow();
    this.focus();
  }

  override render(): TemplateResult {
    this.look(this.files);
    const about = this.editing ?? this.replyTo;
    return html`${this.files?.progress(this.chat) ?? nothing}
      ${about
        ? html`<div class="about">
            <span
              ><b>${this.editing ? "Edit" : `Reply to ${about.mine ? "yourself" : this.nameOf(about.from)}`}</b>
              <span>${summary(about)}</span></span
            >
            <button class="round small" aria-label="Cancel" @click=${() => this.#leave()}>${icons.close}</button>
          </div>`
        : nothing}
      ${this.error ? html`<p class="failed" role="alert">${this.error}</p>` : nothing}
      <form
        class="composer"
        @submit=${(event: Event) => {
          event.preventDefault();
          this.#send();
        }}
      >
        ${this.files
          ? html`<label class="round plain attach" title="Send an image or a file"
              >${icons.attach}<span class="hidden">Send an image or a file</span>
              <input type="file" class="hidden" multiple @change=${(event: Event) => this.#chosen(event)} />
            </label>`
          : nothing}
        <textarea
          rows="1"
          aria-label="Message"
          placeholder="Message"
          autocomplete="off"
          enterkeyhint="send"
          @input=${() => this.#typed()}
          @keydown=${(event: KeyboardEvent) => this.#key(event)}
          @paste=${(event: ClipboardEvent) => this.#pasted(event)}
        ></textarea>
        <button class="round" type="submit" aria-label="Send" ?disabled=${this.empty}>${icons.send}</button>
      </form>`;
  }

  #typed(): void {
    this.#grow();
    this.error = "";
    if (!this.editing) keepDraft(this.chat.name, this.field.value);
    clearTimeout(this.#stopped);
    if (this.empty) return this.session.stopTyping(this.chat);
    this.session.type(this.chat);
    this.#stopped = setTimeout(() => this.session.stopTyping(this.chat), 5_000);
  }

  #grow(): void {
    const { field } = this;
    this.empty = field.value.trim() === "";
    // Styles set by a script are no inline styles to the Content-Security-Policy.
    field.style.height = "auto";
    field.style.height = `${field.scrollHeight + field.offsetHeight - field.clientHeight}px`;
  }

  #key(event: KeyboardEvent): void {
    if (event.key === "Escape" && (this.editing || this.replyTo)) return this.#leave();
    // On a phone Enter is a new line: there is the button.
    const phone = matchMedia("(pointer: coarse)").matches;
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || phone) return;
    event.preventDefault();
    this.#send();
  }

  #send(): void {
    const text = this.field.value.trim();
    if (text === "") return;
    if (new TextEncoder().encode(text).length > BYTES_MAX) {
      this.error = "This is too long: send it in parts.";
      return;
    }
    clearTimeout(this.#stopped);
    if (this.editing) {
      const { seq, text: before } = this.editing;
      if (seq !== undefined && text !== before) this.session.edit(this.chat, seq, text);
      return this.#leave();
    }
    const ref = this.replyTo?.seq;
    this.session.send(this.chat, text, ref === undefined ? {} : { ref });
    this.replyTo = undefined;
    this.field.value = "";
    keepDraft(this.chat.name, "");
    this.#grow();
    this.focus();
  }

  #leave(): void {
    if (this.editing) {
      this.editing = undefined;
      this.field.value = draft(this.chat.name);
      this.#grow();
    }
    this.replyTo = undefined;
    this.focus();
  }

  #chosen(event: Event): void {
    const input = event.target as HTMLInputElement;
    const files = [...(input.files ?? [])];
    input.value = "";
    if (files.length > 0) void this.files?.send(this.chat, files);
  }

  #pasted(event: ClipboardEvent): void {
    const files = [...(event.clipboardData?.files ?? [])];
    if (!this.files || files.length === 0) return;
    event.preventDefault();
    void this.files.send(this.chat, files);
  }
}
