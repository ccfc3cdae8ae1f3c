// A call between two browsers, agreed upon by signals that the server passes on: each says hello
// with a number, and who drew the higher one makes the offer, so that there is never one too many.

import { isCount, isObject } from "./entry.js";
import { Watched } from "./watched.js";

/** The part of `RTCPeerConnection` that is needed; tests have their own. */
export type Peer = Pick<
  RTCPeerConnection,
  | "addTrack"
  | "createOffer"
  | "createAnswer"
  | "setLocalDescription"
  | "setRemoteDescription"
  | "addIceCandidate"
  | "restartIce"
  | "close"
  | "connectionState"
  | "localDescription"
  | "remoteDescription"
  | "onicecandidate"
  | "onconnectionstatechange"
  | "ontrack"
>;

export interface CallOptions {
  readonly peer: () => Peer;
  /** Rejects where the other is not there to hear it. */
  readonly signal: (text: string) => Promise<void>;
  readonly local: MediaStream | undefined;
  readonly random?: () => number;
}

/** Candidates come in bursts, signals are counted: what comes within this time goes as one. */
const GATHER_MS = 120;
const HELLO_AGAIN_MS = 1_000;
const HELLOS_MAX = 20;

export class Call extends Watched {
  remote: MediaStream | undefined;
  state: "waiting" | "connecting" | "connected" | "failed" | "over" = "waiting";
  readonly #mine: number;
  #peer: Peer | undefined;
  #offers = false;
  #hellos = 0;
  #early: RTCIceCandidateInit[] = [];
  #gathered: RTCIceCandidateInit[] = [];
  #gather: ReturnType<typeof setTimeout> | undefined;
  #again: ReturnType<typeof setTimeout> | undefined;
  /** One signal is dealt with after the other. */
  #turn: Promise<void> = Promise.resolve();

  constructor(private readonly options: CallOptions) {
    super();
    this.#mine = 1 + Math.floor((options.random ?? Math.random)() * 2 ** 40);
    this.#hello(false);
  }

  /** The other said something. */
  hear(text: string): Promise<void> {
    this.#turn = this.#turn
      .then(() => this.#take(text))
      .catch(() => {
        if (this.state !== "over") this.#set("failed");
      });
    return this.#turn;
  }

  end(): void {
    this.#set("over");
    clearTimeout(this.#gather);
    clearTimeout(this.#again);
    this.#peer?.close();
    this.#peer = undefined;
  }

  #set(state: Call["state"]): void {
    this.state = state;
    this.changed();
  }

  #hello(answer: boolean): void {
    if (this.state !== "waiting" && !answer) return;
    this.#hellos += 1;
    this.options.signal(JSON.stringify({ hello: this.#mine, answer })).catch(() => {
      // The other is not there yet, or not any more: its own hello asks for ours again.
      if (this.state !== "waiting" || this.#hellos > HELLOS_MAX) return;
      this.#again = setTimeout(() => this.#hello(answer), HELLO_AGAIN_MS);
    });
  }

  #say(what: object): void {
    this.options.signal(JSON.stringify(what)).catch(() => undefined);
  }

  async #take(text: string): Promise<void> {
    let said: unknown;
    try {
      said = JSON.parse(text);
    } catch {
      return;
    }
    if (!isObject(said) || this.state === "over") return;
    if (isCount(said.hello)) return await this.#meet(said.hello, said.answer === true);
    if (typeof said.offer === "string") {
      const peer = this.#begin();
      await peer.setRemoteDescription({ type: "offer", sdp: said.offer });
      await this.#late(peer);
      await peer.setLocalDescription(await peer.createAnswer());
      this.#say({ answer: peer.localDescription?.sdp });
    } else if (typeof said.answer === "string") {
      await this.#peer?.setRemoteDescription({ type: "answer", sdp: said.answer });
      if (this.#peer) await this.#late(this.#peer);
    } else if (Array.isArray(said.candidates)) {
      this.#early.push(...(said.candidates.slice(0, 64) as RTCIceCandidateInit[]));
      if (this.#peer?.remoteDescription) await this.#late(this.#peer);
    }
  }

  async #meet(theirs: number, answer: boolean): Promise<void> {
    if (!answer) this.#hello(true);
    if (this.state !== "waiting" || theirs === this.#mine) return;
    clearTimeout(this.#again);
    this.#offers = this.#mine > theirs;
    const peer = this.#begin();
    if (this.#offers) await this.#offer(peer);
  }

  async #offer(peer: Peer): Promise<void> {
    await peer.setLocalDescription(await peer.createOffer());
    this.#say({ offer: peer.localDescription?.sdp });
  }

  /** Candidates that came before there was something to add them to. */
  async #late(peer: Peer): Promise<void> {
    for (const candidate of this.#early.splice(0)) {
      await peer.addIceCandidate(candidate).catch(() => undefined);
    }
  }

  #begin(): Peer {
    if (this.#peer) return this.#peer;
    const peer = this.options.peer();
    this.#peer = peer;
    const { local } = this.options;
    for (const track of local?.getTracks() ?? []) peer.addTrack(track, local as MediaStream);
    peer.ontrack = ({ streams, track }) => {
      this.remote = streams[0] ?? new MediaStream([track]);
      this.changed();
    };
    peer.onicecandidate = ({ candidate }) => {
      if (!candidate) return;
      this.#gathered.push(candidate.toJSON());
      this.#gather ??= setTimeout(() => {
        this.#gather = undefined;
        this.#say({ candidates: this.#gathered.splice(0) });
      }, GATHER_MS);
    };
    peer.onconnectionstatechange = () => {
      if (peer.connectionState === "connected") this.#set("connected");
      if (peer.connectionState !== "failed") return;
      this.#set("failed");
      if (this.#offers) {
        peer.restartIce();
        void this.#offer(peer).catch(() => undefined);
      }
    };
    this.#set("connecting");
    return peer;
  }
}
