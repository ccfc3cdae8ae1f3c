// The server's words: where commands about a chat go, and what its codes mean for people.

/** Where commands about a chat go: a room is `~`, whatever its name. */
export function at(chat: { name: string }): string {
  return `chat/${chat.name.startsWith("~") ? "~" : chat.name}`;
}

/** What a code means, for people. */
export function explain(code: string, retryAfter?: number): string {
  const seconds = Math.ceil((retryAfter ?? 0) / 1000);
  switch (code) {
    case "forbidden":
      return "You may not do this here.";
    case "unknown_chat":
      return "There is no such chat.";
    case "limit":
      return seconds > 0 ? `Too fast: wait ${seconds} s.` : "There is no room for more.";
    case "size":
      return "This is too long: send it in parts.";
    case "conflict":
      return "This cannot be done as things are: the name may be taken.";
    case "ended":
      return "This chat has ended.";
    case "late":
      return "It is too late for this: the message is gone.";
    case "unavailable":
      return "The server cannot do this now. Try again later.";
    default:
      return "The server did not understand this. Reload the page.";
  }
}
