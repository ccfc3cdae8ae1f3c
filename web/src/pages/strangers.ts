// Meeting a stranger: text or video, interests, waiting, talking, and on to the next. Nothing of
// it outlives the page.

import { html, nothing, type PropertyValues, type TemplateResult } from "lit";
import { customElement, state } from "lit/decorators.js";
import { config, mqttUrl } from "../api.js";
import { Call } from "../core/call.js";
import type { Chat } from "../core/chat.js";
import { ChatError, randomId, type Json } from "../core/entry.js";
import { Session } from "../core/session.js";
import { countdown } from "../ui/format.js";
import { icons, mark } from "../ui/icons.js";
import { Part } from "../ui/page.js";
import { whyEnded } from "../ui/why.js";

export const open = (): HTMLElement => document.createElement("t-strangers");

const INTERESTS_MAX = 8;
const TTL_S = 300;
/** After so long anybody will do who is free: the server's default. */
const PICKY_MS = 10_000;

type Step = "choose" | "waiting" | "talking" | "over" | "nobody";

/** What was typed, as interests: small letters, each once. */
export function interestsOf(typed: string): string[] {
  const all = typed.split(/[,\n]/).map((one) => one.trim().toLowerCase().slice(0, 32));
  return [...new Set(all.filter(Boolean))].slice(0, INTERESTS_MAX);
}

@customElement("t-strangers")
export class StrangersPage extends Part {
  @state() private step: Step = "choose";
  @state() private pool: "text" | "video" = "text";
  @state() private error = "";
  @state() private why = "";
  @state() private shared = "";
  @state() private quiet = false;
  @state() private dark = false;
  #interests: string[] = [];
  #since = 0;
  #session: Session | undefined;
  #chat: Chat | undefined;
  #call: Call | undefined;
  #local: MediaStream | undefined;
  #ice: RTCIceServer[] = [];

  override connectedCallback(): void {
    super.connectedCallback();
    setTimeout(() => void behind(), 200);
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    this.#leave();
  }

  override willUpdate(): void {
    this.look(this.#session, this.#call);
    this.tickWhile(this.step === "waiting");
  }

  override updated(changed: PropertyValues): void {
    for (const video of this.querySelectorAll("video")) {
      const stream = video.classList.contains("remote") ? this.#call?.remote : this.#local;
      if (video.srcObject !== (stream ?? null)) video.srcObject = stream ?? null;
    }
    if (changed.has("step") && this.step !== "talking" && this.step !== "choose") {
      this.querySelector<HTMLElement>("h1")?.focus();
    }
  }

  override render(): TemplateResult {
    switch (this.step) {
      case "choose":
        return this.#choose();
      case "waiting":
        return this.#waiting();
      case "talking":
        return this.#talking();
      case "nobody":
        return this.#between("Nobody is here", "Nobody else was looking just now.");
      case "over":
        return this.#between("It is over", this.why);
    }
  }

  #choose(): TemplateResult {
    return html`<main class="page narrow">
      <header class="brand">${mark}<h1>Meet a stranger</h1></header>
      <p class="lead">Somebody you do not know, as nobody in particular. Nothing of it is kept.</p>
      <form class="card stack" @submit=${(event: SubmitEvent) => void this.#start(event)}>
        <fieldset class="choice">
          <legend>How do you want to talk?</legend>
          <label><input type="radio" name="pool" value="text" checked /> ${icons.chat} Text</label>
          <label><input type="radio" name="pool" value="video" /> ${icons.video} Video</label>
        </fieldset>
        <label
          >Interests <span class="soft">(if you like, with commas)</span>
          <input name="interests" autocomplete="off" placeholder="jazz, climbing, rust" value=${this.#interests.join(", ")}
        /></label>
        ${this.error ? html`<p class="error" role="alert">${this.error}</p>` : nothing}
        <button class="primary">Find somebody</button>
      </form>
      <p class="hint">${icons.lock} Do not say who you are or where you live. You can go on to the next at any time.</p>
      <footer>
        <nav aria-label="Other ways to talk"><a href="/">A room for two</a><a href="/chats">Messenger</a></nav>
      </footer>
    </main>`;
  }

