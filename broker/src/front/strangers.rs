//! Connections that nobody knows yet: how many there are, in all and from one address.
//!
//! Places are for those whose CONNECT is awaited or looked at. When they are short, each address has
//! its share of them: who comes from an address with less takes the place of the oldest that says
//! nothing from the address with the most. So a few addresses that fill all places keep nobody out.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::rc::Rc;

use tokio::sync::Notify;

use crate::auth::network;

/// All of them.
#[derive(Debug)]
pub(super) struct Strangers {
    max: usize,
    per_address_max: usize,
    /// Those that have no place yet.
    lobby: Cell<usize>,
    /// Those that have one.
    placed: Cell<usize>,
    by_address: RefCell<HashMap<IpAddr, Group>>,
    last: Cell<u64>,
    /// How many came since the last pause while there were many.
    in_a_row: Cell<usize>,
}

/// Those of one address that have a place.
#[derive(Debug, Default)]
struct Group {
    count: usize,
    /// Those whose CONNECT is not there yet, the oldest first, and how they are told to go.
    silent: BTreeMap<u64, Rc<Go>>,
}

/// How one is sent away for another.
#[derive(Debug, Default)]
struct Go {
    told: Cell<bool>,
    wakeup: Notify,
}

/// What is said to one that asks for a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Yes,
    /// Places are short, and another had to go for it.
    InsteadOfAnother,
    /// Places are short; ask again.
    Wait,
    /// Places are short, and its address has its share.
    MoreThanItsShare,
    /// There are too many from its address, short or not.
    TooMany,
}

impl Answer {
    /// Whether places are short.
    pub(super) fn is_short(self) -> bool {
        matches!(self, Self::InsteadOfAnother | Self::Wait | Self::MoreThanItsShare)
    }
}

impl Strangers {
    pub(super) fn new(max: usize, per_address_max: usize) -> Rc<Self> {
        Rc::new(Self {
            max,
            per_address_max,
            lobby: Cell::default(),
            placed: Cell::default(),
            by_address: RefCell::default(),
            last: Cell::default(),
            in_a_row: Cell::default(),
        })
    }

    /// Whether so many are on their way to a place that nobody else should be accepted.
    pub(super) fn lobby_is_full(&self) -> bool {
        self.lobby.get() >= LOBBY_MAX
    }

    /// Whether half of the places are taken. From here on a place may soon cost somebody else his, so
    /// those who have one are given time to say CONNECT.
    pub(super) fn are_many(&self) -> bool {
        self.placed.get() >= self.max.div_ceil(2)
    }

    /// Whether the next one is to wait a little, while there are many: as many as the lobby holds come
    /// in a row.
    pub(super) fn may_not_come_at_once(&self) -> bool {
        let in_a_row = if self.are_many() { self.in_a_row.get() + 1 } else { 0 };
        self.in_a_row.set(in_a_row % LOBBY_MAX);
        in_a_row == LOBBY_MAX
    }

    /// Somebody was accepted, and may ask for a place.
    pub(super) fn enter(self: &Rc<Self>) -> Stranger {
        self.lobby.set(self.lobby.get() + 1);
        let number = self.last.get() + 1;
        self.last.set(number);
        let (strangers, go) = (Rc::clone(self), Rc::default());
        Stranger { strangers, number, go, address: Cell::default(), was_short: Cell::default() }
    }

    fn ask(&self, address: IpAddr) -> Answer {
        let mut by_address = self.by_address.borrow_mut();
        let count = by_address.get(&address).map_or(0, |group| group.count);
        if count >= self.per_address_max {
            return Answer::TooMany;
        }
        if self.placed.get() < self.max {
            return Answer::Yes;
        }
        // Where one address may have all places there are no shares: they come through something
        // that hides their own.
        if self.per_address_max >= self.max {
            return Answer::Wait;
        }
        let addresses = by_address.len() + usize::from(count == 0);
        let share = (self.max / addresses.max(1)).max(SHARE_MIN);
        if count >= share {
            return Answer::MoreThanItsShare;
        }
        let silent = by_address.iter_mut().filter(|(_, group)| !group.silent.is_empty());
        let largest = silent.max_by_key(|(_, group)| group.count);
        let Some((&from, group)) = largest.filter(|(_, group)| group.count > share) else {
            return Answer::Wait;
        };
        let Some((_, go)) = group.silent.pop_first() else { return Answer::Wait };
        // It counts no longer, though its task may still have to hear of it.
        go.told.set(true);
        go.wakeup.notify_one();
        leave(&mut by_address, from);
        self.placed.set(self.placed.get() - 1);
        Answer::InsteadOfAnother
    }
}

