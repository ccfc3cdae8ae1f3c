// The messenger's door: who is this? Behind it are the chats.

import { html, nothing, type TemplateResult } from "lit";
import { customElement, state } from "lit/decorators.js";
import { config, login, mqttUrl } from "../api.js";
import { dial } from "../core/mqtt.js";
import { keepAccount, keptAccount, Messenger, type Account } from "../messenger/account.js";
import "../messenger/desk.js";
import "../messenger.css";
import { mark } from "../ui/icons.js";
import { Part } from "../ui/page.js";

export const open = (): HTMLElement => document.createElement("t-chats");

@customElement("t-chats")
export class ChatsPage extends Part {
  @state() private messenger: Messenger | undefined;
  @state() private free = false;
  @state() private error = "";
  @state() private busy = false;

  override connectedCallback(): void {
    super.connectedCallback();
    document.title = "Messenger – Tidings";
    const account = keptAccount();
    if (account) void this.#enter(account);
    else void this.#ask();
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    this.messenger?.stop();
  }

  async #ask(): Promise<void> {
    try {
      this.free = (await config()).open;
    } catch (error) {
      this.error = (error as Error).message;
    }
  }

  async #enter(account: Account): Promise<void> {
    this.busy = true;
    try {
      const bytesMax = await config().then(({ mediaBytesMax }) => mediaBytesMax, () => 0);
      const messenger = await Messenger.start(account, mqttUrl(), dial, bytesMax);
      this.messenger = messenger;
      messenger.session.watch(() => {
        const { connection } = messenger.session;
        if (connection.state === "refused" && this.messenger === messenger) this.#out(connection.reason);
      });
    } catch (error) {
      this.error = `Nothing can be kept in this browser: ${(error as Error).message}`;
    }
    this.busy = false;
  }

  #out(reason: number): void {
    this.messenger?.stop();
    this.messenger = undefined;
    localStorage.removeItem("account");
    this.error = reason === 0x98 ? "This device was logged out." : "The login is over. Log in again.";
    void this.#ask();
  }

  override render(): TemplateResult {
    if (this.messenger) {
      return html`<t-desk
        .messenger=${this.messenger}
        .leave=${() => {
          this.messenger = undefined;
          history.replaceState(null, "", "/chats");
          void this.#ask();
        }}
      ></t-desk>`;
    }
    return html`<main class="page narrow">
      <header class="brand">${mark}<h1>Messenger</h1></header>
      <p class="lead">${this.free ? "Choose any name: nobody needs a password here yet." : "Log in to your chats."}</p>
      <form class="card stack" @submit=${(event: SubmitEvent) => void this.#login(event)}>
        <label>Name <input name="user" required maxlength="64" pattern="[A-Za-z0-9._\\-]+" autocomplete="username" autocapitalize="none" spellcheck="false" autofocus
            title="Letters, digits, dots, hyphens and underscores" /></label>
        ${this.free
          ? nothing
          : html`<label>Password <input name="password" type="password" required autocomplete="current-password" /></label>`}
        ${this.error ? html`<p class="error" role="alert">${this.error}</p>` : nothing}
        <button class="primary" ?disabled=${this.busy}>${this.busy ? "Logging in…" : "Log in"}</button>
      </form>
      <footer>
        <nav aria-label="Other ways to talk"><a href="/">A room for two</a><a href="/strangers">Meet a stranger</a></nav>
      </footer>
    </main>`;
  }

  async #login(event: SubmitEvent): Promise<void> {
    event.preventDefault();
    const form = new FormData(event.target as HTMLFormElement);
    [this.busy, this.error] = [true, ""];
    try {
      const account = await login(String(form.get("user")), String(form.get("password") ?? ""));
      keepAccount(account);
      await this.#enter(account);
    } catch (error) {
      this.error = (error as Error).message;
      this.busy = false;
    }
  }
}
