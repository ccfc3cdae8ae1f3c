// How the server does, for whoever runs it: the last minutes as lines, who is slow, what is busy;
// logging somebody out, and draining.

import { html, nothing, svg, type TemplateResult } from "lit";
import { customElement, state } from "lit/decorators.js";
import { call, login } from "../api.js";
import { ChatError, isObject, type Json } from "../core/entry.js";
import "../admin.css";
import { confirm } from "../ui/confirm.js";
import { bytes } from "../ui/files.js";
import { mark } from "../ui/icons.js";
import { Part } from "../ui/page.js";

export const open = (): HTMLElement => document.createElement("t-admin");

const EVERY_MS = 2_000;
const count = new Intl.NumberFormat();

interface Line {
  readonly name: string;
  readonly unit: (value: number) => string;
  readonly of: readonly [key: string, label: string][];
}

const perSecond = (value: number): string => `${count.format(value)}/s`;
const LINES: readonly Line[] = [
  { name: "Connections", unit: (value) => count.format(value), of: [["connections", "now"]] },
  { name: "Messages", unit: perSecond, of: [["publishes_in", "in"], ["publishes_out", "out"]] },
  { name: "Bytes", unit: (value) => `${bytes(value)}/s`, of: [["bytes_in", "in"], ["bytes_out", "out"]] },
  { name: "Syncs to disk", unit: perSecond, of: [["syncs", "now"]] },
  { name: "Queued messages", unit: (value) => count.format(value), of: [["queued", "now"]] },
  { name: "Memory", unit: bytes, of: [["memory", "now"]] },
];

const number = (value: unknown): number => (typeof value === "number" ? value : 0);
const list = (value: unknown): Json[] => (Array.isArray(value) ? value.filter(isObject) : []);
const object = (value: unknown): Json => (isObject(value) ? value : {});

/** Points of a line in a box of 100 by 30, the newest at the right. */
export function points(values: readonly number[], most: number, width = 100, height = 30): string {
  const step = width / Math.max(1, values.length - 1);
  const top = Math.max(1, most);
  return values.map((value, place) => `${(place * step).toFixed(1)},${(height - (value / top) * (height - 2) - 1).toFixed(1)}`).join(" ");
}

@customElement("t-admin")
export class AdminPage extends Part {
  @state() private stats: Json | undefined;
  @state() private error = "";
  @state() private locked = false;
  @state() private wanted = "";
  @state() private said = "";
  #token: string | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;

  override connectedCallback(): void {
    super.connectedCallback();
    document.title = "Operator – Tidings";
    void this.#ask();
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    clearTimeout(this.#timer);
  }

  async #ask(): Promise<void> {
    clearTimeout(this.#timer);
    try {
      // A page that nobody looks at asks nothing.
      if (!document.hidden) this.stats = object(await call("/api/stats", undefined, this.#token));
      [this.error, this.locked] = ["", false];
    } catch (error) {
      this.error = (error as Error).message;
      this.locked = error instanceof ChatError && (error.status === 401 || error.status === 403);
      if (this.locked) return;
    }
    if (this.isConnected) this.#timer = setTimeout(() => void this.#ask(), EVERY_MS);
  }

  override render(): TemplateResult {
    if (this.locked) return this.#door();
    const { stats } = this;
    return html`<main class="page wide">
      <header class="brand">${mark}<h1>Operator</h1></header>
      ${this.error ? html`<p class="error" role="alert">${this.error}</p>` : nothing}
      ${stats ? this.#all(stats) : this.error ? nothing : html`<p class="lead" role="status">Asking the server…</p>`}
    </main>`;
  }

  #door(): TemplateResult {
    return html`<main class="page narrow">
      <header class="brand">${mark}<h1>Operator</h1></header>
      <p class="lead">This page is for who runs the server.</p>
      <form class="card stack" @submit=${(event: SubmitEvent) => void this.#login(event)}>
        <label>Name <input name="user" required autocomplete="username" autocapitalize="none" /></label>
        <label>Password <input name="password" type="password" autocomplete="current-password" /></label>
        <p class="error" role="alert">${this.error}</p>
        <button class="primary">Log in</button>
      </form>
    </main>`;
  }

  async #login(event: SubmitEvent): Promise<void> {
    event.preventDefault();
    const form = new FormData(event.target as HTMLFormElement);
    try {
      const { token } = await login(String(form.get("user")), String(form.get("password")));
      // Only as long as the page is there.
      this.#token = token;
      await this.#ask();
    } catch (error) {
      this.error = (error as Error).message;
    }
  }

  #all(stats: Json): TemplateResult {
    const chat = object(stats.chat);
    const delivery = isObject(chat.delivery_ms) ? chat.delivery_ms : undefined;
    const seconds = number(chat.seconds) || 60;
    return html`<p class="soft">
        Version ${String(stats.version)}, up for ${uptime(number(stats.uptime_seconds))}${stats.draining ? ", draining" : ""}
      </p>
      <div class="plots">${LINES.map((line) => this.#plot(line, list(stats.samples)))}</div>
      <div class="tables">
        ${table("Chat, in the last minute", [
          ["Messages", perSecond(round(number(chat.entries) / seconds))],
          ["Delivered", perSecond(round(number(chat.delivered) / seconds))],
          ["Read", perSecond(round(number(chat.read) / seconds))],
        ])}
        ${table(
          "From sent to delivered",
          delivery
            ? (["p50", "p90", "p99", "max"] as const).map((name) => [name, `${count.format(number(delivery[name]))} ms`])
            : [],
          "Nothing was delivered in the last minute.",
        )}
        ${table(
          "Busiest chats",
          list(chat.top_chats).map((one) => [String(one.chat), count.format(number(one.entries))]),
          "Nothing was said in the last minute.",
        )}
        ${table(
          "Slow clients",
          list(stats.slow_clients).map((one) => [
            `${String(one.user)} / ${String(one.client_id)}`,
            `${bytes(number(one.bytes))} for ${count.format(number(one.stuck_ms))} ms`,
          ]),
          "Nobody is slow.",
        )}
      </div>
      ${this.#actions()} ${this.#counters(object(stats.counters))}`;
  }

