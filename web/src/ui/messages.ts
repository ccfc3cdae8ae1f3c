// The messages of a chat: in order, with days between them, and what can be done with each.

import { html, nothing, type PropertyValues, type TemplateResult } from "lit";
import { customElement, property, state } from "lit/decorators.js";
import { repeat } from "lit/directives/repeat.js";
import { randomId } from "../core/entry.js";
import type { Chat, Item } from "../core/chat.js";
import type { Session } from "../core/session.js";
import { copy } from "./copy.js";
import { summary, type Files } from "./files.js";
import { clock, day, full, pieces } from "./format.js";
import { icons, tickOf } from "./icons.js";
import { Part } from "./page.js";

export const REACTIONS = ["👍", "❤️", "😂", "😮", "😢", "🙏"];

/** How many are drawn to begin with, and how many more each time one scrolls up. */
const WINDOW = 80;
/** How close to the end counts as being there, in pixels. */
const NEAR = 80;

@customElement("t-messages")
export class Messages extends Part {
  @property({ attribute: false }) chat!: Chat;
  @property({ attribute: false }) session!: Session;
  /** How users are called here. */
  @property({ attribute: false }) nameOf: (user: string) => string = (user) => user;
  @property({ attribute: false }) reply: (item: Item) => void = () => undefined;
  @property({ attribute: false }) edit: (item: Item) => void = () => undefined;
  /** Asks for what is before the first that is known; says whether something came. */
  @property({ attribute: false }) earlier: (() => Promise<boolean>) | undefined;
  /** Shows images and files; without it they are text. */
  @property({ attribute: false }) files: Files | undefined;

  @state() private menu: string | undefined;
  @state() private active: string | undefined;
  @state() private shown = WINDOW;
  @state() private behind = false;
  #near = true;
  #asking = false;
  #height = 0;
  #seen = 0;
  #resized: ResizeObserver | undefined;

