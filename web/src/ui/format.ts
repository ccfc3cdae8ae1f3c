// Times and names as people read them, in their own language's way.

import type { Presence } from "../core/session.js";

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const DAY = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
const SHORT = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const FULL = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });

export const clock = (time: number): string => CLOCK.format(time);
export const full = (time: number): string => FULL.format(time);

function daysAgo(time: number, now: number): number {
  const midnight = (of: number) => new Date(of).setHours(0, 0, 0, 0);
  return Math.round((midnight(now) - midnight(time)) / 86_400_000);
}

export function day(time: number, now = Date.now()): string {
  const ago = daysAgo(time, now);
  return ago === 0 ? "Today" : ago === 1 ? "Yesterday" : DAY.format(time);
}

/** A time in a list: the hour today, the day before. */
export function brief(time: number, now = Date.now()): string {
  const ago = daysAgo(time, now);
  return ago === 0 ? clock(time) : ago === 1 ? "Yesterday" : SHORT.format(time);
}

export function presence(of: Presence | undefined, now = Date.now()): string {
  if (!of) return "";
  if (of.state === "online") return "online";
  if (of.state === "away") return "away";
  if (of.lastSeen === 0) return "not here yet";
  const ago = daysAgo(of.lastSeen, now);
  return `last seen ${ago === 0 ? "at" : ago === 1 ? "yesterday at" : `${SHORT.format(of.lastSeen)},`} ${clock(of.lastSeen)}`;
}

/** Seconds as 1:05. */
export function countdown(ms: number): string {
  const seconds = Math.max(0, Math.ceil(ms / 1000));
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}

/** ABCD2345 as ABCD-2345. */
export function spacedCode(code: string): string {
  return code.replace(/(.{4})(?=.)/g, "$1-");
}

/** What was typed for a code, as codes are: letters and digits, in fours. */
export function tidyCode(typed: string): string {
  return spacedCode(typed.toUpperCase().replace(/[^A-Z0-9]/g, "").slice(0, 8));
}

export type Piece = { readonly text: string; readonly url?: string };

/** A text, with its addresses told apart. */
export function pieces(text: string): Piece[] {
  const found: Piece[] = [];
  let from = 0;
  for (const match of text.matchAll(/https?:\/\/[^\s<>"]+/g)) {
    // A full stop behind an address is the sentence's.
    const url = match[0].replace(/[.,;:!?)\]}'’]+$/, "");
    if (!URL.canParse(url)) continue;
    if (match.index > from) found.push({ text: text.slice(from, match.index) });
    found.push({ text: url, url });
    from = match.index + url.length;
  }
  if (from < text.length) found.push({ text: text.slice(from) });
  return found;
}

/** A hue for a name: the same everywhere. */
export function hue(name: string): number {
  let sum = 7;
  for (const letter of name) sum = (sum * 31 + (letter.codePointAt(0) ?? 0)) % 360;
  return sum;
}

export function initial(name: string): string {
  return ([...name.replace(/^[@!~]/, "")][0] ?? "?").toUpperCase();
}
