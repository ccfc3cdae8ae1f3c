// A seat in a room: the link greets by name and asks for the code, then there is the chat, until
// it has ended.

import { html, nothing, type TemplateResult } from "lit";
import { customElement, state } from "lit/decorators.js";
import { config, mqttUrl, takeSeat, type Seat } from "../api.js";
import type { Chat } from "../core/chat.js";
import { ChatError, randomId } from "../core/entry.js";
import { Session } from "../core/session.js";
import { TabStore } from "../core/store.js";
import { keepDraft } from "../ui/draft.js";
import { confirm } from "../ui/confirm.js";
import { countdown, tidyCode } from "../ui/format.js";
import { Files } from "../ui/files.js";
import { icons, mark } from "../ui/icons.js";
import { Part } from "../ui/page.js";
import { forgetSeat, keepSeat, keptSeat } from "../ui/seat.js";
import { whyEnded } from "../ui/why.js";

export const open = (): HTMLElement => document.createElement("t-room");

@customElement("t-room")
export class RoomPage extends Part {
  @state() private seat: Seat | undefined;
  @state() private session: Session | undefined;
  @state() private chat: Chat | undefined;
  @state() private files: Files | undefined;
  @state() private error = "";
  @state() private busy = false;
  @state() private waitUntil = 0;
  @state() private ended: string | undefined;
  readonly #link = `~${location.pathname.split("/")[2] ?? ""}`;
  readonly #name = nameInAddress();

  override connectedCallback(): void {
    super.connectedCallback();
    const kept = keptSeat(this.#link);
    if (kept) void this.#enter(kept);
    // The door is drawn first, and what is behind it is there when the code is typed.
    else setTimeout(() => void behind(), 200);
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    this.session?.stop();
  }

  override render(): TemplateResult {
    this.look(this.session);
    if (this.ended !== undefined) return this.#over();
    const { session, chat, seat } = this;
    if (!session || !chat || !seat) return this.#door();
    return html`<t-talk
      class="screen"
      .session=${session}
      .chat=${chat}
      .name=${seat.other.name}
      .files=${this.files}
      .actions=${html`<button class="end" @click=${() => void this.#end()}>End chat</button>`}
    ></t-talk>`;
  }

  #door(): TemplateResult {
    const wait = this.waitUntil - Date.now();
    this.tickWhile(wait > 0);
    return html`<main class="page narrow">
      <header class="brand">${mark}<h1>${this.#name ? `Hello ${this.#name}` : "Hello"}</h1></header>
      <p class="lead">Type the code you were given, and the chat opens.</p>
      <form class="card stack" @submit=${(event: SubmitEvent) => void this.#try(event)}>
        <label
          >Code
          <input
            name="code"
            class="code"
            required
            autofocus
            autocomplete="off"
            autocapitalize="characters"
            spellcheck="false"
            placeholder="ABCD-2345"
            aria-invalid=${this.error !== ""}
            aria-describedby="error"
            @input=${(event: InputEvent) => this.#tidy(event)}
        /></label>
        <p id="error" class="error" role="alert">
          ${this.error}${wait > 0 ? html` <span aria-live="off">Wait ${countdown(wait)}.</span>` : nothing}
        </p>
        <button class="primary" ?disabled=${this.busy || wait > 0}>${this.busy ? "Opening…" : "Open the chat"}</button>
      </form>
      <p class="hint">${icons.lock} What is said here is in memory only, and gone when either of you ends it.</p>
    </main>`;
  }

  #tidy(event: InputEvent): void {
    const field = event.target as HTMLInputElement;
    // Inside of what was typed nothing is put right, or the cursor would jump.
    if (field.selectionStart === field.value.length) field.value = tidyCode(field.value);
    this.error = "";
  }

  async #try(event: SubmitEvent): Promise<void> {
    event.preventDefault();
    const field = this.querySelector<HTMLInputElement>("[name=code]");
    [this.busy, this.error] = [true, ""];
    try {
      const seat = await takeSeat(this.#link, field?.value ?? "");
      keepSeat(this.#link, seat);
      await this.#enter(seat);
    } catch (error) {
      const { code, message, retryAfter } = error as ChatError;
      this.error =
        code === "not_opened"
          ? "This code does not open the chat. Look at each letter; or the chat may have ended."
          : retryAfter !== undefined
            ? "Too many wrong codes."
            : message;
      if (retryAfter !== undefined) this.waitUntil = Date.now() + retryAfter;
      field?.select();
    }
    this.busy = false;
  }

  async #enter(seat: Seat): Promise<void> {
    const [{ dial }] = await behind();
    const session = new Session({
      login: { url: mqttUrl(), user: this.#link, password: seat.token, device: `web-${randomId()}`, keep: false },
      me: seat.user,
      peer: seat.other.user,
      dial,
      store: new TabStore(sessionStorage, `outbox:${seat.room}`),
    });
    const chat = session.chat(seat.room);
    session.watchPresence(seat.other.user);
    session.on.ended = () => this.#gone(chat);
    // The token opens a seat as long as there is one: where it does not, the room is over.
    session.watch(() => {
      if (session.connection.state === "refused" && !chat.ended) {
        chat.ended = { why: "closed", mine: false };
        this.#gone(chat);
      }
    });
    [this.seat, this.session, this.chat] = [seat, session, chat];
    await session.start();
    // Without an answer there are no files, and the chat goes on.
    const bytesMax = await config().then(({ mediaBytesMax }) => mediaBytesMax, () => 0);
    if (bytesMax > 0) this.files = new Files(session, `${this.#link}:${seat.token}`, bytesMax);
  }

  async #end(): Promise<void> {
    const { session, chat, seat } = this;
    if (!session || !chat || !seat) return;
    const sure = await confirm({
      title: "End the chat?",
      text: `It ends for ${seat.other.name} too, and everything said in it is destroyed.`,
      yes: "End chat",
      danger: true,
    });
    if (!sure) return;
    try {
      await session.end(chat);
    } catch {
      await confirm({
        title: "Not ended",
        text: "There is no connection. Try again when there is one.",
        yes: "OK",
        no: "Close",
      });
    }
  }

  #gone(chat: Chat): void {
    const { why, mine } = chat.ended ?? { why: "closed", mine: false };
    this.ended = whyEnded(why, mine, this.seat?.other.name ?? "The other");
    forgetSeat(this.#link);
    keepDraft(chat.name, "");
    this.session?.stop();
    this.files?.stop();
    document.title = "The chat has ended – Tidings";
  }

  #over(): TemplateResult {
    return html`<main class="page narrow ended">
      <header class="brand">${mark}<h1 tabindex="-1">The chat has ended</h1></header>
      <p class="lead" role="status">${this.ended} Everything said in it is destroyed: nobody can read it any more.</p>
      <p><a class="button primary" href="/">Make a new room</a></p>
    </main>`;
  }

  override updated(): void {
    // Who reads with the ears is told where they are now.
    if (this.ended !== undefined && document.activeElement === document.body) this.querySelector("h1")?.focus();
  }
}

/** What a chat needs, and a door does not. */
const behind = () => Promise.all([import("../core/mqtt.js"), import("../ui/talk.js")]);

function nameInAddress(): string {
  try {
    return decodeURIComponent(location.hash.slice(1)).trim().slice(0, 40);
  } catch {
    return "";
  }
}