  async #start(event: SubmitEvent): Promise<void> {
    event.preventDefault();
    const form = new FormData(event.target as HTMLFormElement);
    this.pool = form.get("pool") === "video" ? "video" : "text";
    this.#interests = interestsOf(String(form.get("interests") ?? ""));
    this.error = "";
    try {
      const { pairing, iceServers } = await config();
      if (!pairing) throw new Error("This server does not bring strangers together.");
      this.#ice = iceServers;
      if (this.pool === "video") this.#local = await camera();
    } catch (error) {
      this.error = (error as Error).message;
      return;
    }
    const [{ dial }] = await behind();
    this.#wait();
    const session = new Session({
      // Whoever has this password is the same guest again: it lives as long as the page.
      login: { url: mqttUrl(), user: "~anon", password: randomId(32), device: `web-${randomId()}`, keep: false },
      me: "",
      dial,
    });
    this.#session = session;
    session.on.online = () => void this.#online();
    session.on.paired = (chat, said) => this.#paired(chat, said);
    session.on.unpaired = () => {
      if (this.step === "waiting") this.step = "nobody";
    };
    session.on.ended = (chat) => {
      if (chat === this.#chat) this.#over(whyEnded(chat.ended?.why ?? "", chat.ended?.mine ?? false, "The stranger"));
    };
    session.on.signal = (_, text) => void this.#call?.hear(text);
    session.watch(() => {
      if (session.connection.state !== "refused") return;
      this.#leave();
      this.error = "The server lets nobody in to meet strangers just now. Try again later.";
      this.step = "choose";
    });
    void session.start();
  }

  /** With a connection one waits, again if need be; whom one talked to may have gone meanwhile. */
  async #online(): Promise<void> {
    const [session, chat] = [this.#session, this.#chat];
    if (!session) return;
    if (this.step === "waiting") return await this.#ask();
    if (this.step !== "talking" || !chat) return;
    session.ask("chat/~/info", {}).catch((error: unknown) => {
      const gone = error instanceof ChatError && error.code !== "unavailable" && error.code !== "limit";
      if (gone && this.#chat === chat) this.#over("The connection was lost for too long.");
    });
  }

  async #ask(): Promise<void> {
    try {
      const body = { interests: this.#interests, ttl: TTL_S };
      await this.#session?.command(`pair/${this.pool}/next`, body);
    } catch (error) {
      if (!(error instanceof ChatError)) return;
      if (error.retryAfter !== undefined) setTimeout(() => void this.#ask(), error.retryAfter);
      else this.#over(error.message);
    }
  }

  #wait(): void {
    this.#hangUp();
    this.#chat = undefined;
    this.#since = Date.now();
    this.step = "waiting";
    document.title = "Looking for somebody – Tidings";
  }

  #next(): void {
    this.#wait();
    if (this.#session?.connection.state === "online") void this.#ask();
  }

  #paired(chat: Chat, said: Json): void {
    const session = this.#session;
    if (!session) return;
    for (const other of [...session.chats.values()]) if (other !== chat) void session.forget(other);
    this.#chat = chat;
    this.shared = typeof said.interest === "string" ? said.interest : "";
    if (this.pool === "video") {
      this.#call = new Call({
        peer: () => new RTCPeerConnection({ iceServers: this.#ice }),
        signal: (text) => session.command("chat/~/signal", text),
        local: this.#local,
      });
    }
    this.step = "talking";
  }