  #plot({ name, unit, of }: Line, samples: Json[]): TemplateResult {
    const all = of.map(([key]) => samples.map((sample) => number(sample[key])));
    const most = Math.max(0, ...all.flat());
    const now = of.map(([, label], place) => {
      const value = unit(all[place]?.at(-1) ?? 0);
      return html`<span class="now line-${place}">${value}${of.length > 1 ? html` <small>${label}</small>` : nothing}</span>`;
    });
    return html`<section class="card plot" aria-label=${name}>
      <h2>${name}</h2>
      <p>${now}</p>
      <svg viewBox="0 0 100 30" preserveAspectRatio="none" role="img" aria-label=${`${name} in the last minutes, at most ${unit(most)}`}>
        ${all.map((values, place) => svg`<polyline class="line-${place}" points=${points(values, most)} />`)}
      </svg>
      <p class="soft">at most ${unit(most)}</p>
    </section>`;
  }

  #actions(): TemplateResult {
    return html`<section class="card stack tight" aria-label="Actions">
      <h2>Actions</h2>
      <form class="field" @submit=${(event: SubmitEvent) => void this.#logout(event)}>
        <label>Log somebody out of all devices <input name="user" required autocomplete="off" autocapitalize="none" /></label>
        <button>Log out</button>
      </form>
      <div><button class="danger" @click=${() => void this.#drain()}>Drain and stop the server</button></div>
      <p role="status">${this.said}</p>
    </section>`;
  }

  async #logout(event: SubmitEvent): Promise<void> {
    event.preventDefault();
    const form = event.target as HTMLFormElement;
    const user = String(new FormData(form).get("user")).trim();
    if (!(await confirm({ title: `Log ${user} out?`, text: "All devices are disconnected and have to log in again.", yes: "Log out", danger: true }))) return;
    await this.#do("/api/admin/logout", { user }, `${user} is logged out.`);
    form.reset();
  }

  async #drain(): Promise<void> {
    const sure = await confirm({
      title: "Drain the server?",
      text: "It lets nobody in any more, lets everybody go in order, and ends.",
      yes: "Drain",
      danger: true,
    });
    if (sure) await this.#do("/api/admin/drain", {}, "The server drains.");
  }

  async #do(path: string, body: Json, done: string): Promise<void> {
    try {
      await call(path, body, this.#token);
      this.said = done;
    } catch (error) {
      this.said = (error as Error).message;
    }
  }

  #counters(counters: Json): TemplateResult {
    const found = Object.entries(counters).filter(([name]) => name.includes(this.wanted.trim()));
    return html`<details class="card">
      <summary>Everything that is counted</summary>
      <label>Only names with <input type="search" autocomplete="off" @input=${(event: Event) => (this.wanted = (event.target as HTMLInputElement).value)} /></label>
      <table>
        <caption class="hidden">Counters</caption>
        <thead><tr><th scope="col">Name</th><th scope="col">Value</th></tr></thead>
        <tbody>
          ${found.map(([name, value]) => html`<tr><th scope="row">${name.replace(/^tidings_/, "")}</th><td>${count.format(number(value))}</td></tr>`)}
        </tbody>
      </table>
    </details>`;
  }
}

function round(value: number): number {
  return value < 10 ? Math.round(value * 10) / 10 : Math.round(value);
}

function uptime(seconds: number): string {
  const [days, hours, minutes] = [Math.floor(seconds / 86_400), Math.floor(seconds / 3_600) % 24, Math.floor(seconds / 60) % 60];
  return days > 0 ? `${days} d ${hours} h` : hours > 0 ? `${hours} h ${minutes} min` : `${minutes} min`;
}

function table(title: string, rows: readonly (readonly [string, string])[] | string[][], empty = ""): TemplateResult {
  return html`<section class="card" aria-label=${title}>
    <h2>${title}</h2>
    ${rows.length === 0
      ? html`<p class="soft">${empty}</p>`
      : html`<dl>${rows.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`}
  </section>`;
}
