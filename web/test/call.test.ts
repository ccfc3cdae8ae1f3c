import { expect, it, vi } from "vitest";
import { Call, type Peer } from "../src/core/call.js";

class FakePeer {
  localDescription: RTCSessionDescriptionInit | null = null;
  remoteDescription: RTCSessionDescriptionInit | null = null;
  connectionState = "new";
  candidates: unknown[] = [];
  onconnectionstatechange: (() => void) | null = null;
  onicecandidate: unknown = null;
  ontrack: unknown = null;
  addTrack = vi.fn();
  restartIce = vi.fn();
  close = vi.fn();
  createOffer = async () => ({ type: "offer", sdp: "o" });
  createAnswer = async () => ({ type: "answer", sdp: "a" });
  setLocalDescription = async (said: RTCSessionDescriptionInit) => void (this.localDescription = said);
  setRemoteDescription = async (said: RTCSessionDescriptionInit) => {
    this.remoteDescription = said;
    if (!this.localDescription || said.type === "answer") return;
    throw new Error("glare");
  };
  addIceCandidate = async (candidate: unknown) => {
    if (!this.remoteDescription) throw new Error("no description yet");
    this.candidates.push(candidate);
  };
}

/** Two calls whose signals reach each other; `lost` says which are not. */
function two(numbers: [number, number], lost: (text: string, count: number) => boolean = () => false) {
  const peers: FakePeer[] = [];
  const said: string[] = [];
  const calls: Call[] = [];
  for (const [own, other] of [[0, 1], [1, 0]] as const) {
    const call = new Call({
      local: undefined,
      random: () => numbers[own],
      peer: () => {
        const peer = new FakePeer();
        peers[own] = peer;
        return peer as unknown as Peer;
      },
      signal: async (text) => {
        // Signals come in their own time, never inside of what made them.
        await Promise.resolve();
        said.push(text);
        if (!calls[other] || lost(text, said.length)) throw new Error("late");
        void calls[other].hear(text);
      },
    });
    calls.push(call);
  }
  return { calls, peers, said };
}

const offers = (said: string[]) => said.filter((text) => text.includes('"offer"'));

it.each([[[0.1, 0.9]], [[0.9, 0.1]]] as [[number, number]][])("is offered by one side only (%s)", async (numbers) => {
  const { peers, said } = two(numbers);
  await vi.waitFor(() => expect(peers.map((peer) => peer.remoteDescription?.type).sort()).toEqual(["answer", "offer"]));
  expect(offers(said)).toHaveLength(1);
});

it("says hello again where nobody was there to hear it", async () => {
  vi.useFakeTimers();
  const { peers, said } = two([0.1, 0.9], (_, count) => count <= 4);
  await vi.advanceTimersByTimeAsync(3_000);
  expect(peers.map((peer) => peer.remoteDescription?.type).sort()).toEqual(["answer", "offer"]);
  expect(offers(said)).toHaveLength(1);
  vi.useRealTimers();
});

it("keeps candidates that come before the description, and takes nonsense calmly", async () => {
  const { calls, peers } = two([0.9, 0.1]);
  const [first] = calls;
  void first?.hear('{"candidates":[{"candidate":"x"}]}');
  for (const text of ["", "{", "null", "[]", '{"offer":7}', '{"hello":-1}']) void first?.hear(text);
  await vi.waitFor(() => expect(peers[0]?.candidates).toEqual([{ candidate: "x" }]));
  expect(first?.state).toBe("connecting");
});

it("keeps candidates that come between its offer and the answer", async () => {
  const peer = new FakePeer();
  const signal = vi.fn(async () => undefined);
  const call = new Call({ local: undefined, random: () => 0.9, peer: () => peer as unknown as Peer, signal });
  await call.hear('{"hello":1,"answer":true}');
  expect(peer.localDescription?.type).toBe("offer");
  await call.hear('{"candidates":[{"candidate":"x"}]}');
  await call.hear('{"answer":"a"}');
  expect(peer.candidates).toEqual([{ candidate: "x" }]);
});

it("is over when it is ended, whatever comes then", async () => {
  const { calls, peers } = two([0.9, 0.1]);
  await vi.waitFor(() => expect(peers[0]?.remoteDescription).toBeTruthy());
  calls[0]?.end();
  await calls[0]?.hear('{"offer":"late"}');
  expect(calls[0]?.state).toBe("over");
  expect(peers[0]?.close).toHaveBeenCalledOnce();
});
