// The first page: two names make a room, and each gets a link and a code.

import { html, nothing, type TemplateResult } from "lit";
import { customElement, state } from "lit/decorators.js";
import { makeRoom, takeSeat, type RoomSeat } from "../api.js";
import { copy, canShare, share } from "../ui/copy.js";
import { spacedCode } from "../ui/format.js";
import { icons, mark } from "../ui/icons.js";
import { Part } from "../ui/page.js";
import { qr } from "../ui/qr.js";
import { keepSeat } from "../ui/seat.js";

export const open = (): HTMLElement => document.createElement("t-start");

/** The address that people get: the name is behind the `#`, which no server ever sees. */
export function address(seat: RoomSeat): string {
  return `${location.origin}/r/${seat.link.slice(1)}#${encodeURIComponent(seat.name)}`;
}

@customElement("t-start")
export class StartPage extends Part {
  @state() private seats: RoomSeat[] = [];
  @state() private error = "";
  @state() private busy = false;
  @state() private copied = "";

  override render(): TemplateResult {
    return html`<main class="page">
      <header class="brand">
        ${mark}
        <h1>Tidings</h1>
      </header>
      ${this.seats.length > 0 ? this.#made() : this.#form()}
      <footer>
        <nav aria-label="Other ways to talk">
          <a href="/strangers">Meet a stranger</a>
          <a href="/chats">Messenger</a>
        </nav>
      </footer>
    </main>`;
  }

  #form(): TemplateResult {
    return html`<p class="lead">A private chat for two. No account, nothing to install, and nothing left when you end it.</p>
      <form class="card stack" @submit=${(event: SubmitEvent) => void this.#make(event)}>
        <label>Your name <input name="one" required maxlength="40" autocomplete="nickname" autofocus /></label>
        <label>The other’s name <input name="two" required maxlength="40" autocomplete="off" /></label>
        ${this.error ? html`<p class="error" role="alert">${this.error}</p>` : nothing}
        <button class="primary" ?disabled=${this.busy}>${this.busy ? "Making the room…" : "Make a room"}</button>
      </form>
      <ul class="facts">
        <li>Each of you gets a link and a code. Only both together open the chat.</li>
        <li>Reload the page, or open it on your phone: the chat is there.</li>
        <li>Either of you ends it, and everything said is destroyed.</li>
      </ul>`;
  }

  async #make(event: SubmitEvent): Promise<void> {
    event.preventDefault();
    const form = new FormData(event.target as HTMLFormElement);
    const [one, two] = [String(form.get("one")).trim(), String(form.get("two")).trim()];
    if (!one || !two) {
      this.error = "Both of you need a name.";
      return;
    }
    [this.busy, this.error] = [true, ""];
    try {
      this.seats = await makeRoom([one, two]);
      await this.updateComplete;
      this.querySelector<HTMLElement>("h2")?.focus();
    } catch (error) {
      this.error = (error as Error).message;
    }
    this.busy = false;
  }

  #made(): TemplateResult {
    const [mine, theirs] = this.seats;
    if (!mine || !theirs) return html``;
    return html`<h2 tabindex="-1">The room is ready</h2>
      <p class="lead">
        Give ${theirs.name} the link and the code, best on two different ways. They are shown only here and now.
      </p>
      <div class="seats">${this.#seat(theirs, false)} ${this.#seat(mine, true)}</div>
      ${this.error ? html`<p class="error" role="alert">${this.error}</p>` : nothing}
      <p role="status" class="hidden">${this.copied ? "Copied" : ""}</p>`;
  }

  #seat(seat: RoomSeat, own: boolean): TemplateResult {
    const url = address(seat);
    const code = spacedCode(seat.code);
    const label = own ? "Your side" : `For ${seat.name}`;
    return html`<section class="card seat" aria-label=${label}>
      <h3>${label}</h3>
      ${qr(url, `QR code of the link for ${seat.name}`)}
      <div class="stack tight">
        <div class="field">
          <label>Link <input readonly .value=${url} @focus=${(event: Event) => (event.target as HTMLInputElement).select()} /></label>
          ${this.#copy(url, `Copy the link for ${seat.name}`)}
        </div>
        <div class="field">
          <label>Code <input readonly class="code" .value=${code} @focus=${(event: Event) => (event.target as HTMLInputElement).select()} /></label>
          ${this.#copy(code, `Copy the code for ${seat.name}`)}
        </div>
        ${own
          ? html`<button class="primary" ?disabled=${this.busy} @click=${() => void this.#enter(seat)}>Open the chat</button>`
          : canShare()
            ? html`<button @click=${() => void share(`A chat with ${this.seats[0]?.name ?? ""}`, url)}>
                ${icons.share} Share the link
              </button>`
            : nothing}
      </div>
    </section>`;
  }

  #copy(text: string, label: string): TemplateResult {
    const done = this.copied === text;
    return html`<button
      class="copy"
      aria-label=${label}
      @click=${async () => {
        if (await copy(text)) this.copied = text;
      }}
    >
      ${icons.copy}<span aria-hidden="true">${done ? "Copied" : "Copy"}</span>
    </button>`;
  }

  /** Who made the room need not type the code. */
  async #enter(seat: RoomSeat): Promise<void> {
    [this.busy, this.error] = [true, ""];
    try {
      keepSeat(seat.link, await takeSeat(seat.link, seat.code));
      location.assign(address(seat));
    } catch (error) {
      this.error = (error as Error).message;
      this.busy = false;
    }
  }
}
