// The HTTP API of the server. Errors are sentences for people.

import { ChatError, isCount, isObject, type Json } from "./core/entry.js";

export interface Seat {
  readonly user: string;
  readonly name: string;
  readonly room: string;
  readonly other: { readonly user: string; readonly name: string };
  readonly token: string;
}

export interface RoomSeat {
  readonly name: string;
  readonly link: string;
  readonly code: string;
}

export interface Config {
  readonly open: boolean;
  readonly pairing: boolean;
  readonly rooms: boolean;
  readonly mediaBytesMax: number;
  readonly iceServers: RTCIceServer[];
}

/** Asks, or with a body does; rejects with a `ChatError`. */
export async function call(path: string, body?: Json, bearer?: string): Promise<unknown> {
  let answer: Response;
  try {
    answer = await fetch(path, {
      ...(body && { method: "POST", body: JSON.stringify(body) }),
      headers: {
        ...(body && { "content-type": "application/json" }),
        ...(bearer !== undefined && { authorization: `Bearer ${bearer}` }),
      },
      credentials: "omit",
      cache: "no-store",
    });
  } catch {
    throw new ChatError("unavailable", "The server does not answer. Look at your connection and try again.");
  }
  const said: unknown = await answer.json().catch(() => undefined);
  if (answer.ok) return said;
  const { code, text, retry_after: wait } = isObject(said) ? said : {};
  throw new ChatError(
    typeof code === "string" ? code : "unavailable",
    typeof text === "string" ? text : `The server answered ${answer.status}. Try again later.`,
    isCount(wait) ? wait : undefined,
    answer.status,
  );
}

export async function config(): Promise<Config> {
  const said = (await call("/api/config")) as Json;
  return {
    open: said.open === true,
    pairing: said.pairing === true,
    rooms: said.rooms === true,
    mediaBytesMax: isCount(said.media_bytes_max) ? said.media_bytes_max : 0,
    iceServers: Array.isArray(said.ice_servers) ? (said.ice_servers as RTCIceServer[]) : [],
  };
}

export async function makeRoom(names: [string, string]): Promise<RoomSeat[]> {
  const { seats } = (await call("/api/rooms", { names })) as { seats: RoomSeat[] };
  return seats;
}

export async function takeSeat(link: string, code: string): Promise<Seat> {
  return (await call("/api/seats", { link, code })) as Seat;
}

export async function login(user: string, password: string): Promise<{ user: string; token: string }> {
  const body = password === "" ? { user } : { user, password };
  return (await call("/api/login", body)) as { user: string; token: string };
}

/** Where MQTT is spoken: the same host and port as the page. */
export function mqttUrl(): string {
  return `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/mqtt`;
}