  override connectedCallback(): void {
    super.connectedCallback();
    document.addEventListener("visibilitychange", this.#visible);
    addEventListener("focus", this.#visible);
    document.addEventListener("pointerdown", this.#outside);
    this.#resized = new ResizeObserver(() => this.#stay());
    this.#resized.observe(this);
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    document.removeEventListener("visibilitychange", this.#visible);
    removeEventListener("focus", this.#visible);
    document.removeEventListener("pointerdown", this.#outside);
    this.#resized?.disconnect();
  }

  #visible = (): void => {
    if (!document.hidden) this.#markRead();
  };

  #outside = (event: Event): void => {
    const menu = this.querySelector(".menu");
    const within = event.target instanceof Node && menu?.parentElement?.contains(event.target);
    if (this.menu && !within) this.menu = undefined;
  };

  private get log(): HTMLElement | null {
    return this.querySelector(".log");
  }

  override willUpdate(changed: PropertyValues<this>): void {
    this.look(this.chat, this.files);
    if (changed.has("chat")) {
      [this.shown, this.#near, this.menu, this.active] = [WINDOW, true, undefined, undefined];
      this.#seen = 0;
    }
    this.#height = this.log?.scrollHeight ?? 0;
  }

  override updated(): void {
    const newest = this.chat.newest;
    const count = this.chat.items().length;
    // Where one writes one wants to see it.
    if (count > this.#seen && newest?.mine && newest.seq === undefined) this.#near = true;
    if (count > this.#seen && this.#seen > 0 && !this.#near) this.behind = true;
    this.#seen = count;
    if (this.#near) this.toEnd();
    else if (this.#asking && this.log) {
      // What came above pushes nothing away.
      this.log.scrollTop += this.log.scrollHeight - this.#height;
    }
    this.#markRead();
  }

  toEnd(): void {
    const { log } = this;
    if (log) log.scrollTop = log.scrollHeight;
    this.behind = false;
  }

  /** The keyboard of a phone came or went: the end stays in sight. */
  #stay(): void {
    if (this.#near) this.toEnd();
  }

  #markRead(): void {
    if (!document.hidden && document.hasFocus() && this.#near) this.session.markRead(this.chat);
  }

  async #scrolled(): Promise<void> {
    const { log } = this;
    if (!log) return;
    this.#near = log.scrollHeight - log.scrollTop - log.clientHeight < NEAR;
    if (this.#near) {
      this.behind = false;
      this.#markRead();
    }
    if (log.scrollTop > NEAR || this.#asking || log.scrollHeight <= log.clientHeight) return;
    this.#asking = true;
    const more = await this.#more();
    await this.updateComplete;
    this.#asking = false;
    // Who scrolled on while it came is at the top again, and no event tells of it.
    if (more) void this.#scrolled();
  }

  /** Draws more of what is there, and asks for more where that is not enough. */
  async #more(): Promise<boolean> {
    const hidden = this.chat.items().length - this.shown;
    const came = hidden < WINDOW && this.earlier !== undefined && (await this.earlier());
    this.shown += WINDOW;
    return came || hidden > 0;
  }

  override render(): TemplateResult {
    const items = this.chat.items().slice(-this.shown);
    const last = items.at(-1)?.key;
    const active = items.some(({ key }) => key === this.active) ? this.active : last;
    return html`<div
        class="log"
        role="log"
        aria-live="polite"
        aria-label="Messages"
        tabindex="0"
        @scroll=${() => this.#scrolled()}
        @keydown=${(event: KeyboardEvent) => this.#keys(event, items)}
      >
        <ol class="messages">
          ${repeat(
            items,
            ({ key }) => key,
            (item, place) => this.#line(item, items[place - 1], active),
          )}
        </ol>
      </div>
      ${this.behind
        ? html`<button
            class="round behind"
            aria-label="To the newest messages"
            @click=${() => {
              this.#near = true;
              this.toEnd();
              this.#markRead();
            }}
          >
            ${icons.down}
          </button>`
        : nothing}`;
  }

  #line(item: Item, before: Item | undefined, active: string | undefined): TemplateResult {
    const newDay = !before || day(before.time) !== day(item.time);
    const separator = newDay ? html`<span class="day"><span>${day(item.time)}</span></span>` : nothing;
    if (item.system) {
      return html`<li class="system">${separator}<span>${this.#system(item)}</span></li>`;
    }
    const grouped = !newDay && before?.from === item.from && !before.system && item.time - before.time < 120_000;
    const { mine, key } = item;
    const open = this.menu === key;
    const sent = item.seq !== undefined && !item.deleted;
    return html`<li class="line ${mine ? "mine" : "theirs"} ${grouped ? "grouped" : ""}" data-key=${key}>
      ${separator}
      <div class="row">
        <div class="bubble ${item.deleted ? "deleted" : ""}">
          ${this.chat.group && !mine && !grouped
            ? html`<span class="who">${this.nameOf(item.from)}</span>`
            : mine
              ? html`<span class="hidden">You: </span>`
              : html`<span class="hidden">${this.nameOf(item.from)}: </span>`}
          ${this.#quote(item)} ${this.#content(item)}
          <span class="meta">
            ${item.edited ? html`<span>edited</span>` : nothing}
            <time datetime=${new Date(item.time).toISOString()} title=${full(item.time)}>${clock(item.time)}</time>
            ${mine ? tickOf(this.chat.tick(item)) : nothing}
          </span>
        </div>
        ${sent
          ? html`<button
              class="more"
              aria-label="More about this message"
              aria-haspopup="menu"
              aria-expanded=${open}
              tabindex=${key === active ? 0 : -1}
              @click=${(event: Event) => this.#open(item, event.currentTarget as HTMLElement)}
              @focus=${() => (this.active = key)}
            >
              ${icons.more}
            </button>`
          : nothing}
        ${open ? this.#menu(item) : nothing}
      </div>
      ${item.failed ? this.#failed(item) : nothing} ${this.#reactions(item)}
    </li>`;
  }

  #content(item: Item): TemplateResult {
    if (item.deleted) return html`<em class="text">This message was deleted</em>`;
    const file = this.files?.show(this.chat, item);
    if (file) return file;
    return html`<span class="text"
      >${pieces(item.text).map(({ text, url }) =>
        url ? html`<a href=${url} target="_blank" rel="noopener noreferrer">${text}</a>` : text,
      )}</span
    >`;
  }

  #quote({ ref }: Item): TemplateResult | typeof nothing {
    if (ref === undefined) return nothing;
    const about = this.chat.item(ref);
    return html`<button class="quote" @click=${() => this.#to(about)}>
      <span class="hidden">In reply to</span>
      <b>${about ? (about.mine ? "You" : this.nameOf(about.from)) : "An earlier message"}</b>
      <span>${about ? summary(about) : ""}</span>
    </button>`;
  }

  #to(item: Item | undefined): void {
    const line = item && this.querySelector(`[data-key="${CSS.escape(item.key)}"]`);
    line?.scrollIntoView({ block: "center" });
  }

  #reactions({ seq, reactions }: Item): TemplateResult | typeof nothing {
    if (reactions.size === 0 || seq === undefined) return nothing;
    const who = new Map<string, string[]>();
    for (const [user, said] of reactions) who.set(said, [...(who.get(said) ?? []), user]);
    return html`<div class="reactions">
      ${[...who].map(([said, users]) => {
        const own = users.some((user) => this.chat.isMine(user));
        const names = users.map((user) => (this.chat.isMine(user) ? "you" : this.nameOf(user))).join(", ");
        return html`<button
          class="reaction"
          aria-pressed=${own}
          aria-label=${`${said} by ${names}`}
          title=${names}
          @click=${() => this.session.react(this.chat, seq, own ? "" : said)}
        >
          ${said}${users.length > 1 ? html` <span>${users.length}</span>` : nothing}
        </button>`;
      })}
    </div>`;
  }

  #failed({ key, failed }: Item): TemplateResult {
    const { outbox } = this.session;
    return html`<p class="failed" role="alert">
      Not sent: ${failed?.text}
      <button class="link" @click=${() => outbox.again(this.chat, key, randomId())}>Try again</button>
      <button class="link" @click=${() => outbox.discard(this.chat, key)}>Discard</button>
    </p>`;
  }

  #menu(item: Item): TemplateResult {
    const seq = item.seq ?? 0;
    const { chat, session } = this;
    const did = (action: () => void) => () => {
      this.#close();
      action();
    };
    const own = [...item.reactions].find(([user]) => chat.isMine(user))?.[1];
    const group = chat.group && (chat.role === "owner" || chat.role === "admin");
    return html`<div
      class="menu"
      role="menu"
      aria-label="Message"
      @keydown=${(event: KeyboardEvent) => this.#menuKeys(event)}
    >
      <div class="emoji" role="group" aria-label="React">
        ${REACTIONS.map(
          (said) =>
            html`<button
              role="menuitemradio"
              aria-checked=${own === said}
              @click=${did(() => session.react(chat, seq, own === said ? "" : said))}
            >
              ${said}
            </button>`,
        )}
      </div>
      <button role="menuitem" @click=${did(() => this.reply(item))}>Reply</button>
      <button role="menuitem" @click=${did(() => void copy(summary(item)))}>Copy</button>
      ${item.mine && item.type === undefined
        ? html`<button role="menuitem" @click=${did(() => this.edit(item))}>Edit</button>`
        : nothing}
      <button role="menuitem" @click=${did(() => session.delete(chat, seq, "me"))}>Delete for me</button>
      ${item.mine || group
        ? html`<button role="menuitem" @click=${did(() => session.delete(chat, seq, "everyone"))}>
            Delete for everyone
          </button>`
        : nothing}
    </div>`;
  }

  async #open({ key }: Item, button: HTMLElement): Promise<void> {
    if (this.menu === key) return this.#close();
    this.menu = key;
    this.active = key;
    await this.updateComplete;
    const menu = this.querySelector<HTMLElement>(".menu");
    const log = this.log?.getBoundingClientRect();
    // Where there is no room below it opens upwards.
    if (menu && log && button.getBoundingClientRect().bottom + menu.offsetHeight > log.bottom) menu.classList.add("up");
    menu?.querySelector<HTMLElement>("button")?.focus();
  }

