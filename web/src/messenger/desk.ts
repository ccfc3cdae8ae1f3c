// The messenger: the list of chats beside the one that is open; on a phone one or the other. Which
// one it is stands behind the `#`, so that the browser's own back works.

import { html, nothing, type TemplateResult } from "lit";
import { customElement, property, query, state } from "lit/decorators.js";
import { repeat } from "lit/directives/repeat.js";
import type { Chat, Item } from "../core/chat.js";
import { confirm } from "../ui/confirm.js";
import { summary } from "../ui/files.js";
import { brief, full, hue, initial, presence } from "../ui/format.js";
import { icons, tickOf } from "../ui/icons.js";
import { Part } from "../ui/page.js";
import "../ui/composer.js";
import type { Composer } from "../ui/composer.js";
import "../ui/connection.js";
import "../ui/messages.js";
import type { Messenger } from "./account.js";
import { beginChat, beginGroup, showGroup } from "./dialogs.js";

/** How a chat is called in the list. */
export function titleOf(chat: Chat): string {
  if (chat.peer === chat.me) return "Notes to self";
  return chat.title || chat.name.replace(/^@/, "");
}

@customElement("t-desk")
export class Desk extends Part {
  @property({ attribute: false }) messenger!: Messenger;
  @property({ attribute: false }) leave: () => void = () => undefined;
  @state() private open: Chat | undefined;
  @state() private notice = "";
  @query("t-composer") private composer!: Composer | null;
  #forget: ReturnType<typeof setTimeout> | undefined;
  #looked: { chat: Chat; online: boolean } | undefined;

