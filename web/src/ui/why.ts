// How a chat ended, in words.

/** Why it is over, and for whom. */
export function whyEnded(why: string, mine: boolean, name: string): string {
  if (mine) return "You ended the chat.";
  switch (why) {
    case "end":
      return `${name} ended the chat.`;
    case "next":
      return `${name} went on to somebody else.`;
    case "gone":
      return `${name} has gone.`;
    case "idle":
      return "Nobody had written for a while.";
    case "timeout":
      return "The time of this chat was over.";
    default:
      return "It was ended, or its time was over.";
  }
}
