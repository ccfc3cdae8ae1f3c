// What all components share: no shadow, so that one stylesheet and one set of labels hold for all,
// and being drawn again when what they look at changes.

import { LitElement } from "lit";
import type { Watched } from "../core/watched.js";

export class Part extends LitElement {
  #watches = new Map<Watched, () => void>();
  #timer: ReturnType<typeof setInterval> | undefined;

  protected override createRenderRoot(): HTMLElement {
    return this;
  }

  /** Draws again whenever one of these changes; those of before are let go. */
  protected look(...at: (Watched | undefined)[]): void {
    for (const [watched, leave] of this.#watches) {
      if (at.includes(watched)) continue;
      leave();
      this.#watches.delete(watched);
    }
    for (const watched of at) {
      if (!watched || this.#watches.has(watched)) continue;
      this.#watches.set(watched, watched.watch(() => this.requestUpdate()));
    }
  }

  /** Draws again every second, while there is something that counts down. */
  protected tickWhile(counting: boolean): void {
    if (counting) this.#timer ??= setInterval(() => this.requestUpdate(), 1000);
    else {
      clearInterval(this.#timer);
      this.#timer = undefined;
    }
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    this.look();
    this.tickWhile(false);
  }
}