  override connectedCallback(): void {
    super.connectedCallback();
    addEventListener("hashchange", this.#turn);
    document.addEventListener("visibilitychange", this.#seen);
    this.messenger.session.on.notice = (text) => this.#tell(text);
    this.#turn();
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    removeEventListener("hashchange", this.#turn);
    document.removeEventListener("visibilitychange", this.#seen);
  }

  #seen = (): void => this.messenger.session.setAway(document.hidden);

  #turn = (): void => {
    let name = "";
    try {
      name = decodeURIComponent(location.hash.slice(1));
    } catch {
      // What cannot be read is the list.
    }
    this.open = /^[@!]?[A-Za-z0-9._-]{1,64}$/.test(name) ? this.messenger.session.chat(name) : undefined;
  };

  #tell(text: string): void {
    this.notice = text;
    clearTimeout(this.#forget);
    this.#forget = setTimeout(() => (this.notice = ""), 6_000);
  }

  async #try(action: Promise<unknown>): Promise<void> {
    try {
      await action;
    } catch (error) {
      this.#tell((error as Error).message);
    }
  }

  override render(): TemplateResult {
    const { session } = this.messenger;
    const { open } = this;
    this.look(session, open);
    const online = session.connection.state === "online";
    if (open && (this.#looked?.chat !== open || this.#looked.online !== online)) {
      this.#looked = { chat: open, online };
      void this.messenger.look(open);
    }
    const unread = [...session.chats.values()].reduce((sum, chat) => sum + (chat.unread > 0 ? 1 : 0), 0);
    document.title = `${unread > 0 ? `(${unread}) ` : ""}${open ? `${titleOf(open)} – ` : ""}Tidings`;
    return html`<main class="desk ${open ? "opened" : ""}">
      <h1 class="hidden">Messenger</h1>
      <t-connection .session=${session}></t-connection>
      ${this.#list()}
      ${open ? this.#chat(open) : html`<p class="nothing">Choose a chat, or begin one.</p>`}
      <div role="alert" class="notice">${this.notice ? html`<p>${this.notice}</p>` : nothing}</div>
    </main>`;
  }

  #list(): TemplateResult {
    const { account, session } = this.messenger;
    const when = (chat: Chat) => chat.newest?.time ?? chat.preview?.time ?? 0;
    const chats = [...session.chats.values()]
      .filter((chat) => when(chat) > 0 || chat.counted.last > 0 || chat === this.open)
      .sort((a, b) => when(b) - when(a));
    return html`<section class="side" aria-label="All chats">
      <div class="top">
        <div class="names"><h2>Chats</h2><p class="state">${account.user}</p></div>
        <div class="actions">
          <button class="round plain" aria-label="New group" title="New group" @click=${() => void this.#group()}>${icons.people}</button>
          <button class="round" aria-label="New chat" title="New chat" @click=${() => void this.#begin()}>${icons.add}</button>
        </div>
      </div>
      ${chats.length === 0 ? html`<p class="hint pad">Nothing yet. Begin with somebody’s name.</p>` : nothing}
      <nav aria-label="Chats">
        <ul class="chats">
          ${repeat(chats, ({ name }) => name, (chat) => this.#entry(chat, when(chat)))}
        </ul>
      </nav>
      <p class="pad"><button class="link" @click=${() => void this.#logout()}>Log out</button></p>
    </section>`;
  }

  #entry(chat: Chat, time: number): TemplateResult {
    const title = titleOf(chat);
    const { newest, unread } = chat;
    return html`<li>
      <a href="#${chat.name}" aria-current=${chat === this.open ? "page" : nothing}>
        <span class="face" aria-hidden="true" data-hue=${Math.round(hue(chat.name) / 60) % 6}>${initial(title)}</span>
        <span class="what">
          <span class="first">
            <b>${title}</b>
            ${time > 0 ? html`<time datetime=${new Date(time).toISOString()} title=${full(time)}>${brief(time)}</time>` : nothing}
          </span>
          <span class="second">
            <span class="said"
              >${chat.typing.length > 0
                ? html`<span class="typing">typing…</span>`
                : newest
                  ? html`${newest.mine && !newest.system ? tickOf(chat.tick(newest)) : nothing}${this.#summary(chat, newest)}`
                  : (chat.preview?.text ?? "")}</span
            >
            ${unread > 0
              ? html`<span class="badge"><span aria-hidden="true">${unread}</span><span class="hidden">${unread} unread</span></span>`
              : nothing}
          </span>
        </span>
      </a>
    </li>`;
  }

  #summary(chat: Chat, item: Item): string {
    if (item.system) return "The group changed";
    return `${chat.group && !item.mine ? `${item.from}: ` : ""}${summary(item)}`;
  }

  #chat(chat: Chat): TemplateResult {
    const { session } = this.messenger;
    const title = titleOf(chat);
    const nameOf = (user: string) => user;
    const reader = chat.role === "reader";
    return html`<section class="screen pane" aria-label=${`Chat with ${title}`}>
      <div class="top">
        <a class="round plain back" href="#" aria-label="Back to the chats">${icons.back}</a>
        <span class="face" aria-hidden="true" data-hue=${Math.round(hue(chat.name) / 60) % 6}>${initial(title)}</span>
        <div class="names">
          <h2>${title}</h2>
          <p class="state">${this.#state(chat)}</p>
        </div>
        <div class="actions">
          ${chat.group
            ? html`<button @click=${() => void showGroup(this.messenger, chat, (action) => this.#try(action))}>Group</button>`
            : html`<button @click=${() => void this.#delete(chat)}>Delete</button>`}
        </div>
      </div>
      ${chat.stranger ? this.#stranger(chat) : nothing}
      <div class="talk">
        <t-messages
          .session=${session}
          .chat=${chat}
          .files=${this.messenger.files}
          .nameOf=${nameOf}
          .earlier=${() => this.messenger.earlier(chat)}
          .reply=${(item: Item) => this.composer?.reply(item)}
          .edit=${(item: Item) => this.composer?.edit(item)}
        ></t-messages>
        ${chat.ended
          ? html`<p class="bar">You are not in this group any more.</p>`
          : reader
            ? html`<p class="bar">Here you read only.</p>`
            : html`<t-composer .session=${session} .chat=${chat} .files=${this.messenger.files} .nameOf=${nameOf}></t-composer>`}
      </div>
    </section>`;
  }

  #state(chat: Chat): TemplateResult | string {
    const who = chat.typing;
    if (who.length > 0) {
      const names = chat.group ? `${who.slice(0, 2).join(", ")} ` : "";
      return html`<span class="typing">${names}typing<i></i><i></i><i></i></span>`;
    }
    if (chat.group) return chat.members ? chat.members.map(({ user }) => user).join(", ") : "";
    return chat.peer === chat.me ? "" : presence(this.messenger.session.presenceOf(chat.peer ?? ""));
  }

  #stranger(chat: Chat): TemplateResult {
    const { session } = this.messenger;
    const user = chat.peer ?? "";
    const did = (topic: string, body: object) => async () => {
      await this.#try(session.command(topic, { ...body }).then(() => (chat.stranger = false)));
      this.requestUpdate();
    };
    return html`<div class="bar warn">
      ${user} is not one of your contacts, and sees no ticks until you answer.
      <button class="link" @click=${did("me/state", { accept: [user] })}>Accept</button>
      <button class="link" @click=${did("me/block", { block: [user] })}>Block</button>
    </div>`;
  }

  async #begin(): Promise<void> {
    const user = await beginChat();
    if (user) location.hash = `@${user}`;
  }

  async #group(): Promise<void> {
    const made = await beginGroup();
    if (!made) return;
    const { session } = this.messenger;
    const { name, title, users } = made;
    await this.#try(
      session.command(`chat/${name}/create`, { title, users }).then(() => {
        session.chat(name).title = title;
        location.hash = name;
      }),
    );
  }

  async #delete(chat: Chat): Promise<void> {
    const sure = await confirm({
      title: "Delete this chat?",
      text: `It goes from all your devices. ${titleOf(chat)} keeps it until they delete it too.`,
      yes: "Delete",
      danger: true,
    });
    if (!sure) return;
    await this.#try(this.messenger.session.end(chat).then(() => (location.hash = "")));
  }

  async #logout(): Promise<void> {
    const waiting = this.messenger.session.outbox.size;
    const sure = await confirm({
      title: "Log out?",
      text:
        waiting > 0
          ? `${waiting} messages have not been sent yet and would be lost.`
          : "What this browser keeps of your chats goes; the server keeps what it has.",
      yes: "Log out",
      danger: waiting > 0,
    });
    if (!sure) return;
    await this.messenger.logout();
    this.leave();
  }
}

