// Two who talk: the other's name and state above, the messages, the field below. Rooms and
// strangers differ only in what stands in the header.

import { html, nothing, type TemplateResult } from "lit";
import { customElement, property, query } from "lit/decorators.js";
import type { Chat } from "../core/chat.js";
import type { Session } from "../core/session.js";
import type { Files } from "./files.js";
import { countdown, hue, initial, presence } from "./format.js";
import { Part } from "./page.js";
import "./composer.js";
import type { Composer } from "./composer.js";
import "./connection.js";
import "./messages.js";

@customElement("t-talk")
export class Talk extends Part {
  @property({ attribute: false }) session!: Session;
  @property({ attribute: false }) chat!: Chat;
  /** The other's name. */
  @property() name = "";
  /** Said below the name in place of presence, such as what both like. */
  @property() about = "";
  @property({ attribute: false }) files: Files | undefined;
  @property({ attribute: false }) actions: TemplateResult | typeof nothing = nothing;
  /** Shown between the header and the messages: the two pictures of a call. */
  @property({ attribute: false }) stage: TemplateResult | typeof nothing = nothing;
  @query("t-composer") private composer!: Composer;

  override connectedCallback(): void {
    super.connectedCallback();
    document.addEventListener("visibilitychange", this.#seen);
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    document.removeEventListener("visibilitychange", this.#seen);
  }

  #seen = (): void => {
    this.session.setAway(document.hidden);
    if (!document.hidden) document.title = `${this.name} – Tidings`;
  };

  override async firstUpdated(): Promise<void> {
    document.title = `${this.name} – Tidings`;
    // On a phone the focus would bring up the keyboard.
    if (matchMedia("(pointer: coarse)").matches) return;
    await this.composer.updateComplete;
    this.composer.focus();
  }

  override render(): TemplateResult {
    const { session, chat, name } = this;
    this.look(session, chat);
    if (document.hidden && chat.unread > 0) document.title = `(${chat.unread}) ${name} – Tidings`;
    const nameOf = () => name;
    return html`<header class="top">
        <span class="face" aria-hidden="true" data-hue=${Math.round(hue(name) / 60) % 6}>${initial(name)}</span>
        <div class="names">
          <h1>${name}</h1>
          <p class="state">${this.#state()}</p>
        </div>
        <div class="actions">${this.actions}</div>
      </header>
      ${this.stage}
      <t-connection .session=${session}></t-connection>
      ${this.#ending()}
      <main class="talk">
        <h2 class="hidden">Chat with ${name}</h2>
        ${chat.items().length === 0 ? html`<p class="empty">Say hello to ${name}.</p>` : nothing}
        <t-messages
          .session=${session}
          .chat=${chat}
          .files=${this.files}
          .nameOf=${nameOf}
          .reply=${(item: never) => this.composer.reply(item)}
          .edit=${(item: never) => this.composer.edit(item)}
        ></t-messages>
        <t-composer .session=${session} .chat=${chat} .files=${this.files} .nameOf=${nameOf}></t-composer>
      </main>`;
  }

  #state(): TemplateResult | string {
    const { session, chat } = this;
    if (chat.typing.length > 0) return html`<span class="typing">typing<i></i><i></i><i></i></span>`;
    if (this.about) return this.about;
    return chat.peer === undefined ? "" : presence(session.presenceOf(chat.peer));
  }

  #ending(): TemplateResult | typeof nothing {
    const { ending } = this.chat;
    this.tickWhile(ending !== undefined);
    if (!ending) return nothing;
    const left = ending.at - Date.now();
    const idle = ending.why === "idle";
    return html`<div class="bar warn" role="alert">
      <span aria-live="off">
        ${idle ? "Nobody has written for a while: the chat ends in" : "The time of this chat is over: it ends in"}
        <b>${countdown(left)}</b>
      </span>
      ${idle
        ? html`<button
            class="link"
            @click=${() => {
              // A new connection counts as somebody being here.
              this.chat.ending = undefined;
              this.session.reconnect();
            }}
          >
            Keep it open
          </button>`
        : nothing}
    </div>`;
  }
}
