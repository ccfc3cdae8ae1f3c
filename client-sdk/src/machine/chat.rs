//! What a device knows of one chat: which places, what is unread, how far the others are.

use super::io::Standing;
use super::ranges::Ranges;
use crate::entry::{Entry, EntryKind};
use crate::store::rows::{ChatRow, Other};
use std::time::Duration;

#[derive(Debug, Default)]
pub(super) struct Chat {
    /// Places whose entry is here, or gone.
    pub(super) known: Ranges,
    floor: u64,
    pub(super) taken: u64,
    pub(super) top: u64,
    pub(super) time: u64,
    pub(super) read: u64,
    pub(super) read_told: u64,
    unread: Ranges,
    unfetched: u64,
    synced_to: u64,
    pub(super) others: Vec<Other>,
    pub(super) stranger: bool,
    pub(super) ended: bool,
    /// Known places whose entries are not safe yet, with the position that makes them so.
    pub(super) fresh: Vec<(u64, u64)>,
    /// A question for what is missing is under way.
    pub(super) asked: bool,
    /// Since when something is missing while an own send is under way, which may be just that.
    pub(super) missing_since: Option<Duration>,
}

impl Chat {
    pub(super) fn of(row: ChatRow) -> Self {
        let mut chat = Self {
            known: Ranges::new(row.known),
            floor: row.floor,
            taken: row.taken,
            top: row.top,
            time: row.time,
            read: row.read,
            read_told: row.read_told,
            unread: Ranges::new(row.unread),
            unfetched: row.unfetched,
            synced_to: row.synced_to,
            others: row.others,
            stranger: row.stranger,
            ended: row.ended,
            fresh: Vec::new(),
            asked: false,
            missing_since: None,
        };
        for seq in row.fresh {
            chat.known.remove(seq);
            chat.unread.remove(seq);
        }
        chat
    }

    pub(super) fn row(&self) -> ChatRow {
        ChatRow {
            known: self.known.pairs().to_vec(),
            floor: self.floor,
            taken: self.taken,
            top: self.top,
            time: self.time,
            read: self.read,
            read_told: self.read_told,
            unread: self.unread.pairs().to_vec(),
            unfetched: self.unfetched,
            synced_to: self.synced_to,
            others: self.others.clone(),
            stranger: self.stranger,
            ended: self.ended,
            fresh: self.fresh.iter().map(|(_, seq)| *seq).collect(),
        }
    }

    pub(super) fn standing(&self, chat: &str, waiting: usize) -> Standing {
        let other = |other: &Other| (other.user.clone(), other.delivered, other.read);
        Standing {
            chat: chat.to_owned(),
            last: self.top,
            time: self.time,
            in_order: self.in_order(),
            taken: self.taken,
            read: self.read,
            unread: self.unread.len() + self.unfetched,
            others: self.others.iter().map(other).collect(),
            stranger: self.stranger,
            ended: self.ended,
            waiting,
        }
    }

    /// The last place up to which nothing that is wanted is missing.
    pub(super) fn in_order(&self) -> u64 {
        if self.floor == 0 { 0 } else { self.known.end_of_run(self.floor) }
    }

    /// Up to where this device has what it is to have. What it has not heard it cannot have read: to
    /// the broker that would be as good as delivered, and go.
    pub(super) fn here(&self) -> u64 {
        if self.floor == 0 { self.known.last() } else { self.in_order() }
    }

    /// What is to be asked for.
    pub(super) fn missing(&self) -> Option<(u64, u64)> {
        if self.floor == 0 || self.asked {
            return None;
        }
        self.known.gap(self.floor, self.top)
    }

    /// From `seq` on, every place is wanted.
    pub(super) fn want_from(&mut self, seq: u64) {
        if self.floor == 0 {
            self.floor = seq;
            self.taken = self.taken.max(seq.saturating_sub(1));
        }
    }

    /// Takes in an entry that the broker delivered, or that history had; whether it is new here.
    pub(super) fn insert(&mut self, entry: &Entry, me: &str) -> bool {
        self.top = self.top.max(entry.seq);
        if self.known.contains(entry.seq) || entry.seq == 0 {
            return false;
        }
        self.known.insert(entry.seq, entry.seq);
        self.time = self.time.max(entry.time);
        let counts = entry.kind == EntryKind::Message && entry.from != me && !entry.own;
        if entry.seq > self.read && counts {
            self.unread.insert(entry.seq, entry.seq);
            if entry.seq <= self.synced_to {
                self.unfetched = self.unfetched.saturating_sub(1);
            }
        }
        self.bound_unfetched();
        true
    }

    /// These places are gone: not to be waited for.
    pub(super) fn insert_gone(&mut self, from: u64, to: u64) {
        self.known.insert(from, to.min(self.top.max(from)));
        self.bound_unfetched();
    }

    /// An entry's content went: it is not unread any more, its place stays known.
    pub(super) fn forget(&mut self, from: u64, to: u64) {
        if from == to {
            self.unread.remove(from);
        } else {
            self.unread.remove_to(to);
        }
    }

