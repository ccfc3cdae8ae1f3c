// A question with two answers, in the browser's own dialog: it holds the focus and closes by Escape.

import { html, nothing, render, type TemplateResult } from "lit";

export interface Question {
  readonly title: string;
  readonly text?: string | TemplateResult;
  readonly yes: string;
  readonly no?: string;
  readonly danger?: boolean;
}

/** Whether the answer was yes. */
export function confirm({ title, text, yes, no = "Cancel", danger = false }: Question): Promise<boolean> {
  const dialog = document.createElement("dialog");
  dialog.setAttribute("aria-labelledby", "question");
  render(
    html`<form method="dialog">
      <h2 id="question">${title}</h2>
      ${text ? html`<p>${text}</p>` : nothing}
      <div class="actions">
        <button value="no" autofocus>${no}</button>
        <button value="yes" class="primary ${danger ? "danger" : ""}">${yes}</button>
      </div>
    </form>`,
    dialog,
  );
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
  });
}