fn leave(by_address: &mut HashMap<IpAddr, Group>, address: IpAddr) {
    if let Some(group) = by_address.get_mut(&address) {
        group.count -= 1;
        if group.count == 0 {
            by_address.remove(&address);
        }
    }
}

/// One of them. Its place is given back however its task ends: whoever authenticates may panic.
#[derive(Debug)]
pub(super) struct Stranger {
    strangers: Rc<Strangers>,
    number: u64,
    go: Rc<Go>,
    /// Set once it has a place.
    address: Cell<Option<IpAddr>>,
    /// It was told that places are short.
    was_short: Cell<bool>,
}

impl Stranger {
    /// Asks for a place, for its address or its IPv6 network, of which one customer has all addresses.
    pub(super) fn ask_for_place(&self, address: IpAddr) -> Answer {
        let (address, strangers) = (network(address), &self.strangers);
        let answer = strangers.ask(address);
        if matches!(answer, Answer::Yes | Answer::InsteadOfAnother) {
            let mut by_address = strangers.by_address.borrow_mut();
            let group = by_address.entry(address).or_default();
            group.count += 1;
            group.silent.insert(self.number, Rc::clone(&self.go));
            self.address.set(Some(address));
            strangers.placed.set(strangers.placed.get() + 1);
            strangers.lobby.set(strangers.lobby.get() - 1);
        }
        answer
    }

    pub(super) fn has_a_place(&self) -> bool {
        self.address.get().is_some()
    }

    /// Whether it is told for the first time that places are short.
    pub(super) fn is_short_first(&self) -> bool {
        !self.was_short.replace(true)
    }

    /// Returns when it has to go for another.
    pub(super) async fn crowded_out(&self) {
        self.go.wakeup.notified().await;
    }

    /// Its CONNECT is there: it keeps its place.
    pub(super) fn has_introduced_itself(&self) {
        let Some(address) = self.address.get() else { return };
        if let Some(group) = self.strangers.by_address.borrow_mut().get_mut(&address) {
            group.silent.remove(&self.number);
        }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let strangers = &self.strangers;
        let Some(address) = self.address.get() else {
            return strangers.lobby.set(strangers.lobby.get().saturating_sub(1));
        };
        self.has_introduced_itself();
        // Who was sent away for another has no place any more.
        if !self.go.told.get() {
            leave(&mut strangers.by_address.borrow_mut(), address);
            strangers.placed.set(strangers.placed.get().saturating_sub(1));
        }
    }
}

/// How many may be on their way to a place: whose proxy has not said yet who they are, or who wait for
/// a place to be free.
const LOBBY_MAX: usize = 64;

