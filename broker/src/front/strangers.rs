//! Connections that nobody knows yet: how many there are, in all and from one address.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;

use crate::auth::network;

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    all: Cell<usize>,
    by_address: RefCell<HashMap<IpAddr, usize>>,
}

impl Strangers {
    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.all.get()
    }

    /// A place for somebody whose address is not known yet.
    pub(super) fn enter(self: &Rc<Self>) -> Stranger {
        self.all.set(self.all.get() + 1);
        Stranger { strangers: Rc::clone(self), address: None }
    }
}

/// A place among the strangers. Given back however its task ends: whoever authenticates may panic.
#[derive(Debug)]
pub(super) struct Stranger {
    strangers: Rc<Strangers>,
    address: Option<IpAddr>,
}

impl Stranger {
    /// Counts it for its address, or its IPv6 network, of which one customer has all addresses;
    /// `false`: there are too many from there already.
    pub(super) fn comes_from(&mut self, address: IpAddr, per_address_max: usize) -> bool {
        self.forget_address();
        let address = network(address);
        let mut by_address = self.strangers.by_address.borrow_mut();
        let count = by_address.entry(address).or_insert(0);
        if *count >= per_address_max {
            return false;
        }
        *count += 1;
        self.address = Some(address);
        true
    }

    fn forget_address(&mut self) {
        let Some(address) = self.address.take() else { return };
        let mut by_address = self.strangers.by_address.borrow_mut();
        if let Some(count) = by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&address);
            }
        }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.forget_address();
        self.strangers.all.set(self.strangers.all.get().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_too_many_from_one_address_is_sent_away() {
        let strangers = Rc::new(Strangers::default());
        let address = IpAddr::from([127, 0, 0, 1]);
        let enter = || {
            let mut stranger = strangers.enter();
            stranger.comes_from(address, 2).then_some(stranger)
        };
        let (first, second) = (enter().unwrap(), enter().unwrap());
        assert!(enter().is_none());
        assert_eq!(strangers.count(), 2);
        drop(first);
        let third = enter().unwrap();
        drop((second, third));
        assert!(strangers.by_address.borrow().is_empty() && strangers.count() == 0);
    }

    #[test]
    fn strangers_of_one_ipv6_network_count_together() {
        let strangers = Rc::new(Strangers::default());
        let enter = |address: &str| {
            let mut stranger = strangers.enter();
            stranger.comes_from(address.parse().unwrap(), 1).then_some(stranger)
        };
        let _first = enter("2001:db8::1").unwrap();
        assert!(enter("2001:db8::2").is_none());
        let _other_network = enter("2001:db8:0:1::1").unwrap();
        let _mapped = enter("::ffff:192.0.2.7").unwrap();
        assert!(enter("192.0.2.7").is_none());
    }
}