  #over(why: string): void {
    this.#hangUp();
    this.#chat = undefined;
    this.why = why;
    this.step = "over";
    document.title = "It is over – Tidings";
  }

  #hangUp(): void {
    this.#call?.end();
    this.#call = undefined;
  }

  /** Back to the beginning: no connection, no camera. */
  #leave(): void {
    this.#hangUp();
    const session = this.#session;
    this.#session = undefined;
    this.#chat = undefined;
    session?.stop();
    for (const track of this.#local?.getTracks() ?? []) track.stop();
    this.#local = undefined;
  }

  #stop(): void {
    this.#leave();
    this.step = "choose";
    document.title = "Tidings";
  }

  #waiting(): TemplateResult {
    const waited = Date.now() - this.#since;
    const picky = this.#interests.length > 0 && waited < PICKY_MS;
    return html`<main class="page narrow waiting">
      <header class="brand">${mark}<h1 tabindex="-1">Looking for somebody</h1></header>
      ${this.#session ? html`<t-connection .session=${this.#session}></t-connection>` : nothing}
      ${this.pool === "video" ? html`<video class="local preview" autoplay playsinline muted .muted=${true} aria-label="Your own picture"></video>` : nothing}
      <p class="lead" role="status">
        ${picky
          ? html`Somebody who likes ${this.#interests.map((one) => html`<span class="chip">${one}</span> `)}`
          : this.#interests.length > 0
            ? "Nobody yet who likes the same: now anybody will do."
            : "Anybody will do."}
      </p>
      <p class="hint"><span class="pulse" aria-hidden="true"></span> Waiting for ${countdown(waited)}</p>
      <p><button @click=${() => this.#stop()}>Stop</button></p>
    </main>`;
  }

  #talking(): TemplateResult {
    const session = this.#session;
    const chat = this.#chat;
    if (!session || !chat) return html``;
    return html`<t-talk
      class="screen ${this.pool === "video" ? "with-stage" : ""}"
      .session=${session}
      .chat=${chat}
      .name=${"Stranger"}
      .about=${this.shared ? `You both like ${this.shared}` : "Say hello"}
      .stage=${this.#call ? this.#stage(this.#call) : nothing}
      .actions=${html`<button class="primary" @click=${() => this.#next()}>Next</button>
        <button class="end" @click=${() => void this.#end()}>End</button>`}
    ></t-talk>`;
  }

  #stage(call: Call): TemplateResult {
    const said = {
      waiting: "Calling…",
      connecting: "Connecting the pictures…",
      connected: "",
      failed: "The pictures do not get through. You can go on writing.",
      over: "",
    }[call.state];
    const toggle = (kind: "audio" | "video", off: boolean) => {
      for (const track of this.#local?.getTracks() ?? []) if (track.kind === kind) track.enabled = !off;
    };
    return html`<section class="stage" aria-label="Video">
      <video class="remote" autoplay playsinline aria-label="The stranger’s picture"></video>
      <video class="local" autoplay playsinline muted .muted=${true} aria-label="Your own picture"></video>
      <p class="said" role="status">${said}</p>
      <div class="controls">
        <button
          aria-pressed=${this.quiet}
          @click=${() => {
            this.quiet = !this.quiet;
            toggle("audio", this.quiet);
          }}
        >
          ${this.quiet ? "Sound is off" : "Mute"}
        </button>
        <button
          aria-pressed=${this.dark}
          @click=${() => {
            this.dark = !this.dark;
            toggle("video", this.dark);
          }}
        >
          ${this.dark ? "Camera is off" : "Hide me"}
        </button>
      </div>
    </section>`;
  }

  async #end(): Promise<void> {
    const [session, chat] = [this.#session, this.#chat];
    if (session && chat) await session.end(chat).catch(() => undefined);
    this.#over("You ended the chat.");
  }

  #between(title: string, text: string): TemplateResult {
    return html`<main class="page narrow">
      <header class="brand">${mark}<h1 tabindex="-1">${title}</h1></header>
      <p class="lead" role="status">${text}</p>
      <div class="actions">
        <button class="primary" @click=${() => this.#next()}>Find somebody else</button>
        <button @click=${() => this.#stop()}>Stop</button>
      </div>
    </main>`;
  }
}

/** What a talk needs, and the first look at the page does not. */
const behind = () => Promise.all([import("../core/mqtt.js"), import("../ui/talk.js")]);

async function camera(): Promise<MediaStream> {
  if (!navigator.mediaDevices) throw new Error("Video needs a page on https, or on this machine itself.");
  try {
    return await navigator.mediaDevices.getUserMedia({
      audio: true,
      video: { width: { ideal: 640 }, height: { ideal: 480 } },
    });
  } catch {
    throw new Error("There is no camera, or the page may not use it. Allow it in the browser, or choose text.");
  }
}
