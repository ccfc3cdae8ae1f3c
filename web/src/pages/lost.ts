// An address that leads nowhere.

import { html, render } from "lit";
import { mark } from "../ui/icons.js";

export function open(): HTMLElement {
  const main = document.createElement("main");
  main.className = "page";
  render(
    html`<header class="brand">${mark}<h1>Nothing here</h1></header>
      <p class="lead">This address leads nowhere. Was all of the link copied?</p>
      <p><a href="/">To the first page</a></p>`,
    main,
  );
  return main;
}