  #close(): void {
    const button = this.querySelector<HTMLElement>(`[aria-expanded="true"]`);
    this.menu = undefined;
    button?.focus();
  }

  #menuKeys(event: KeyboardEvent): void {
    const buttons = [...this.querySelectorAll<HTMLElement>(".menu button")];
    const place = buttons.indexOf(document.activeElement as HTMLElement);
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    if (event.key === "Escape" || event.key === "Tab") this.#close();
    else if (step) buttons.at((place + step) % buttons.length)?.focus();
    else if (event.key === "Home") buttons[0]?.focus();
    else if (event.key === "End") buttons.at(-1)?.focus();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** Up and down go from message to message, once one of them has the focus. */
  #keys(event: KeyboardEvent, items: Item[]): void {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const on = (event.target as HTMLElement).closest<HTMLElement>("[data-key]")?.dataset.key;
    if (!step || on === undefined) return;
    event.preventDefault();
    const reachable = items.filter(({ seq, system, deleted }) => seq !== undefined && !system && !deleted);
    const next = reachable[reachable.findIndex(({ key }) => key === on) + step];
    if (!next) return;
    this.active = next.key;
    this.querySelector<HTMLElement>(`[data-key="${CSS.escape(next.key)}"] .more`)?.focus();
  }

  #system({ from, system = {}, mine }: Item): string {
    const who = mine ? "You" : this.nameOf(from);
    const users = Array.isArray(system.users) ? system.users.map((user) => this.#named(String(user))).join(", ") : "";
    switch (system.action) {
      case "create":
        return `${who} made the group${users ? `, with ${users}` : ""}`;
      case "add":
        return `${who} added ${users}`;
      case "remove":
        return `${who} removed ${users}`;
      case "leave":
        return `${who} left`;
      case "join":
        return `${who} joined`;
      case "role":
        return `${who} made ${this.#named(String(system.user))} ${String(system.role)}`;
      case "title":
        return system.title ? `${who} called the group “${String(system.title)}”` : `${who} took the title away`;
      case "timer":
        return Number(system.seconds) > 0
          ? `${who} lets messages disappear after ${String(system.seconds)} s`
          : `${who} lets messages stay`;
      default:
        return `${who} changed how long messages are kept`;
    }
  }

  #named(user: string): string {
    return user === this.session.me ? "you" : this.nameOf(user);
  }
}
