// Which page the address asks for; each is loaded when it is.

import "./style.css";

const PAGES: Record<string, () => Promise<{ open(): HTMLElement }>> = {
  "": () => import("./pages/start.js"),
  r: () => import("./pages/room.js"),
  strangers: () => import("./pages/strangers.js"),
  chats: () => import("./pages/chats.js"),
  admin: () => import("./pages/admin.js"),
};

async function show(): Promise<void> {
  const first = location.pathname.split("/")[1] ?? "";
  const load = PAGES[first] ?? (() => import("./pages/lost.js"));
  const page = await load();
  document.body.replaceChildren(page.open());
}

show().catch((error: unknown) => {
  const text = document.createElement("p");
  text.className = "page error";
  text.setAttribute("role", "alert");
  text.textContent = `The page could not be loaded: ${String(error)}. Reload it when there is a connection.`;
  document.body.replaceChildren(text);
});
