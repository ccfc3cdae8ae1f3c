// What the page is doing about its connection, said only where it has none.

import { html, nothing, type TemplateResult } from "lit";
import { customElement, property } from "lit/decorators.js";
import type { Session } from "../core/session.js";
import { Part } from "./page.js";

@customElement("t-connection")
export class ConnectionBar extends Part {
  @property({ attribute: false }) session!: Session;
  /** When it was lost; a moment without one is not worth a word. */
  #since = 0;
  #late: ReturnType<typeof setTimeout> | undefined;

  override connectedCallback(): void {
    super.connectedCallback();
    addEventListener("online", this.#hurry);
    document.addEventListener("visibilitychange", this.#seen);
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    clearTimeout(this.#late);
    removeEventListener("online", this.#hurry);
    document.removeEventListener("visibilitychange", this.#seen);
  }

  #hurry = (): void => this.session.hurry();
  #seen = (): void => {
    if (!document.hidden) this.session.hurry();
  };

  override render(): TemplateResult {
    this.look(this.session);
    return html`<div role="status" class="status">${this.#text()}</div>`;
  }

  #text(): TemplateResult | typeof nothing {
    const { connection } = this.session;
    const lost = connection.state === "connecting" || connection.state === "waiting";
    this.tickWhile(connection.state === "waiting");
    if (!lost) {
      this.#since = 0;
      return nothing;
    }
    this.#since ||= Date.now();
    if (Date.now() - this.#since < 700) {
      clearTimeout(this.#late);
      this.#late = setTimeout(() => this.requestUpdate(), 750);
      return nothing;
    }
    if (connection.state !== "waiting") return html`<p class="bar">Connecting…</p>`;
    const seconds = Math.max(0, Math.ceil((connection.until - Date.now()) / 1000));
    return html`<p class="bar">
      <span aria-live="off">No connection. Trying again ${seconds > 0 ? `in ${seconds} s` : "now"}.</span>
      <button class="link" @click=${() => this.session.hurry()}>Now</button>
    </p>`;
  }
}
