//! How many connections there are, in all and from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidings_broker::auth::network;
use tidings_broker::core::metric::Metric;

/// Counts connections as long as they are HTTP.
#[derive(Debug)]
pub(super) struct Gate {
    max: usize,
    /// 0 is no bound.
    per_address_max: u32,
    inside: Arc<Mutex<Inside>>,
}

#[derive(Debug, Default)]
struct Inside {
    count: usize,
    by_address: HashMap<IpAddr, u32>,
}

impl Gate {
    pub(super) fn new(max: usize, per_address_max: u32) -> Self {
        Self { max, per_address_max, inside: Arc::default() }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        lock(&self.inside).count
    }

    /// A place for a connection. One of a proxy counts for no address: all that it passes on have
    /// their own.
    ///
    /// # Errors
    /// There are as many as may be, by this bound.
    pub(super) fn enter(&self, address: IpAddr, is_proxy: bool) -> Result<Place, Metric> {
        let mut inside = lock(&self.inside);
        if inside.count >= self.max {
            return Err(Metric::LimitWebConnections);
        }
        let address = (self.per_address_max > 0 && !is_proxy).then(|| network(address));
        if let Some(address) = address {
            let count = inside.by_address.entry(address).or_default();
            if *count >= self.per_address_max {
                return Err(Metric::LimitWebConnectionsPerAddress);
            }
            *count += 1;
        }
        inside.count += 1;
        Ok(Place { inside: Arc::clone(&self.inside), address: Mutex::new(Some(address)) })
    }
}

/// A place, given back when it is dropped or before.
#[derive(Debug)]
pub(super) struct Place {
    inside: Arc<Mutex<Inside>>,
    /// Whose it is; nothing once it is given back.
    address: Mutex<Option<Option<IpAddr>>>,
}

impl Place {
    /// The connection is something else from here on.
    pub(super) fn give_back(&self) {
        let taken = self.address.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(address) = taken else { return };
        let mut inside = lock(&self.inside);
        inside.count = inside.count.saturating_sub(1);
        let Some(address) = address else { return };
        if let Some(count) = inside.by_address.get_mut(&address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                inside.by_address.remove(&address);
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.give_back();
    }
}

fn lock(inside: &Mutex<Inside>) -> MutexGuard<'_, Inside> {
    inside.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_in_all_and_for_each_network_and_come_back() {
        let gate = Gate::new(4, 2);
        let enter = |address: &str| gate.enter(address.parse().unwrap(), false);
        let first = enter("2001:db8::1").unwrap();
        let _second = enter("2001:db8::2").unwrap();
        assert!(enter("2001:db8::3").is_err(), "one network");
        let third = enter("192.0.2.1").unwrap();
        let _proxy = gate.enter("192.0.2.1".parse().unwrap(), true).unwrap();
        assert!(enter("192.0.2.9").is_err(), "four in all");
        first.give_back();
        assert!(enter("2001:db8::3").is_ok(), "and is dropped at once");
        drop((first, third));
        let _again = (enter("2001:db8::3").unwrap(), enter("192.0.2.9").unwrap());
        assert_eq!(gate.inside.lock().unwrap().count, 4);
    }
}