/// What is no address's excess, however many addresses there are: two devices in one home.
const SHARE_MIN: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn attacker(number: u8) -> IpAddr {
        IpAddr::from([203, 0, 113, number])
    }

    fn placed(strangers: &Rc<Strangers>, address: IpAddr) -> Option<Stranger> {
        let stranger = strangers.enter();
        let answer = stranger.ask_for_place(address);
        matches!(answer, Answer::Yes | Answer::InsteadOfAnother).then_some(stranger)
    }

    fn is_sent_away(stranger: &Stranger) -> bool {
        stranger.go.told.get()
    }

    #[test]
    fn a_stranger_too_many_from_one_address_is_sent_away() {
        let strangers = Strangers::new(100, 2);
        let enter = || placed(&strangers, ip("127.0.0.1"));
        let (first, second) = (enter().unwrap(), enter().unwrap());
        assert_eq!(strangers.enter().ask_for_place(ip("127.0.0.1")), Answer::TooMany);
        assert_eq!(strangers.placed.get(), 2);
        drop(first);
        let third = enter().unwrap();
        drop((second, third));
        assert!(strangers.by_address.borrow().is_empty());
        assert_eq!((strangers.placed.get(), strangers.lobby.get()), (0, 0));
    }

    #[test]
    fn strangers_of_one_ipv6_network_count_together() {
        let strangers = Strangers::new(100, 1);
        let enter = |address: &str| placed(&strangers, ip(address));
        let _first = enter("2001:db8::1").unwrap();
        assert!(enter("2001:db8::2").is_none());
        let _other_network = enter("2001:db8:0:1::1").unwrap();
        let _mapped = enter("::ffff:192.0.2.7").unwrap();
        assert!(enter("192.0.2.7").is_none());
    }

    #[test]
    fn sixteen_addresses_that_fill_all_places_keep_nobody_out() {
        let strangers = Strangers::new(1024, 64);
        let mut attackers = Vec::new();
        for number in 0..16 {
            attackers.extend((0..64).map(|_| placed(&strangers, attacker(number)).unwrap()));
        }
        assert_eq!(strangers.enter().ask_for_place(attacker(0)), Answer::TooMany);
        // One more address only takes the others' surplus, and then has its share.
        let more: Vec<_> = (0..64).map_while(|_| placed(&strangers, attacker(16))).collect();
        assert!((50..=60).contains(&more.len()), "{}", more.len());
        assert_eq!(strangers.enter().ask_for_place(attacker(16)), Answer::MoreThanItsShare);
        let fresh: Vec<_> = (0..200_u8)
            .map(|number| placed(&strangers, IpAddr::from([192, 0, 2, number])))
            .collect();
        assert!(fresh.iter().all(Option::is_some));
        assert!(!fresh.iter().flatten().any(is_sent_away));
        assert_eq!(
            attackers.iter().filter(|it| is_sent_away(it)).count(),
            more.len() + 200 - { more.iter().filter(|it| is_sent_away(it)).count() }
        );
        assert_eq!(strangers.placed.get(), 1024);
        drop((attackers, more, fresh));
        assert!(strangers.by_address.borrow().is_empty());
        assert_eq!((strangers.placed.get(), strangers.lobby.get()), (0, 0));
    }

    #[test]
    fn the_oldest_that_says_nothing_goes_and_never_one_that_is_being_looked_at() {
        let strangers = Strangers::new(6, 5);
        let all: Vec<_> = (0..5).map(|_| placed(&strangers, attacker(1)).unwrap()).collect();
        let other = placed(&strangers, attacker(2)).unwrap();
        for known in [0, 2] {
            all[known].has_introduced_itself();
        }
        let _fresh = placed(&strangers, attacker(3)).unwrap();
        let gone: Vec<_> = all.iter().map(is_sent_away).collect();
        assert_eq!((gone, is_sent_away(&other)), (vec![false, true, false, false, false], false));
        for stranger in &all {
            stranger.has_introduced_itself();
        }
        assert_eq!(strangers.enter().ask_for_place(attacker(4)), Answer::Wait);
    }

    #[test]
    fn those_who_come_in_twos_wait_for_each_other() {
        let strangers = Strangers::new(4, 3);
        let enter = |number| placed(&strangers, attacker(number)).unwrap();
        let all = [enter(1), enter(1), enter(2), enter(2)];
        let waiting = strangers.enter();
        assert_eq!(waiting.ask_for_place(attacker(3)), Answer::Wait);
        drop(all);
        assert_eq!(waiting.ask_for_place(attacker(3)), Answer::Yes);
        // Where all may be of one address nobody has a share.
        let strangers = Strangers::new(1, 1);
        let _one = placed(&strangers, attacker(1)).unwrap();
        assert_eq!(strangers.enter().ask_for_place(attacker(2)), Answer::Wait);
    }

    #[test]
    fn many_who_come_in_a_row_are_let_in_by_and_by_once_half_of_the_places_are_taken() {
        let strangers = Strangers::new(200, 200);
        let come = || (strangers.may_not_come_at_once(), placed(&strangers, attacker(1)));
        let few: Vec<_> = (0..100).map(|_| come()).collect();
        assert!(few.iter().all(|(waits, _)| !waits));
        let many: Vec<_> = (0..80).map(|_| come()).collect();
        let waited: Vec<_> = (0..80).filter(|it| many[*it].0).collect();
        assert_eq!(waited, [LOBBY_MAX - 1]);
        drop((few, many));
        assert!((0..200).all(|_| !strangers.may_not_come_at_once()));
    }

    #[test]
    fn who_has_no_place_yet_is_in_the_lobby_until_it_is_full() {
        let strangers = Strangers::new(100, 100);
        let mut lobby: Vec<_> = (0..LOBBY_MAX).map(|_| strangers.enter()).collect();
        assert!(strangers.lobby_is_full());
        assert_eq!(lobby[0].ask_for_place(attacker(1)), Answer::Yes);
        assert!(!strangers.lobby_is_full());
        lobby.push(strangers.enter());
        drop(lobby.pop());
        assert!(!strangers.lobby_is_full());
    }
}
