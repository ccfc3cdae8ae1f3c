// What was begun to write, kept over a reload of the tab.

export function draft(chat: string): string {
  try {
    return sessionStorage.getItem(`draft:${chat}`) ?? "";
  } catch {
    return "";
  }
}

export function keepDraft(chat: string, text: string): void {
  try {
    if (text) sessionStorage.setItem(`draft:${chat}`, text);
    else sessionStorage.removeItem(`draft:${chat}`);
  } catch {
    // Without a storage a draft lasts as long as the page.
  }
}