    /// Whether that changed anything.
    pub(super) fn handle_read(&mut self, seq: u64) -> bool {
        let seq = seq.min(self.top);
        if seq <= self.read {
            return false;
        }
        self.read = seq;
        self.unread.remove_to(seq);
        self.bound_unfetched();
        true
    }

    /// What the broker knows of this chat; `missed` if this device may have missed some of it.
    pub(super) fn handle_sync(&mut self, last: u64, read: u64, unread: u64, missed: bool) {
        if missed {
            self.want_from(self.top + 1);
        }
        self.top = self.top.max(last);
        self.handle_read(read);
        self.read_told = self.read_told.max(read);
        self.synced_to = last;
        let here = self.unread.count(self.read + 1, last);
        self.unfetched = unread.saturating_sub(here);
        self.bound_unfetched();
    }

    /// There are no more unread ones elsewhere than places that are not here.
    fn bound_unfetched(&mut self) {
        if self.unfetched == 0 {
            return;
        }
        let behind = self.synced_to.saturating_sub(self.read);
        let unknown = behind - self.known.count(self.read + 1, self.synced_to).min(behind);
        self.unfetched = self.unfetched.min(unknown);
    }

    /// Whether that changed anything.
    pub(super) fn handle_other(&mut self, user: &str, delivered: u64, read: u64) -> bool {
        let delivered = delivered.max(read);
        let count = self.others.len();
        match self.others.iter_mut().find(|other| other.user == user) {
            Some(other) => {
                let before = (other.delivered, other.read);
                other.delivered = other.delivered.max(delivered);
                other.read = other.read.max(read);
                before != (other.delivered, other.read)
            }
            None if count < OTHERS_MAX => {
                self.others.push(Other { user: user.to_owned(), delivered, read });
                true
            }
            None => false,
        }
    }
}

/// Members whose cursors are kept: groups beyond 32 are told counts.
const OTHERS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Body;

    fn entry(seq: u64, from: &str) -> Entry {
        Entry {
            chat: "@bob".to_owned(),
            seq,
            from: from.to_owned(),
            time: seq,
            id: String::new(),
            body: Body::Text("x".to_owned()),
            kind: EntryKind::Message,
            reference: None,
            content_type: None,
            expires: None,
            own: false,
        }
    }

    fn unread(chat: &Chat) -> u64 {
        chat.standing("@bob", 0).unread
    }

    #[test]
    fn gap_is_wanted_from_the_first_entry_on_and_holds_up_the_order() {
        let mut chat = Chat::default();
        chat.want_from(5);
        for seq in [5, 6, 9] {
            assert!(chat.insert(&entry(seq, "bob"), "me"));
        }
        assert!(!chat.insert(&entry(6, "bob"), "me"), "twice");
        assert_eq!((chat.in_order(), chat.missing(), chat.taken), (6, Some((7, 8)), 4));
        chat.insert_gone(7, 7);
        assert!(chat.insert(&entry(8, "bob"), "me"));
        assert_eq!((chat.in_order(), chat.missing()), (9, None));
        assert!(chat.insert(&entry(2, "bob"), "me"), "scrolled back to");
        assert_eq!((chat.in_order(), chat.taken), (9, 4));
    }

    #[test]
    fn unread_counts_messages_of_others_here_and_elsewhere() {
        let mut chat = Chat::default();
        chat.handle_sync(10, 4, 5, false);
        assert_eq!((unread(&chat), chat.missing()), (5, None));
        // The newest page is scrolled back to: three of the five, and one's own.
        for seq in [8, 9, 10] {
            chat.insert(&entry(seq, "bob"), "me");
        }
        chat.insert(&entry(7, "me"), "me");
        assert_eq!(unread(&chat), 5);
        chat.insert_gone(5, 6);
        assert_eq!(unread(&chat), 3, "none can be elsewhere");
        chat.insert(&entry(11, "bob"), "me");
        assert!(chat.handle_read(9));
        assert_eq!(unread(&chat), 2);
        assert!(!chat.handle_read(3), "never back");
        assert!(chat.handle_read(99));
        assert_eq!((unread(&chat), chat.read), (0, 11));
    }

    #[test]
    fn what_a_lost_session_missed_is_wanted() {
        let mut chat = Chat::default();
        chat.handle_sync(3, 0, 3, true);
        assert_eq!((chat.missing(), chat.taken), (Some((1, 3)), 0));
        let mut chat = Chat::default();
        chat.handle_sync(3, 0, 3, false);
        assert_eq!(chat.missing(), None, "a new device scrolls back");
        chat.handle_sync(5, 0, 5, true);
        assert_eq!(chat.missing(), Some((4, 5)), "but misses nothing from then on");
    }

    #[test]
    fn ticks_never_go_back() {
        let mut chat = Chat::default();
        assert!(chat.handle_other("bob", 5, 2));
        assert!(!chat.handle_other("bob", 4, 1));
        assert!(chat.handle_other("bob", 0, 6));
        assert_eq!((chat.others[0].delivered, chat.others[0].read), (6, 6));
    }
}
