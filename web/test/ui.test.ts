import { describe, expect, it } from "vitest";
import { countdown, hue, initial, pieces, presence, spacedCode, tidyCode } from "../src/ui/format.js";

describe("codes", () => {
  it("are shown in fours, however they are typed", () => {
    expect(spacedCode("ABCD2345")).toBe("ABCD-2345");
    expect(["abcd2345", "ABCD-2345", " abcd 23 45 ", "abcd_2345xx"].map(tidyCode)).toEqual(Array(4).fill("ABCD-2345"));
    expect(["", "ab", "abcd", "abcd2"].map(tidyCode)).toEqual(["", "AB", "ABCD", "ABCD-2"]);
  });
});

describe("addresses in a text", () => {
  it("are links, without the full stop behind them", () => {
    expect(pieces("see https://a.example/x?y=1, or http://b.example.")).toEqual([
      { text: "see " },
      { text: "https://a.example/x?y=1", url: "https://a.example/x?y=1" },
      { text: ", or " },
      { text: "http://b.example", url: "http://b.example" },
      { text: "." },
    ]);
  });

  it("are of the web only", () => {
    for (const text of ["javascript:alert(1)", "http://", "data:text/html,x", "", "ftp://x.example"]) {
      expect(pieces(text).some(({ url }) => url !== undefined)).toBe(false);
    }
  });
});

describe("times and names", () => {
  const now = new Date(2026, 10, 22, 12, 0).getTime();
  const seen = (lastSeen: number, state = "offline") => presence({ state, lastSeen, epoch: 1 }, now);

  it("tell when somebody was there", () => {
    expect(seen(now, "online")).toBe("online");
    expect(seen(0)).toBe("not here yet");
    expect(seen(now - 3_600_000)).toMatch(/^last seen at 11/);
    expect(seen(now - 24 * 3_600_000)).toMatch(/^last seen yesterday at/);
    expect(seen(now - 9 * 24 * 3_600_000)).toMatch(/13/);
    expect(presence(undefined)).toBe("");
  });

  it("count down and never below nothing", () => {
    expect([65_000, 59_100, 0, -5].map(countdown)).toEqual(["1:05", "1:00", "0:00", "0:00"]);
  });

  it("have a first letter and a hue, whatever the name", () => {
    expect(["bob", "@bob", "!news", "", "🦊x"].map(initial)).toEqual(["B", "B", "N", "?", "🦊"]);
    expect(hue("bob")).toBe(hue("bob"));
  });
});
