// What the messenger asks for: somebody's name, a group's title and members; and what a group is.

import { html, nothing, render, type TemplateResult } from "lit";
import type { Chat } from "../core/chat.js";
import { randomId } from "../core/entry.js";
import { at } from "../core/words.js";
import { confirm } from "../ui/confirm.js";
import type { Messenger } from "./account.js";

const NAME = /^[A-Za-z0-9._-]{1,64}$/;

/** A form in a dialog; resolves with what was entered, or nothing where it was left. */
function form<T>(title: string, yes: string, body: TemplateResult, read: (data: FormData) => T | string): Promise<T | undefined> {
  const dialog = document.createElement("dialog");
  dialog.setAttribute("aria-labelledby", "asked");
  let answer: T | undefined;
  const draw = (error = "") =>
    render(
      html`<form
        @submit=${(event: SubmitEvent) => {
          event.preventDefault();
          const found = read(new FormData(event.target as HTMLFormElement));
          if (typeof found === "string") return draw(found);
          answer = found;
          dialog.close();
        }}
      >
        <h2 id="asked">${title}</h2>
        ${body} ${error ? html`<p class="error" role="alert">${error}</p>` : nothing}
        <div class="actions">
          <button type="button" @click=${() => dialog.close()}>Cancel</button>
          <button class="primary">${yes}</button>
        </div>
      </form>`,
      dialog,
    );
  draw();
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(answer);
    });
  });
}

export async function beginChat(): Promise<string | undefined> {
  const found = await form(
    "New chat",
    "Begin",
    html`<label>Their name <input name="user" required maxlength="64" autocapitalize="none" autocomplete="off" spellcheck="false" autofocus /></label>`,
    (data) => {
      const user = String(data.get("user")).trim();
      return NAME.test(user) ? { user } : "Names have letters, digits, dots, hyphens and underscores only.";
    },
  );
  return found?.user;
}

/** Names as they were typed, with commas or spaces. */
export function usersOf(typed: string): string[] {
  return [...new Set(typed.split(/[\s,]+/).map((one) => one.replace(/^@/, "")).filter(Boolean))];
}

function readUsers(typed: string): string[] | string {
  const users = usersOf(typed);
  const wrong = users.find((user) => !NAME.test(user));
  if (wrong !== undefined) return `“${wrong}” is no name: letters, digits, dots, hyphens and underscores only.`;
  return users.length > 256 ? "That are too many at once: 256 can be added in one go." : users;
}

/** A group's name on the server: what it is called, and letters that make it the only one. */
export function groupName(title: string): string {
  const words = title.toLowerCase().normalize("NFD").replace(/[^a-z0-9]+/g, "-").replace(/^-+|-+$/g, "");
  return `${words.slice(0, 40) || "group"}-${randomId(6)}`;
}

export async function beginGroup(): Promise<{ name: string; title: string; users: string[] } | undefined> {
  return await form(
    "New group",
    "Make it",
    html`<label>What is it called? <input name="title" required maxlength="60" autocomplete="off" autofocus /></label>
      <label>Who is in it? <input name="users" autocomplete="off" autocapitalize="none" spellcheck="false" placeholder="bob, carol" /></label>`,
    (data) => {
      const title = String(data.get("title")).trim();
      const users = readUsers(String(data.get("users")));
      if (title === "") return "A group needs a name.";
      return typeof users === "string" ? users : { name: groupName(title), title, users };
    },
  );
}

async function addTo(messenger: Messenger, chat: Chat): Promise<void> {
  const found = await form(
    "Add people",
    "Add",
    html`<label>Their names <input name="users" required autocomplete="off" autocapitalize="none" spellcheck="false" placeholder="dora, emil" autofocus /></label>`,
    (data) => {
      const users = readUsers(String(data.get("users")));
      return typeof users === "string" ? users : { users };
    },
  );
  if (found) await messenger.session.command(`${at(chat)}/add`, { users: found.users });
}

async function rename(messenger: Messenger, chat: Chat): Promise<void> {
  const found = await form(
    "Rename the group",
    "Rename",
    html`<label>What is it called? <input name="title" required maxlength="60" autocomplete="off" value=${chat.title} autofocus /></label>`,
    (data) => ({ title: String(data.get("title")).trim() }),
  );
  if (found) await messenger.session.command(`${at(chat)}/title`, { title: found.title });
}

/** Who is in a group, and what one may do about it. */
export async function showGroup(
  messenger: Messenger,
  chat: Chat,
  attempt: (action: Promise<unknown>) => Promise<void>,
): Promise<void> {
  await attempt(messenger.info(chat));
  const { session } = messenger;
  const admin = chat.role === "owner" || chat.role === "admin";
  const dialog = document.createElement("dialog");
  dialog.setAttribute("aria-labelledby", "group");
  const then = (action: () => Promise<unknown>) => async () => {
    dialog.close();
    await attempt(action());
  };
  const remove = (user: string) => async () => {
    await attempt(session.command(`${at(chat)}/remove`, { users: [user] }));
    await attempt(messenger.info(chat));
    draw();
  };
  const leave = async () => {
    const sure = await confirm({ title: "Leave the group?", text: "You see nothing that is written after it.", yes: "Leave", danger: true });
    if (sure) await session.command(`${at(chat)}/leave`, "");
  };
  const draw = () =>
    render(
      html`<div class="stack tight">
        <h2 id="group">${chat.title || chat.name}</h2>
        <ul class="members">
          ${(chat.members ?? []).map(
            ({ user, role }) =>
              html`<li>
                <span>${user === session.me ? "You" : user}</span>
                <span class="soft">${role === "member" ? "" : role}</span>
                ${admin && user !== session.me && role !== "owner"
                  ? html`<button class="link" @click=${remove(user)}>Remove<span class="hidden"> ${user}</span></button>`
                  : nothing}
              </li>`,
          )}
        </ul>
        <div class="actions">
          ${admin
            ? html`<button @click=${then(() => addTo(messenger, chat))}>Add people</button>
                <button @click=${then(() => rename(messenger, chat))}>Rename</button>`
            : nothing}
          <button class="danger" @click=${then(leave)}>Leave</button>
          <button class="primary" autofocus @click=${() => dialog.close()}>Close</button>
        </div>
      </div>`,
      dialog,
    );
  draw();
  document.body.append(dialog);
  dialog.showModal();
  dialog.addEventListener("close", () => dialog.remove());
}
