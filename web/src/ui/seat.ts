// The seat this tab has taken: it lasts over a reload, and no longer than the tab.

import type { Seat } from "../api.js";

export function keepSeat(link: string, seat: Seat): void {
  try {
    sessionStorage.setItem(`seat:${link}`, JSON.stringify(seat));
  } catch {
    // Without a storage a reload asks for the code again.
  }
}

export function keptSeat(link: string): Seat | undefined {
  try {
    return JSON.parse(sessionStorage.getItem(`seat:${link}`) ?? "null") ?? undefined;
  } catch {
    return undefined;
  }
}

export function forgetSeat(link: string): void {
  try {
    sessionStorage.removeItem(`seat:${link}`);
  } catch {
    // Nothing was kept.
  }
}
