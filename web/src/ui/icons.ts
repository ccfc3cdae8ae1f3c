// Icons of our own, on a grid of 24; what they mean is said beside them.

import { svg, type SVGTemplateResult, html, type TemplateResult } from "lit";
import type { Tick } from "../core/chat.js";

const draw = (paths: SVGTemplateResult, name = ""): TemplateResult => html`<svg
  class="icon ${name}"
  viewBox="0 0 24 24"
  aria-hidden="true"
  focusable="false"
>
  ${paths}
</svg>`;

export const icons = {
  send: draw(svg`<path d="M12 19V5m-6.5 6.5L12 5l6.5 6.5" />`),
  back: draw(svg`<path d="m15 5-7 7 7 7" />`),
  down: draw(svg`<path d="M12 5v14m-6.5-6.5L12 19l6.5-6.5" />`),
  more: draw(svg`<path d="M5.5 12h.01M12 12h.01M18.5 12h.01" />`, "heavy"),
  close: draw(svg`<path d="m6 6 12 12M18 6 6 18" />`),
  copy: draw(svg`<rect x="8.5" y="8.5" width="11" height="11" rx="2" /><path d="M15.5 5.5v-1h-11v11h1" />`),
  share: draw(svg`<path d="M12 15V4m-4 3.5L12 4l4 3.5M5 12v8h14v-8" />`),
  attach: draw(svg`<rect x="4" y="5" width="16" height="14" rx="2" /><path d="m4 16 5-4.5 4 3.5 3-2.5 4 3.5M15 9.5h.01" />`),
  file: draw(svg`<path d="M13.5 3.5H7A1.5 1.5 0 0 0 5.5 5v14A1.5 1.5 0 0 0 7 20.5h10a1.5 1.5 0 0 0 1.5-1.5V8.5Zm0 0v5h5" />`),
  add: draw(svg`<path d="M12 5v14M5 12h14" />`),
  lock: draw(svg`<rect x="5" y="11" width="14" height="9" rx="2" /><path d="M8 11V8a4 4 0 0 1 8 0v3" />`),
  people: draw(svg`<circle cx="9" cy="8.5" r="3.5" /><path d="M3 19c.6-3.4 3-5 6-5s5.4 1.6 6 5M15.5 5.300a3.5 3.5 0 0 1 0 6.400M18 14.500c1.7.8 2.7 2.3 3 4.5" />`),
  video: draw(svg`<rect x="3" y="6.5" width="12.5" height="11" rx="2" /><path d="m15.5 11 5.5-3v8l-5.5-3" />`),
  chat: draw(svg`<path d="M5 5h14a1.5 1.5 0 0 1 1.5 1.500v8A1.5 1.5 0 0 1 19 16h-7l-4.5 4v-4H5a1.5 1.5 0 0 1-1.5-1.500v-8A1.5 1.5 0 0 1 5 5Z" />`),
};

const TICKS: Record<Tick, readonly [string, SVGTemplateResult]> = {
  waiting: ["Waiting to be sent", svg`<circle cx="12" cy="12" r="7.5" /><path d="M12 8v4.500l3 1.5" />`],
  failed: ["Not sent", svg`<circle cx="12" cy="12" r="8" /><path d="M12 7.500v5.500m0 3v.01" />`],
  sent: ["Sent", svg`<path d="m6 12.5 4.5 4.500L19 7.5" />`],
  delivered: ["Delivered", svg`<path d="m2.5 12.5 4.5 4.500L15.5 7.500M11.5 16l1 1L21.5 7.5" />`],
  read: ["Read", svg`<path d="m2.5 12.5 4.5 4.500L15.5 7.500M11.5 16l1 1L21.5 7.5" />`],
};

/** How far a message has come. */
export function tickOf(tick: Tick): TemplateResult {
  const [label, paths] = TICKS[tick];
  return html`<span class="tick ${tick}" role="img" aria-label=${label} title=${label}>${draw(paths)}</span>`;
}

/** The mark of Tidings: two ticks. */
export const mark = draw(svg`<path d="m2.5 12.5 4.5 4.500L15.5 7.500M11.5 16l1 1L21.5 7.5" />`, "mark");
